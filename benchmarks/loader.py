"""The loader for training beside bare decoding of the same frames, in workers, and its memory over many samples.

    python -m benchmarks.loader speed [--dataset DIR] [--threads 1] [--samples 12]
    python -m benchmarks.loader scaling [--dataset DIR] [--threads 1] [--workers 1 2]
    python -m benchmarks.loader memory [--samples 10000]

Windows of 81 frames at 768×576, over and over of the first sample of `--dataset`, which `vvt build` wrote, cut to that
size and encoded as a build would (or of a moving pattern and made-up conditions); both hands may be heavier than real
ones there. Bare decoding is of the same frames, by the same reader with the same threads of the decoder, and is
measured twice: `get`, which keeps the RGB frames of a window, as a trainer needs them, and frame by frame, dropping
each at once. All take turns, so that other work on the machine meets all; CPU seconds are of all threads and processes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import cv2
import numpy as np
import psutil

import media.decoding
from media import normalise
from media.draw import VISIBLE
from media.reader import open_pyav, open_reader
from schemas.annotation import Annotation
from schemas.artifacts import ARTIFACTS
from schemas.conditions import Hands, Pose
from tests.training.build import DatasetBuilder, artifacts, members, mp4
from training.clips import ClipLoader, loader
from training.data_settings import DataSettings
from training.fit import Fit
from training.shards import read_members
from training.survey import survey

VIDEO = ARTIFACTS["video"].member
HEIGHT, WIDTH, FRAMES, STORED = 768, 576, 81, 120
SETS: dict[str, tuple[str, ...]] = {
    "video, mask, garment": (),
    "and pose, hands (the trainer's)": ("pose", "hands"),
    "and densepose": ("pose", "hands", "densepose"),
}


def pattern() -> dict[str, object]:
    """A sample of noise that moves, with made-up `conditions`."""
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT // 4, WIDTH // 4, 3), np.uint8)
    still = cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    images = np.stack([np.roll(still, (3 * t, 5 * t), axis=(0, 1)) for t in range(STORED)])
    return {**artifacts(), **conditions(), "video": normalised(images)}


def normalised(images: np.ndarray) -> bytes:
    """A clip as a build encodes it."""
    return normalise(mp4(images)).video


def real(dataset: str) -> dict[str, object]:
    """The first sample of a dataset in the bucket's size, its first `STORED` frames."""
    stored = read_members(survey(DataSettings(dataset=dataset, buckets=((HEIGHT, WIDTH),))).index[0])
    values = {name: kind.decode(stored[kind.member]) for name, kind in ARTIFACTS.items() if kind.member in stored}
    images = open_reader(stored[VIDEO]).get(range(STORED))
    pose, hands, labels = values["pose"], values["hands"], values["annotation"]
    seen = pose.keypoints[pose.scores > VISIBLE]
    fit = Fit.around((*seen.min(axis=0), *seen.max(axis=0)), (HEIGHT, WIDTH), images.shape[1:3])
    cut = slice(STORED)
    return {
        **values,
        "video": normalised(fit.pictures(images)),
        "pose": Pose(fit.points(pose.keypoints[cut]), pose.scores[cut]),
        "hands": Hands(hands.scores[cut], fit.points(hands.joints_2d[cut]), hands.joints_3d[cut], hands.method),
        "agnostic_mask": fit.masks(values["agnostic_mask"][cut]),
        "annotation": labels.model_copy(
            update={"actions": (), "labels": labels.labels[cut], "probabilities": labels.probabilities[cut]}
        ),
    }


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


def bare(videos: dict[str, bytes], windows: list[tuple[str, tuple[int, int]]]) -> None:
    """Decode these frames, and keep those of a window."""
    for key, (first, last) in windows:
        open_reader(videos[key]).get(range(first, last + 1))


def bare_streamed(videos: dict[str, bytes], windows: list[tuple[str, tuple[int, int]]]) -> None:
    """Decode these frames, and keep none."""
    for key, (first, last) in windows:
        for _ in open_pyav(videos[key]).images(range(first, last + 1)):
            pass


def speed(options: argparse.Namespace) -> None:
    """Loader to bare decoding, by set of conditions."""
    head = ("conditions", "process", "samples/s ÷ get", "÷ frame by frame", "CPU ÷ get", "÷ frame by frame")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    with tempfile.TemporaryDirectory() as scratch:
        out = dataset(Path(scratch), options)
        sets = {name: drawn for name, drawn in SETS.items() if "densepose" not in drawn or not options.dataset}
        for name, drawn in sets.items():
            for workers in (0, 1):
                reading = loader(settings(out, workers=workers, pictures=drawn))
                exhaust(reading)  # starts the worker, and warms the caches
                videos = {entry.key: read_members(entry)[VIDEO] for entry in reading.clips.survey.index}
                rounds = []
                for _ in range(options.rounds):
                    windows: list[tuple[str, tuple[int, int]]] = []
                    ours = timed(partial(exhaust, reading, windows))
                    floors = [timed(partial(floor, videos, windows)) for floor in (bare, bare_streamed)]
                    rounds.append([*(wall / ours[0] for wall, _ in floors), *(ours[1] / spent for _, spent in floors)])
                ratios = " | ".join(f"{statistics.median(ratio):.2f}" for ratio in zip(*rounds, strict=True))
                print(f"| {name} | {'a worker' if workers else 'own'} | {ratios} |", flush=True)


def scaling(options: argparse.Namespace) -> None:
    """Samples a second by number of workers, and of as many processes that only decode, to one of them."""
    print("| processes | loader, to one worker | bare decoding, to one process | other cores busy |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        out = dataset(Path(scratch), options)
        readings = {workers: loader(settings(out, workers=workers)) for workers in options.workers}
        for reading in readings.values():
            exhaust(reading)
        clips = readings[options.workers[0]].clips
        videos = {entry.key: read_members(entry)[VIDEO] for entry in clips.survey.index}
        windows = [(key, (20, 100)) for key in videos]
        rounds = []
        for _ in range(options.rounds):
            rounds.append([])
            for workers, reading in readings.items():
                began, all_cpu, own = time.perf_counter(), sum(psutil.cpu_times()[:3]), cpu()
                ours = len(reading) / timed(partial(exhaust, reading))[0]
                parts = [windows[part::workers] for part in range(workers)]
                children = [get_context("fork").Process(target=bare, args=(videos, part)) for part in parts]
                floor = len(windows) / timed(partial(together, children))[0]
                others = sum(psutil.cpu_times()[:3]) - all_cpu - (cpu() - own)
                rounds[-1].append((ours, floor, others / (time.perf_counter() - began)))
        for place, workers in enumerate(readings):
            to_one = [statistics.median(each[place][what] / each[0][what] for each in rounds) for what in (0, 1)]
            others = statistics.median(each[place][2] for each in rounds)
            print(f"| {workers} | {to_one[0]:.2f} | {to_one[1]:.2f} | {others:.1f} |")


def together(processes: Sequence[BaseProcess]) -> None:
    """Run them at the same time."""
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def memory(options: argparse.Namespace) -> None:
    """Resident memory of two workers after every tenth of many tiny samples."""
    with tempfile.TemporaryDirectory() as scratch:
        write(Path(scratch), [artifacts(frames=9, grey=grey) for grey in (90, 120)], 100)
        small = DataSettings(
            dataset=scratch, frames=9, buckets=((64, 48),), batch=4, workers=2, unpaired_share=0.5,
            pictures=("pose", "hands"),
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
    write(scratch, [real(options.dataset) if options.dataset else pattern()], options.samples)
    return scratch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("what", choices=["speed", "scaling", "memory"])
    parser.add_argument("--dataset", help="of `vvt build`, the first sample of which is read; else a pattern")
    parser.add_argument("--threads", type=int, default=1, help="of the decoder, in workers as in bare decoding")
    parser.add_argument("--samples", type=int, help="of the dataset, or (memory) read in all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    options.samples = options.samples or (10_000 if options.what == "memory" else 12)
    media.decoding.DECODER_THREADS = options.threads
    {"speed": speed, "scaling": scaling, "memory": memory}[options.what](options)


if __name__ == "__main__":
    main()
