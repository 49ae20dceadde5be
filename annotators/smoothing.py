"""From probabilities per frame to segments: a running mean, hysteresis, then morphology in time. Pure functions.

All lengths are in seconds and turned into frames once, so that the same motion at another frame rate gives the same
segments. Binary morphology: Serra, Image Analysis and Mathematical Morphology, 1982; hysteresis: Canny, 1986.

A frame of which nothing is known has the probability NaN. It is never taken for interactive by itself: it is part of
a segment only within a gap short enough to be closed, between two sides that are sure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

Bools = NDArray[np.bool_]
Values = NDArray[np.float64]
Segment = tuple[int, int]
"""First and last frame, both inclusive."""


class Smoothing(BaseModel):
    """How probabilities become segments, in this order of steps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    average: float = Field(
        default=0,
        ge=0,
        description="Probabilities are first averaged over this long around each frame, in seconds; 0: not at all. "
        "Boundaries stay where they are if `low` is 0.5.",
    )
    high: float = Field(default=0.7, ge=0, le=1, description="A segment reaches this probability somewhere.")
    low: float = Field(default=0.35, ge=0, le=1, description="A segment lasts while the probability is at least this.")
    spike: float = Field(default=0.08, ge=0, description="Runs shorter than this are removed at once, in seconds.")
    gap: float = Field(default=0.25, ge=0, description="Gaps up to this long within a segment are closed, in seconds.")
    shortest: float = Field(default=0.3, ge=0, description="Segments shorter than this are removed, in seconds.")

    @model_validator(mode="after")
    def _ordered(self) -> Smoothing:
        if self.low > self.high:
            raise ValueError(f"low ({self.low:g}) is above high ({self.high:g})")
        return self


VLM_SMOOTHING = Smoothing(average=0.5, high=0.7, low=0.5, spike=0.0, gap=0.4, shortest=0.45)
"""For the joined labels of a vision-language model; chosen by simulation (`benchmarks/smoothing.py`).

Takes out wrong labels in runs of 1 to 3. With 15 % of the labels in such runs, frame F1 is 0.96 at 12 labels a second
in windows of 16 every 6, and 0.92 at 8 in windows of 16 every 8. Runs as long as true segments stay.
"""


def smooth(probabilities: ArrayLike, *, fps: float, smoothing: Smoothing) -> list[Segment]:
    """Segments of (T,) `probabilities`, in order, without overlap. NaN: nothing is known of the frame.

    On clean input (every run of ones and every gap longer than the lengths set) these are exactly the runs of ones.
    """
    averaged = running_mean(probabilities, frames=round(smoothing.average * fps))
    active = hysteresis(averaged, low=smoothing.low, high=smoothing.high)
    active = opened(active, shortest=round(smoothing.spike * fps))
    active = closed(active, longest=round(smoothing.gap * fps))
    return segments(opened(active, shortest=round(smoothing.shortest * fps)))


def running_mean(probabilities: ArrayLike, *, frames: int) -> Values:
    """(T,) means over the known ones of the `frames`, made odd, around each; NaN stays NaN.

    Before the first frame and after the last, these are taken to last.
    """
    from scipy import ndimage

    values = np.asarray(probabilities, float)
    if frames < 2 or not values.size:
        return values
    known = ~np.isnan(values)
    around = np.ones(frames | 1)
    total = ndimage.correlate1d(np.where(known, values, 0.0), around, mode="nearest")
    count = ndimage.correlate1d(known.astype(float), around, mode="nearest")
    return np.divide(total, count, out=np.full(values.shape, np.nan), where=known)


def hysteresis(probabilities: ArrayLike, *, low: float, high: float) -> Bools:
    """(T,) bool: the runs at or above `low` that reach `high`."""
    from scipy import ndimage

    values = np.asarray(probabilities, float)
    return ndimage.binary_propagation(values >= high, mask=values >= low)


def closed(active: Bools, *, longest: int) -> Bools:
    """Fill gaps of up to `longest` frames between true frames."""
    from scipy import ndimage

    if longest < 1 or not active.size:
        return active
    # Outside the clip nothing is known: padding keeps the clip's ends from being filled or eaten.
    padded = np.pad(active, longest + 1)
    return ndimage.binary_closing(padded, np.ones(longest + 1, bool))[longest + 1 : -longest - 1]


def opened(active: Bools, *, shortest: int) -> Bools:
    """Remove runs of fewer than `shortest` true frames."""
    from scipy import ndimage

    if shortest < 2 or not active.size:
        return active
    padded = np.pad(active, shortest)
    return ndimage.binary_opening(padded, np.ones(shortest, bool))[shortest:-shortest]


def segments(active: Bools) -> list[Segment]:
    """Runs of true frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(np.int8)))
    return [(int(start), int(end) - 1) for start, end in edges.reshape(-1, 2)]


def as_labels(found: list[Segment], frames: int) -> tuple[bool, ...]:
    """(T,) tuple of bool: true on the frames of the segments."""
    labels = np.zeros(frames, bool)
    for start, end in found:
        labels[start : end + 1] = True
    return tuple(labels.tolist())
