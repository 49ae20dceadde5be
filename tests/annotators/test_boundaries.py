"""Boundaries follow contact where that is clear, and stay where it is not."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotators.boundaries import Refinement, refine
from annotators.smoothing import Segment, segments

FPS = 25
T = 100


def contact_during(*spans: Segment, hand: int = 0) -> np.ndarray:
    contact = np.full((T, 2), 0.1)
    for start, end in spans:
        contact[start : end + 1, hand] = 0.9
    return contact


def refined(found: list[Segment], contact: np.ndarray, **changed: float) -> list[Segment]:
    return refine(found, contact, fps=FPS, refinement=Refinement(**changed))


@pytest.mark.parametrize("hand", [0, 1])
@pytest.mark.parametrize("found", [(17, 63), (23, 57), (17, 57), (23, 63), (20, 60)])
def test_both_ends_go_to_where_contact_begins_and_ends(found: Segment, hand: int) -> None:
    assert refined([found], contact_during((20, 60), hand=hand)) == [(20, 60)]


def test_contact_that_passes_from_hand_to_hand_is_one() -> None:
    contact = np.maximum(contact_during((20, 40)), contact_during((38, 60), hand=1))
    assert refined([(22, 57)], contact) == [(20, 60)]


def test_a_segment_at_the_ends_of_the_clip_stays_there() -> None:
    assert refined([(0, 30), (70, T - 1)], contact_during((0, 27), (73, T - 1))) == [(0, 27), (73, T - 1)]


@pytest.mark.parametrize("level", [0.0, 0.3, 0.5, 1.0])
def test_flat_contact_moves_nothing(level: float) -> None:
    assert refined([(20, 60)], np.full((T, 2), level)) == [(20, 60)]


def test_contact_everywhere_but_in_the_segment_moves_nothing() -> None:
    assert refined([(20, 60)], 1 - contact_during((22, 57))) == [(20, 60)]


def test_contact_in_a_small_part_of_the_segment_moves_nothing() -> None:
    assert refined([(20, 60)], contact_during((22, 30))) == [(20, 60)]


def test_contact_that_begins_too_far_away_moves_nothing() -> None:
    assert refined([(20, 60)], contact_during((10, 70))) == [(20, 60)]


def test_a_faint_crossing_is_not_clear() -> None:
    contact = np.where(contact_during((22, 57)) > 0.5, 0.6, 0.4)
    assert refined([(20, 60)], contact) == [(20, 60)]
    assert refined([(20, 60)], contact, rise=0.15) == [(22, 57)]


def test_a_flicker_is_no_beginning() -> None:
    contact = contact_during((22, 57))
    contact[18] = 0.9
    assert refined([(20, 60)], contact) == [(22, 57)]


def test_the_other_end_stays_where_only_one_is_clear() -> None:
    contact = contact_during((22, 57))
    contact[58:] = 0.8
    assert refined([(20, 60)], contact) == [(22, 60)]


def test_neighbours_keep_apart() -> None:
    contact = contact_during((20, 60))
    contact[40:42] = 0.2
    assert refined([(22, 38), (42, 58)], contact, rise=0.2) == [(20, 39), (42, 60)]


def test_no_distance_no_move() -> None:
    assert refined([(20, 60)], contact_during((21, 59)), within=0.03) == [(20, 60)]
    assert refined([(20, 60)], contact_during((21, 59)), within=0.04) == [(21, 59)]


def test_nothing_found_nothing_refined() -> None:
    assert refined([], contact_during()) == []
    assert refined([], np.zeros((0, 2))) == []


@pytest.mark.parametrize("contact", [np.zeros(T), np.zeros((T, 3)), np.zeros((2, T))])
def test_contact_of_another_shape_is_refused(contact: np.ndarray) -> None:
    with pytest.raises(ValueError, match="shape"):
        refined([(20, 60)], contact)


def test_a_segment_outside_the_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        refined([(20, T)], contact_during())


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.booleans(), min_size=1, max_size=60),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.1, 0.3, 1.0]),
    st.booleans(),
)
def test_whatever_contact_says_segments_move_little_and_stay_apart(
    active: list[bool], seed: int, within: float, crisp: bool
) -> None:
    found = segments(np.array(active))
    contact = np.random.default_rng(seed).random((len(active), 2))
    contact = contact.round() if crisp else contact
    moved = refine(found, contact, fps=FPS, refinement=Refinement(within=within, rise=0.01, inside=0))
    assert len(moved) == len(found)
    for old, new in zip(found, moved, strict=True):
        assert max(abs(old[0] - new[0]), abs(old[1] - new[1])) <= within * FPS
        assert 0 <= new[0] <= (old[0] + old[1]) // 2 <= new[1] < len(active)
    for one, other in pairwise(moved):
        assert other[0] - one[1] >= 2
