"""What happened in a run, a JSON line an event: WORK/log/RUN.jsonl, and standard error if the config asks for it."""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from collections import deque
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from fsspec.implementations.local import LocalFileSystem
from pydantic_core import to_json

from pipelines import urls
from pipelines.chain import INGEST
from pipelines.observer import Observer
from pipelines.tally import UpToClip
from pipelines.ticker import Ticker
from pipelines.worker import Outcome, Pulled
from schemas.clip import Failure

LOG = "log"
FLUSH_SECONDS = 1.0
PART_SECONDS = 30.0  # object stores cannot append: there a run's log comes in closed parts
PART_BYTES = 8 * 1024**2
MOST_UNWRITTEN = 100_000  # events; while the store is away the oldest are let go, memory stays bounded

_log = logging.getLogger(__name__)


class EventLog(Observer):
    """Writes events into `folder` while its `with` block lasts. Encoding and writing happen beside the work.

    Every line has `time` (ISO 8601, UTC), `event`, and what the event is about: `key`, `pair_id`, `stage`, `seconds`,
    `verdict`, `reason`, `cause`, `traceback`. With `echo` standard error gets the same lines.
    """

    def __init__(self, folder: str, *, name: str, echo: bool = False) -> None:
        self._file = _GrowingFile(urls.join(folder, LOG, name))
        self._echo = echo
        self._events: deque[tuple[float, str, dict[str, Any]]] = deque(maxlen=MOST_UNWRITTEN)
        self._unwritten: deque[bytes] = deque(maxlen=MOST_UNWRITTEN)
        self._up_to_clip = UpToClip()
        self._ticker: Ticker | None = None
        self._handler = _Handler(self, echo=echo)
        self._failing = False

    def __enter__(self) -> EventLog:
        logging.getLogger(__package__).addHandler(self._handler)
        self._ticker = Ticker(FLUSH_SECONDS, self._flush, name="event log")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self.event("run_finished")
        elif isinstance(error, Exception):
            self.event("run_failed", cause=str(error), traceback="".join(traceback.format_exception(error)))
        else:
            self.event("run_interrupted", cause=str(error))
        logging.getLogger(__package__).removeHandler(self._handler)
        if self._ticker:
            self._ticker.close()
        self._flush(last=True)

    def event(self, event: str, **fields: Any) -> None:
        """Note an event. What is empty or None is left out."""
        self._events.append((time.time(), event, fields))

    # ---- what the engine reports

    def read(self, pulled: Pulled) -> None:
        """A clip was cut."""
        took = self._up_to_clip.add(pulled)
        if pulled.outcome and took is not None:
            self.event(
                "clip_cut",
                key=pulled.outcome.key,
                pair_id=pulled.pair_id,
                stage=INGEST,
                seconds=round(took, 6),
            )

    def source_done(self, pair_id: str, failure: Failure | None) -> None:
        """A recording was read to its end, or could not be."""
        if failure:
            self.event(
                "recording_failed", pair_id=pair_id, stage=failure.stage, reason=failure.code, cause=failure.cause,
                traceback=failure.traceback,
            )  # fmt: skip
        else:
            self.event("recording_read", pair_id=pair_id)

    def ran(self, outcome: Outcome) -> None:
        """Stages ran on a clip."""
        stages = {stage: round(seconds, 6) for stage, seconds in outcome.seconds.items()}
        total = round(sum(stages.values()), 6)
        self.event("clip_ran", key=outcome.key, pair_id=outcome.pair_id, seconds=total, stages=stages)

    def finished(self, outcome: Outcome) -> None:
        """A clip has its verdict."""
        stage = outcome.reason.partition(": ")[0] if outcome.verdict == "failed" else outcome.reason.rpartition(".")[0]
        self.event(
            "clip_done", key=outcome.key, pair_id=outcome.pair_id, stage=stage, verdict=outcome.verdict,
            reason=outcome.reason, cause=outcome.cause, traceback=outcome.traceback,
        )  # fmt: skip

    def rejected(self, pair_id: str, key: str, reason: str) -> None:
        """A stretch of a recording made no clip."""
        stage = reason.rpartition(".")[0]
        self.event("clip_done", key=key, pair_id=pair_id, stage=stage, verdict="dropped", reason=reason)

    def retried(self, key: str, stage: str, cause: str) -> None:
        """A call is made once more."""
        self.event("retried", key=key, stage=stage, cause=cause)

    def paused(self, cause: str, seconds: float) -> None:
        """Something outside is away."""
        self.event("paused", cause=cause, seconds=seconds)

    # ---- writing

    def _flush(self, *, last: bool = False) -> None:
        while self._events:
            line = _line(*self._events.popleft())
            self._unwritten.append(line)
            if self._echo:
                sys.stderr.write(line.decode())
        if not self._unwritten:
            return
        try:
            if self._file.append(b"".join(self._unwritten), last=last):
                self._unwritten.clear()
            self._failing = False
        except Exception as error:  # noqa: BLE001 - every store has error types of its own; kept, and tried again
            if not self._failing:
                _log.warning("the log is not being written: %s", error)
            self._failing = True


class _GrowingFile:
    """A local file that is appended to; elsewhere a row of closed parts."""

    def __init__(self, base: str) -> None:
        self._base = base
        fs, path = urls.filesystem(f"{base}.jsonl")
        self._path = path if isinstance(fs, LocalFileSystem) else None
        self._size = self._parts = 0
        self._closed = time.monotonic()

    def append(self, data: bytes, *, last: bool) -> bool:
        """Write `data`, or return False where it is too little for a part yet."""
        if self._path is None:
            return self._add_part(data, last=last)
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        with open(self._path, "ab") as stream:
            stream.truncate(self._size)  # a full disk may have taken half of what was tried before
            stream.write(data)
        self._size += len(data)
        return True

    def _add_part(self, data: bytes, *, last: bool) -> bool:
        if not last and len(data) < PART_BYTES and time.monotonic() - self._closed < PART_SECONDS:
            return False
        urls.write_whole(f"{self._base}-{self._parts:06d}.jsonl", data)
        self._parts, self._closed = self._parts + 1, time.monotonic()
        return True


class _Handler(logging.Handler):
    """Takes this package's warnings into the log, and shows them as if it were not there."""

    def __init__(self, log: EventLog, *, echo: bool) -> None:
        super().__init__(logging.WARNING)
        self._events, self._echo = log, echo

    def emit(self, record: logging.LogRecord) -> None:
        self._events.event("warning", cause=record.getMessage())
        if not self._echo and logging.lastResort and not logging.getLogger().handlers:
            logging.lastResort.handle(record)


def _line(when: float, event: str, fields: dict[str, Any]) -> bytes:
    stamp = datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    shown = {name: _encodable(value) for name, value in fields.items() if value not in (None, "", {})}
    return to_json({"time": stamp, "event": event, **shown}, inf_nan_mode="null") + b"\n"


def _encodable(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
