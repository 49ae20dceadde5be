"""What a run is doing, in a file that another shell can read: WORK/status.json."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines import urls
from pipelines.lock import LOCK, Holder, read_holder
from pipelines.observer import Load, Observer, Working
from pipelines.tally import Position, Tally
from pipelines.ticker import Ticker
from schemas.errors import DatasetError

STATUS = "status.json"
EVERY_SECONDS = 2.0

State = Literal["starting", "running", "paused", "writing", "interrupted", "failed", "finished"]
ENDED: tuple[State, ...] = ("interrupted", "failed", "finished")

_log = logging.getLogger(__name__)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class StageStatus(_Part):
    """One stage: clips it ran on, seconds it took in all, clips that wait for it, and its retries."""

    clips: int = 0
    seconds: float = 0.0
    waiting: int = 0
    retries: int = 0


class RunStatus(_Part):
    """A run at one moment. Times are seconds of the Unix clock; `cause` is of a pause or of a failure."""

    state: State
    cause: str = ""
    driver: Holder
    started: float
    updated: float
    recordings: int = 0
    recordings_done: int = 0
    recordings_unread: int = 0
    reading: dict[str, Position] = {}
    kept: int = 0
    drops: dict[str, int] = {}
    failures: dict[str, int] = {}
    source_failures: dict[str, int] = {}
    clips_per_second: float = 0.0
    seconds_left: float | None = None
    bytes_in_flight: int = 0
    stages: dict[str, StageStatus] = {}
    workers: dict[str, int] = {}
    working: tuple[Working, ...] = ()

    @property
    def seen(self) -> int:
        """Clips that have a verdict."""
        return self.kept + sum(self.drops.values()) + sum(self.failures.values())


class StatusFile(Observer):
    """Writes the status of a run into `folder` while its `with` block lasts, and how it ended.

    The file is written beside the work, at most every `every_seconds`: a slow store does not hold the engine up.
    """

    def __init__(self, folder: str, tally: Tally, *, driver: Holder, every_seconds: float = EVERY_SECONDS) -> None:
        self._url = urls.join(folder, STATUS)
        self._tally, self._driver, self._every = tally, driver, every_seconds
        self._state: State = "starting"
        self._started, self._taken = time.time(), 0.0
        self._unwritten: RunStatus | None = None
        self._ticker: Ticker | None = None

    def __enter__(self) -> StatusFile:
        self._unwritten = self._now()
        self._write()
        self._ticker = Ticker(self._every, self._write, name="status file")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._ticker:
            self._ticker.close()
        if error is None:
            self._state = "finished"
        else:
            self._state = "failed" if isinstance(error, Exception) else "interrupted"
        self._unwritten = self._now(cause=str(error or ""))
        self._write()

    def load(self, load: Load) -> None:
        """Look at the counts, if it is time to."""
        if time.monotonic() - self._taken >= self._every:
            self._taken = time.monotonic()
            self._state = "paused" if self._tally.pause else "running"
            self._unwritten = self._now(cause=self._tally.pause)

    def writing(self) -> None:
        """All clips have run: the dataset is written now."""
        self._state = "writing"
        self._unwritten = self._now()

    def _write(self) -> None:
        status, self._unwritten = self._unwritten, None
        if status is None:
            return
        try:
            urls.write_whole(self._url, status.model_dump_json(indent=2).encode())
        except Exception as error:  # noqa: BLE001 - every store has error types of its own; the run matters more
            _log.warning("%s: the status was not written: %s", self._url, error)

    def _now(self, *, cause: str = "") -> RunStatus:
        tally, load = self._tally, self._tally.now
        names = dict.fromkeys([*tally.stages, *load.waiting, *tally.retries])  # in the order they first ran
        return RunStatus(
            state=self._state,
            cause=cause,
            driver=self._driver,
            started=self._started,
            updated=time.time(),
            recordings=tally.total_sources,
            recordings_done=tally.sources_done,
            recordings_unread=load.unread,
            reading=dict(tally.open),
            kept=tally.kept,
            drops=dict(tally.drops),
            failures=dict(tally.failures),
            source_failures=dict(tally.source_failures),
            clips_per_second=tally.seen / tally.seconds,
            seconds_left=tally.seconds_left() if self._state in ("running", "paused") else None,
            bytes_in_flight=load.bytes_in_flight,
            stages={
                name: StageStatus(
                    clips=tally.stages[name].count if name in tally.stages else 0,
                    seconds=tally.stages[name].seconds if name in tally.stages else 0.0,
                    waiting=load.waiting.get(name, 0),
                    retries=tally.retries[name],
                )
                for name in names
            },
            workers=dict(load.workers),
            working=load.working,
        )


def read_status(output: str) -> RunStatus:
    """Status of the run that works, or last worked, on `output`.

    Raises:
        DatasetError: nothing was ever run there, or the file is damaged.

    """
    url = urls.join(urls.absolute(output), "work", STATUS)
    data = urls.read(url)
    if data is None:
        raise DatasetError("nothing was ever run here", where=output, remedy="Name the output of a `vvt build`")
    try:
        return RunStatus.model_validate_json(data)
    except ValidationError as error:
        raise DatasetError(
            f"this is no status: {error}", where=url, remedy="Delete it; a run writes it anew"
        ) from error


def is_dead(output: str, status: RunStatus) -> bool:
    """Whether the run of `status` has not ended but its driver is gone: killed, or its machine is."""
    if status.state in ENDED:
        return False
    holder = read_holder(urls.join(urls.absolute(output), LOCK))
    return holder is None or holder.token != status.driver.token or not holder.is_alive()
