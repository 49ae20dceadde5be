"""One pass over the decisions: what is counted, and the little that is kept of each dropped clip."""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Row = Mapping[str, Any]
"""A row of `decisions.parquet`."""

COLUMNS = (
    "key", "pair_id", "video", "verdict", "stage", "metric", "value", "bound_low", "bound_high", "words", "error_code",
    "error", "first_frame", "start_seconds", "end_seconds", "frames", "fps",
)  # fmt: skip
"""What the pass needs of a row."""

_WORDINGS = 1000  # causes of one kind that are told apart
_LONGEST = 600  # characters of a cause


@dataclass(kw_only=True)
class Wording:
    """Failures of one cause: how many, and the first of them."""

    count: int = 0
    key: str
    video: str


@dataclass(kw_only=True)
class Dropped:
    """The clips that one metric dropped: the number of their row, and how far their value lies outside its bound."""

    rows: array[int] = field(default_factory=lambda: array("q"))
    distances: array[float] = field(default_factory=lambda: array("d"))


@dataclass(kw_only=True)
class Counted:
    """What a pass over the decisions counts."""

    rows: int = 0
    clips: int = 0
    seconds: float = 0.0
    pairs: set[str] = field(default_factory=set)
    videos: set[str] = field(default_factory=set)
    verdicts: Counter[str] = field(default_factory=Counter)
    dropped: defaultdict[tuple[str, str], Dropped] = field(default_factory=lambda: defaultdict(Dropped))
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)
    wordings: defaultdict[tuple[str, str], dict[str, Wording]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, row: Row) -> None:
        """Count one more row."""
        self.pairs.add(row["pair_id"])
        self.videos.add(row["video"])
        self.verdicts[row["verdict"]] += 1
        if row["first_frame"] is not None:
            self.clips += 1
            self.seconds += row["frames"] / row["fps"]
        if row["verdict"] == "dropped":
            dropped = self.dropped[row["stage"], row["metric"]]
            dropped.rows.append(self.rows)
            dropped.distances.append(_distance(row))
        elif row["verdict"] == "failed":
            self._add_failed((row["stage"], row["error_code"] or "error"), row)
        self.rows += 1

    def _add_failed(self, kind: tuple[str, str], row: Row) -> None:
        self.failed[kind] += 1
        wordings, words = self.wordings[kind], cut(row["error"])
        if words in wordings or len(wordings) < _WORDINGS:
            wordings.setdefault(words, Wording(key=row["key"], video=row["video"])).count += 1


def _distance(row: Row) -> float:
    """How far the value lies outside its bound."""
    low, high, value = row["bound_low"], row["bound_high"], row["value"]
    return max(low - value if low is not None else -math.inf, value - high if high is not None else -math.inf)


def cut(words: str | None) -> str:
    """`words`, shortened where nobody would read them to their end."""
    words = words or ""
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}…"
