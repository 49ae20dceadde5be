"""What a metric is: a number with a name, a unit, a range and a meaning."""

from __future__ import annotations

from dataclasses import dataclass

Bound = tuple[float | None, float | None]
"""Inclusive lower and upper bound; None leaves that side open."""


@dataclass(frozen=True)
class Metric:
    """Describes one number that a filter measures. The table in docs/metrics.md is made from these.

    `range` is what the number can be at all, `default` the bounds it must keep in where the config says nothing.
    """

    meaning: str
    unit: str
    range: Bound
    default: Bound = (None, None)


def outside(value: float, bound: Bound) -> bool:
    """Whether `value` breaks `bound`. A NaN breaks every bound that has a side."""
    low, high = bound
    return (low is not None and not value >= low) or (high is not None and not value <= high)
