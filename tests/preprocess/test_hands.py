"""Hands: sides, gaps, false ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from media import frames
from preprocess.hands import HandSearch, find_hands
from preprocess.mediapipe_body import MediaPipeBody, MediaPipeHands
from schemas.body import Joint, pixels_per_metre
from schemas.conditions import LEFT, RIGHT, Hands, Pose
from tests.clips import clip_from, shared
from tests.curation.degrade import from_pictures
from tests.preprocess.worn import need_models, prepared

WRISTS = (Joint.LEFT_WRIST, Joint.RIGHT_WRIST)


def found(name: str) -> tuple[Hands, Pose]:
    clip = prepared(name)
    return clip.artifacts["hands"], clip.artifacts["pose"]


def test_both_hands_in_every_frame_also_the_one_that_holds_a_bag() -> None:
    hands, _ = found("lower1")
    assert hands.present.all()


@pytest.mark.parametrize("name", ["lower1", "upper1"])
def test_each_hand_hangs_on_the_wrist_of_its_side(name: str) -> None:
    hands, pose = found(name)
    scale = pixels_per_metre(pose)
    for side in (LEFT, RIGHT):
        seen = hands.present[:, side]
        away = np.linalg.norm(hands.joints_2d[seen, side, 0] - pose.keypoints[seen, WRISTS[side]], axis=1)
        assert (away / scale[seen] < 0.25).all()
        other = np.linalg.norm(hands.joints_2d[seen, side, 0] - pose.keypoints[seen, WRISTS[1 - side]], axis=1)
        assert (away < other).mean() > 0.95


def test_hands_move_steadily_and_never_change_places() -> None:
    hands, pose = found("lower1")
    steps = np.linalg.norm(np.diff(hands.joints_2d[:, :, 9], axis=0), axis=2) / pixels_per_metre(pose)[1:, None]
    assert steps.max() < 0.08  # metres a frame; a swap would be a jump of half a metre


def test_joints_in_metres_have_the_size_of_a_hand() -> None:
    hands, _ = found("lower1")
    assert np.abs(hands.joints_3d).max() < 0.2
    length = np.linalg.norm(hands.joints_3d[:, :, 12] - hands.joints_3d[:, :, 0], axis=2)
    palm = np.linalg.norm(hands.joints_3d[:, :, 9] - hands.joints_3d[:, :, 0], axis=2)
    assert 0.06 < np.median(palm) < 0.12
    assert np.median(length) < 0.22


def test_mirrored_clip_swaps_the_sides(tmp_path: Path) -> None:
    need_models()
    images = frames(clip_from(shared("clips/vivid/videos/lower1.mp4"))).images[:4]
    straight, mirrored = (
        from_pictures(images, tmp_path / "a.mp4"),
        from_pictures(images[:, :, ::-1], tmp_path / "b.mp4"),
    )
    stage = MediaPipeBody()
    stage.process(straight)
    stage.process(mirrored)
    width = straight.span.width
    one, other = straight.artifacts["hands"], mirrored.artifacts["hands"]
    assert one.present.all()
    assert other.present.all()
    flipped = width - 1 - other.joints_2d[:, ::-1, :, 0]
    assert np.abs(flipped - one.joints_2d[..., 0]).mean() < 8


def test_no_pose_and_no_hand_is_no_hand() -> None:
    need_models()
    empty = Pose(np.zeros((2, 133, 2), np.float32), np.zeros((2, 133), np.float16))
    hands = find_hands(np.full((2, 64, 64, 3), 200, np.uint8), empty, fps=25, search=HandSearch())
    assert not hands.present.any()


def test_pose_beyond_the_picture_finds_no_hand_and_raises_nothing() -> None:
    need_models()
    keypoints = np.zeros((1, 133, 2), np.float32)
    keypoints[0, [5, 6, 7, 8, 9, 10, 11, 12]] = np.array(
        [(900, 0), (860, 0), (905, 30), (855, 30), (910, 60), (850, 60), (895, 55), (865, 55)], np.float32
    )
    pose = Pose(keypoints, (keypoints[..., 0] > 0).astype(np.float16))
    hands = find_hands(np.zeros((1, 64, 64, 3), np.uint8), pose, fps=25, search=HandSearch())
    assert not hands.present.any()


def test_short_gap_is_filled_at_a_lower_score_and_a_long_one_is_left(tmp_path: Path) -> None:
    need_models()
    images = frames(clip_from(shared("clips/vivid/videos/lower1.mp4"))).images[6:24].copy()
    images[3:5] = 0
    images[8:16] = 0
    _, pose = found("lower1")
    pose = Pose(pose.keypoints[6:24], pose.scores[6:24])
    hands = find_hands(images, pose, fps=24, search=HandSearch())
    assert hands.present[3:5].all()
    assert (hands.scores[3:5] <= hands.scores[[2, 5]].min(0) / 2 + 1e-6).all()
    middle = (hands.joints_2d[2] + hands.joints_2d[5]) / 2
    np.testing.assert_allclose(hands.joints_2d[3:5].mean(0), middle, atol=1e-2)
    assert not hands.present[8:16].any()


def test_hands_stage_alone_works_on_any_pose() -> None:
    clip = prepared("lower1")
    before = clip.artifacts["hands"]
    MediaPipeHands().process(clip)
    assert clip.artifacts["hands"].present.mean() > 0.9
    assert clip.artifacts["hands"] is not before


def test_hands_that_are_not_there_need_not_be_looked_for_in_every_frame() -> None:
    clip = prepared("upper1")
    images, pose = frames(clip).images, clip.artifacts["pose"]
    everywhere = find_hands(images, pose, fps=24, search=HandSearch(unseen=0))
    sparing = find_hands(images, pose, fps=24, search=HandSearch(unseen=0.25))
    assert not everywhere.present.all()
    assert (everywhere.present == sparing.present).mean() > 0.95
    both = everywhere.present & sparing.present
    apart = np.abs(everywhere.joints_2d[both] - sparing.joints_2d[both]).max((1, 2))
    assert (apart < 1).mean() > 0.95
