"""Thousands of broken recordings and garment images through ingest: what becomes of each.

    python -m benchmarks.mutated_media --count 4560
    python -m benchmarks.mutated_media --count 2280 --build

Small real files of each container and image format are broken by fixed seeds (`benchmarks.mutations`) and read in a
child process, as a worker would, with a limit on time and a watch on memory. Every file ends as one of: clips or a
loaded image, a typed error, an exception without a type of ours, a crash of the process, a hang, too much memory.
The last four are faults, and listed. With `--build` the files are the rows of one real build instead, and the rows of
its `decisions.parquet` are counted.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow.parquet as pq

import weights
from benchmarks.mutations import IMAGES, Mutation, make_images, make_videos, mutate

TIME_LIMIT_S = 20.0
MEMORY_LIMIT_MB = 1000
"""Growth of a child's resident memory on one file of a few hundred KB."""

FAULTS = ("untyped", "crash", "hang", "memory")
ENGINE_CODES = {"error": "untyped", "crashed": "crash", "time_limit": "hang", "memory": "memory"}
"""Codes of `decisions.parquet` that are faults here; others are typed errors."""


def read(path: str) -> str:
    """Read a file as a worker does: "ok: …", or "error: CODE" of a typed error."""
    from curation.filters.garment_image import decode_image
    from curation.ingest import Ingest
    from schemas.errors import MediaError, VvtError
    from schemas.manifest import Pair

    if Path(path).suffix in {Path(name).suffix for name in IMAGES}:
        data = Path(path).read_bytes()
        loaded = decode_image(data, max_pixels=100_000_000, max_side=2048) is not None
        return "ok: image" if loaded else "error: unreadable image"
    ingest = Ingest(detector="pyscenedetect", min_seconds=0.5, max_seconds=2)
    clips = 0
    try:
        for item in ingest.clips(Pair(pair_id="p", video=path, garment=None, part="upper")):
            clips += item.clip is not None and item.clip.drop is None
    except MediaError as error:
        return f"error: {error.code}" + (" after clips" if clips else "")
    except VvtError as error:
        return f"error: {type(error).__name__}"
    return "ok: clips" if clips else "ok: too short"


def child(pipe: Connection) -> None:
    """Answer each path with (outcome, details, growth of memory in MB)."""
    import av.logging

    av.logging.set_level(None)
    while True:
        path = pipe.recv()
        before = _memory_mb("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        try:
            outcome, details = read(path), ""
        except Exception as error:  # noqa: BLE001 -- what is looked for
            outcome, details = f"untyped: {type(error).__name__}", traceback.format_exc()
        pipe.send((outcome, details, _memory_mb("VmHWM") - before))


def _memory_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


class Reader:
    """A child process that reads files one by one, and is replaced when it dies or hangs."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, far = context.Pipe()
        self._process = context.Process(target=child, args=(far,), daemon=True)
        self._process.start()
        far.close()

    def read(self, path: Path) -> tuple[str, str, float]:
        """What became of the file, details of a fault, and MB of memory it took."""
        self._pipe.send(str(path))
        try:
            if self._pipe.poll(TIME_LIMIT_S):
                outcome, details, memory = self._pipe.recv()
                too_much = memory > MEMORY_LIMIT_MB
                return (f"memory: {memory:.0f} MB ({outcome})" if too_much else outcome), details, memory
            outcome = "hang: "
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode or 0
            outcome = f"crash: {signal.Signals(-code).name if code < 0 else code}"
        self.close()
        self._start()
        return outcome, "", 0.0

    def close(self) -> None:
        """End the child."""
        self._process.kill()
        self._process.join()


def run(mutations: Iterable[Mutation], folder: Path, *, keep: Path | None) -> tuple[Counter[tuple[str, str]], float]:
    """Counts of (file, outcome), and the most memory that a file took, in MB. Faults are printed and kept."""
    counts: Counter[tuple[str, str]] = Counter()
    reader, most = Reader(), 0.0
    reader.read(folder / "warm-up.mp4")  # imports do not count
    for mutation in mutations:
        path = folder / mutation.name
        path.write_bytes(mutation.data)
        started = time.perf_counter()
        outcome, details, memory = reader.read(path)
        most = max(most, memory)
        counts[mutation.file, outcome] += 1
        if outcome.startswith(FAULTS):
            print(f"{mutation.name}: {outcome} in {time.perf_counter() - started:.1f} s\n{details}", flush=True)
            if keep:
                (keep / mutation.name).write_bytes(mutation.data)
        path.unlink()
    reader.close()
    return counts, most


def build_all(mutations: Iterable[Mutation], folder: Path, sound: str) -> Counter[tuple[str, str]]:
    """Counts of (file, outcome) of one build over all of them; images stand beside the recording `sound`."""
    from pipelines.build import build
    from pipelines.configure import merge_config

    files: dict[str, str] = {}
    manifest = folder / "manifest.jsonl"
    with manifest.open("w") as lines:
        for number, mutation in enumerate(mutations):
            files[f"m{number}"] = mutation.file
            (folder / mutation.name).write_bytes(mutation.data)
            image = mutation.file in IMAGES
            video, garment = (sound, mutation.name) if image else (mutation.name, None)
            row = {"pair_id": f"m{number}", "video": video, "garment": garment, "part": "upper"}
            lines.write(json.dumps(row) + "\n")
    config = {
        "manifest": str(manifest),
        "output": str(folder / "out"),
        "tier": "none",
        "ingest": {"detector": "pyscenedetect", "min_seconds": 0.5, "max_seconds": 2},
        "stages": {
            "garment_image": {
                "use": "curation.filters.garment_image:GarmentImage",
                "bounds": {"garment_short_side": None, "garment_blur": None, "garment_contrast": None},
            }
        },
    }
    build(merge_config(config, (), where="benchmark"))
    rows = pq.read_table(folder / "out" / "decisions.parquet", columns=["pair_id", "verdict", "error_code"]).to_pylist()
    outcomes: dict[str, str] = {}
    for row in rows:  # of a recording with several rows the failure counts
        if row["verdict"] == "failed" or row["pair_id"] not in outcomes:
            kind = ENGINE_CODES.get(row["error_code"], "error")
            failed = f"{kind}: {row['error_code']}"
            outcomes[row["pair_id"]] = failed if row["verdict"] == "failed" else f"ok: {row['verdict']}"
    return Counter((file, outcomes.get(pair_id, "untyped: no row")) for pair_id, file in files.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--count", type=int, default=2400)
    parser.add_argument("--first", type=int, default=0, help="seed to begin with")
    parser.add_argument("--sample", default="face_noface", help="video of `vvt models list` that the files show")
    parser.add_argument("--build", action="store_true", help="one real build over all of them")
    parser.add_argument("--keep", type=Path, help="folder for the files that made a fault")
    options = parser.parse_args()
    from PIL import Image

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        videos = make_videos(folder, weights.path(options.sample))
        images = make_images(Image.effect_mandelbrot((320, 240), (-2, -1.5, 1, 1.5), 50))
        mutations = mutate(videos | images, options.count, first=options.first)
        if options.build:
            counts, most = build_all(mutations, folder, "h264.mp4"), math.nan
        else:
            counts, most = run(mutations, folder, keep=options.keep)
    seconds = time.perf_counter() - started
    files = sorted({file for file, _ in counts})
    print("| file | clips or image | typed error | untyped | crash | hang | memory |\n|---|---|---|---|---|---|---|")
    for file in [*files, None]:
        row = Counter[str]()
        for (name, outcome), number in counts.items():
            row[outcome.partition(":")[0]] += number if file in (name, None) else 0
        cells = (row[kind] for kind in ("ok", "error", *FAULTS))
        print(f"| {file or 'all'} |", " | ".join(map(str, cells)), "|")
    outcomes = Counter[str]()
    for (_, outcome), number in counts.items():
        outcomes[outcome] += number
    print(*(f"{outcome}: {number}" for outcome, number in outcomes.most_common()), sep="\n")
    print(f"{counts.total()} files in {seconds:.0f} s; the most memory that one took: {most:.0f} MB")


if __name__ == "__main__":
    main()
