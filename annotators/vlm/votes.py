"""From the answers to overlapping windows to a probability for every frame of the clip. Pure functions.

Shapes: T frames of the clip, N of them labelled, P of these shown to the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from annotators.vlm.windows import Plan, nearest

Probabilities = NDArray[np.float64]
INTERACTIVE = 0.5
"""From this probability on, a labelled frame counts as interactive."""
_ROUNDING = 1e-6
"""Seconds, and shares of a step, below which two are one: frame times are quotients, and rounded."""


@dataclass(frozen=True, eq=False)
class FrameEvidence:
    """What is known of each of T frames.

    Attributes:
        probability: (T,) float64 in 0..1 that the frame is interactive; 0 where nothing is known.
        known: (T,) bool.

    """

    probability: Probabilities
    known: NDArray[np.bool_]

    @property
    def unknown_share(self) -> float:
        """Share of the frames of which nothing is known."""
        return float(1 - self.known.mean())


def join(plan: Plan, answers: Sequence[Sequence[float] | None]) -> Probabilities:
    """(N,) probabilities of the labelled frames, NaN where no answer speaks of one.

    Where windows overlap, their probabilities are averaged (a linear opinion pool: Stone, 1961), each weighted by how
    far the frame is from the window's edge, since near an edge the model sees less of what comes before or after. Not
    averaged as logits: there, a single answer that is far too sure outvotes all others.

    Args:
        plan: what was asked.
        answers: for each window of the plan, the probability of each picture that it shows; None: unlabelled.

    Raises:
        ValueError: there are more or fewer answers than windows, or probabilities than pictures.

    """
    total, weight = np.zeros((2, len(plan.pictures)))
    for window, answer in zip(plan.windows, answers, strict=True):
        if answer is None:
            continue
        if len(answer) != len(window.shown):
            raise ValueError(f"{len(answer)} probabilities for a window of {len(window.shown)} pictures")
        weights = edge_distance(len(answer))
        for run in window.runs:
            total[run] += weights * np.asarray(answer, np.float64)
            weight[run] += weights
    votes = np.divide(total, weight, out=np.full(len(total), np.nan), where=weight > 0)
    return votes[plan.picture]


def edge_distance(size: int) -> Probabilities:
    """(size,) float64: 1 at both edges of a window, one more with each step inwards."""
    steps = np.arange(size)
    return 1.0 + np.minimum(steps, steps[::-1])


def upsample(
    times: ArrayLike, *, labelled: ArrayLike, probabilities: ArrayLike, longest_unknown: float, turn: float = 0.5
) -> FrameEvidence:
    """Carry (N,) `probabilities` at (N,) `labelled` seconds over to frames at (T,) `times`, by time.

    Between two labelled times of one label, the probability goes linearly from one to the other. Between those of
    different labels it changes at once, so that the boundary does not hang on the thresholds of what follows. Before
    the first and after the last label, these hold.

    Labels that are NaN are bridged where the known ones on both sides are at most `longest_unknown` apart, or the one
    known side is at most this far from the clip's end. Else, the frames nearest to them are unknown.

    Args:
        times: seconds, rising.
        labelled: seconds, rising.
        probabilities: in 0..1, or NaN where there is no label.
        longest_unknown: in seconds.
        turn: where between two labelled times the label changes, as a share of the time between them; a frame at that
            time has the later label.

    """
    seconds, asked_at = np.asarray(times, np.float64), np.asarray(labelled, np.float64)
    values = np.asarray(probabilities, np.float64)
    given = np.flatnonzero(~np.isnan(values))
    if not len(given):
        return FrameEvidence(np.zeros(len(seconds)), np.zeros(len(seconds), bool))
    place = np.searchsorted(asked_at[given], seconds)
    before, after = given[(place - 1).clip(0)], given[place.clip(0, len(given) - 1)]
    start, end = asked_at[before], asked_at[after]
    share = np.divide(seconds - start, end - start, out=np.zeros(len(seconds)), where=end > start)
    first, second = values[before], values[after]
    turned = np.where(share >= turn - _ROUNDING, second, first)
    changes = (first >= INTERACTIVE) != (second >= INTERACTIVE)
    bridged = np.where(changes, turned, first + share * (second - first))

    own = values[nearest(asked_at, seconds)]
    early, late = place == 0, place == len(given)  # before the first label, after the last
    skipped = np.where(late, len(values), after) - np.where(early, -1, before) > 1
    stretch = np.where(late, seconds[-1], end) - np.where(early, seconds[0], start)
    too_long = skipped & (stretch > longest_unknown + _ROUNDING)
    unknown = too_long & np.isnan(own)
    return FrameEvidence(np.where(unknown, 0.0, np.where(too_long, own, bridged)), ~unknown)
