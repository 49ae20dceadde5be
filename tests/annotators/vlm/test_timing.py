"""Where segments begin and end: which frames are asked about again, and which answers settle a boundary."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from annotators.smoothing import VLM_SMOOTHING, Segment
from annotators.vlm.answers import FrameLabels
from annotators.vlm.asking import Unanswered
from annotators.vlm.footage import Footage
from annotators.vlm.timing import boundaries, evidence_of, segments_in, settle
from annotators.vlm.votes import FrameEvidence
from annotators.vlm.windows import Sampling
from schemas.errors import StageError
from schemas.manifest import Part
from tests.annotators.vlm.pictures import noise, times_of

NAN = float("nan")


def around(*found: Segment, frames: int = 100, reach: int = 4) -> list[tuple[int, bool, int, int, int]]:
    """Segment, whether it begins there, the boundary's frame, first and last frame asked."""
    made = boundaries(found, frames=frames, reach=reach)
    return [(each.segment, each.begins, each.frame, each.asked[0], each.asked[-1]) for each in made]


def settled(found: Segment, told: list[float], *, at: int, reach: int = 4) -> Segment:
    """The segment after these answers from frame `at` on."""
    answers = np.full(100, NAN)
    answers[at : at + len(told)] = told
    [segment] = settle([found], list(boundaries([found], frames=100, reach=reach)), answers)
    return segment


# ---- which frames


def test_frames_on_both_sides_of_each_boundary_are_asked_about() -> None:
    assert around((20, 40)) == [(0, True, 20, 16, 23), (0, False, 41, 37, 44)]


def test_the_ends_of_the_clip_are_no_boundaries() -> None:
    assert around((0, 99)) == []
    assert around((0, 40)) == [(0, False, 41, 37, 44)]
    assert around((98, 99)) == [(0, True, 98, 94, 98)]
    assert around() == []


def test_short_segments_and_gaps_are_asked_about_up_to_their_middle() -> None:
    assert around((20, 22), (26, 40), reach=10)[:3] == [
        (0, True, 20, 10, 21),
        (0, False, 23, 21, 24),
        (1, True, 26, 24, 33),
    ]


@pytest.mark.parametrize("reach", [1, 3, 50])
@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_answered_segments_stay_apart_and_in_the_clip(seed: int, reach: int) -> None:
    random = np.random.default_rng(seed)
    edges = np.sort(random.choice(100, 8, replace=False)).tolist()
    found = [(start, max(start, end - 2)) for start, end in zip(edges[::2], edges[1::2], strict=True)]
    found = [one for one, other in pairwise([*found, (1000, 1000)]) if one[1] + 1 < other[0]]
    asked = list(boundaries(found, frames=100, reach=reach))
    for _ in range(50):
        told = np.repeat(random.random(100) < 0.5, random.integers(1, 9))[:100].astype(float)
        moved = settle(found, asked, told)
        assert all(start <= end for start, end in moved)
        assert all(one[1] + 1 < other[0] for one, other in pairwise(moved))
        assert not moved or (moved[0][0] >= 0 and moved[-1][1] < 100)


# ---- which answers


def test_one_change_in_the_right_direction_is_the_boundary() -> None:
    assert settled((20, 60), [0, 0, 1, 1, 1, 1, 1, 1], at=16) == (18, 60)
    assert settled((20, 60), [0, 0, 0, 0, 0, 0, 0, 1], at=16) == (23, 60)
    assert settled((20, 60), [1, 0, 0, 0, 0, 0, 0, 0], at=57) == (20, 57)


@pytest.mark.parametrize(
    "told",
    [
        [0, 0, 1, 0, 1, 1, 1, 1],  # to and fro
        [1, 1, 1, 0, 0, 0, 0, 0],  # the wrong way round
        [1] * 8,
        [0] * 8,
        [0, 0, NAN, 1, 1, 1, 1, 1],  # where exactly, is not known
        [NAN, 0, 0, 1, 1, 1, 1, 1],
        [NAN] * 8,
    ],
)
def test_all_else_leaves_the_boundary(told: list[float]) -> None:
    assert settled((20, 60), told, at=16) == (20, 60)


# ---- evidence


FOOTAGE = Footage("clip-00000000", Part.UPPER, noise(32), times_of(32, 8))


def test_every_frame_around_a_boundary_is_shown_however_little_moves() -> None:
    images = np.full((40, 8, 8, 3), 100, np.uint8) + np.arange(40, dtype=np.uint8)[:, None, None, None] % 2
    still = Footage("clip-00000000", Part.UPPER, images, times_of(40, 30))
    assert len(still.plan(Sampling()).pictures) < 4
    made = still.plan(Sampling(), frames=range(10, 26))
    assert len(made.windows[0].shown) == 16
    assert made.frames.tolist() == list(range(16))
    assert made.times[0] == pytest.approx(10 / 30)


def test_no_usable_answer_at_all_is_an_error_with_the_first_reason() -> None:
    made = FOOTAGE.plan(Sampling(rate=8, window=16, stride=16))
    with pytest.raises(StageError, match="none of 2 windows .* the first: cut off"):
        evidence_of(FOOTAGE, made, [Unanswered("cut off"), Unanswered("no JSON")], longest_unknown=1)


def test_an_unlabelled_window_is_unknown_and_begins_no_segment() -> None:
    made = FOOTAGE.plan(Sampling(rate=8, window=16, stride=16))
    answers = [FrameLabels((True,) * 16, (1.0,) * 16), Unanswered("cut off")]
    evidence = evidence_of(FOOTAGE, made, answers, longest_unknown=1)
    assert evidence.unknown_share == 0.5
    assert segments_in(evidence, fps=8, smoothing=VLM_SMOOTHING) == [(0, 15)]


def test_a_short_unknown_stretch_between_sure_sides_is_bridged() -> None:
    known = np.ones(100, bool)
    known[50:53] = False
    evidence = FrameEvidence(np.where(known, 1.0, 0.0), known)
    assert segments_in(evidence, fps=30, smoothing=VLM_SMOOTHING) == [(0, 99)]
