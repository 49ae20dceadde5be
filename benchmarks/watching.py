"""What watching a run costs: microseconds of CPU of the driver for each event, all observers and threads together.

    python -m benchmarks.watching

Floor: an empty call of an actor, of which every hop of a clip makes one.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable

from benchmarks.engine import bare_call
from pipelines.build import ray_cluster
from pipelines.event_log import FLUSH_SECONDS
from pipelines.lock import DriverLock
from pipelines.observer import Load, Working
from pipelines.plan import Plan
from pipelines.watch import Watch
from pipelines.worker import Outcome
from schemas.config import BuildConfig, RunConfig

EVENTS = 20_000


def microseconds(action: Callable[[], None], *, times: int = EVENTS) -> float:
    started = time.process_time()
    for _ in range(times):
        action()
    time.sleep(FLUSH_SECONDS + 0.5)  # what they left for later
    return (time.process_time() - started) / times * 1e6


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, ray_cluster(RunConfig()):
        config = BuildConfig(manifest="-", output=folder, run=RunConfig(log_every_seconds=1e9))
        done = Outcome(key="pair-00000001", pair_id="pair", next_stage=None, verdict="dropped", reason="blur.blur")
        hop, fused = (
            Outcome(key="pair-00000001", pair_id="pair", next_stage=1, seconds={f"stage{i}": 0.1 for i in range(count)})
            for count in (1, 20)
        )
        calls = tuple(Working(key="pair-00000001", stage=f"stage{i % 20}", seconds=1.0) for i in range(1000))
        load = Load(waiting={f"stage{i}": i for i in range(20)}, workers={"stage0": 1000}, working=calls)
        rows = {}
        with DriverLock(folder) as lock, Watch(config, lock) as watch, watch.engine(Plan((), (), 0)) as observer:
            rows["a clip through a group of one stage"] = microseconds(lambda: observer.ran(hop))
            rows["... of 20 fused stages"] = microseconds(lambda: observer.ran(fused))
            rows["a verdict"] = microseconds(lambda: observer.finished(done))
            rows["the load of 1,000 workers, twice a second"] = microseconds(lambda: observer.load(load), times=2000)
        floor = bare_call() * 1000
    print("| event | µs | share of a bare actor call |\n| --- | --- | --- |")
    for words, cost in rows.items():
        print(f"| {words} | {cost:.1f} | {cost / floor:.1%} |")
    print(f"| a bare actor call | {floor:.0f} | |")


if __name__ == "__main__":
    main()
