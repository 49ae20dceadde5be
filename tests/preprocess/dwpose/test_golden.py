"""DWPose's arithmetic against its own program, on synthetic networks (../shared/golden/hand_pose_mask)."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest

from preprocess.dwpose.detector import PersonDetector, distinct, letterbox, people
from preprocess.dwpose.estimator import PoseEstimator, normalised, simcc_peaks
from preprocess.dwpose.everyone import everyone
from preprocess.dwpose.window import window_pixels, windows
from tests.clips import shared

CASES = ("one_lower", "one_upper", "border", "two", "full", "weak", "none")
FOLDER = "golden/hand_pose_mask/dwpose"


@cache
def networks() -> tuple[PersonDetector, PoseEstimator]:
    detector, estimator = shared(f"{FOLDER}/det_synth.onnx"), shared(f"{FOLDER}/pose_synth.onnx")
    return PersonDetector(detector, device="cpu"), PoseEstimator(estimator, device="cpu")


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Picture, RGB, and what their program makes of it."""
    image = cv2.imread(str(shared(f"{FOLDER}/{request.param}_input.png")))[..., ::-1]
    return image, dict(np.load(shared(f"{FOLDER}/{request.param}.npz")))


def test_detector_sees_what_theirs_sees(case) -> None:
    image, golden = case
    np.testing.assert_array_equal(letterbox(image)[:, ::8, ::8], golden["det_in_sub8"])


def test_boxes(case) -> None:
    image, golden = case
    (boxes,) = networks()[0]([image])
    assert boxes.shape == golden["boxes"].shape
    np.testing.assert_allclose(boxes, golden["boxes"], atol=1e-3)


def test_people_and_their_scores_are_those_of_the_first_class(case) -> None:
    _, golden = case
    raw = np.zeros((8400, 85), np.float32)
    raw[::16] = golden["det_raw_sub16"]
    boxes, scores = people(raw, ratio=float(golden["det_ratio"]), least_score=0.1)
    theirs = golden["dets_after_nms"][golden["dets_after_nms"][:, 5] == 0]
    for box, score in zip(boxes, scores, strict=True):  # a 16th of them; what theirs holds besides is not among ours
        same = np.abs(theirs[:, :4] - box).max(1) < 1e-3
        assert not same.any() or abs(theirs[same, 4][0] - score) < 1e-4
    kept = distinct(theirs[:, :4], theirs[:, 4], most_overlap=0.45)
    assert kept.tolist() == list(range(len(theirs)))


def test_windows_and_the_first_of_them_as_it_is_fed(case) -> None:
    image, golden = case
    whole = [[0, 0, image.shape[1], image.shape[0]]]
    centres, sizes = windows(golden["boxes"] if len(golden["boxes"]) else np.array(whole))
    np.testing.assert_allclose(centres, golden["center"], atol=1e-3)
    np.testing.assert_allclose(sizes, golden["scale"], atol=1e-3)
    fed = normalised(window_pixels(image, golden["center"][0], golden["scale"][0]))
    np.testing.assert_array_equal(fed[:, ::4, ::4].transpose(1, 2, 0), golden["crop0_sub4"])


def test_points_and_scores_of_everyone_or_of_the_whole_picture(case) -> None:
    image, golden = case
    points, scores = everyone(image, *networks())
    np.testing.assert_allclose(points, golden["kpts133"], atol=1e-2)
    np.testing.assert_allclose(scores, golden["scores133"], atol=1e-4)


def test_pictures_of_many_sizes_in_one_call_answer_as_they_do_alone() -> None:
    images = [cv2.imread(str(shared(f"{FOLDER}/{case}_input.png")))[..., ::-1] for case in CASES]
    detector, _ = networks()
    alone = [next(iter(detector([image]))) for image in images]
    for one, other in zip(detector(images), alone, strict=True):
        np.testing.assert_array_equal(one, other)
    assert list(detector([])) == []


def test_a_point_without_any_peak_lies_before_the_first_bin() -> None:
    along_x, along_y = np.full((3, 576), -0.1, np.float32), np.full((3, 768), -0.2, np.float32)
    along_x[1, 7] = along_y[1, 9] = 1.25
    along_x[2, 5] = 0.5  # one axis is not enough
    bins, scores = simcc_peaks(along_x, along_y)
    assert bins.tolist() == [[-1, -1], [7, 9], [-1, -1]]
    np.testing.assert_allclose(scores, [-0.2, 1.25, -0.2])
