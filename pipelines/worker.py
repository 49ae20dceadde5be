"""What runs inside one Ray actor: reading recordings clip by clip, and passing clips through a group of stages."""

from __future__ import annotations

import copy
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import media
from curation.ingest import Ingested
from pipelines.chain import INGEST, Chain, Group
from pipelines.store import ClipStore
from schemas import artifacts
from schemas.clip import Clip, Failure
from schemas.errors import MediaError, StageError, VvtError
from schemas.manifest import Pair
from schemas.record import as_artifacts, decode_clip, encode_clip
from schemas.stage import Filter, Stage

RECORDING, INPUTS = "recording", "inputs"


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
    """What became of a clip in one call. `next_stage` is None once the clip is stored for good."""

    key: str
    pair_id: str
    next_stage: int | None
    bytes: int = 0
    verdict: str = "pending"
    reason: str = ""
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """What one call to `Worker.pull` gave: at most one clip, and how far the recording is read."""

    pair_id: str
    outcome: Outcome | None = None
    rejected: Clip | None = None
    position_seconds: float = 0.0
    duration_seconds: float | None = None
    seconds: float = 0.0
    finished: bool = False
    failure: Failure | None = None


class Worker:
    """One process of a pool. Calls come one at a time, so a crash has one suspect.

    A recording is read by a generator that lives here between calls: nothing runs ahead of the demand, and the same
    worker can do other work between two clips of it.
    """

    def __init__(self, chain: Chain, store: ClipStore) -> None:
        self._chain = chain
        self._store = store
        self._ready: set[str] = set()
        self._sources: dict[str, Iterator[Ingested]] = {}

    def ping(self) -> None:
        """Return once the process is up."""

    def pull(self, row: Row, skip: frozenset[str]) -> tuple[Pulled, bytes]:
        """Read the recording of `row` up to its next clip whose key is not in `skip`."""
        started = time.perf_counter()
        pair_id = row.pair.pair_id
        try:
            if pair_id not in self._sources:
                self._sources[pair_id] = iter(self._chain.ingest.clips(row.pair))
            item = next(self._sources[pair_id], None)
        except MediaError as error:
            return self._lost_source(pair_id, error, error.code, started), b""
        except Exception as error:  # noqa: BLE001 - a broken recording must not stop the others, whatever it raised
            return self._lost_source(pair_id, error, "error", started), b""
        spent = time.perf_counter() - started
        if item is None:
            del self._sources[pair_id]
            return Pulled(pair_id=pair_id, finished=True, seconds=spent), b""
        clip = item.clip
        pulled = Pulled(
            pair_id=pair_id,
            position_seconds=item.position_seconds,
            duration_seconds=item.duration_seconds,
            seconds=spent,
        )
        if clip is None or clip.key in skip:
            return pulled, b""
        clip.seconds[INGEST] = spent
        clip.fingerprints |= {
            INGEST: self._chain.fingerprints[INGEST],
            RECORDING: row.recording,
            INPUTS: row.inputs,
        }
        if clip.drop:
            clip.artifacts = {}
            return replace(pulled, rejected=clip), b""
        data = encode_clip(clip)
        outcome = Outcome(key=clip.key, pair_id=pair_id, next_stage=0, bytes=len(data))
        if not self._chain.stages:
            self._store.put_encoded(clip.key, data)
            outcome = Outcome(key=clip.key, pair_id=pair_id, next_stage=None, verdict="kept")
        return replace(pulled, outcome=outcome), data

    def process(self, key: str, data: bytes | None, stage_index: int, row: Row) -> tuple[Outcome, bytes]:
        """Run `key` through the group that holds stage `stage_index`. Without `data` it is read from the store."""
        clip = decode_clip(data) if data is not None else self._from_store(key, row)
        group = self._chain.group_at(stage_index)
        self._set_up(group)
        before = dict(clip.seconds)
        if clip.failure:  # it is tried again
            clip.fingerprints.pop(clip.failure.stage, None)
            clip.failure = None
        clip.drop = self._chain.standing(clip).drop
        for stage in group.stages[stage_index - group.first :]:
            if clip.drop and not self._chain.measure_all:
                break
            if not self._run(stage, clip):
                break
        media.forget(clip)
        standing = self._chain.standing(clip)
        spent = {
            name: value - before.get(name, 0.0) for name, value in clip.seconds.items() if value != before.get(name)
        }
        if clip.failure is None and standing.next_stage is not None:
            encoded = encode_clip(clip)
            return (
                Outcome(
                    key=key,
                    pair_id=clip.pair.pair_id,
                    next_stage=standing.next_stage,
                    bytes=len(encoded),
                    seconds=spent,
                ),
                encoded,
            )
        self._store.put(clip)
        verdict, reason = verdict_of(clip)
        return Outcome(
            key=key, pair_id=clip.pair.pair_id, next_stage=None, verdict=verdict, reason=reason, seconds=spent
        ), b""

    def _from_store(self, key: str, row: Row) -> Clip:
        clip = self._store.get(key)
        if clip is None:
            raise StageError("the clip is not in the store", where=key)
        if clip.fingerprints.get(INPUTS) != row.inputs:
            clip.fingerprints = {name: clip.fingerprints[name] for name in (INGEST, RECORDING)} | {INPUTS: row.inputs}
            clip.metrics = {}
        clip.pair = row.pair
        return clip

    def _set_up(self, group: Group) -> None:
        for stage in group.stages:
            if stage.name not in self._ready:
                try:
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
        fingerprint = self._chain.fingerprints[stage.name]
        if clip.fingerprints.get(stage.name) != fingerprint:
            started = time.perf_counter()
            try:
                _process_checked(stage, clip)
            except Exception as error:  # noqa: BLE001 - a stage may be anybody's code; one clip fails, no other notices
                clip.failure = failure_of(stage.name, error)
            clip.seconds[stage.name] = time.perf_counter() - started
            clip.fingerprints[stage.name] = fingerprint
        if clip.failure is None and clip.drop is None and isinstance(stage, Filter):
            clip.drop = stage.decide(clip.metrics)
        return clip.failure is None

    def _lost_source(self, pair_id: str, error: Exception, code: str, started: float) -> Pulled:
        self._sources.pop(pair_id, None)
        failure = failure_of(INGEST, error, code=code)
        return Pulled(pair_id=pair_id, finished=True, failure=failure, seconds=time.perf_counter() - started)


def _process_checked(stage: Stage, clip: Clip) -> None:
    missing = [need for need in stage.needs if need not in clip.artifacts]
    if missing:
        raise StageError(
            f"needs {', '.join(missing)}, which nobody gave for this clip", where=f"{stage.name}, {clip.key}"
        )
    # On a copy of the record, so that a clip whose stage fails is stored as it was before.
    before = as_artifacts(clip.artifacts)
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
    clip.artifacts, clip.metrics = after, tried.metrics


def failure_of(stage: str, error: BaseException, *, code: str = "error") -> Failure:
    """`error` as a row of the decisions can hold it."""
    try:
        words = str(error)
    except Exception:  # noqa: BLE001 - an error of anybody's code, which may not even be able to say what it is
        words = "<its message cannot be read>"
    cause = words if isinstance(error, VvtError) else f"{type(error).__name__}: {words}"
    trace = "".join(traceback.format_exception(error))
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
