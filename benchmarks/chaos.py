"""Builds that are shot at: workers, nodes and the driver are killed at random moments, and some clips kill too.

    python -m benchmarks.chaos --seeds 20

Some 200 short clips, among them ones that raise, hang, eat memory, exit and crash, on a cluster of three nodes of this
machine. One build is left alone; each seed then builds anew while it kills a worker, a node or the driver, three to
six times, and starts the driver again when it was that. Every seed has to end with the same shards and the same
decisions as the one left alone, every clip accounted for once, no process and no temporary file left.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
import pyarrow.parquet as pq
from ray.cluster_utils import Cluster

from schemas.clip import Clip
from schemas.metrics import Metric
from schemas.stage import Filter, Stage

ROOT = Path(__file__).resolve().parents[1]
FPS, CLIP_FRAMES = 24, 36
FAULTS = ("raise", "hang", "eat", "exit", "segfault", "raise")  # of the clip of this number in the first recordings
GIVE_UP_SECONDS = 400


class Fault(Stage):
    """Breaks on one clip of each of the first recordings; works a little on every other."""

    def process(self, clip: Clip) -> None:
        recording = int(clip.pair.pair_id[1:])
        time.sleep(0.05)
        if recording < len(FAULTS) and number_of(clip) == recording + 1:
            self._break(FAULTS[recording])

    def _break(self, how: str) -> None:
        if how == "hang":
            ctypes.PyDLL(None).sleep(10_000)  # never lets go of the interpreter
        elif how == "eat":
            kept: list[Any] = []
            while True:
                kept.append(np.zeros(2**27))  # 1 GB
        elif how == "exit":
            os._exit(1)
        elif how == "segfault":
            ctypes.string_at(0)
        raise RuntimeError("on purpose")


class Seventh(Filter):
    """Drops every seventh clip."""

    metrics: ClassVar[dict[str, Metric]] = {
        "place": Metric("number of the clip in its recording, modulo 7", "count", (0, 6), (1, None))
    }

    def measure(self, clip: Clip) -> dict[str, float]:
        return {"place": number_of(clip) % 7}


def number_of(clip: Clip) -> int:
    """Number of a clip in its recording, from 0."""
    return clip.span.first_frame // CLIP_FRAMES


@dataclass
class Result:
    """What a build left behind: hashes of what it wrote, and what it says of every clip."""

    files: dict[str, str] = field(default_factory=dict)
    decisions: Counter[tuple[str, ...]] = field(default_factory=Counter)
    left: list[str] = field(default_factory=list)


def main(seeds: range, recordings: int, seconds: float) -> None:
    """Print a line a seed; exit with status 1 at the first that differs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_manifest(folder, recordings, seconds)
        arena = Arena(folder)
        try:
            started = time.monotonic()
            arena.build("alone", random.Random(0), kills=0)
            alone = seconds_alone = time.monotonic() - started
            expected = result_of(folder / "alone")
            clips = sum(expected.decisions.values())
            verdicts = Counter(verdict for _, verdict, *_ in expected.decisions.elements())
            print(f"left alone: {clips} clips {dict(verdicts)}, {alone:.0f} s", flush=True)
            for seed in seeds:
                chance = random.Random(seed)
                started = time.monotonic()
                kills = arena.build(f"seed{seed}", chance, kills=chance.randint(3, 6), within=seconds_alone)
                spent = time.monotonic() - started
                fault = difference(expected, result_of(folder / f"seed{seed}"))
                print(
                    f"seed {seed}: killed {', '.join(kills) or 'nothing'}: {fault or 'same'}, {spent:.0f} s", flush=True
                )
                if fault:
                    raise SystemExit(1)
        finally:
            arena.close()
        if left := arena.left_processes():
            print(f"processes left: {left}")
            raise SystemExit(1)


class Arena:
    """A cluster of nodes of this machine with one core each, and builds on it. The head lives as long as all."""

    def __init__(self, folder: Path, *, nodes: int = 3) -> None:
        # Nodes hand it on to their workers, which look for this module's stages.
        os.environ |= {"RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)}
        self._folder = folder
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        self._others = [self._cluster.add_node(num_cpus=1) for _ in range(nodes - 1)]
        self._cluster.wait_for_nodes()

    def add_node(self) -> None:
        """Let one more node join."""
        self._others.append(self._cluster.add_node(num_cpus=1))

    def build(self, out: str, chance: random.Random, *, kills: int, within: float = 60.0) -> list[str]:
        """Build into `out` while killing `kills` times. Returns what was killed."""
        times = sorted(chance.uniform(4, within) for _ in range(kills))
        killed: list[str] = []
        began = time.monotonic()
        driver = self._start(out)
        try:
            while (status := driver.poll()) != 0:
                if status not in (None, -signal.SIGKILL):
                    raise SystemExit(
                        f"the driver ended with {status}: {(self._folder / f'{out}.log').read_text()[-3000:]}"
                    )
                if status is not None:
                    driver = self._start(out)
                if time.monotonic() - began > GIVE_UP_SECONDS:
                    raise SystemExit(f"still running after {GIVE_UP_SECONDS} s; killed {killed}")
                if times and time.monotonic() - began > times[0]:
                    times.pop(0)
                    killed.append(self._kill(chance.choice(("worker", "node", "driver")), driver, chance))
                time.sleep(0.05)
        finally:
            driver.kill()
            driver.wait()
        return killed

    def _start(self, out: str) -> subprocess.Popen[bytes]:
        command = [
            sys.executable, "-m", "pipelines.cli", "build", "config.json", f"output={out}",
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": self._cluster.address}
        with (self._folder / f"{out}.log").open("ab") as log:
            return subprocess.Popen(command, cwd=self._folder, env=environment, stdout=log, stderr=log)

    def _kill(self, what: str, driver: subprocess.Popen[bytes], chance: random.Random) -> str:
        if what == "driver":
            driver.kill()
            driver.wait()
        elif what == "node":
            node = chance.choice(self._others)
            self._others.remove(node)
            self._cluster.remove_node(node, allow_graceful=False)
            self.add_node()
        else:
            workers = self.workers()
            if not workers:
                return "no worker"
            chance.choice(workers).kill()
        return what

    def workers(self) -> list[psutil.Process]:
        """Processes of the engine's workers."""
        own = psutil.Process().children(recursive=True)
        return [process for process in own if _title(process).startswith("ray::_Actor")]

    def close(self) -> None:
        """End the cluster."""
        self._cluster.shutdown()

    def left_processes(self) -> list[str]:
        """Processes of this test that should have ended."""
        deadline = time.monotonic() + 20
        while (left := psutil.Process().children(recursive=True)) and time.monotonic() < deadline:
            time.sleep(0.5)
        return [_title(process) for process in left]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def write_manifest(folder: Path, recordings: int, seconds: float) -> None:
    """Recordings of a moving pattern, a manifest over them, and the config of the build."""
    import av

    rows = []
    y, x = np.mgrid[0:96, 0:128]
    for recording in range(recordings):
        path = folder / f"r{recording}.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
            for index in range(round(seconds * FPS)):
                wave = 120 + 60 * np.sin((x + 2 * index) / (9 + recording)) * np.cos(y / 11)
                gray = wave.astype(np.uint8)
                picture = av.VideoFrame.from_ndarray(np.repeat(gray[:, :, None], 3, axis=2), format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
        rows.append({"pair_id": f"r{recording}", "video": path.name, "garment": None, "part": "upper"})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    clip_seconds = CLIP_FRAMES / FPS
    config = {
        "manifest": "manifest.jsonl",
        "output": "out",
        "tier": "none",
        "ingest": {"detector": "pyscenedetect", "min_seconds": clip_seconds / 2, "max_seconds": clip_seconds},
        "stages": {
            "seventh": {"use": "benchmarks.chaos:Seventh"},
            # Another share of a core makes it a group of its own: clips cross from worker to worker.
            "fault": {"use": "benchmarks.chaos:Fault", "time_limit": 5, "batch_clips": 2, "resources": {"cpus": 0.5}},
        },
        "shards": {"max_samples": 50},
        "run": {"worker_memory_mb": 3000},
    }
    (folder / "config.json").write_text(json.dumps(config))


def result_of(out: Path) -> Result:
    """Read what a build left in `out`."""
    result = Result()
    for path in sorted(out.glob("shards/*")):
        result.files[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    for name in ("index.parquet", "README.md"):
        result.files[name] = hashlib.sha256((out / name).read_bytes()).hexdigest()
    columns = ["key", "verdict", "stage", "metric", "error_code"]
    for row in pq.read_table(out / "decisions.parquet", columns=columns).to_pylist():
        result.decisions[tuple(str(row[column]) for column in columns)] += 1
    result.left = [str(path.relative_to(out)) for path in out.rglob("*") if ".part" in path.name or "lock" in path.name]
    return result


def difference(expected: Result, got: Result) -> str:
    """What differs, in words; "" if nothing does."""
    files = sorted(name for name in expected.files | got.files if expected.files.get(name) != got.files.get(name))
    missing, more = expected.decisions - got.decisions, got.decisions - expected.decisions
    words = [f"files {', '.join(files)}"] if files else []
    words += [f"decisions missing {sorted(missing)[:3]}"] if missing else []
    words += [f"decisions more {sorted(more)[:3]}"] if more else []
    words += [f"left behind {', '.join(got.left)}"] if got.left else []
    return "; ".join(words)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--recordings", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=40.0, help="length of each recording")
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    main(seeds, arguments.recordings, arguments.seconds)
