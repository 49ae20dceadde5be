"""Which frames of a clip a trainer sees: windows of 4n+1 frames, taken where interactions are as often as is asked for.

Shape legend: N stored frames of a clip, T frames of a window, S frames of the clip that a window may start at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from schemas.annotation import ActionCaption
from schemas.conditions import Bool

Float64 = NDArray[np.float64]
Frames = NDArray[np.int64]

_STEEPEST = 1e4
"""Strength at which only the best windows of a clip are left: a frame in 81 changes the odds by e^123."""
_ROUNDING = 1e-6
"""Frames by which two times may differ that are one."""


def offsets(stored: int, *, frames: int, speed: float = 1.0) -> Frames:
    """(T,) stored frames that a window shows, counted from its first one.

    Args:
        stored: frames of the clip, 1 and above.
        frames: wanted of a window, 4n+1; a shorter clip gives the most that it has of 4n+1.
        speed: stored frames a frame of the window, the clip's rate over the window's; the nearest in time is shown.

    """
    available = int((stored - 1) / speed + _ROUNDING) + 1
    length = min(frames, (available - 1) // 4 * 4 + 1)
    return np.floor(np.arange(length) * speed + 0.5 + _ROUNDING).astype(np.int64)


def interactive_shares(labels: Bool, window: Frames) -> Float64:
    """(S,) share of frames that are true in `labels` (N,), of the window (T,) that starts at each stored frame."""
    return np.correlate(labels.astype(np.float64), np.bincount(window).astype(np.float64), "valid") / len(window)


@dataclass(frozen=True)
class Tilt:
    """How windows are drawn: one with a share x of interactive frames has odds e^(strength · x).

    Of all odds that give an epoch the wanted share, these are the nearest to even ones (in relative entropy, with
    the same strength for every clip).

    Attributes:
        strength: 0 draws every window of a clip alike.
        share: of interactive frames expected over an epoch, in 0..1.

    """

    strength: float
    share: float

    def start(self, shares: Float64, quantile: float) -> int:
        """Where a window starts, of those with `shares` (S,), at `quantile` in 0..1 of the odds."""
        reached = np.cumsum(_odds(shares, self.strength))
        return int(np.searchsorted(reached, quantile * reached[-1], side="right").clip(max=len(shares) - 1))


def tilt_for(target: float | None, shares: Sequence[Float64], lengths: Sequence[int]) -> Tilt:
    """The tilt that gives an epoch, one window a clip, the share `target` of interactive frames, or the nearest to it.

    Args:
        target: in 0..1; None: no tilt.
        shares: of the windows of each clip, (S,), see `interactive_shares`.
        lengths: frames of a window of each clip.

    """
    # Clips have many windows of few different shares, which are counted together.
    unique = [np.unique(each, return_counts=True) for each in shares]
    values, counts = (np.concatenate(column).astype(np.float64) for column in zip(*unique, strict=True))
    firsts = np.cumsum([0, *(len(each) for each, _ in unique[:-1])])
    clip = np.repeat(np.arange(len(unique)), [len(each) for each, _ in unique])
    weights = np.asarray(lengths, dtype=np.float64) / np.sum(lengths)

    def expected(strength: float) -> float:
        odds = counts * np.exp(strength * values - np.maximum.reduceat(strength * values, firsts)[clip])
        means = np.add.reduceat(odds * values, firsts) / np.add.reduceat(odds, firsts)
        return float(weights @ means)

    if target is None:
        return Tilt(0.0, expected(0.0))
    lowest, highest = expected(-_STEEPEST), expected(_STEEPEST)
    if not lowest < target < highest:
        strength = 0.0 if lowest == highest else _STEEPEST if target >= highest else -_STEEPEST
    else:
        strength = float(brentq(lambda strength: expected(strength) - target, -_STEEPEST, _STEEPEST, xtol=1e-9))
    return Tilt(strength, expected(strength))


def _odds(shares: Float64, strength: float) -> Float64:
    return np.exp(strength * shares - (strength * shares).max())


def actions_shown(actions: Sequence[ActionCaption], indices: Frames) -> list[ActionCaption]:
    """Actions of a clip in the frame numbers of a window that shows the stored frames `indices` (T,), rising."""
    shown = []
    for action in actions:
        first = int(np.searchsorted(indices, action.start_frame, side="left"))
        last = int(np.searchsorted(indices, action.end_frame, side="right")) - 1
        if first <= last:
            shown.append(action.model_copy(update={"start_frame": first, "end_frame": last}))
    return shown
