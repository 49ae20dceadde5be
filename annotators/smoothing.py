"""From probabilities per frame to segments: hysteresis, then morphology in time. Pure functions.

All lengths are in seconds and turned into frames once, so that the same motion at another frame rate gives the same
segments. Binary morphology: Serra, Image Analysis and Mathematical Morphology, 1982; hysteresis: Canny, 1986.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

Bools = NDArray[np.bool_]
Segment = tuple[int, int]
"""First and last frame, both inclusive."""


class Smoothing(BaseModel):
    """How probabilities become segments, in this order of steps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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


def smooth(probabilities: ArrayLike, *, fps: float, smoothing: Smoothing) -> list[Segment]:
    """Segments of (T,) `probabilities`, in order, without overlap.

    On clean input (every run of ones and every gap longer than the lengths set) these are exactly the runs of ones.
    """
    active = hysteresis(probabilities, low=smoothing.low, high=smoothing.high)
    active = opened(active, shortest=round(smoothing.spike * fps))
    active = closed(active, longest=round(smoothing.gap * fps))
    return segments(opened(active, shortest=round(smoothing.shortest * fps)))


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
