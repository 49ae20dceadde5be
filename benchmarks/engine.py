"""What the engine itself costs: milliseconds a clip and hop with empty stages, and wall time over stage time.

    python -m benchmarks.engine

One run measures all of it, each figure beside its floor:
- a hop: one clip through one more group of an empty stage, its bytes by way of Ray's object store, against a bare call
  of an empty Ray actor;
- wall over work: busy stages on all cores, wall time ÷ (sum of stage time ÷ cores).
"""

from __future__ import annotations

import os
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import ray

from curation.ingest import Ingest
from pipelines.build import ray_cluster
from pipelines.chain import INGEST, Chain
from pipelines.engine import Engine
from pipelines.jobs import ClipJob
from pipelines.store import ClipStore
from pipelines.tally import Tally
from pipelines.worker import INPUTS, RECORDING, Row
from schemas.clip import Clip, Source, Span
from schemas.config import RunConfig
from schemas.manifest import Pair
from schemas.stage import Resources, Stage

CLIP_BYTES = 1_500_000  # a four-second clip at 720p


class Empty(Stage):
    def process(self, clip: Clip) -> None: ...


class Busy(Stage):
    seconds: float = 0.1

    def process(self, clip: Clip) -> None:
        end = time.perf_counter() + self.seconds
        while time.perf_counter() < end:
            sum(range(1000))


@ray.remote
class Bare:
    def call(self) -> None: ...


def make_clip(index: int, chain: Chain) -> Clip:
    pair = Pair(pair_id=f"p{index}", video="-", garment=None, part="upper")
    source = Source(
        url="-", container="mp4", codec="h264", pixel_format="yuv420p", width=1280, height=720,
        frame_rate=Fraction(25), duration=4.0, size_bytes=CLIP_BYTES,
    )  # fmt: skip
    span = Span(
        first_frame=0, last_frame=99, first_pts=0, last_pts=99, time_base=Fraction(1, 25), fps=Fraction(25),
        frames=100, width=1280, height=720, bytes=CLIP_BYTES,
    )  # fmt: skip
    fingerprints = {INGEST: chain.fingerprints[INGEST], RECORDING: "r", INPUTS: "i"}
    clip = Clip(key=Clip.make_key(pair.pair_id, 0), pair=pair, source=source, span=span, fingerprints=fingerprints)
    clip.artifacts["video"] = os.urandom(CLIP_BYTES)
    return clip


def run(stages: list[Stage], clips: int, folder: Path) -> tuple[float, float]:
    """(wall seconds, sum of stage seconds) of `clips` stored clips through `stages`."""
    chain = Chain(Ingest(), tuple(stages))
    store = ClipStore(str(folder))
    jobs = []
    for index in range(clips):
        clip = make_clip(index, chain)
        store.put(clip)
        jobs.append(ClipJob(clip.key, Row(pair=clip.pair, recording="r", inputs="i"), 0))
    tally = Tally(sources=0, clips=clips)
    started = time.perf_counter()
    Engine(chain, store, RunConfig(), observer=tally).run([], jobs)
    return time.perf_counter() - started, sum(durations.seconds for durations in tally.stages.values())


def empty_groups(count: int) -> list[Stage]:
    # Different resources make each stage a group of its own: every hop crosses the object store.
    return [Empty(name=f"empty{i}", resources=Resources(cpus=0.1 + 0.01 * i)) for i in range(count)]


def per_clip(stages: list[Stage], folder: Path, *, clips: int = 200) -> float:
    """Milliseconds a clip once the workers are up: the difference of a long and a short run."""
    short, _ = run(stages, clips, folder / "short")
    long, _ = run(stages, 4 * clips, folder / "long")
    return (long - short) / (3 * clips) * 1000


def bare_call() -> float:
    """Milliseconds of an empty call of an actor, one after the other."""
    actor = Bare.remote()
    ray.get(actor.call.remote())
    started = time.perf_counter()
    for _ in range(1000):
        ray.get(actor.call.remote())
    return time.perf_counter() - started


def main() -> None:
    cores = os.cpu_count() or 1
    with ray_cluster(RunConfig()), tempfile.TemporaryDirectory() as folder:
        one = per_clip(empty_groups(1), Path(folder, "one"))
        six = per_clip(empty_groups(6), Path(folder, "six"))
        fused = per_clip([Empty(name=f"f{i}") for i in range(20)], Path(folder, "fused"))
        bare = bare_call()
        wall, work = run([Busy(name="busy", seconds=0.2)], 150 * cores, Path(folder, "busy"))
    hop = (six - one) / 5
    print(f"clips of {CLIP_BYTES / 1e6:.1f} MB, {cores} cores")
    print("| figure | value | floor | ratio |\n| --- | --- | --- | --- |")
    print(f"| a hop between groups, ms a clip | {hop:.2f} | {bare:.2f} (bare actor call) | {hop / bare:.1f} |")
    print(f"| a clip from store to store, 1 empty stage, ms | {one:.2f} | | |")
    print(f"| the same with 20 fused stages, ms | {fused:.2f} | | |")
    print(
        f"| wall, busy stages, s | {wall:.2f} | {work / cores:.2f} (stage time ÷ cores) | {wall * cores / work:.3f} |"
    )


if __name__ == "__main__":
    main()
