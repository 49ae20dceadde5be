"""Limbs that the pose sees and DensePose lacks: measured, and filled where that is sound."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from preprocess.densepose.limbs import LIMBS, View, fill_limbs, limb_views
from preprocess.densepose.missing_limbs import MissingLimbs
from schemas.body import HAND_START, Joint
from schemas.conditions import Pose
from tests.preprocess import worn

LEFT_FOREARM, RIGHT_FOREARM, LEFT_HAND = 19, 20, 4
NAMES = [limb.name for limb in LIMBS]


def posed(frames: int, *, drift: float = 0.0) -> Pose:
    """The drawn person with hands, moving right by `drift` px a frame; the left forearm turns about its elbow."""
    pose = worn.drawn_pose(frames)
    for side, wrist in enumerate((Joint.LEFT_WRIST, Joint.RIGHT_WRIST)):
        pose.keypoints[:, HAND_START[side] + 9] = pose.keypoints[:, wrist] + (-8, 10)
        pose.scores[:, HAND_START[side] + 9] = 1
    elbow = pose.keypoints[:, Joint.LEFT_ELBOW].copy()
    angle = np.deg2rad(-60 + 4 * np.arange(frames))
    for point, length in ((Joint.LEFT_WRIST, 36), (HAND_START[0] + 9, 50)):
        pose.keypoints[:, point] = elbow + length * np.stack([np.cos(angle), np.sin(angle)], 1)
    pose.keypoints[..., 0] += drift * np.arange(frames)[:, None]
    return pose


def surface(pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """DensePose of it: torso, head, and every limb in the first of its parts; U and V along the bone."""
    frames = len(pose.keypoints)
    part = np.zeros((frames, *worn.DRAWN), np.uint8)
    for frame in range(frames):
        points = pose.keypoints[frame].round().astype(int)
        corners = [points[j] for j in (Joint.LEFT_SHOULDER, Joint.RIGHT_SHOULDER, Joint.RIGHT_HIP, Joint.LEFT_HIP)]
        cv2.fillConvexPoly(part[frame], np.array(corners), 2)
        cv2.circle(part[frame], points[Joint.NOSE].tolist(), 20, 23, -1)
        for limb in sorted(LIMBS, key=lambda limb: "hand" in limb.name):
            cv2.line(part[frame], points[limb.start].tolist(), points[limb.end].tolist(), limb.parts[0], 11)
    uv = np.stack([np.where(part > 0, 10 * part, 0), np.where(part > 0, 255 - part, 0)], 1).astype(np.uint8)
    return part, uv


def view(part: np.ndarray, pose: Pose, name: str) -> list[int]:
    return limb_views(part, pose)[:, NAMES.index(name)].tolist()


def test_every_part_but_torso_and_head_belongs_to_one_limb() -> None:
    assert sorted(part for limb in LIMBS for part in limb.parts) == list(range(3, 23))


def test_all_limbs_of_a_whole_person_are_shown() -> None:
    pose = posed(2)
    assert (limb_views(surface(pose)[0], pose) == View.SHOWN).all()


def test_a_limb_is_missing_only_where_the_pose_sees_it_and_nothing_covers_it() -> None:
    pose = posed(5)
    part, _ = surface(pose)
    part[part == LEFT_FOREARM] = 0
    pose.scores[1, Joint.LEFT_WRIST] = 0.2
    pose.keypoints[2, Joint.LEFT_WRIST] = 400, 100  # outside
    part[3][part[3] == 0] = 2
    part[4] = 0
    assert view(part, pose, "left forearm") == [View.MISSING, View.UNSEEN, View.UNSEEN, View.HIDDEN, View.MISSING]


def test_the_other_side_does_not_stand_for_a_limb() -> None:
    pose = posed(1)
    part, _ = surface(pose)
    part[part == LEFT_FOREARM] = RIGHT_FOREARM
    part[part == LEFT_HAND] = 0
    assert view(part, pose, "left forearm") != [View.SHOWN]


@pytest.mark.parametrize("name", ["left forearm", "left hand", "right foot", "right upper arm"])
def test_a_limb_missing_for_a_while_is_carried_over_from_the_nearer_side(name: str) -> None:
    pose = posed(9, drift=3)
    part, uv = surface(pose)
    limb = LIMBS[NAMES.index(name)]
    whole, whole_uv = part.copy(), uv.copy()
    gone = np.isin(part[3:6], limb.parts)
    part[3:6][gone] = 0
    uv[3:6][np.broadcast_to(gone[:, None], (3, 2, *worn.DRAWN))] = 0
    fill_limbs(part, uv, pose, longest=3)
    for frame in range(3, 6):
        mine, truth = np.isin(part[frame], limb.parts), np.isin(whole[frame], limb.parts)
        assert (mine & truth).sum() > 0.7 * (mine | truth).sum()
        np.testing.assert_array_equal(uv[frame][:, mine & truth], whole_uv[frame][:, mine & truth])
    others = ~np.isin(whole, limb.parts) & (whole > 0)
    np.testing.assert_array_equal(part[others], whole[others])  # nothing is written over
    for frame in (0, 1, 2, 6, 7, 8):
        np.testing.assert_array_equal(part[frame], whole[frame])


def test_what_cannot_be_known_is_not_filled() -> None:
    pose = posed(12)
    part, uv = surface(pose)
    part[[0, 1, 4, 5, 6, 7, 10, 11]] *= part[[0, 1, 4, 5, 6, 7, 10, 11]] != LEFT_FOREARM
    before = part.copy()
    fill_limbs(part, uv, pose, longest=3)  # at both ends, and four in a row
    np.testing.assert_array_equal(part, before)
    pose.scores[4:8, Joint.LEFT_WRIST] = 0.1
    fill_limbs(part, uv, pose, longest=4)  # not seen, so perhaps hidden
    np.testing.assert_array_equal(part, before)
    pose.scores[7, Joint.LEFT_WRIST] = 1
    fill_limbs(part, uv, pose, longest=4)  # seen from here on, and shown only after that
    np.testing.assert_array_equal(part, before)


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_short_clips_and_nobody(frames: int) -> None:
    part, uv = np.zeros((frames, *worn.DRAWN), np.uint8), np.zeros((frames, 2, *worn.DRAWN), np.uint8)
    for pose in (posed(frames), worn.no_pose(frames)):
        fill_limbs(part, uv, pose, longest=3)
        assert not part.any()


def test_bones_of_no_length_are_survived() -> None:
    pose = posed(5)
    part, uv = surface(pose)
    part[2][part[2] == LEFT_FOREARM] = 0
    pose.keypoints[:, Joint.LEFT_WRIST] = pose.keypoints[:, Joint.LEFT_ELBOW] + (3, 3)
    pose.keypoints[1, Joint.LEFT_WRIST] = pose.keypoints[1, Joint.LEFT_ELBOW]
    before = part.copy()
    fill_limbs(part, uv, pose, longest=2)
    np.testing.assert_array_equal(part[before > 0], before[before > 0])


def clip_with(part: np.ndarray, pose: Pose) -> object:
    clip = worn.encode(np.zeros((len(part), *worn.DRAWN, 3), np.uint8))
    clip.artifacts |= {"densepose": part, "pose": pose}
    return clip


def test_share_of_missing_limbs() -> None:
    pose = posed(4)
    part, _ = surface(pose)
    assert MissingLimbs().measure(clip_with(part, pose)) == {"missing_limbs": 0.0}
    part[part == 16] = 0  # right upper arm
    part[:2][part[:2] == 6] = 0  # right foot, in half of the frames
    views = limb_views(part, pose)
    assert (views[:, NAMES.index("right upper arm")] == View.MISSING).all()
    measured = MissingLimbs().measure(clip_with(part, pose))["missing_limbs"]
    assert measured == pytest.approx(6 / 48)
    assert MissingLimbs().measure(clip_with(np.zeros_like(part), pose)) == {"missing_limbs": 1.0}
    assert MissingLimbs().measure(clip_with(part, worn.no_pose(4))) == {}
