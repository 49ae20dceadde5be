"""A recording's clock made whole: timestamps that are missing, doubled, or jump become strictly increasing ones."""

from __future__ import annotations

from fractions import Fraction

LONGEST_HOLD = 10.0
"""Seconds that one picture may stay, in containers whose clock may jump; FFmpeg's own `dts_delta_threshold`."""


class Clock:
    """Repairs presentation timestamps one by one, with one timestamp of foresight.

    A lone bad timestamp is put between its neighbours; a step back that lasts (a splice, a wrapped counter) shifts
    everything after it; a step forward beyond `longest_hold` is closed up.

    Args:
        time_base: seconds per unit of the timestamps.
        frame_rate: nominal frames a second, for the time that a frame without a timestamp takes.
        longest_hold: seconds after which a step forward counts as a jump of the clock; None: never.

    """

    def __init__(self, *, time_base: Fraction, frame_rate: Fraction, longest_hold: float | None = LONGEST_HOLD) -> None:
        self._step = max(1, round(1 / (frame_rate * time_base)))
        self._longest = None if longest_hold is None else max(self._step, int(longest_hold / time_base))
        self._offset = 0
        self._last: int | None = None

    def repair(self, pts: int | None, following: int | None) -> int:
        """The right timestamp of the next frame, given its own (or None) and that of the frame after it."""
        if self._last is None:
            self._last = self._first(pts, following)
            return self._last
        shown = None if pts is None else pts + self._offset
        upcoming = None if following is None else following + self._offset
        if shown is not None and self._follows(shown) and not self._is_astray(shown, upcoming):
            self._last = shown
            return shown
        repaired = self._last + self._step
        if upcoming is not None and self._follows(upcoming):
            repaired = self._last + max(1, min(self._step, (upcoming - self._last) // 2))
        elif pts is not None and following is not None and following > pts:
            self._offset = repaired - pts  # the clock goes on from another place: follow it there
        self._last = repaired
        return repaired

    def _first(self, pts: int | None, following: int | None) -> int:
        if pts is not None:
            return pts
        return 0 if following is None else following - self._step

    def _follows(self, pts: int) -> bool:
        assert self._last is not None
        return pts > self._last and (self._longest is None or pts - self._last <= self._longest)

    def _is_astray(self, pts: int, upcoming: int | None) -> bool:
        """Whether of two timestamps in the wrong order, this one is farther from where it should be."""
        assert self._last is not None
        if upcoming is None or not self._last < upcoming < pts:
            return False
        return pts - (self._last + self._step) > abs(upcoming - (self._last + 2 * self._step))
