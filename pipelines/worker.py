"""What runs inside one Ray actor: reading recordings clip by clip, and passing clips through a group of stages."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import media
from curation.ingest import Ingested
from media import sources
from pipelines.black_box import BlackBox
from pipelines.chain import INGEST, Chain
from pipelines.stage_run import failure_of, process_checked
from pipelines.store import ClipStore, Ledger
from schemas.clip import Clip, Failure
from schemas.errors import DatasetError, MediaError, OutageError, StageError, VvtError
from schemas.manifest import Pair
from schemas.record import decode_clip, encode_clip
from schemas.stage import Filter, Stage

RECORDING, INPUTS = "recording", "inputs"
SETUP_SECONDS = 1800.0
"""Time that a stage's `setup()` may take: it may load tens of GB over a network."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A manifest row and what its files were when the run began.

    Both hashes are stored with each clip as fingerprints: another `recording` (or another span of it) makes new clips,
    other `inputs` (part, garment image, words) make the stages run again.
    """

    pair: Pair
    recording: str
    inputs: str


@dataclass(frozen=True, kw_only=True)
class Task:
    """A clip that a worker is to go on with.

    Attributes:
        stage_index: the stage to go on at.
        alone: it is under suspicion, and comes back after one stage.
        failure: why it is given up instead; it is stored as failed.

    """

    key: str
    row: Row
    stage_index: int
    alone: bool = False
    failure: Failure | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a clip in one call.

    Attributes:
        next_stage: where it goes on; None once it is stored for good.
        bytes: its size, where it goes on.
        verdict, reason: "kept", "dropped" or "failed", and why, by `stage.metric` or `stage: code`.
        cause, traceback: of a failure.
        seconds: how long each stage took that ran.
        outage: what is away outside, if the call came to nothing for that; the clip is as it was.
        lost: the stored file is damaged, and was removed.

    """

    key: str
    pair_id: str
    next_stage: int | None
    bytes: int = 0
    verdict: str = "pending"
    reason: str = ""
    cause: str = ""
    traceback: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    outage: str = ""
    lost: bool = False


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """What one call to `Worker.pull` gave: at most one clip, and how far the recording is read.

    `skipped` is a clip that was in the store already; `outage` as in `Outcome`; position and duration are of the span
    that the row asks for.
    """

    pair_id: str
    outcome: Outcome | None = None
    rejected: Clip | None = None
    skipped: str = ""
    position_seconds: float = 0.0
    duration_seconds: float | None = None
    seconds: float = 0.0
    finished: bool = False
    failure: Failure | None = None
    outage: str = ""


@dataclass(frozen=True)
class Born:
    """Where a worker lives, and where its black box lies."""

    node: str
    black_box: str


Ended = tuple[Outcome, bytes]
"""What became of a clip in one call, and its bytes if it goes on."""


@dataclass(eq=False)
class _Passage:
    """A clip on its way through a group of stages."""

    task: Task
    clip: Clip
    seconds_before: dict[str, float]
    ends: bool = False


@dataclass(eq=False)
class _Reading:
    """A recording that is being read, and what it has given so far."""

    items: Iterator[Ingested]
    stored: frozenset[str]
    keys: list[str] = field(default_factory=list)
    rejected: list[Clip] = field(default_factory=list)
    unstored: Ingested | None = None  # its clip could not be stored yet
    ended: bool = False
    failure: Failure | None = None


class Worker:
    """One process of a pool. Calls come one at a time, so a crash has one suspect.

    A recording is read by a generator that lives here between calls: nothing runs ahead of the demand, and the same
    worker can do other work between two clips of it. Each of its clips is stored before anybody hears of it.
    """

    def __init__(self, chain: Chain, store: ClipStore, *, node: str = "") -> None:
        sources.hold_to(chain.sources)
        self._chain = chain
        self._store = store
        self._node = node
        self._box = BlackBox()
        self._ready: set[str] = set()
        self._readings: dict[str, _Reading] = {}

    def born(self) -> Born:
        """Return once the process is up."""
        return Born(self._node, self._box.path)

    # ---- recordings

    def pull(self, row: Row, failure: Failure | None = None) -> tuple[Pulled, bytes]:
        """Read the recording of `row` up to its next clip. With `failure` it is given up for that reason instead."""
        started = time.perf_counter()
        pair_id = row.pair.pair_id
        try:
            reading = self._readings.get(pair_id) or self._open(row, failure)
            pulled, data = self._read_on(row, reading)
        except OutageError as error:
            pulled, data = Pulled(pair_id=pair_id, outage=str(error)), b""
        return replace(pulled, seconds=time.perf_counter() - started), data

    def _open(self, row: Row, failure: Failure | None) -> _Reading:
        pair_id = row.pair.pair_id
        stored = self._store.keys(pair_id)
        reading = _Reading(iter(()), frozenset(stored))
        if failure:
            reading.keys, reading.ended, reading.failure = stored, True, failure
        else:
            reading.items = iter(self._chain.ingest.clips(row.pair, known=reading.stored))
        self._readings[pair_id] = reading
        return reading

    def _read_on(self, row: Row, reading: _Reading) -> tuple[Pulled, bytes]:
        pair_id = row.pair.pair_id
        item = reading.unstored or self._next(pair_id, reading)
        if item is None:
            self._store.put_ledger(
                Ledger(
                    pair=row.pair,
                    recording=row.recording,
                    fingerprint=self._chain.fingerprints[INGEST],
                    keys=tuple(sorted(reading.keys)),
                    rejected=tuple(sorted(reading.rejected, key=lambda clip: clip.key)),
                    failure=reading.failure,
                )
            )
            del self._readings[pair_id]
            return Pulled(pair_id=pair_id, finished=True, failure=reading.failure), b""
        position, duration = _of_span(row.pair, item)
        pulled = Pulled(pair_id=pair_id, position_seconds=position, duration_seconds=duration)
        clip = item.clip
        if clip is None:
            return pulled, b""
        clip.fingerprints |= {
            INGEST: self._chain.fingerprints[INGEST],
            RECORDING: row.recording,
            INPUTS: row.inputs,
        }
        if clip.drop:
            clip.artifacts = {}
            reading.rejected.append(clip)
            return replace(pulled, rejected=clip), b""
        if clip.key in reading.stored:
            reading.keys.append(clip.key)
            return replace(pulled, skipped=clip.key), b""
        reading.unstored = item
        data = encode_clip(clip)
        self._store.put_encoded(clip.key, data)
        reading.unstored = None
        reading.keys.append(clip.key)
        done = not self._chain.stages
        outcome = Outcome(
            key=clip.key,
            pair_id=pair_id,
            next_stage=None if done else 0,
            bytes=0 if done else len(data),
            verdict="kept" if done else "pending",
        )
        return replace(pulled, outcome=outcome), b"" if done else data

    def _next(self, pair_id: str, reading: _Reading) -> Ingested | None:
        if reading.ended:
            return None
        started = time.perf_counter()
        try:
            with self._box.recording(INGEST, pair_id, seconds=self._chain.ingest.time_limit):
                item = next(reading.items, None)
        except OutageError:
            del self._readings[pair_id]  # a generator that has raised is over: the recording is read anew
            raise
        except MediaError as error:
            item, reading.failure = None, failure_of(INGEST, error, code=error.code)
        except Exception as error:  # noqa: BLE001 - a broken recording must not stop the others, whatever it raised
            item, reading.failure = None, failure_of(INGEST, error)
        if item is None:
            reading.ended, reading.items = True, iter(())
        elif item.clip:
            item.clip.seconds[INGEST] = time.perf_counter() - started
        return item

    # ---- clips

    def process(self, tasks: Sequence[Task], *data: bytes | None) -> tuple[Any, ...]:
        """Run clips through the group of stages that they are in. Those without `data` are read from the store.

        Returns:
            The list of their outcomes, then the bytes of each (of those that go on): one return value each, so that
            Ray hands the driver the list alone.

        """
        passages: list[_Passage] = []
        ended: dict[str, Ended] = {}
        for task, given in zip(tasks, data, strict=True):
            opened = self._opened(task, given)
            if isinstance(opened, Clip):
                passages.append(_Passage(task, opened, dict(opened.seconds)))
            else:
                ended[task.key] = opened
        try:
            self._through_group(passages)
            ended |= {passage.task.key: self._closed(passage) for passage in passages}
        except OutageError as error:
            ended |= {passage.task.key: _away(passage.task, error) for passage in passages}
        return [ended[task.key][0] for task in tasks], *(ended[task.key][1] for task in tasks)

    def _opened(self, task: Task, data: bytes | None) -> Clip | Ended:
        """The clip of `task`, or what became of it where it is not to be run."""
        try:
            try:
                clip = decode_clip(data) if data is not None else self._from_store(task.key, task.row)
            except DatasetError:
                self._store.delete(task.key)
                return Outcome(key=task.key, pair_id=task.row.pair.pair_id, next_stage=None, lost=True), b""
            if task.failure is not None:
                self._give_up(clip, task.failure)
                return self._stored(clip, {}), b""
        except OutageError as error:
            return _away(task, error)
        return clip

    def _through_group(self, passages: Sequence[_Passage]) -> None:
        """Each clip goes on from its own stage.

        Stages that take several clips at once are given those that are due together. Through the stages between, one
        clip goes after the other, so that its frames are decoded once for all of them.
        """
        for passage in passages:
            clip = passage.clip
            if clip.failure:  # it is tried again
                clip.fingerprints.pop(clip.failure.stage, None)
                clip.failure = None
            clip.drop = self._chain.standing(clip).drop
        group = self._chain.group_at(passages[0].task.stage_index) if passages else None
        numbered = enumerate(group.stages, group.first) if group else iter(())
        for together, run in groupby(numbered, key=lambda one: one[1].batch_clips > 1):
            stages = list(run)
            for some in [passages] if together else [[passage] for passage in passages]:
                for index, stage in stages:
                    self._through(stage, [passage for passage in some if self._is_due(passage, stage, index)])
        for passage in passages:
            media.forget(passage.clip)

    def _through(self, stage: Stage, due: Sequence[_Passage]) -> None:
        for first in range(0, len(due), stage.batch_clips):
            self._run(stage, [passage.clip for passage in due[first : first + stage.batch_clips]])
        for passage in due:
            passage.ends = passage.task.alone or passage.clip.failure is not None

    def _is_due(self, passage: _Passage, stage: Stage, index: int) -> bool:
        clip = passage.clip
        if passage.ends or index < passage.task.stage_index or (clip.drop and not self._chain.measure_all):
            return False
        return not self._chain.ran(stage.name, clip) or isinstance(stage, Filter)

    def _closed(self, passage: _Passage) -> Ended:
        clip, before = passage.clip, passage.seconds_before
        standing = self._chain.standing(clip)
        spent = {name: took - before.get(name, 0.0) for name, took in clip.seconds.items() if took != before.get(name)}
        if clip.failure is not None or standing.next_stage is None:
            return self._stored(clip, spent), b""
        encoded = encode_clip(clip)
        outcome = Outcome(
            key=clip.key,
            pair_id=clip.pair.pair_id,
            next_stage=standing.next_stage,
            bytes=len(encoded),
            seconds=spent,
        )
        return outcome, encoded

    def _stored(self, clip: Clip, spent: dict[str, float]) -> Outcome:
        self._store.put(clip)
        verdict, reason = verdict_of(clip)
        return Outcome(
            key=clip.key,
            pair_id=clip.pair.pair_id,
            next_stage=None,
            verdict=verdict,
            reason=reason,
            cause=clip.failure.cause if clip.failure else "",
            traceback=clip.failure.traceback if clip.failure else "",
            seconds=spent,
        )

    def _give_up(self, clip: Clip, failure: Failure) -> None:
        clip.failure, clip.drop = failure, None
        clip.fingerprints[failure.stage] = self._chain.fingerprints[failure.stage]

    def _from_store(self, key: str, row: Row) -> Clip:
        clip = self._store.get(key)
        if clip is None:
            raise DatasetError("the clip is not in the store", where=key)
        if clip.fingerprints.get(INPUTS) != row.inputs:
            clip.fingerprints = {name: clip.fingerprints[name] for name in (INGEST, RECORDING)} | {INPUTS: row.inputs}
            clip.metrics = {}
        clip.pair = row.pair
        return clip

    def _set_up(self, stage: Stage) -> None:
        if stage.name in self._ready:
            return
        try:
            with self._box.recording(stage.name, "setup()", seconds=SETUP_SECONDS):
                stage.setup()
        except VvtError:
            raise
        except Exception as error:  # may be anybody's code; without it no clip can go on
            place = traceback.extract_tb(error.__traceback__)[-1]
            raise StageError(
                f"setup() failed: {type(error).__name__}: {error} ({place.filename}:{place.lineno})",
                where=stage.name,
                remedy="The run can be resumed once this is mended",
            ) from error
        self._ready.add(stage.name)

    def _run(self, stage: Stage, clips: Sequence[Clip]) -> None:
        todo = [clip for clip in clips if not self._chain.ran(stage.name, clip)]
        if todo:
            self._set_up(stage)
            self._run_together(stage, todo)
        for clip in clips:
            if clip.failure is None and clip.drop is None and isinstance(stage, Filter):
                clip.drop = stage.decide(clip.metrics)

    def _run_together(self, stage: Stage, clips: Sequence[Clip]) -> None:
        """Run `stage` on `clips` at once; if that fails, one by one, so that only the clip fails that it fails on."""
        started = time.perf_counter()
        try:
            with self._box.recording(stage.name, clips[0].key, seconds=stage.time_limit * len(clips)):
                process_checked(stage, clips, hidden=self._chain.unused(stage))
        except OutageError:
            raise
        except Exception as error:  # noqa: BLE001 - a stage may be anybody's code; one clip fails, no other notices
            if len(clips) > 1:
                for clip in clips:
                    self._run_together(stage, [clip])
                return
            clips[0].failure = failure_of(stage.name, error)
        for clip in clips:
            clip.seconds[stage.name] = (time.perf_counter() - started) / len(clips)
            clip.fingerprints[stage.name] = self._chain.fingerprints[stage.name]


def _away(task: Task, error: OutageError) -> Ended:
    outcome = Outcome(key=task.key, pair_id=task.row.pair.pair_id, next_stage=task.stage_index, outage=str(error))
    return outcome, b""


def _of_span(pair: Pair, item: Ingested) -> tuple[float, float | None]:
    """How far the span that `pair` asks for is read, and how long it is where that is known, in seconds."""
    start = pair.start or 0.0
    end = min((end for end in (pair.end, item.duration_seconds) if end is not None), default=None)
    return max(0.0, item.position_seconds - start), None if end is None else max(0.0, end - start)


def verdict_of(clip: Clip) -> tuple[str, str]:
    """("kept" | "dropped" | "failed", why) of a clip that has run."""
    if clip.failure:
        return "failed", f"{clip.failure.stage}: {clip.failure.code}"
    if clip.drop:
        return "dropped", f"{clip.drop.stage}.{clip.drop.metric}"
    return "kept", ""
