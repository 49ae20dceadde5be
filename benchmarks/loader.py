"""The loader for training beside bare decoding of the same frames, in workers, and its memory over many samples.

    python -m benchmarks.loader speed [--clip VIDEO] [--backend pyav] [--samples 12]
    python -m benchmarks.loader scaling [--workers 1 2]
    python -m benchmarks.loader memory [--samples 10000]

`speed` reads windows of 81 frames at 768×576 made of `--clip` (or of a moving pattern), and draws what a
trainer asks for, in one process and in one worker. Bare decoding is `media.open_reader(…).get(…)` of the same frames in
this process. The two take turns, so that other work on the machine meets both; CPU seconds are of all threads.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import psutil

from media.reader import Backend, open_reader
from schemas.annotation import Annotation
from schemas.artifacts import ARTIFACTS
from schemas.conditions import Hands, Pose
from tests.training.build import DatasetBuilder, artifacts, members, mp4
from training.clips import ClipLoader, loader
from training.data_settings import DataSettings
from training.shards import read_members

VIDEO = ARTIFACTS["video"].member
HEIGHT, WIDTH, FRAMES, STORED = 768, 576, 81, 120
SETS: dict[str, tuple[str, ...]] = {
    "video, mask, garment": (),
    "and pose, hands (the trainer's)": ("pose", "hands"),
    "and densepose": ("pose", "hands", "densepose"),
}


def pictures(clip: Path | None) -> np.ndarray:
    """(STORED, VIDEO = ARTIFACTS["video"].member
    HEIGHT, WIDTH, 3): a clip back and forth, or a pattern that moves over noise."""
    if clip is None:
        noise = np.random.default_rng(0).integers(0, 255, (HEIGHT // 4, WIDTH // 4, 3), np.uint8)
        still = cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        return np.stack([np.roll(still, (3 * t, 5 * t), axis=(0, 1)) for t in range(STORED)])
    reader = open_reader(clip)
    there_and_back = [*range(len(reader)), *range(len(reader))[::-1]]
    frames = reader.get([there_and_back[t % len(there_and_back)] for t in range(STORED)])
    return np.stack([cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) for frame in frames])


def conditions() -> dict[str, object]:
    """A person of half the picture's width who sways, both hands seen in every frame, a part map of the body."""
    draw = np.random.default_rng(0)
    sway = (20 * np.sin(np.arange(STORED) / 10))[:, None, None].astype(np.float32)
    body = draw.uniform((180, 80), (400, 700), (133, 2)).astype(np.float32)
    fingers = np.cumsum(draw.uniform(-0.02, 0.02, (2, 21, 3)), axis=1).astype(np.float32)
    wrists = np.array([(220, 400), (360, 400)], np.float32)[:, None]
    joints = np.broadcast_to(fingers, (STORED, 2, 21, 3)).copy()
    mask = np.zeros((STORED, HEIGHT, WIDTH), bool)
    mask[:, 150:450, 150:430] = True
    parts = np.zeros((STORED, HEIGHT, WIDTH), np.uint8)
    parts[:, 80:700, 160:420] = np.arange(620)[:, None] // 26
    return {
        "pose": Pose(body + sway, np.full((STORED, 133), 0.9, np.float16)),
        "hands": Hands(np.ones((STORED, 2), np.float32), joints[..., :2] * 900 + wrists + sway[..., None], joints, "-"),
        "agnostic_mask": mask,
        "densepose": parts,
        "annotation": Annotation(
            global_caption="A person sways.", actions=(), probabilities=(0.0,) * STORED, labels=(False,) * STORED,
            labeller="-",
        ),
    }  # fmt: skip


def write(out: Path, clips: Sequence[dict[str, object]], samples: int) -> None:
    """A dataset of `samples` samples, the same few clips over and over."""
    builder = DatasetBuilder(out)
    keys = [f"clip{n:05d}-00000000" for n in range(samples)]
    builder.shard({key: members(clips[n % len(clips)], key=key) for n, key in enumerate(keys)})
    builder.index()


def cpu() -> float:
    """CPU seconds of this process and its children so far."""
    this = psutil.Process()
    return sum(sum(each.cpu_times()[:2]) for each in (this, *this.children(recursive=True)))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds and CPU seconds."""
    began, spent = time.perf_counter(), cpu()
    work()
    return time.perf_counter() - began, cpu() - spent


def settings(out: Path, **options: object) -> DataSettings:
    return DataSettings(dataset=str(out), buckets=((HEIGHT, WIDTH),), **options)  # type: ignore[arg-type]


def exhaust(reading: ClipLoader, windows: list[tuple[str, tuple[int, int]]] | None = None) -> None:
    """Read an epoch, and note which windows it had."""
    for batch in reading:
        if windows is not None:
            windows += zip(batch["key"], batch["window"], strict=True)


def bare(videos: dict[str, bytes], windows: list[tuple[str, tuple[int, int]]], backend: Backend) -> None:
    """Decode these frames, and nothing else."""
    for key, (first, last) in windows:
        open_reader(videos[key], backend=backend).get(range(first, last + 1))


def speed(options: argparse.Namespace) -> None:
    """Loader to bare decoding, by set of conditions."""
    print("| conditions | process | samples/s ÷ bare decoding | CPU ÷ bare decoding |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        out = dataset(Path(scratch), options)
        for name, drawn in SETS.items():
            for workers in (0, 1):
                reading = loader(settings(out, workers=workers, pictures=drawn, backend=options.backend))
                exhaust(reading)  # starts the worker, and warms the caches
                videos = {entry.key: read_members(entry)[VIDEO] for entry in reading.clips.survey.index}
                wall, spent = [], []
                for _ in range(options.rounds):
                    windows: list[tuple[str, tuple[int, int]]] = []
                    ours = timed(partial(exhaust, reading, windows))
                    floor = timed(partial(bare, videos, windows, options.backend))
                    wall.append(floor[0] / ours[0])
                    spent.append(ours[1] / floor[1])
                where = "a worker" if workers else "the trainer's"
                print(
                    f"| {name} | {where} | {statistics.median(wall):.2f} | {statistics.median(spent):.2f} |", flush=True
                )


def scaling(options: argparse.Namespace) -> None:
    """Samples a second by number of workers, to one of them."""
    print("| workers | samples/s | to the first |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        out = dataset(Path(scratch), options)
        first = 0.0
        for workers in options.workers:
            reading = loader(settings(out, workers=workers, backend=options.backend))
            exhaust(reading)
            rate = max(len(reading) / timed(partial(exhaust, reading))[0] for _ in range(options.rounds))
            first = first or rate
            print(f"| {workers} | {rate:.2f} | {rate / first:.2f} |")


def memory(options: argparse.Namespace) -> None:
    """Resident memory of two workers after every tenth of many tiny samples."""
    with tempfile.TemporaryDirectory() as scratch:
        write(Path(scratch), [artifacts(frames=9, grey=grey) for grey in (90, 120)], 100)
        small = DataSettings(
            dataset=scratch, frames=9, buckets=((64, 48),), batch=4, workers=2, unpaired_share=0.5,
            pictures=("pose", "hands"), backend=options.backend,
        )  # fmt: skip
        reading, seen, told = loader(small), 0, 0
        print("| samples | private memory of each worker, MB |\n|---|---|")
        while seen < options.samples:
            for batch in reading:
                seen += len(batch["key"])
                if seen >= told:
                    children = psutil.Process().children(recursive=True)
                    sizes = ", ".join(f"{child.memory_full_info().uss / 1e6:.1f}" for child in children)
                    print(f"| {seen} | {sizes} |", flush=True)
                    told += options.samples // 10


def dataset(scratch: Path, options: argparse.Namespace) -> Path:
    """`options.samples` clips of `STORED` frames in a folder."""
    values = {**artifacts(), **conditions(), "video": mp4(pictures(options.clip))}
    write(scratch, [values], options.samples)
    return scratch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("what", choices=["speed", "scaling", "memory"])
    parser.add_argument("--clip", type=Path, help="a video of a person; else a pattern")
    parser.add_argument("--backend", default="pyav")
    parser.add_argument("--samples", type=int, help="of the dataset, or (memory) read in all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    options.samples = options.samples or (10_000 if options.what == "memory" else 12)
    {"speed": speed, "scaling": scaling, "memory": memory}[options.what](options)


if __name__ == "__main__":
    main()
