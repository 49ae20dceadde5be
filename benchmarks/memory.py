"""Peak memory of ingest for a short and a long recording of the same material.

    python -m benchmarks.memory video.mp4 --minutes 1 60

The video is repeated to each length without encoding it anew; each recording is read in a process of its own. "One
shot" repeats a single frame's scene that never cuts, so that only the division of long shots ends a clip.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.ingest import ffmpeg
from curation.ingest import Ingest
from schemas.manifest import Pair


def make_unit(video: Path | None, target: Path, *, height: int, fps: int) -> None:
    """One piece to be repeated: the video made small, or a minute of one slow scene."""
    source: list[str | Path] = (
        ["-f", "lavfi", "-t", "60", "-i", f"mandelbrot=size={height * 2}x{height}:rate={fps}:end_scale=0.1:end_pts=600"]
        if video is None
        else ["-i", video]
    )
    ffmpeg(
        *source, "-vf", f"fps={fps},scale=-2:{height}", "-an", "-c:v", "libx264", "-preset", "veryfast",
        "-pix_fmt", "yuv420p", "-bf", "0", target,
    )  # fmt: skip


def repeat(unit: Path, target: Path, *, minutes: float) -> None:
    """The unit over and over, `minutes` long."""
    ffmpeg("-stream_loop", "-1", "-i", unit, "-t", str(60 * minutes), "-c", "copy", target)


def measure(recording: Path, detector: str) -> tuple[int, int, float]:
    """Clips and frames that ingest makes of the recording, and the peak of resident memory in MB."""
    clips = frames = 0
    settings = Ingest(detector=detector)  # type: ignore[arg-type]
    for item in settings.clips(Pair(pair_id="memory", video=str(recording), garment=None, part="upper")):
        if item.clip is not None:
            clips += 1
            frames = item.clip.span.last_frame + 1
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return clips, frames, kilobytes / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("video", type=Path, nargs="?", help="a video with cuts, or none")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 60])
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--fps", type=int, default=10)
    parser.add_argument("--detector", default="transnetv2")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(*measure(options.measure, options.detector))
        return
    print("| material | minutes | frames | clips | peak, MB | to the shortest |\n|---|---|---|---|---|---|")
    materials = {"one shot": None} | ({options.video.name: options.video} if options.video else {})
    with tempfile.TemporaryDirectory() as scratch:
        unit, recording = Path(scratch) / "unit.mp4", Path(scratch) / "recording.mp4"
        for name, video in materials.items():
            make_unit(video, unit, height=options.height, fps=options.fps)
            first: float | None = None
            for minutes in options.minutes:
                repeat(unit, recording, minutes=minutes)
                command = [sys.executable, "-m", "benchmarks.memory", "--detector", options.detector]
                done = subprocess.run([*command, "--measure", recording], capture_output=True, text=True, check=True)
                clips, frames, peak = done.stdout.split()
                first = first or float(peak)
                row = (name, f"{minutes:g}", frames, clips, f"{float(peak):.0f}", f"{float(peak) / first:.3f}")
                print("|", " | ".join(row), "|", flush=True)


if __name__ == "__main__":
    main()
