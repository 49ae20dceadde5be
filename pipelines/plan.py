"""What a build has to do: which recordings to read, which stored clips to go on with, and why."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from media.sources import identity
from pipelines.chain import INGEST, Chain
from pipelines.jobs import ClipJob, SourceJob
from pipelines.lookahead import in_order
from pipelines.store import ClipStore, Ledger
from pipelines.worker import INPUTS, RECORDING, Row
from schemas.clip import Clip
from schemas.errors import DatasetError, MediaError
from schemas.manifest import Pair

INGEST_CHANGED = "ingest is configured otherwise now"


@dataclass(frozen=True)
class Plan:
    """Work to do.

    Attributes:
        sources: recordings to read.
        clips: stored clips to go on with.
        up_to_date: how many pairs need nothing.
        reasons: pair by pair, why the others do.
        outdated: keys of stored clips that the ingest of now would cut otherwise: they make room when work begins.

    """

    sources: tuple[SourceJob, ...]
    clips: tuple[ClipJob, ...]
    up_to_date: int
    reasons: dict[str, str] = field(default_factory=dict)
    outdated: tuple[str, ...] = ()


@dataclass(frozen=True)
class _PairPlan:
    """`Plan` of one pair."""

    pair_id: str
    source: SourceJob | None
    clips: list[ClipJob]
    reason: str
    outdated: list[str]


def make_plan(
    pairs: Iterable[Pair], chain: Chain, store: ClipStore, *, retry_failed: bool = False, remember: bool = False
) -> Plan:
    """Compare the store with the manifest and the chain. Changes nothing; for `remember` see `ClipStore.records`."""
    plan_pair = partial(_plan_pair, chain=chain, store=store, retry_failed=retry_failed, remember=remember)
    sources: list[SourceJob] = []
    clips: list[ClipJob] = []
    reasons: dict[str, str] = {}
    outdated: list[str] = []
    up_to_date = 0
    for found in in_order(plan_pair, pairs):
        outdated.extend(found.outdated)
        clips.extend(found.clips)
        if found.source:
            sources.append(found.source)
        if found.reason:
            reasons[found.pair_id] = found.reason
        else:
            up_to_date += 1
    return Plan(tuple(sources), tuple(clips), up_to_date, reasons, tuple(outdated))


def _plan_pair(pair: Pair, *, chain: Chain, store: ClipStore, retry_failed: bool, remember: bool) -> _PairPlan:
    ledger = _current_ledger(pair.pair_id, store)
    stored = store.records(pair.pair_id, remember=remember)
    row = _row(pair, ledger, stored.values())
    records, outdated = _current_records(row, chain, stored)
    why = _why_read(row, ledger, chain, records, retry_failed=retry_failed)
    stale = [job for record in records.values() if (job := _stale(record, row, chain, retry_failed=retry_failed))]
    source = None
    if why:
        source = SourceJob(row, stored=frozenset(records))
    elif stale:
        first = chain.stages[min(job.next_stage for job in stale)].name
        why = f"{len(stale)} clip(s) to go on with at {first}"
    return _PairPlan(pair.pair_id, source, stale, why, outdated)


def _current_ledger(pair_id: str, store: ClipStore) -> Ledger | None:
    try:
        return store.ledger(pair_id)
    except DatasetError:  # damaged: the recording is read again, its stored clips are skipped
        return None


def _row(pair: Pair, ledger: Ledger | None, records: Iterable[Clip | None]) -> Row:
    """The row and what its files are now. Files whose storage does not answer count as what they were."""
    clip = next((record for record in records if record and record.pair == pair), None)
    try:
        recording = _hash([pair.video, identity(pair.video), pair.start, pair.end])
    except MediaError:
        before = ledger.recording if ledger and ledger.pair == pair else _hash([pair.video, None, pair.start, pair.end])
        recording = clip.fingerprints[RECORDING] if clip else before
    row = pair.model_dump(mode="json")
    try:
        inputs = _hash([row, identity(pair.garment) if pair.garment else None])
    except MediaError:
        inputs = clip.fingerprints[INPUTS] if clip else _hash([row, None])
    return Row(pair=pair, recording=recording, inputs=inputs)


def _hash(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _current_records(row: Row, chain: Chain, stored: Mapping[str, Clip | None]) -> tuple[dict[str, Clip], list[str]]:
    """Stored clips that the ingest of now would cut alike, and the keys of the others."""
    wanted = {INGEST: chain.fingerprints[INGEST], RECORDING: row.recording}
    records: dict[str, Clip] = {}
    outdated = []
    for key, record in stored.items():
        if record and all(record.fingerprints.get(name) == value for name, value in wanted.items()):
            records[key] = record
        else:
            outdated.append(key)
    return records, outdated


def _why_read(row: Row, ledger: Ledger | None, chain: Chain, records: dict[str, Clip], *, retry_failed: bool) -> str:
    if ledger is None:
        return f"was interrupted, {len(records)} clip(s) are stored" if records else "is new"
    if ledger.fingerprint != chain.fingerprints[INGEST]:
        return INGEST_CHANGED
    if ledger.recording != row.recording:
        return "the recording, or the span of it, has changed"
    if set(ledger.keys) - set(records):
        return f"{len(set(ledger.keys) - set(records))} clip(s) are missing from the store"
    if ledger.failure and retry_failed:
        return "failed before"
    return ""


def _stale(record: Clip, row: Row, chain: Chain, *, retry_failed: bool) -> ClipJob | None:
    if record.fingerprints.get(INPUTS) != row.inputs:
        return ClipJob(record.key, row, 0) if chain.stages else None
    if record.failure:
        stage = record.failure.stage
        index = next((i for i, other in enumerate(chain.stages) if other.name == stage), None)
        unchanged = index is not None and record.fingerprints.get(stage) == chain.fingerprints[stage]
        if unchanged:
            return ClipJob(record.key, row, index or 0) if retry_failed else None
    next_stage = chain.standing(record).next_stage
    return None if next_stage is None else ClipJob(record.key, row, next_stage)
