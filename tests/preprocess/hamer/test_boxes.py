"""Hands that the pose shows, and on which side."""

from __future__ import annotations

import numpy as np

from preprocess.hamer.boxes import hand_boxes, worth_a_look
from schemas.body import HAND_START, Joint
from schemas.conditions import LEFT, RIGHT, Bool, Pose
from tests.preprocess.hamer.synthetic import drawn_pose

APART = np.array([[[60.0, 80], [160, 80]]])


def shown(pose: Pose) -> Bool:
    boxes, confidence = hand_boxes(pose)
    return worth_a_look(pose, boxes, confidence, height=160, width=240)


def test_box_is_the_extent_of_more_than_three_sure_points() -> None:
    pose = drawn_pose(np.repeat(APART, 3, axis=0))
    left = slice(HAND_START[0], HAND_START[0] + 21)
    pose.scores[:, left] = 0.5  # not above
    pose.scores[0, HAND_START[0] + np.array([1, 5, 9])] = 0.8
    pose.scores[1, HAND_START[0] + np.array([1, 5, 9, 20])] = 0.8
    boxes, confidence = hand_boxes(pose)
    assert not boxes[0, LEFT].any()
    sure = pose.keypoints[1, HAND_START[0] + np.array([1, 5, 9, 20])]
    np.testing.assert_array_equal(boxes[1, LEFT], [*sure.min(0), *sure.max(0)])
    np.testing.assert_allclose(confidence[:, LEFT], [0, 0.8, 0], atol=1e-3)
    np.testing.assert_allclose(confidence[:, RIGHT], 0.9, atol=1e-3)


def test_nobody_is_no_hand() -> None:
    empty = Pose(np.zeros((2, 133, 2), np.float32), np.zeros((2, 133), np.float16))
    assert not hand_boxes(empty)[0].any()
    assert not shown(empty).any()


def test_hands_out_of_the_picture_or_without_size_are_not_looked_at() -> None:
    assert shown(drawn_pose(APART)).all()
    assert shown(drawn_pose(np.array([[[-300.0, 80], [160, 900]]]))).sum() == 0
    assert shown(drawn_pose(np.array([[[-10.0, 80], [250, 150]]]))).all()  # over the border
    assert not shown(drawn_pose(APART, radius=0.01)).any()


def test_confidence_beyond_one_counts_as_one() -> None:
    pose = drawn_pose(APART)
    pose.scores[:] = 3
    assert hand_boxes(pose)[1].max() == 1


def both_on(side: int) -> Pose:
    """Both hands' keypoints on the hand of `side`, while the arms end where they do."""
    pose = drawn_pose(APART)
    start, other = HAND_START[side], HAND_START[1 - side]
    pose.keypoints[:, other : other + 21] = pose.keypoints[:, start : start + 21] + 0.5
    return pose


def test_hand_that_the_pose_shows_twice_belongs_to_the_arm_that_ends_there() -> None:
    for side in (LEFT, RIGHT):
        assert shown(both_on(side))[0].tolist() == [side == LEFT, side == RIGHT]


def test_without_arms_it_belongs_to_the_surer_side() -> None:
    pose = both_on(LEFT)
    pose.scores[:, [Joint.LEFT_WRIST, Joint.RIGHT_WRIST]] = 0
    pose.scores[:, HAND_START[1] : HAND_START[1] + 21] = 0.95
    assert shown(pose)[0].tolist() == [False, True]


def test_crossing_hands_are_two_hands() -> None:
    steps = np.linspace(-60, 60, 41)
    centers = np.stack([np.stack([120 + steps, 0 * steps + 80], 1), np.stack([120 - steps, 0 * steps + 80], 1)], axis=1)
    assert shown(drawn_pose(centers)).all()
