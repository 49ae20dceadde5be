"""Why a build would run what it would run: what differs between the stages of now and those that the clips have seen.

WORK/settings.json remembers what each fingerprint stood for, so that the field which changed can be named.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines import urls
from pipelines.chain import INGEST, Chain
from pipelines.plan import INGEST_CHANGED, Plan
from pipelines.store import ClipStore
from pipelines.worker import INPUTS, Row
from schemas.clip import Clip
from schemas.stage import Stage

SETTINGS = "settings.json"
SHOWN = 5  # pair ids named for each reason

Identities = dict[str, dict[str, Any]]


@dataclass
class StageWork:
    """What one stage has to do.

    Attributes:
        begins: stored clips that go on at it.
        runs: why → clips that it runs on, at most; of ingest: recordings.

    """

    stage: str
    begins: int = 0
    runs: Counter[str] = field(default_factory=Counter)


def explain(plan: Plan, chain: Chain, store: ClipStore) -> list[StageWork]:
    """The work that changed settings make, ingest's and then stage by stage. Changes nothing."""
    known, now = _read_settings(store), chain.identities()
    works = {name: StageWork(name) for name in chain.pools}
    for source in plan.sources:
        if plan.reasons.get(source.name) == INGEST_CHANGED and (ledger := store.ledger(source.name)):
            works[INGEST].runs[_changed(ledger.fingerprint, chain.fingerprints[INGEST], known=known, now=now)] += 1
    for pair_id, jobs in groupby(plan.clips, key=lambda job: job.row.pair.pair_id):
        records = store.records(pair_id)
        for job in jobs:
            works[chain.stages[job.next_stage].name].begins += 1
            record = records.get(job.key)
            for stage, why in _whys(record, job.row, chain, known=known, now=now) if record else ():
                works[stage].runs[why] += 1
    return [work for work in works.values() if work.runs]


def remember_settings(chain: Chain, store: ClipStore) -> None:
    """Write down what the fingerprints of now stand for."""
    known, now = _read_settings(store), chain.identities()
    if now.keys() - known.keys():
        urls.write_whole(urls.join(store.url, SETTINGS), json.dumps({**known, **now}, indent=1).encode())


def _read_settings(store: ClipStore) -> Identities:
    try:
        known = json.loads(urls.read(urls.join(store.url, SETTINGS)) or b"{}")
    except ValueError:  # damaged: then no field is named
        return {}
    return known if isinstance(known, dict) else {}


def _whys(record: Clip, row: Row, chain: Chain, *, known: Identities, now: Identities) -> Iterator[tuple[str, str]]:
    row_changed = record.fingerprints.get(INPUTS) != row.inputs
    for stage in chain.stages:
        if row_changed:
            yield stage.name, "the manifest row, or its garment image, has changed"
        elif record.failure and record.failure.stage == stage.name and chain.ran(stage.name, record):
            yield stage.name, "failed before, and is tried again"
        elif not chain.ran(stage.name, record):
            yield stage.name, _why_stale(stage, record, chain, known=known, now=now)


def _why_stale(stage: Stage, record: Clip, chain: Chain, *, known: Identities, now: Identities) -> str:
    stored = record.fingerprints.get(stage.name)
    if stored is None:
        return "has not run on them"
    if chain.fingerprint_over(stage, record.fingerprints) == stored:
        changed = [name for name in chain.takes_from[stage.name] if name != INGEST and not chain.ran(name, record)]
        return f"takes from {', '.join(changed)}, which runs before it"
    return _changed(stored, chain.fingerprints[stage.name], known=known, now=now)


def _changed(stored: str, fingerprint: str, *, known: Identities, now: Identities) -> str:
    if stored not in known:
        return "its settings, code or weights have changed"
    return "; ".join(_differences(known[stored], now[fingerprint])) or "it takes from other stages now"


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    fields, others = before.get("fields", {}), after.get("fields", {})
    for name in sorted(fields.keys() | others.keys()):
        if fields.get(name) != others.get(name):
            yield f"{name}: {_short(fields.get(name))} → {_short(others.get(name))}"
    for name in ("class", "version"):
        if before.get(name) != after.get(name):
            yield f"{name}: {_short(before.get(name))} → {_short(after.get(name))}"
    for name in ("weights", "code"):
        if before.get(name) != after.get(name):
            yield f"its {name} {'have' if name == 'weights' else 'has'} changed"


def _short(value: Any) -> str:
    words = json.dumps(value, ensure_ascii=False)
    return words if len(words) <= 60 else f"{words[:40]} … {words[-15:]}"


def print_plan(plan: Plan, works: list[StageWork], console: Console) -> None:
    """Print what would run and why."""
    console.print(
        f"{plan.up_to_date} row(s) of the manifest are up to date, {len(plan.sources)} recording(s) would be read, "
        f"{len(plan.clips)} stored clip(s) would go on.",
        soft_wrap=True,
    )
    if plan.reasons:
        console.print(_rows_table(plan))
    if works:
        console.print(_stages_table(works))
    if plan.outdated:
        console.print(
            f"{len(plan.outdated)} stored clip(s) are cut otherwise now, or damaged: they would be removed.",
            soft_wrap=True,
        )
    if not plan.reasons:
        console.print(
            "Nothing would run: the dataset would be decided and packed anew, where that changes anything.",
            soft_wrap=True,
        )


def _rows_table(plan: Plan) -> Table:
    by_reason: dict[str, list[str]] = {}
    for pair_id, reason in plan.reasons.items():
        by_reason.setdefault(reason, []).append(pair_id)
    table = Table("rows", "why", "pair ids", box=None, padding=(0, 2, 0, 0))
    for reason, pair_ids in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        more = f", … {len(pair_ids) - SHOWN} more" if len(pair_ids) > SHOWN else ""
        table.add_row(str(len(pair_ids)), reason, ", ".join(pair_ids[:SHOWN]) + more)
    return table


def _stages_table(works: list[StageWork]) -> Table:
    table = Table("stage", "clips begin here", "runs on, at most", "why", box=None, padding=(0, 2, 0, 0))
    for work in works:
        name, begins = work.stage, str(work.begins or "")
        for why, clips in work.runs.most_common():
            table.add_row(name, begins, str(clips), why)
            name = begins = ""
    return table
