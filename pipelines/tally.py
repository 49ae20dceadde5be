"""The counts of a run: what progress, status and profile are told from."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from pipelines.chain import INGEST
from pipelines.observer import Load, Observer
from pipelines.worker import Outcome, Pulled
from schemas.clip import Failure

BUCKET = math.log(1.05)  # percentiles are right within 5 %


@dataclass
class Durations:
    """How long something took, each time: count, sum and percentiles in constant memory."""

    count: int = 0
    seconds: float = 0.0
    _buckets: Counter[int] = field(default_factory=Counter)

    def add(self, seconds: float) -> None:
        """Count one that took `seconds`."""
        self.seconds += seconds
        self.count_one(seconds)

    def count_one(self, seconds: float) -> None:
        """Count one whose `seconds` are in the sum already."""
        self.count += 1
        self._buckets[math.floor(math.log(max(seconds, 1e-6)) / BUCKET)] += 1

    @property
    def mean(self) -> float:
        """Seconds; 0 before the first."""
        return self.seconds / self.count if self.count else 0.0

    def percentile(self, share: float) -> float:
        """Seconds within which `share` of them were done, at most 5 % too many; 0 before the first."""
        passed = 0
        for bucket, count in sorted(self._buckets.items()):
            passed += count
            if passed >= share * self.count:
                return math.exp((bucket + 1) * BUCKET)
        return 0.0


class UpToClip:
    """How long it takes to read up to the next clip, which may be several calls."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def add(self, pulled: Pulled) -> float | None:
        """Seconds up to the clip that `pulled` gave; None where it gave none."""
        seconds = self._seconds.pop(pulled.pair_id, 0.0) + pulled.seconds
        if pulled.outcome or pulled.rejected or pulled.skipped:
            return seconds
        if not pulled.finished:
            self._seconds[pulled.pair_id] = seconds
        return None


@dataclass(frozen=True)
class Position:
    """How far a recording is read, in seconds of it. `duration` is None where the container does not know it."""

    seconds: float
    duration: float | None


class Tally(Observer):
    """Counts what the engine reports.

    Attributes:
        sources, clips: recordings to read and stored clips to go on with, as the run begins.
        kept, drops, failures: clips that have a verdict; `stage.metric` or `stage: code` → clips.
        source_failures: recordings that could not be read to their end, by code.
        sources_done: recordings read, those included.
        open: recordings that are being read.
        stages: how long each stage took on each clip, ingest included.
        retries: stage → calls that were tried again.
        worker_seconds, waiting_seconds: time that workers were up, by pool, and that clips waited, by stage.
        now: the last load that the engine told.

    """

    def __init__(self, *, sources: int = 0, clips: int = 0) -> None:
        self.sources, self.clips = sources, clips
        self.kept = self.sources_done = 0
        self.drops: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.source_failures: Counter[str] = Counter()
        self.retries: Counter[str] = Counter()
        self.stages: defaultdict[str, Durations] = defaultdict(Durations)
        self.worker_seconds: defaultdict[str, float] = defaultdict(float)
        self.waiting_seconds: defaultdict[str, float] = defaultdict(float)
        self.open: dict[str, Position] = {}
        self.now = Load()
        self._up_to_clip = UpToClip()
        self._pause = ("", 0.0)
        self._started = self._loaded = time.monotonic()
        self._ended: float | None = None

    def begin(self, *, sources: int, clips: int) -> None:
        """The engine begins now, with so many recordings to read and stored clips to go on with."""
        self.sources, self.clips = sources, clips
        self._started = self._loaded = time.monotonic()

    def end(self) -> None:
        """The engine has come to its end."""
        self.load(self.now)
        self._ended = time.monotonic()
        self.now = Load()

    def read(self, pulled: Pulled) -> None:
        """A recording was read on."""
        last = self.open.get(pulled.pair_id)
        position = max(last.seconds if last else 0.0, pulled.position_seconds)
        self.open[pulled.pair_id] = Position(position, pulled.duration_seconds or (last.duration if last else None))
        self.stages[INGEST].seconds += pulled.seconds
        if (took := self._up_to_clip.add(pulled)) is not None:
            self.stages[INGEST].count_one(took)

    def source_done(self, pair_id: str, failure: Failure | None) -> None:
        """A recording was read to its end, and all its clips are stored."""
        self.open.pop(pair_id, None)
        self.sources_done += 1
        if failure:
            self.source_failures[failure.code] += 1

    def ran(self, outcome: Outcome) -> None:
        """Stages took their time on a clip."""
        for stage, seconds in outcome.seconds.items():
            self.stages[stage].add(seconds)

    def finished(self, outcome: Outcome) -> None:
        """A clip was stored for good."""
        if outcome.verdict == "kept":
            self.kept += 1
        elif outcome.verdict == "dropped":
            self.drops[outcome.reason] += 1
        else:
            self.failures[outcome.reason] += 1

    def rejected(self, pair_id: str, key: str, reason: str) -> None:
        """A stretch of a recording made no clip."""
        self.drops[reason] += 1

    def retried(self, key: str, stage: str, cause: str) -> None:
        """A call is made once more."""
        self.retries[stage] += 1

    def paused(self, cause: str, seconds: float) -> None:
        """Something outside is away."""
        self._pause = (cause, time.monotonic() + seconds)

    def load(self, load: Load) -> None:
        """How full everything is."""
        now = time.monotonic()
        passed, self._loaded, self.now = now - self._loaded, now, load
        for pool, workers in load.workers.items():
            self.worker_seconds[pool] += workers * passed
        for stage, waiting in load.waiting.items():
            self.waiting_seconds[stage] += waiting * passed

    @property
    def seen(self) -> int:
        """Clips that have a verdict."""
        return self.kept + self.drops.total() + self.failures.total()

    @property
    def seconds(self) -> float:
        """Time that the engine has worked."""
        return max((self._ended or time.monotonic()) - self._started, 1e-9)

    @property
    def pause(self) -> str:
        """What is waited for now, or nothing."""
        cause, until = self._pause
        return cause if time.monotonic() < until else ""

    @property
    def total_sources(self) -> int:
        """Recordings in all, as far as is known: a live stream adds some while it goes on."""
        return max(self.sources, self.sources_done + len(self.open) + self.now.unread)

    def seconds_left(self) -> float | None:
        """Estimate from the share of the recordings read; None before there is one."""
        shares = [min(1.0, open_.seconds / open_.duration) for open_ in self.open.values() if open_.duration]
        total = self.total_sources or self.clips
        done = self.sources_done + sum(shares) if self.total_sources else self.seen
        return None if not done or not total else self.seconds * max(0.0, total / done - 1)
