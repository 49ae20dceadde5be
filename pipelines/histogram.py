"""One metric over all clips as a small histogram: its geometry and its numbers, ready to be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.metrics import Bound

WIDTH, HEIGHT = 300.0, 64.0
"""Of the drawing, in its own units; y grows downwards."""

_BINS = 30
_SEEN_AT_LEAST = 1.5  # height of a bar that holds anything
_PADDING = 0.04  # of the axis, on both sides
_REACH = 3.0  # a bound farther from the values than so many times their spread would squeeze them into one bar
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclass(frozen=True)
class Bar:
    """One bin: its left edge, the heights of its values within and outside the bounds, and words on it."""

    x: float
    width: float
    inside: float
    outside: float
    words: str


@dataclass(frozen=True)
class Mark:
    """A bound: where its line is, and whether it lies beyond the axis, at whose edge the line then is."""

    x: float
    value: float
    beyond: bool


@dataclass(frozen=True)
class Histogram:
    """Values of one metric, counted.

    Attributes:
        bars: bins from left to right; empty ones are left out.
        marks: lower and upper bound, where there is one.
        low, high: ends of the axis; the outermost bins also hold what lies beyond.
        measured, outside: how many values there are, and how many of them break the bounds.
        smallest, largest: of the values.
        quantiles: (share, the value that this share of the values does not exceed).

    """

    bars: tuple[Bar, ...]
    marks: tuple[Mark, ...]
    low: float
    high: float
    measured: int
    outside: int
    smallest: float
    largest: float
    quantiles: tuple[tuple[float, float], ...]


def histogram(
    values: Sequence[float] | NDArray[np.float64],
    *,
    bound: Bound = (None, None),
    limits: Bound = (None, None),
    unit: str = "",
) -> Histogram | None:
    """Count `values`, finite and in any order, into bins; None where there are none.

    `limits` is what a value can be at all: the axis does not pad beyond it.
    """
    if not len(values):
        return None
    numbers = np.sort(np.asarray(values, dtype=np.float64))
    low, high = _axis(numbers, bound, limits=limits)
    edges = np.linspace(low, high, _BINS + 1)
    bins = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, _BINS - 1)
    broken = _broken(numbers, bound)
    inside, outside = (np.bincount(bins[chosen], minlength=_BINS) for chosen in (~broken, broken))
    tallest = (inside + outside).max()
    bars = tuple(
        Bar(
            x=round(place * WIDTH / _BINS, 2),
            width=round(WIDTH / _BINS - 1, 2),
            inside=_height(inside[place], tallest),
            outside=_height(outside[place], tallest),
            words=f"{shown(edges[place])} to {shown(edges[place + 1])}{unit and ' ' + unit}: "
            f"{inside[place] + outside[place]:,} clip(s)",
        )
        for place in np.flatnonzero(inside + outside)
    )
    marks = tuple(
        Mark(
            x=round(float(np.clip((side - low) / (high - low), 0, 1)) * WIDTH, 2),
            value=side,
            beyond=not low <= side <= high,
        )
        for side in bound
        if side is not None
    )
    return Histogram(
        bars=bars,
        marks=marks,
        low=low,
        high=high,
        measured=len(numbers),
        outside=int(broken.sum()),
        smallest=float(numbers[0]),
        largest=float(numbers[-1]),
        quantiles=tuple((share, float(np.quantile(numbers, share, method="inverted_cdf"))) for share in _QUANTILES),
    )


def shown(value: float) -> str:
    """A number in at most three significant digits and some six characters: 5.6e-5, 0.0031, 0.0312, 24.5, 2,383."""
    if 0 < abs(value) < 1e-2:
        return f"{value:.2g}" if abs(value) >= 1e-3 else f"{value:.1e}".replace("e-0", "e-")
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"


def _axis(numbers: NDArray[np.float64], bound: Bound, *, limits: Bound) -> tuple[float, float]:
    """From the rarest low values to the rarest high ones, with the bounds if they are near."""
    low, high = (float(np.quantile(numbers, share, method="inverted_cdf")) for share in (0.005, 0.995))
    reach = _REACH * (high - low) or np.inf
    near = [side for side in bound if side is not None and low - reach <= side <= high + reach]
    low, high = min([low, *near]), max([high, *near])
    padding = _PADDING * (high - low) or max(abs(high) / 2, 0.5)
    floor = -np.inf if limits[0] is None else limits[0]
    ceiling = np.inf if limits[1] is None else limits[1]
    return max(low - padding, min(low, floor)), min(high + padding, max(high, ceiling))


def _broken(numbers: NDArray[np.float64], bound: Bound) -> NDArray[np.bool_]:
    low, high = (-np.inf if bound[0] is None else bound[0]), (np.inf if bound[1] is None else bound[1])
    return (numbers < low) | (numbers > high)


def _height(count: int, tallest: int) -> float:
    return round(max(_SEEN_AT_LEAST, HEIGHT * count / tallest), 2) if count else 0.0
