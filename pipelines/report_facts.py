"""What `report.html` says, counted from `decisions.parquet`, which is never in memory as a whole.

One pass over some columns counts; then each metric is read on its own, as numbers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curation.ingest import STAGE as SHOTS
from curation.ingest import Ingest
from pipelines.chain import INGEST, Chain
from pipelines.histogram import Histogram, histogram
from pipelines.report_counts import COLUMNS, Counted, Dropped, Row, cut
from pipelines.tables import read_rows
from schemas.metrics import Bound, Metric
from schemas.stage import Filter

_EXAMPLES = 3
_CAUSES = 3
_GROUPS = 100  # more drop reasons or kinds of failure than anybody reads


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
    about: Metric
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
    """All failures of one stage and code, with their most frequent causes and the number of further ones (or more)."""

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


def facts_of(decisions: pq.ParquetFile, chain: Chain) -> Facts:
    """Count the rows of `decisions.parquet` under the bounds of `chain`."""
    counted = Counted()
    for row in read_rows(decisions, COLUMNS):
        counted.add(row)
    return Facts(
        totals=_totals(counted),
        steps=_steps(counted, chain),
        reasons=_reasons(counted, decisions),
        failures=_failures(counted),
        metrics=_metrics(decisions, chain),
    )


def _totals(counted: Counted) -> Totals:
    return Totals(
        pairs=len(counted.pairs),
        recordings=len(counted.videos),
        seen=counted.rows,
        kept=counted.verdicts["kept"],
        dropped=counted.verdicts["dropped"],
        failed=counted.verdicts["failed"],
        failed_recordings=counted.rows - counted.clips,
        unfinished=counted.verdicts["unfinished"],
        hours=counted.seconds / 3600,
    )


def _steps(counted: Counted, chain: Chain) -> tuple[Step, ...]:
    """The stages at which clips can end, in chain order, before them what only stored clips still name."""
    drops: dict[str, Counter[str]] = defaultdict(Counter)
    failed: Counter[str] = Counter()
    for (stage, metric), dropped in counted.dropped.items():
        drops[stage][metric] = len(dropped.rows)
    for (stage, _), count in counted.failed.items():
        failed[stage] += count
    reached = counted.rows - counted.verdicts["unfinished"]
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


def _reasons(counted: Counted, decisions: pq.ParquetFile) -> tuple[Reason, ...]:
    ordered = sorted(counted.dropped.items(), key=lambda item: (-len(item[1].rows), item[0]))[:_GROUPS]
    chosen = [_spread(dropped) for _, dropped in ordered]
    wanted = {number for numbers in chosen for number in numbers}
    examples = {number: _example(row) for number, row in enumerate(read_rows(decisions, COLUMNS)) if number in wanted}
    return tuple(
        Reason(
            stage=stage,
            metric=metric,
            count=len(dropped.rows),
            examples=tuple(examples[number] for number in numbers),
        )
        for ((stage, metric), dropped), numbers in zip(ordered, chosen, strict=True)
    )


def _spread(dropped: Dropped) -> list[int]:
    """Row numbers of examples, from the closest call to the clearest."""
    order = np.argsort(np.asarray(dropped.distances), kind="stable")
    places = np.linspace(0, len(order) - 1, min(_EXAMPLES, len(order))).round().astype(int)
    return [dropped.rows[order[place]] for place in places]


def _example(row: Row) -> Example:
    return Example(
        key=row["key"],
        video=row["video"],
        seconds=(row["start_seconds"], row["end_seconds"]),
        value=row["value"],
        bound=(row["bound_low"], row["bound_high"]),
        words=cut(row["words"]),
    )


def _failures(counted: Counted) -> tuple[Failures, ...]:
    found = []
    for (stage, code), count in counted.failed.items():
        wordings = sorted(counted.wordings[stage, code].items(), key=lambda item: (-item[1].count, item[0]))
        causes = tuple(Cause(words=words, **vars(wording)) for words, wording in wordings[:_CAUSES])
        found.append(Failures(stage=stage, code=code, count=count, causes=causes, more=max(0, len(wordings) - _CAUSES)))
    return tuple(sorted(found, key=lambda group: (-group.count, group.stage, group.code))[:_GROUPS])


def _metrics(decisions: pq.ParquetFile, chain: Chain) -> tuple[Measured, ...]:
    """Metrics of ingest and of every filter, in chain order."""
    shortest = chain.ingest.min_seconds
    bounds: dict[str, Bound] = {"shot_seconds": (shortest, None), "transition_seconds": (None, shortest)}
    settings = {"shot_seconds": "ingest.min_seconds"}
    known = [
        (SHOTS, name, about, bounds.get(name, (None, None)), settings.get(name))
        for name, about in Ingest.metrics.items()
    ]
    known += [_of_filter(stage, name, about) for stage in chain.filters for name, about in type(stage).metrics.items()]
    return tuple(
        Measured(
            name=name,
            stage=stage,
            about=about,
            bound=bound,
            setting=setting,
            histogram=histogram(_values(decisions, name), bound=bound, limits=about.range, unit=about.unit),
        )
        for stage, name, about, bound, setting in known
    )


def _values(decisions: pq.ParquetFile, metric: str) -> NDArray[np.float64]:
    """All values of a metric, without the clips that it was not measured on."""
    column = decisions.read(columns=[f"metrics.{metric}"], use_threads=False)
    values: NDArray[np.float64] = column["metrics"].combine_chunks().field(metric).drop_null().to_numpy()
    return values


def _of_filter(stage: Filter, name: str, about: Metric) -> tuple[str, str, Metric, Bound, str]:
    return stage.name, name, about, stage.bounds.get(name, about.default), f"stages.{stage.name}.bounds.{name}"


def _by_count(counts: Counter[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
