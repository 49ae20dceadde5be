"""Boundaries of segments, known to a labelling step, moved to the frame where a hand's contact begins or ends.

Pure functions. T frames of the clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

from annotators.smoothing import Segment

Values = NDArray[np.float64]


class Refinement(BaseModel):
    """When contact evidence moves a boundary, and how far."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    within: float = Field(default=0.3, ge=0, description="A boundary moves by at most this much, in seconds.")
    threshold: float = Field(
        default=0.5, gt=0, le=1, description="Contact lasts while its probability is at least this."
    )
    rise: float = Field(
        default=0.4,
        gt=0,
        le=1,
        description="Mean contact over `within` seconds inside the new boundary exceeds that outside by at least this.",
    )
    inside: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Mean contact over the segment, below which contact moves none of its ends.",
    )


def refine(found: Sequence[Segment], contact: ArrayLike, *, fps: float, refinement: Refinement) -> list[Segment]:
    """Segments with boundaries moved to where contact begins and ends, or left where that is not clear.

    Contact is that of either hand, as the embedded labeller reads it: while one stays on the garment, nothing begins or
    ends. A boundary moves to the clearest crossing of the threshold in the right direction that is near enough.

    Segments stay in order, keep their middle frame, and do not come to touch.

    Args:
        found: in order, without overlap.
        contact: (T, 2) probability per hand, in 0..1.
        fps: frames per second.
        refinement: when and how far.

    Raises:
        ValueError: `contact` is not (T, 2), or a segment lies outside of it.

    """
    hands = np.asarray(contact, np.float64)
    if hands.ndim != 2 or hands.shape[1] != 2:
        raise ValueError(f"contact has shape {hands.shape}, not (T, 2)")
    if found and not (found[0][0] >= 0 and found[-1][1] < len(hands)):
        raise ValueError(f"segments from {found[0][0]} to {found[-1][1]} do not fit {len(hands)} frames")
    reach = int(refinement.within * fps + 1e-6)
    if not found or not reach:
        return list(found)
    last = len(hands) - 1
    # Of the frames between two segments, the middle one belongs to neither.
    between = [-1, *((one[1] + other[0]) // 2 for one, other in pairwise(found)), last + 1]
    either = hands.max(axis=1)
    refined = []
    for (start, end), (before, after) in zip(found, pairwise(between), strict=True):
        middle = (start + end) // 2
        if either[start : end + 1].mean() >= refinement.inside:
            starts = range(max(start - reach, before + 1), min(start + reach, middle) + 1)
            start = _onset(either, starts, reach, refinement, otherwise=start)
            # An end is a start in reversed time.
            ends = range(last - min(end + reach, after - 1), last - max(end - reach, middle) + 1)
            end = last - _onset(either[::-1], ends, reach, refinement, otherwise=last - end)
        refined.append((start, end))
    return refined


def _onset(contact: Values, allowed: range, reach: int, refinement: Refinement, *, otherwise: int) -> int:
    """Frame of `allowed` where contact begins most clearly."""
    begins = [f for f in allowed if f > 0 and contact[f - 1] < refinement.threshold <= contact[f]]
    rises = [contact[f : f + reach].mean() - contact[max(0, f - reach) : f].mean() for f in begins]
    if rises and max(rises) >= refinement.rise:
        return begins[int(np.argmax(rises))]
    return otherwise
