"""Workers, nodes and the driver killed at random moments, on a cluster of three nodes: nothing is lost.

One seed of what `python -m benchmarks.chaos` does with twenty.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_builds_that_are_shot_at_end_like_the_one_left_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.chaos", "--seeds", "1", "--recordings", "5", "--seconds", "7"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("seed")]
    assert len(lines) == 1
    assert all(": same" in line for line in lines)
