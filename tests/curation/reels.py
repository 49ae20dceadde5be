"""Recordings with known cuts, made by the ffmpeg binary from real clips or from test patterns."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg

from tests.clips import X264

FPS = 30


@dataclass(frozen=True)
class Reel:
    """A recording whose frames are known.

    Attributes:
        path: the file.
        shots: first and last frame of every shot, dissolved and faded frames left out.
        transitions: first and last frame of every dissolve or fade.
    """

    path: Path
    shots: tuple[tuple[int, int], ...]
    transitions: tuple[tuple[int, int], ...]


def ffmpeg(*arguments: str | Path) -> None:
    """Run the ffmpeg binary quietly; raise if it fails."""
    binary = imageio_ffmpeg.get_ffmpeg_exe()
    subprocess.run([binary, "-v", "error", "-y", *map(str, arguments)], check=True, stdin=subprocess.DEVNULL)


def real_reel(first: Path, second: Path, third: Path, *, target: Path) -> Reel:
    """Three clips: 120 frames, hard cut, 100, dissolve of 20, 80, fade out of 20, fade in of 20, 100 frames.

    Frames 60 and 61 are a white flash, which is no boundary.
    """
    form = (
        f"fps={FPS},scale=320:320:force_original_aspect_ratio=decrease,pad=320:320:(ow-iw)/2:(oh-ih)/2,setsar=1,"
        "format=yuv420p"
    )
    timed = f"fps={FPS},settb=1/{FPS}"
    graph = (
        f"[0:v]{form},trim=end_frame=120,setpts=PTS-STARTPTS,"
        f"drawbox=c=white:t=fill:enable='between(n,60,61)',{timed}[a];"
        f"[1:v]{form},trim=end_frame=120,setpts=PTS-STARTPTS[b];"
        f"[2:v]{form},trim=end_frame=120,setpts=PTS-STARTPTS[c];"
        f"[0:v]{form},trim=start_frame=200:end_frame=320,setpts=PTS-STARTPTS,fade=in:s=0:n=20,{timed}[d];"
        f"[b][c]xfade=transition=fade:duration={20 / FPS}:offset={100 / FPS},fade=out:s=200:n=20,{timed}[bc];"
        "[a][bc][d]concat=n=3[out]"
    )
    ffmpeg(
        "-i", first, "-i", second, "-i", third, "-filter_complex", graph, "-map", "[out]",
        *X264, "-preset", "veryfast", "-crf", "18", target,
    )  # fmt: skip
    return Reel(target, shots=((0, 119), (120, 219), (240, 319), (360, 459)), transitions=((220, 239), (320, 359)))


def pattern_reel(target: Path, *, seconds: tuple[float, ...], size: str = "160x120", rate: int = FPS) -> Reel:
    """Test patterns of the given lengths, one after the other, with hard cuts between them."""
    patterns = ("testsrc2", "mandelbrot", "smptebars", "rgbtestsrc")
    inputs: list[str | Path] = []
    for shot, length in enumerate(seconds):
        inputs += ["-f", "lavfi", "-t", f"{length}", "-i", f"{patterns[shot % 4]}=size={size}:rate={rate}"]
    joined = "".join(f"[{shot}:v]format=yuv420p,setsar=1[v{shot}];" for shot in range(len(seconds)))
    joined += "".join(f"[v{shot}]" for shot in range(len(seconds)))
    ffmpeg(
        *inputs, "-filter_complex", f"{joined}concat=n={len(seconds)}[out]", "-map", "[out]",
        *X264, "-preset", "veryfast", "-pix_fmt", "yuv420p", target,
    )  # fmt: skip
    shots, start = [], 0
    for length in seconds:
        frames = round(length * rate)
        shots.append((start, start + frames - 1))
        start += frames
    return Reel(target, shots=tuple(shots), transitions=())
