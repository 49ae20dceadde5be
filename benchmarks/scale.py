"""How a build grows: 100,000 clips through the real driver, and a clip store that takes its time to answer.

    python -m benchmarks.scale --clips 10000 100000        # the whole job: plan, run, decide, pack, replay
    python -m benchmarks.scale --latency 0.05 --clips 2000 # the same without the run, on a slow clip store

Recordings are simulated: `Simulated` stands in for ingest and yields clips of a kilobyte of noise, a hundred a
recording, and the stage only counts. All else is real: engine, workers, observers, clip store, decisions, shards. Each
size is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import ClassVar

import psutil

from benchmarks import slow_store
from curation.ingest import Ingest, Ingested
from curation.manifest import Manifest, read_manifest
from pipelines.build import ray_cluster
from pipelines.chain import INGEST, Chain
from pipelines.dataset import write_dataset
from pipelines.engine import Engine
from pipelines.lock import DriverLock
from pipelines.observer import Load, Observer, Observers
from pipelines.plan import make_plan
from pipelines.store import ClipStore, Ledger
from pipelines.watch import Watch
from pipelines.worker import INPUTS, RECORDING, Outcome
from schemas.clip import Clip, Source, Span
from schemas.config import BuildConfig, RunConfig
from schemas.manifest import Pair
from schemas.metrics import Bound, Metric
from schemas.stage import Filter

CLIPS_A_RECORDING = 100
CLIP_BYTES = 1000
FRAMES = 100


class Numbered(Filter):
    """Measures where in its recording a clip begins; a tenth of the clips lie below the bound."""

    metrics: ClassVar = {"number": Metric("first frame of the clip", "frames", (0, None), (1000, None))}

    def measure(self, clip: Clip) -> dict[str, float]:
        return {"number": float(clip.span.first_frame)}


class Simulated(Ingest):
    """Stands in for ingest: no recording is opened."""

    def clips(self, pair: Pair, *, recording_url: str | None = None, known: Collection[str] = ()) -> Iterator[Ingested]:
        for number in range(CLIPS_A_RECORDING):
            yield Ingested(clip=make_clip(pair, number), position_seconds=4.0 * number, duration_seconds=None)


def make_clip(pair: Pair, number: int) -> Clip:
    source = Source(
        url=pair.video, container="mp4", codec="h264", pixel_format="yuv420p", width=1280, height=720,
        frame_rate=Fraction(25), duration=4.0 * CLIPS_A_RECORDING, size_bytes=CLIP_BYTES * CLIPS_A_RECORDING,
    )  # fmt: skip
    first = FRAMES * number
    span = Span(
        first_frame=first, last_frame=first + FRAMES - 1, first_pts=first, last_pts=first + FRAMES - 1,
        time_base=Fraction(1, 25), fps=Fraction(25), frames=FRAMES, width=1280, height=720, bytes=CLIP_BYTES,
    )  # fmt: skip
    metrics = {"shot_seconds": 4.0, "cut_score": 0.1}
    clip = Clip(key=Clip.make_key(pair.pair_id, first), pair=pair, source=source, span=span, metrics=metrics)
    clip.artifacts["video"] = os.urandom(CLIP_BYTES)
    return clip


class Memory(Observer):
    """Resident memory of this process in MB, at each tenth of the clips."""

    def __init__(self, clips: int) -> None:
        self.samples: list[float] = []
        self._clips, self._finished = clips, 0

    def finished(self, outcome: Outcome) -> None:
        self._finished += 1

    def load(self, load: Load) -> None:
        if self._finished * 10 > self._clips * (len(self.samples) + 1):
            self.samples.append(resident())


def resident() -> float:
    return psutil.Process().memory_info().rss / 1e6


@contextmanager
def timed(name: str, results: dict[str, float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    results[name] = time.perf_counter() - started
    print(f"{name}: {results[name]:.1f} s, {resident():.0f} MB resident", file=sys.stderr, flush=True)


def chain_of(bound: Bound = (1000, None)) -> Chain:
    return Chain(Simulated(), (Numbered(bounds={"number": bound}),))


def prepare(folder: Path, clips: int, *, work: str) -> tuple[BuildConfig, Manifest]:
    rows = [
        {"pair_id": f"r{number:06d}", "video": f"r{number:06d}.mp4", "garment": None, "part": "upper"}
        for number in range(clips // CLIPS_A_RECORDING)
    ]
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = BuildConfig(
        manifest=str(manifest),
        output=str(folder / "out"),
        work=work,
        run=RunConfig(address="local", log_every_seconds=30),
    )
    return config, read_manifest(str(manifest))


def fill(store: ClipStore, manifest: Manifest, chain: Chain, *, clips: int = CLIPS_A_RECORDING) -> None:
    """Store what a run would have stored."""
    for pair, job in zip(manifest.pairs, make_plan(manifest.pairs, chain, store).sources, strict=True):
        made = [make_clip(pair, number) for number in range(clips)]
        for clip in made:
            clip.fingerprints = {
                INGEST: chain.fingerprints[INGEST],
                RECORDING: job.row.recording,
                INPUTS: job.row.inputs,
            }
            chain.stages[0].process(clip)
            clip.fingerprints["numbered"] = chain.fingerprints["numbered"]
            store.put(clip)
        store.put_ledger(
            Ledger(
                pair=pair,
                recording=job.row.recording,
                fingerprint=chain.fingerprints[INGEST],
                keys=tuple(clip.key for clip in made),
            )
        )


def run(config: BuildConfig, manifest: Manifest, chain: Chain, store: ClipStore, memory: Memory) -> float:
    """Seconds of CPU that the driver's own thread spent."""
    with DriverLock(config.output, config.work_url) as lock, Watch(config, lock) as watch:
        plan = make_plan(manifest.pairs, chain, store, remember=True)
        with ray_cluster(config.run), watch.engine(plan) as observer:
            Engine(chain, store, config.run, observer=Observers([observer, memory])).run(plan.sources, plan.clips)
        return watch.driver_seconds


def whole_job(folder: Path, clips: int) -> dict[str, float]:
    """Seconds of each part, and memory of the driver in MB."""
    results: dict[str, float] = {"clips": clips}
    config, manifest = prepare(folder, clips, work=str(folder / "work"))
    chain, store, memory = chain_of(), ClipStore(config.work_url), Memory(clips)
    results["memory at the start"] = resident()
    with timed("run", results):
        driver = run(config, manifest, chain, store, memory)
    results["run: CPU of the driver"] = driver
    for share, sample in zip(range(10, 100, 20), memory.samples[::2], strict=False):
        results[f"memory at {share} %"] = sample
    results |= after_run(config, manifest, chain, store)
    return results


def slow_job(folder: Path, clips: int, latency: float) -> dict[str, float]:
    """Seconds and requests of each part that has no worker, with the clip store behind `latency`."""
    results: dict[str, float] = {"clips": clips}
    config, manifest = prepare(folder, clips, work=f"slow://{folder}/work")
    store = ClipStore(config.work_url)
    fill(store, manifest, chain_of())
    slow_store.LATENCY = latency
    return results | after_run(config, manifest, chain_of(), store)


def after_run(config: BuildConfig, manifest: Manifest, chain: Chain, store: ClipStore) -> dict[str, float]:
    """Everything but the run, as `vvt build` and `vvt replay` do it."""
    results: dict[str, float] = {}
    looser = config.model_copy(update={"output": f"{config.output}-replayed"})
    write = partial(write_dataset, ledgers={}, checkpoint=lambda: None)
    parts = {
        "decide, pack, report": lambda: write(config, chain, manifest, store),
        "plan, all done": lambda: make_plan(manifest.pairs, chain, store),
        "decide again, nothing to pack": lambda: write(config, chain, manifest, store),
        "replay to another output": lambda: write(looser, chain_of((None, None)), manifest, store),
    }
    for name, part in parts.items():
        slow_store.REQUESTS.clear()
        with timed(name, results):
            part()
        if slow_store.REQUESTS:
            results[f"{name}: requests"] = slow_store.REQUESTS.total()
    results["memory, peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return results


def measure(clips: int, latency: float, scratch: str | None) -> dict[str, float]:
    """Of one size, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale", "--clips", str(clips), "--latency", str(latency), "--measure"]
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        done = subprocess.run([*command, folder], stdout=subprocess.PIPE, text=True, check=True)
    results: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--clips", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--latency", type=float, default=0.0, help="of the clip store, in seconds")
    parser.add_argument("--scratch", help="folder to work in")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        (clips,) = options.clips
        slow = options.latency > 0
        print(
            json.dumps(slow_job(options.measure, clips, options.latency) if slow else whole_job(options.measure, clips))
        )
        return
    columns = [measure(clips, options.latency, options.scratch) for clips in options.clips]
    print("| part |" + "".join(f" {column['clips']:,.0f} clips |" for column in columns) + " ratio |")
    print("| --- |" + " --- |" * (len(columns) + 1))
    for name in columns[0]:
        values = [column.get(name, float("nan")) for column in columns]
        print(
            f"| {name} |" + "".join(f" {value:,.1f} |" for value in values) + f" {values[-1] / values[0]:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
