"""Who presents: linking sightings of people over time."""

from __future__ import annotations

import numpy as np

from preprocess.mediapipe_tasks import BODY_LANDMARKS, Body
from preprocess.person import Sighting, as_boxes, body_box, distinct, nearest_looks, overlap, presenter

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


def test_one_person_found_twice_counts_once() -> None:
    boxes = as_boxes([np.array(box, float) for box in ((0, 0, 100, 200), (5, 5, 103, 204), (200, 0, 300, 200))])
    assert distinct(boxes).tolist() == [[0, 0, 100, 200], [200, 0, 300, 200]]
    assert distinct(NONE).shape == (0, 4)


def test_overlap_of_equal_half_and_no_boxes() -> None:
    boxes = as_boxes([np.array(box, float) for box in ((0, 0, 10, 10), (0, 0, 10, 5), (20, 20, 30, 30))])
    np.testing.assert_allclose(overlap(boxes, np.array([0, 0, 10, 10.0])), [1, 0.5, 0])


def test_nearest_look_serves_the_frames_between() -> None:
    assert [found.frame for found in nearest_looks([look(0), look(6)], 8)] == [0, 0, 0, 0, 6, 6, 6, 6]


def test_box_of_a_body_keeps_within_the_picture_and_has_room_for_the_head() -> None:
    points = np.tile(np.array([100.0, 100.0]), (BODY_LANDMARKS, 1))
    points[[11, 23]] = (120, 150), (120, 250)
    points[[12, 24]] = (80, 150), (80, 250)
    points[[27, 28]] = (90, 390), (110, 395)
    body = Body(points=points, visibility=np.ones(BODY_LANDMARKS), world=np.zeros((BODY_LANDMARKS, 3)))
    x0, y0, x1, y1 = body_box(body, 400, 400)
    assert (x0, x1) == (60, 140)
    assert 40 <= y0 <= 70
    assert y1 == 400
