"""Nodes that join a cluster while a build runs on it."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

from benchmarks.chaos import Arena, write_manifest


def test_a_node_that_joins_is_put_to_work(tmp_path: Path) -> None:
    write_manifest(tmp_path, 4, 24)
    arena = Arena(tmp_path, nodes=2)
    try:
        build = threading.Thread(target=arena.build, args=("out", random.Random(0)), kwargs={"kills": 0}, daemon=True)
        build.start()
        deadline = time.monotonic() + 120
        while not arena.workers() and time.monotonic() < deadline:
            time.sleep(0.1)
        before = {worker.ppid() for worker in arena.workers()}
        arena.add_node()
        while not (joined := {worker.ppid() for worker in arena.workers()} - before) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert joined
        build.join(timeout=200)
        assert (tmp_path / "out/dataset.json").exists()
    finally:
        arena.close()
