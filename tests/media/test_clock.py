"""Timestamps made whole."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.clock import LONGEST_HOLD, Clock

MILLISECOND = Fraction(1, 1000)


def repaired(stamps: list[int | None], *, longest_hold: float | None = LONGEST_HOLD) -> list[int]:
    clock = Clock(time_base=MILLISECOND, frame_rate=Fraction(25), longest_hold=longest_hold)
    return [clock.repair(own, following) for own, following in zip(stamps, [*stamps[1:], None], strict=False)]


@pytest.mark.parametrize(
    ("stamps", "right"),
    [
        ([0, 40, 80, 120], [0, 40, 80, 120]),
        ([7, 47, 300, 310], [7, 47, 300, 310]),  # a variable rate stays as it is
        ([0, 40, None, 120], [0, 40, 80, 120]),
        ([None, 40, 80], [0, 40, 80]),
        ([None, None, None], [0, 40, 80]),
        ([0, 40, 40, 120], [0, 40, 80, 120]),
        ([0, 40, 40, 40, 160], [0, 40, 80, 120, 160]),
        ([0, 40, 40, 50], [0, 40, 45, 50]),  # no room for a whole frame
        ([0, 40, 5000, 120, 160], [0, 40, 80, 120, 160]),
        ([0, 40, 80, 60, 160], [0, 40, 80, 120, 160]),
        ([0, 40, 99999, 120, 160], [0, 40, 80, 120, 160]),
        ([0, 40, 80, 10, 50, 90], [0, 40, 80, 120, 160, 200]),  # a splice
        ([0, 40, 99999, 100039], [0, 40, 80, 120]),  # a jump
        ([95000, 0, 40], [95000, 95040, 95080]),
    ],
)
def test_right_times(stamps: list[int | None], right: list[int]) -> None:
    assert repaired(stamps) == right


def test_long_holds_stay_where_the_clock_is_trusted() -> None:
    assert repaired([0, 40, 99999, 100039], longest_hold=None) == [0, 40, 99999, 100039]


@given(st.lists(st.none() | st.integers(-(2**40), 2**40), max_size=40), st.sampled_from([None, 1.0, LONGEST_HOLD]))
def test_always_strictly_increasing(stamps: list[int | None], longest_hold: float | None) -> None:
    times = repaired(stamps, longest_hold=longest_hold)
    assert all(a < b for a, b in itertools.pairwise(times))
    if longest_hold is not None:
        assert all(b - a <= longest_hold * 1000 for a, b in itertools.pairwise(times))


@given(st.lists(st.integers(1, 9000), max_size=40))
def test_good_timestamps_are_left_alone(gaps: list[int]) -> None:
    stamps = [sum(gaps[:n]) for n in range(len(gaps) + 1)]
    assert repaired(list(stamps)) == stamps
