"""What `report.html` says, counted from the decisions: never a row per clip, whatever their number."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.ingest import STAGE as SHOTS
from curation.ingest import Ingest
from pipelines.chain import INGEST, Chain
from pipelines.histogram import Histogram, histogram
from schemas.metrics import Bound, Metric
from schemas.stage import Filter

Row = Mapping[str, Any]
"""A row of `decisions.parquet`."""

_EXAMPLES = 3
_CAUSES = 3
_GROUPS = 100  # more drop reasons or kinds of failure than anybody reads
_LONGEST = 600  # characters of a cause


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Counts of clips by verdict. `failed` includes `failed_recordings`, which gave no clip or broke off."""

    pairs: int
    recordings: int
    seen: int
    kept: int
    dropped: int
    failed: int
    failed_recordings: int
    unfinished: int
    hours: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One metric: what it is, the bound of now and the setting that moves it, and all its values."""

    name: str
    stage: str
    about: Metric | None
    bound: Bound
    setting: str | None
    histogram: Histogram | None


@dataclass(frozen=True, kw_only=True)
class Step:
    """One stage of the chain: how many clips reached it, and how many ended there."""

    stage: str
    reached: int
    drops: tuple[tuple[str, int], ...]
    failed: int

    @property
    def ended(self) -> int:
        """Clips that went no further."""
        return self.failed + sum(count for _, count in self.drops)


@dataclass(frozen=True, kw_only=True)
class Example:
    """One dropped clip, and where to look at it: seconds of the recording."""

    key: str
    video: str
    seconds: tuple[float, float]
    value: float
    bound: Bound
    words: str


@dataclass(frozen=True, kw_only=True)
class Reason:
    """All clips that one metric dropped. The examples go from the closest call to the clearest."""

    stage: str
    metric: str
    count: int
    examples: tuple[Example, ...]


@dataclass(frozen=True, kw_only=True)
class Cause:
    """One wording of a failure."""

    words: str
    count: int
    key: str
    video: str


@dataclass(frozen=True, kw_only=True)
class Failures:
    """All failures of one stage and code, with their most frequent causes and the number of further ones."""

    stage: str
    code: str
    count: int
    causes: tuple[Cause, ...]
    more: int


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that the report takes from the decisions and the chain."""

    totals: Totals
    steps: tuple[Step, ...]
    reasons: tuple[Reason, ...]
    failures: tuple[Failures, ...]
    metrics: tuple[Measured, ...]


def facts_of(decisions: Sequence[Row], chain: Chain) -> Facts:
    """Count rows of `decisions.parquet` under the bounds of `chain`. Order of rows matters to examples alone."""
    dropped = [row for row in decisions if row["verdict"] == "dropped"]
    failed = [row for row in decisions if row["verdict"] == "failed"]
    return Facts(
        totals=_totals(decisions),
        steps=_steps(decisions, chain),
        reasons=_reasons(dropped),
        failures=_failures(failed),
        metrics=_metrics(decisions, chain),
    )


def _totals(decisions: Sequence[Row]) -> Totals:
    verdicts = Counter(row["verdict"] for row in decisions)
    clips = [row for row in decisions if _is_clip(row)]
    return Totals(
        pairs=len({row["pair_id"] for row in decisions}),
        recordings=len({row["video"] for row in decisions}),
        seen=len(decisions),
        kept=verdicts["kept"],
        dropped=verdicts["dropped"],
        failed=verdicts["failed"],
        failed_recordings=len(decisions) - len(clips),
        unfinished=verdicts["unfinished"],
        hours=sum(row["frames"] / row["fps"] for row in clips) / 3600,
    )


def _steps(decisions: Sequence[Row], chain: Chain) -> tuple[Step, ...]:
    """The stages at which clips can end, in chain order, before them what only stored clips still name."""
    drops: dict[str, Counter[str]] = defaultdict(Counter)
    failed: Counter[str] = Counter()
    reached = 0
    for row in decisions:
        reached += row["verdict"] != "unfinished"
        if row["verdict"] == "dropped":
            drops[row["stage"]][row["metric"]] += 1
        elif row["verdict"] == "failed":
            failed[row["stage"]] += 1
    names = [INGEST, SHOTS, *(stage.name for stage in chain.stages)]
    names = [*sorted({*drops, *failed} - set(names)), *names]
    filters = {stage.name for stage in chain.filters}
    steps = []
    for name in names:
        step = Step(stage=name, reached=reached, drops=_by_count(drops[name]), failed=failed[name])
        if step.ended or name in filters or name == SHOTS:
            steps.append(step)
        reached -= step.ended
    return tuple(steps)


def _reasons(dropped: Iterable[Row]) -> tuple[Reason, ...]:
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in dropped:
        groups[row["stage"], row["metric"]].append(row)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(
        Reason(stage=stage, metric=metric, count=len(rows), examples=_examples(rows))
        for (stage, metric), rows in ordered[:_GROUPS]
    )


def _examples(rows: list[Row]) -> tuple[Example, ...]:
    ordered = sorted(rows, key=lambda row: (_distance(row), row["key"]))
    count = min(_EXAMPLES, len(ordered))
    places = [round(place * (len(ordered) - 1) / max(1, count - 1)) for place in range(count)]
    return tuple(
        Example(
            key=row["key"],
            video=row["video"],
            seconds=(row["start_seconds"], row["end_seconds"]),
            value=row["value"],
            bound=(row["bound_low"], row["bound_high"]),
            words=_cut(row["words"]),
        )
        for row in (ordered[place] for place in places)
    )


def _distance(row: Row) -> float:
    """How far the value lies outside its bound."""
    low, high, value = row["bound_low"], row["bound_high"], row["value"]
    return max(low - value if low is not None else -math.inf, value - high if high is not None else -math.inf)


def _failures(failed: Iterable[Row]) -> tuple[Failures, ...]:
    groups: dict[tuple[str, str], dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in failed:
        groups[row["stage"], row["error_code"] or "error"][_cut(row["error"])].append(row)
    found = []
    for (stage, code), by_words in groups.items():
        causes = sorted(by_words.items(), key=lambda item: (-len(item[1]), item[0]))
        found.append(
            Failures(
                stage=stage,
                code=code,
                count=sum(len(rows) for rows in by_words.values()),
                causes=tuple(
                    Cause(words=words, count=len(rows), key=rows[0]["key"], video=rows[0]["video"])
                    for words, rows in causes[:_CAUSES]
                ),
                more=max(0, len(causes) - _CAUSES),
            )
        )
    return tuple(sorted(found, key=lambda group: (-group.count, group.stage, group.code))[:_GROUPS])


def _metrics(decisions: Iterable[Row], chain: Chain) -> tuple[Measured, ...]:
    """Metrics of ingest and of every filter, in chain order, then those of stages that are not in the chain."""
    values: dict[str, list[float]] = defaultdict(list)
    for row in decisions:
        for name, value in row["metrics"].items():
            if value is not None:  # Parquet fills up what was not measured
                values[name].append(value)
    shortest = chain.ingest.min_seconds
    bounds: dict[str, Bound] = {"shot_seconds": (shortest, None), "transition_seconds": (None, shortest)}
    settings = {"shot_seconds": "ingest.min_seconds"}
    known = [
        (SHOTS, name, about, bounds.get(name, (None, None)), settings.get(name))
        for name, about in Ingest.metrics.items()
    ]
    known += [_of_filter(stage, name, about) for stage in chain.filters for name, about in type(stage).metrics.items()]
    owned = {name for _, name, *_ in known}
    stale = [("", name, None, (None, None), None) for name in sorted(set(values) - owned)]
    return tuple(
        Measured(
            name=name,
            stage=stage,
            about=about,
            bound=bound,
            setting=setting,
            histogram=histogram(
                values.get(name, ()),
                bound=bound,
                limits=about.range if about else (None, None),
                unit=about.unit if about else "",
            ),
        )
        for stage, name, about, bound, setting in [*known, *stale]
    )


def _of_filter(stage: Filter, name: str, about: Metric) -> tuple[str, str, Metric, Bound, str]:
    return stage.name, name, about, stage.bounds.get(name, about.default), f"stages.{stage.name}.bounds.{name}"


def _is_clip(row: Row) -> bool:
    return row.get("first_frame") is not None


def _by_count(counts: Counter[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _cut(words: str | None) -> str:
    words = words or ""
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}…"
