"""The embedded conditions against their floor: the bare calls of the models, on the same crops, in the same run.

    python -m benchmarks.conditions video.mp4 --part upper

Time spent inside MediaPipe's own calls is the floor of a stage; what is above it is ours. Loading models is ours, too.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from annotators.contact import ContactEvidence
from annotators.label import ContactLabels
from benchmarks.ingest import Spent, spent_by
from curation.ingest import Ingest
from media import forget, frames
from preprocess.agnostic import AgnosticMask
from preprocess.mediapipe_body import MediaPipeBody
from preprocess.parsing import SelfieParsing
from schemas.artifacts import ARTIFACTS
from schemas.clip import Clip
from schemas.manifest import Pair

CALLS = (("PoseLandmarker", "detect"), ("PoseLandmarker", "detect_for_video"), ("HandLandmarker", "detect"),
         ("ImageSegmenter", "segment"))  # fmt: skip


class ModelCalls:
    """Counts and times the calls of MediaPipe's models."""

    def __init__(self) -> None:
        self.count, self.spent = 0, Spent(0, 0)

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, counted and timed."""

        def inner(*arguments: Any) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            try:
                return call(*arguments)
            finally:
                self.count += 1
                self.spent += Spent(time.perf_counter() - wall, time.process_time() - cpu)

        return inner


@contextmanager
def model_calls() -> Iterator[ModelCalls]:
    """Times MediaPipe's models while it is open."""
    from mediapipe.tasks.python import vision

    calls = ModelCalls()
    originals = {(kind, name): getattr(getattr(vision, kind), name) for kind, name in CALLS}
    for (kind, name), original in originals.items():
        setattr(getattr(vision, kind), name, calls.timed(original))
    try:
        yield calls
    finally:
        for (kind, name), original in originals.items():
            setattr(getattr(vision, kind), name, original)


def first_clip(video: Path, part: str) -> Clip:
    """The first clip of the video, as ingest makes it."""
    pair = Pair.model_validate({"pair_id": "benchmark", "video": str(video), "garment": None, "part": part})
    for item in Ingest().clips(pair):
        if item.clip is not None and item.clip.drop is None:
            return item.clip
    raise SystemExit(f"{video} holds no clip")


def stored(clip: Clip) -> dict[str, bytes]:
    """What the clip store keeps of it."""
    return {name: ARTIFACTS[name].encode(value) for name, value in clip.artifacts.items()}


def parts(clip: Clip) -> dict[str, Callable[[], object]]:
    """What is measured, in the order it has to run."""
    stages = (MediaPipeBody(), SelfieParsing(), ContactEvidence(), ContactLabels(), AgnosticMask())
    encoded: dict[str, bytes] = {}
    return {
        "decode": lambda: frames(clip),
        **{stage.name: lambda stage=stage: stage.process(clip) for stage in stages},  # type: ignore[misc]
        "encode artifacts": lambda: encoded.update(stored(clip)),
        "decode artifacts": lambda: [ARTIFACTS[name].decode(data) for name, data in encoded.items()],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("video", type=Path)
    parser.add_argument("--part", default="upper")
    options = parser.parse_args()
    # In a process of its own, so that its memory is not counted here.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as ingest:
        clip = ingest.submit(first_clip, options.video, options.part).result()
    MediaPipeBody().process(clip)  # imports and reads the models, once a process
    forget(clip)
    total, floor = Spent(0, 0), Spent(0, 0)
    count = clip.span.frames
    print(f"\n{options.video.name}, {count} frames, {clip.span.width}x{clip.span.height}\n")
    print("| stage | wall, ms a frame | CPU, ms a frame | model calls a frame | their CPU, ms | floor / stage |")
    print("|---|---|---|---|---|---|")

    def row(name: str, spent: Spent, bare: Spent, calls: int) -> None:
        ratio = f"{bare.cpu / spent.cpu:.2f}" if calls else ""
        cells = (name, *(f"{1000 * value / count:.1f}" for value in (spent.wall, spent.cpu)), f"{calls / count:.2f}")
        print("|", " | ".join((*cells, f"{1000 * bare.cpu / count:.1f}", ratio)), "|", flush=True)

    total_calls = 0
    for name, work in parts(clip).items():
        with model_calls() as calls:
            spent = spent_by(work)
        row(name, spent, calls.spent, calls.count)
        total, floor, total_calls = total + spent, floor + calls.spent, total_calls + calls.count
    row("all", total, floor, total_calls)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    print(f"\npeak of resident memory {peak:.0f} MB, of which decoded frames {frames(clip).images.nbytes / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
