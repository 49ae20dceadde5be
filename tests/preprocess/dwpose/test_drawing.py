"""Poses as they are stored, drawn as DWPose draws its own."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from media.draw import skeleton
from tests.clips import shared
from tests.preprocess.dwpose.test_golden import CASES, FOLDER

NECK_COLOUR, LEFT_WRIST_ROW = (255, 85, 0), 9


@pytest.mark.parametrize("case", CASES)
def test_rounding_and_cutting_of_the_artifact_do_not_show(case: str) -> None:
    golden = np.load(shared(f"{FOLDER}/{case}.npz"))
    theirs = np.asarray(Image.open(shared(f"{FOLDER}/{case}_pose_rgb.png")).convert("RGB"))
    keypoints, scores = golden["kpts133"].astype(np.float32), golden["scores133"].clip(0, 1).astype(np.float16)
    ours = skeleton(keypoints, scores, height=theirs.shape[0], width=theirs.shape[1])
    assert (np.abs(ours.astype(int) - theirs).max(2) <= 2).mean() >= 0.999


def one_point(row: int, x: float, y: float, score: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    keypoints, scores = np.zeros((133, 2)), np.zeros(133, np.float32)
    keypoints[row], scores[row] = (x, y), score
    return keypoints, scores


def test_pixels_are_cut_after_a_division_and_a_multiplication() -> None:
    """Of 15 in a width of 22, theirs makes 15 / 22 * 22 = 14.999…, so 14; the height of 32 divides without rest."""
    drawn = skeleton(*one_point(LEFT_WRIST_ROW, 15, 15), height=32, width=22)
    y, x = np.nonzero(drawn.any(2))
    assert (x.min() + x.max(), y.min() + y.max()) == (2 * 14, 2 * 15)


def test_body_is_drawn_above_and_hands_from_the_threshold_on() -> None:
    above, exactly = np.nextafter(np.float64(0.3), 1), 0.3
    for row, score, seen in ((0, above, True), (0, exactly, False), (100, exactly, True), (30, exactly, True)):
        keypoints, _ = one_point(row, 20, 20)
        scores = np.zeros(133)
        scores[row] = score
        assert skeleton(keypoints, scores, height=40, width=40).any() == seen
    assert skeleton(*one_point(0, 20, 20, score=np.float32(0.3)), height=40, width=40).any()  # a little above 0.3


def test_neck_lies_between_the_shoulders_and_needs_both() -> None:
    keypoints, scores = np.zeros((133, 2)), np.zeros(133)
    keypoints[5], keypoints[6], scores[5], scores[6] = (48, 32), (16, 32), 0.9, 0.9
    assert tuple(skeleton(keypoints, scores, height=64, width=64)[32, 32]) == NECK_COLOUR
    scores[6] = 0.2
    assert not skeleton(keypoints, scores, height=64, width=64)[32, 32].any()


def test_right_hands_of_all_people_lie_over_all_left_ones() -> None:
    keypoints, scores = np.zeros((2, 133, 2)), np.zeros((2, 133))
    keypoints[0, [112, 113]] = (10, 32), (54, 32)  # a bone of the first person's right hand, red
    keypoints[1, 91] = (32, 32)  # a joint of the second person's left hand, blue, under it
    scores[0, [112, 113]] = scores[1, 91] = 1
    assert tuple(skeleton(keypoints, scores, height=64, width=64)[32, 32]) == (255, 0, 0)
