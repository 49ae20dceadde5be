"""Who presents: linking sightings of people over time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from preprocess.mediapipe_tasks import BODY_LANDMARKS, Body
from preprocess.person import Sighting, as_boxes, body_box, distinct, nearest_looks, overlap, presenter, squares

NONE = as_boxes([])
SIZE = {"width": 400, "height": 400}


def look(frame: int, *boxes: tuple[float, float, float, float]) -> Sighting:
    return Sighting(frame, as_boxes([np.array(box, float) for box in boxes]), NONE)


def test_nobody_seen_is_nobody_presenting() -> None:
    assert presenter([look(0), look(5)], frames=6, **SIZE) is None
    assert presenter([], frames=6, **SIZE) is None


def test_boxes_are_interpolated_between_sightings_and_held_at_the_ends() -> None:
    track = presenter([look(2, (0, 0, 100, 200)), look(4, (20, 0, 120, 200))], frames=7, **SIZE)
    assert track is not None
    assert track[:, 0].tolist() == [0, 0, 0, 10, 20, 20, 20]


def test_large_person_in_the_middle_presents_and_is_not_mixed_up_with_a_passer_by() -> None:
    looks = [look(i, (10 + 15 * i, 150, 60 + 15 * i, 300), (150, 20, 280, 390)) for i in range(20)]
    looks = [looks[0], *(Sighting(s.frame, s.boxes[::-1] if s.frame % 2 else s.boxes, NONE) for s in looks[1:])]
    track = presenter(looks, frames=20, **SIZE)
    assert track is not None
    assert np.ptp(track[:, 0]) == 0
    assert track[0].tolist() == [150, 20, 280, 390]


def standing(x: float, *, visibility: float = 0.9) -> Body:
    points = np.tile(np.array([x, 100.0]), (BODY_LANDMARKS, 1))
    points[[11, 23]] = (x + 20, 150), (x + 20, 250)
    points[[12, 24]] = (x - 20, 150), (x - 20, 250)
    points[[27, 28]] = (x - 10, 390), (x + 10, 395)
    return Body(points, np.full(BODY_LANDMARKS, visibility), np.zeros((BODY_LANDMARKS, 3)))


def test_one_person_found_twice_counts_once_as_best_seen() -> None:
    kept = distinct([standing(100, visibility=0.5), standing(130), standing(300)])
    assert sorted(body.points[0, 0] for body in kept) == [130, 300]
    assert distinct([]) == []


@pytest.mark.parametrize("size", [(1280, 720), (1920, 400), (2, 1)])
def test_squares_cover_a_wide_picture_and_every_place_is_well_inside_one(size: tuple[int, int]) -> None:
    width, height = size
    parts = squares(width, height)
    assert parts[0].start == 0
    assert parts[-1].stop == width
    assert all(part.stop - part.start == height for part in parts)
    for one, other in pairwise(parts):
        assert other.start - one.start <= height / 2 + 1


@pytest.mark.parametrize("size", [(720, 720), (720, 1280)])
def test_pictures_that_are_not_wide_are_left_whole(size: tuple[int, int]) -> None:
    assert squares(*size) == []


def test_overlap_of_equal_half_and_no_boxes() -> None:
    boxes = as_boxes([np.array(box, float) for box in ((0, 0, 10, 10), (0, 0, 10, 5), (20, 20, 30, 30))])
    np.testing.assert_allclose(overlap(boxes, np.array([0, 0, 10, 10.0])), [1, 0.5, 0])


def test_nearest_look_serves_the_frames_between() -> None:
    assert [found.frame for found in nearest_looks([look(0), look(6)], 8)] == [0, 0, 0, 0, 6, 6, 6, 6]


def test_box_of_a_body_keeps_within_the_picture_and_has_room_for_the_head() -> None:
    x0, y0, x1, y1 = body_box(standing(100), 400, 400)
    assert (x0, x1) == (60, 140)
    assert 40 <= y0 <= 70
    assert y1 == 400
