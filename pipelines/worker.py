"""What runs inside one Ray actor: reading recordings clip by clip, and passing clips through a group of stages."""

from __future__ import annotations

import copy
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import media
from curation.ingest import Ingested
from media import sources
from pipelines.black_box import BlackBox
from pipelines.chain import INGEST, Chain
from pipelines.store import ClipStore, Ledger
from schemas import artifacts
from schemas.clip import Clip, Failure
from schemas.errors import DatasetError, MediaError, OutageError, StageError, VvtError
from schemas.manifest import Pair
from schemas.record import as_artifacts, decode_clip, encode_clip
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

    def process(
        self, key: str, data: bytes | None, stage_index: int, row: Row, alone: bool, failure: Failure | None
    ) -> tuple[Outcome, bytes]:
        """Run `key` through the group that holds stage `stage_index`. Without `data` it is read from the store.

        A clip that goes `alone` comes back after one stage. With `failure` it is given up for that reason instead.
        """
        pair_id = row.pair.pair_id
        try:
            try:
                clip = decode_clip(data) if data is not None else self._from_store(key, row)
            except DatasetError:
                self._store.delete(key)
                return Outcome(key=key, pair_id=pair_id, next_stage=None, lost=True), b""
            if failure is not None:
                self._give_up(clip, failure)
                return self._stored(clip, {}), b""
            return self._through_group(clip, stage_index, alone=alone)
        except OutageError as error:
            return Outcome(key=key, pair_id=pair_id, next_stage=stage_index, outage=str(error)), b""

    def _through_group(self, clip: Clip, stage_index: int, *, alone: bool) -> tuple[Outcome, bytes]:
        group = self._chain.group_at(stage_index)
        before = dict(clip.seconds)
        if clip.failure:  # it is tried again
            clip.fingerprints.pop(clip.failure.stage, None)
            clip.failure = None
        clip.drop = self._chain.standing(clip).drop
        for stage in group.stages[stage_index - group.first :]:
            if clip.drop and not self._chain.measure_all:
                break
            if self._chain.ran(stage.name, clip) and not isinstance(stage, Filter):
                continue
            if not self._run(stage, clip) or alone:
                break
        media.forget(clip)
        standing = self._chain.standing(clip)
        spent = {
            name: value - before.get(name, 0.0) for name, value in clip.seconds.items() if value != before.get(name)
        }
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

    def _run(self, stage: Stage, clip: Clip) -> bool:
        if not self._chain.ran(stage.name, clip):
            self._set_up(stage)
            started = time.perf_counter()
            try:
                with self._box.recording(stage.name, clip.key, seconds=stage.time_limit):
                    _process_checked(stage, clip, hidden=self._chain.unused(stage))
            except OutageError:
                raise
            except Exception as error:  # noqa: BLE001 - a stage may be anybody's code; one clip fails, no other notices
                clip.failure = failure_of(stage.name, error)
            clip.seconds[stage.name] = time.perf_counter() - started
            clip.fingerprints[stage.name] = self._chain.fingerprints[stage.name]
        if clip.failure is None and clip.drop is None and isinstance(stage, Filter):
            clip.drop = stage.decide(clip.metrics)
        return clip.failure is None


def _of_span(pair: Pair, item: Ingested) -> tuple[float, float | None]:
    """How far the span that `pair` asks for is read, and how long it is where that is known, in seconds."""
    start = pair.start or 0.0
    end = min((end for end in (pair.end, item.duration_seconds) if end is not None), default=None)
    return max(0.0, item.position_seconds - start), None if end is None else max(0.0, end - start)


def _process_checked(stage: Stage, clip: Clip, *, hidden: frozenset[str]) -> None:
    missing = [need for need in stage.needs if need not in clip.artifacts]
    if missing:
        raise StageError(
            f"needs {', '.join(missing)}, which nobody gave for this clip", where=f"{stage.name}, {clip.key}"
        )
    # On a copy of the record, so that a clip whose stage fails is stored as it was before.
    before, aside = as_artifacts(clip.artifacts).parted(hidden)
    tried = replace(clip, artifacts=copy.copy(before), metrics=dict(clip.metrics))
    stage.process_batch([tried])
    where = f"{stage.name}, {clip.key}"
    if tried.key != clip.key:
        raise StageError(f"returned the clip under another key, {tried.key!r}", where=where)
    after = as_artifacts(tried.artifacts)
    if undeclared := sorted(after.changed_since(before) - set(stage.gives)):
        raise StageError(
            f"changed {', '.join(undeclared)}, which {type(stage).__name__}.gives does not name", where=where
        )
    measured = {name for name, value in tried.metrics.items() if clip.metrics.get(name) != value}
    if unknown := sorted(measured - set(stage.metrics if isinstance(stage, Filter) else ())):
        raise StageError(f"set {', '.join(unknown)}: only a Filter measures, what its `metrics` name", where=where)
    for name in stage.gives:
        if name in after:
            artifacts.check(name, after[name], tried)
    clip.artifacts, clip.metrics, clip.signature = after.joined(aside), tried.metrics, tried.signature


def failure_of(stage: str, error: BaseException, *, code: str = "error") -> Failure:
    """`error` as a row of the decisions can hold it."""
    try:
        words = str(error)
    except Exception:  # noqa: BLE001 - an error of anybody's code, which may not even be able to say what it is
        words = "<its message cannot be read>"
    cause = words if isinstance(error, VvtError) else f"{type(error).__name__}: {words}"
    trace = "".join(traceback.format_exception(error))
    code = "memory" if isinstance(error, MemoryError) else code
    return Failure(stage=stage, cause=_storable(cause, 2_000), traceback=_storable(trace, 20_000), code=code)


def _storable(text: str, longest: int) -> str:
    """`text` without what UTF-8 cannot hold, and with its middle left out where it is very long."""
    text = text.encode("utf-8", "backslashreplace").decode()
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]} … {text[-half:]}"


def verdict_of(clip: Clip) -> tuple[str, str]:
    """("kept" | "dropped" | "failed", why) of a clip that has run."""
    if clip.failure:
        return "failed", f"{clip.failure.stage}: {clip.failure.code}"
    if clip.drop:
        return "dropped", f"{clip.drop.stage}.{clip.drop.metric}"
    return "kept", ""
