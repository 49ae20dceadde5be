"""All that watches one run: its counts, the status file, the log, and, while the engine works, progress and metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from types import TracebackType

from pipelines import urls
from pipelines.event_log import EventLog
from pipelines.lock import DriverLock
from pipelines.metrics import Metrics
from pipelines.observer import Load, Observer, Observers
from pipelines.plan import Plan
from pipelines.progress import Progress
from pipelines.status import StatusFile
from pipelines.tally import Tally
from schemas.config import BuildConfig


class Watch:
    """Watches the run that holds `lock`, while its `with` block lasts. `driver_seconds` is the driver's own work."""

    def __init__(self, config: BuildConfig, lock: DriverLock) -> None:
        self._folder = urls.join(config.output, "work")
        driver = lock.holder
        name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(driver.started))}-{driver.token[:8]}"
        self.tally = Tally()
        self.driver_seconds = 0.0
        self._config, self._lock = config, lock
        self._status = StatusFile(self._folder, self.tally, driver=driver)
        self._log = EventLog(self._folder, name=name, echo=config.run.log_json)
        self._stack = ExitStack()

    def __enter__(self) -> Watch:
        urls.sweep(self._folder)
        self._stack.enter_context(self._log)
        self._stack.enter_context(self._status)
        driver = self._lock.holder
        self._log.event(
            "run_started", host=driver.host, pid=driver.pid, command=driver.command, output=self._config.output
        )
        for words in self._lock.taken_over:
            self._log.event("taken_over", cause=words)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, at)

    @contextmanager
    def engine(self, plan: Plan) -> Iterator[Observer]:
        """Gives what the engine is to report to while it works on `plan`. Needs a connected cluster."""
        run = self._config.run
        self._log.event(
            "planned", recordings=len(plan.sources), clips=len(plan.clips), pairs_up_to_date=plan.up_to_date
        )
        self.tally.begin(sources=len(plan.sources), clips=len(plan.clips))
        progress = Progress(self.tally, every_seconds=run.log_every_seconds)
        metrics = Metrics(self.tally, output=self._config.output)
        began = time.thread_time()
        try:
            with nullcontext() if run.log_json else progress:
                shown = [] if run.log_json else [progress]
                yield Observers([self.tally, *shown, self._status, self._log, metrics, _Guard(self._lock)])
        finally:
            self.tally.end()
            self.driver_seconds = time.thread_time() - began

    def writing(self) -> None:
        """The dataset is written from here on."""
        self._status.writing()
        self._log.event("writing_dataset")


class _Guard(Observer):
    """Stops the engine when its output belongs to another driver."""

    def __init__(self, lock: DriverLock) -> None:
        self._lock = lock

    def load(self, load: Load) -> None:
        self._lock.check()
