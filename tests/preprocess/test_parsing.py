"""Parsing: every pixel named, steadily, whoever is or is not there."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from preprocess import selfie
from preprocess.body import fitting_skeleton, skeleton
from preprocess.crops import crop_boxes
from preprocess.labels import body_labels
from preprocess.outfit import OutfitSplit
from preprocess.parsing import SelfieParsing
from schemas import artifacts
from schemas.body import Joint
from schemas.conditions import Label
from schemas.manifest import Part
from tests.preprocess import worn

CLOTHES = (Label.UPPER_CLOTHES, Label.PANTS)
SKIN = (Label.LEFT_ARM, Label.RIGHT_ARM, Label.LEFT_LEG, Label.RIGHT_LEG, Label.TORSO_SKIN)


@pytest.mark.parametrize("frames", [1, 2, 10])
def test_nobody_there(frames: int) -> None:
    worn.need_models()
    clip = worn.encode(np.full((frames, 128, 96, 3), 90, np.uint8))
    clip.artifacts |= {"person": worn.no_person(frames), "pose": worn.no_pose(frames)}
    SelfieParsing().process(clip)
    artifacts.check("parsing", clip.artifacts["parsing"], clip)
    assert np.mean(clip.artifacts["parsing"] == Label.BACKGROUND) > 0.9


def test_pose_beside_the_picture_is_survived() -> None:
    worn.need_models()
    clip = worn.encode(np.full((3, 128, 96, 3), 90, np.uint8))
    pose = worn.drawn_pose(3)
    pose.keypoints[:] = pose.keypoints * 1e4 - 5e5
    clip.artifacts |= {"person": worn.no_person(3), "pose": pose}
    clip.artifacts["person"].boxes[:] = [-50, -50, 500, 500]
    SelfieParsing().process(clip)
    artifacts.check("parsing", clip.artifacts["parsing"], clip)


@pytest.mark.parametrize("name", ["lower1", "upper1"])
def test_garment_and_hands_are_found(name: str) -> None:
    clip = worn.prepared(name)
    mine, other = CLOTHES if clip.pair.part is Part.UPPER else CLOTHES[::-1]
    for frame in worn.TRUTH_FRAMES[name]:
        labels = clip.artifacts["parsing"][frame]
        garment, hand = worn.truth(name, frame, "garment"), worn.truth(name, frame, "hand")
        assert np.mean(labels[garment] == mine) > 0.97
        assert np.mean(labels[garment] == other) < 0.01
        assert np.isin(labels[hand], SKIN).mean() > 0.85
        # What is called the garment and is not: little, but white on white is hard.
        assert np.sum((labels == mine) & ~garment) < 0.35 * garment.sum()


def test_every_other_frame_is_nearly_as_good() -> None:
    clip = worn.prepared("lower1")
    full = clip.artifacts["parsing"].copy()
    SelfieParsing(every=2).process(clip)
    assert np.mean(full == clip.artifacts["parsing"]) > 0.99


def test_sides_are_the_persons_own() -> None:
    labels = worn.prepared("lower1").artifacts["parsing"][0]
    assert np.nonzero(labels == Label.LEFT_SHOE)[1].mean() > np.nonzero(labels == Label.RIGHT_SHOE)[1].mean()


def test_same_clip_same_labels_whatever_ran_before() -> None:
    first = worn.prepared("lower1")
    again = worn.prepared("lower1")
    worn.prepared("upper1")
    SelfieParsing().process(again)
    assert np.array_equal(first.artifacts["parsing"], again.artifacts["parsing"])


def classes_of(labels: np.ndarray) -> np.ndarray:
    """What the segmenter would see of drawn labels."""
    table = np.full(len(Label), selfie.BODY_SKIN, np.uint8)
    table[Label.BACKGROUND], table[Label.FACE] = selfie.BACKGROUND, selfie.FACE_SKIN
    table[[Label.LEFT_SHOE, Label.RIGHT_SHOE]] = selfie.OTHERS
    table[list(CLOTHES)] = selfie.CLOTHES
    return table[labels]


def painted(labels: np.ndarray, upper: tuple[int, ...], lower: tuple[int, ...]) -> np.ndarray:
    """(T, H, W, 3) picture of drawn labels, garments in these colours."""
    picture = np.full((*labels.shape, 3), 120, np.uint8)
    picture[labels == Label.UPPER_CLOTHES], picture[labels == Label.PANTS] = upper, lower
    return picture


def drawn(part: str, upper: tuple[int, ...] = (200, 30, 30), lower: tuple[int, ...] = (30, 30, 200)) -> np.ndarray:
    labels = worn.drawn_labels(3)
    split = OutfitSplit()
    return body_labels(
        classes_of(labels), painted(labels, upper, lower), worn.drawn_pose(3), part=Part(part), split=split
    )


def test_every_part_of_the_drawn_person() -> None:
    got, want = drawn("upper")[1], worn.drawn_labels(1)[0]
    for label in (Label.UPPER_CLOTHES, Label.PANTS, Label.LEFT_ARM, Label.RIGHT_ARM, Label.LEFT_SHOE, Label.RIGHT_SHOE):
        overlap = np.sum((got == label) & (want == label)) / np.sum((got == label) | (want == label))
        assert overlap > 0.9, label.name


def test_garments_of_one_colour_part_at_the_waist() -> None:
    got = drawn("upper", (90, 90, 90), (90, 90, 90))[1]
    upper = np.nonzero(got == Label.UPPER_CLOTHES)[0]
    assert 130 < upper.max() < 180
    assert np.sum(got == Label.PANTS) > 0.8 * np.sum(worn.drawn_labels(1) == Label.PANTS)


@pytest.mark.parametrize(
    ("part", "present", "absent"),
    [
        ("dress", {Label.DRESS}, {Label.UPPER_CLOTHES, Label.PANTS, Label.COAT}),
        ("outer", {Label.COAT, Label.PANTS}, {Label.UPPER_CLOTHES, Label.DRESS}),
        ("inner", {Label.UPPER_CLOTHES, Label.PANTS}, {Label.COAT, Label.DRESS}),
    ],
)
def test_names_follow_the_part(part: str, present: set[Label], absent: set[Label]) -> None:
    got = set(np.unique(drawn(part)).tolist())
    assert present <= got
    assert not absent & got


def test_without_a_pose_clothes_are_the_pairs() -> None:
    labels = worn.drawn_labels(2)
    picture = painted(labels, (200, 30, 30), (30, 30, 200))
    got = body_labels(classes_of(labels), picture, worn.no_pose(2), part=Part.LOWER, split=OutfitSplit())
    assert Label.UPPER_CLOTHES not in got
    assert np.array_equal(got == Label.PANTS, np.isin(labels, CLOTHES))


def test_print_on_the_chest_is_garment_and_the_gap_under_an_arm_is_not() -> None:
    labels = worn.drawn_labels(3)
    picture = painted(labels, (200, 30, 30), (30, 30, 200))
    classes = classes_of(labels)
    cv2.rectangle(classes[1], (110, 95), (130, 110), selfie.BACKGROUND, -1)
    got = body_labels(classes, picture, worn.drawn_pose(3), part=Part.UPPER, split=OutfitSplit())[1]
    assert (got[98:108, 113:127] == Label.UPPER_CLOTHES).all()
    assert np.array_equal(got == Label.BACKGROUND, labels[1] == Label.BACKGROUND)


def test_slipped_pose_is_passed_over() -> None:
    labels, pose = worn.drawn_labels(9), worn.drawn_pose(9)
    pose.keypoints[4] = pose.keypoints[4] / 4 + [90, 240]  # a small person at the feet
    body = fitting_skeleton(pose, labels, nobody=[Label.BACKGROUND])
    assert body is not None
    assert np.abs(body.ends[4] - body.ends[3]).max() < 1
    slipped = skeleton(pose)
    assert slipped is not None
    assert np.abs(slipped.ends[4] - slipped.ends[3]).max() > 50


def test_missing_joints_are_taken_from_the_frames_around() -> None:
    pose = worn.drawn_pose(5)
    pose.keypoints[4, Joint.LEFT_WRIST] += 40
    pose.scores[2, :] = 0
    body = skeleton(pose)
    assert body is not None
    assert np.isfinite(body.ends).all()
    assert skeleton(worn.no_pose(5)) is None


def test_crops_follow_the_person_inside_the_frame() -> None:
    clip = worn.encode(np.zeros((8, 128, 256, 3), np.uint8))
    boxes = np.zeros((8, 4), np.float32)
    assert crop_boxes(boxes, clip.span, margin=0.2) == [(0, 0, 256, 128)] * 8
    boxes[2:6] = [180, -30, 300, 400]
    for x0, y0, x1, y1 in crop_boxes(boxes, clip.span, margin=0.2):
        assert 0 <= x0 < 180
        assert (y0, x1, y1) == (0, 256, 128)
