"""What the engine tells whoever watches it: progress on the terminal, logs, metrics, the status file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipelines.worker import Outcome, Pulled
from schemas.clip import Failure


@dataclass(frozen=True, kw_only=True)
class Working:
    """A call that a worker is busy with. `key` is a clip's, or the pair id of a recording that is read."""

    key: str
    stage: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Load:
    """The engine at one moment.

    Attributes:
        waiting: clips that wait, by the stage that is next.
        unread: recordings that nobody has begun to read.
        bytes_in_flight: compressed bytes of clips that wait between stages.
        workers: workers by the name of their pool (its first stage).
        working: the calls in flight.

    """

    waiting: Mapping[str, int] = field(default_factory=dict)
    unread: int = 0
    bytes_in_flight: int = 0
    workers: Mapping[str, int] = field(default_factory=dict)
    working: tuple[Working, ...] = ()


class Observer:
    """Hears what happens in a run. Every method does nothing unless it is overridden, and must return at once."""

    def read(self, pulled: Pulled) -> None:
        """A recording was read on."""

    def source_done(self, pair_id: str, failure: Failure | None) -> None:
        """A recording was read to its end, and all its clips are stored."""

    def ran(self, outcome: Outcome) -> None:
        """A clip went through stages; `outcome.seconds` says how long each took. It need not be at its end."""

    def finished(self, outcome: Outcome) -> None:
        """A clip was stored for good."""

    def rejected(self, pair_id: str, key: str, reason: str) -> None:
        """A stretch of a recording made no clip; `reason` is `stage.metric`."""

    def retried(self, key: str, stage: str, cause: str) -> None:
        """A clip or a recording (by its pair id) is tried again, because `cause`."""

    def paused(self, cause: str, seconds: float) -> None:
        """Nothing is started for `seconds`, because something outside is away."""

    def load(self, load: Load) -> None:
        """How full everything is; about twice a second."""

    def refresh(self) -> None:
        """Time has passed; called after every round of the engine's loop."""


class Observers(Observer):
    """Several observers as one."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._all = tuple(observers)

    def read(self, pulled: Pulled) -> None:
        for observer in self._all:
            observer.read(pulled)

    def source_done(self, pair_id: str, failure: Failure | None) -> None:
        for observer in self._all:
            observer.source_done(pair_id, failure)

    def ran(self, outcome: Outcome) -> None:
        for observer in self._all:
            observer.ran(outcome)

    def finished(self, outcome: Outcome) -> None:
        for observer in self._all:
            observer.finished(outcome)

    def rejected(self, pair_id: str, key: str, reason: str) -> None:
        for observer in self._all:
            observer.rejected(pair_id, key, reason)

    def retried(self, key: str, stage: str, cause: str) -> None:
        for observer in self._all:
            observer.retried(key, stage, cause)

    def paused(self, cause: str, seconds: float) -> None:
        for observer in self._all:
            observer.paused(cause, seconds)

    def load(self, load: Load) -> None:
        for observer in self._all:
            observer.load(load)

    def refresh(self) -> None:
        for observer in self._all:
            observer.refresh()
