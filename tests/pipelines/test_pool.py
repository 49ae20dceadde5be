"""How many workers of each kind fit on which nodes."""

from __future__ import annotations

import pytest

from pipelines.pool import worker_limits
from schemas.stage import Resources

CPU, HALF, TWO = Resources(), Resources(cpus=0.5), Resources(cpus=2)
GPU = Resources(cpus=1, gpus=0.5)
GB = 1024**3


@pytest.mark.parametrize(
    ("kinds", "cluster", "limits"),
    [
        pytest.param([CPU], [{"CPU": 4.0}], [4], id="one kind takes all"),
        pytest.param([CPU, HALF], [{"CPU": 2.0}], [1, 2], id="each leaves room for one of the other"),
        pytest.param([CPU, HALF], [{"CPU": 1.0}], [0, 0], id="too small for one of each"),
        pytest.param([TWO], [{"CPU": 1.0}] * 3, [0], id="two cores on one node are not two nodes of one"),
        pytest.param([CPU, TWO], [{"CPU": 3.0}, {"CPU": 1.0}], [2, 1], id="cores that nobody else can use"),
        pytest.param([CPU, GPU], [{"CPU": 4.0}, {"CPU": 4.0, "GPU": 1.0}], [7, 2], id="shares of a GPU"),
        pytest.param([Resources(cpus=0)], [{"CPU": 3.0}], [3], id="what holds nothing: one a core"),
        pytest.param([Resources(memory_mb=2048)], [{"CPU": 8.0, "memory": 5.0 * GB}], [2], id="memory"),
        pytest.param([Resources(custom={"disk": 1})], [{"CPU": 8.0, "disk": 3.0}, {"CPU": 8.0}], [3], id="custom"),
        pytest.param([CPU], [], [0], id="no node"),
    ],
)
def test_workers_that_fit(kinds: list[Resources], cluster: list[dict[str, float]], limits: list[int]) -> None:
    assert list(worker_limits(kinds, cluster).values()) == limits
