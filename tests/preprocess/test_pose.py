"""Body landmarks in the COCO-WholeBody layout, on drawn tracks and on real clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from media import frames
from preprocess.body_track import BodyTrack
from preprocess.mediapipe_body import MediaPipeBody
from preprocess.person import Sighting, as_boxes
from preprocess.pose import WHOLE_BODY_FROM_MEDIAPIPE, person_track, whole_body
from schemas.artifacts import check
from schemas.body import Joint, pixels_per_metre
from schemas.clip import Clip
from schemas.conditions import Hands, Pose
from tests.clips import clip_from, shared
from tests.curation.degrade import from_pictures
from tests.preprocess.worn import need_models, prepared

COCO_NAMES_IN_MEDIAPIPE = {
    Joint.NOSE: 0, Joint.LEFT_EYE: 2, Joint.RIGHT_EYE: 5, Joint.LEFT_EAR: 7, Joint.RIGHT_EAR: 8,
    Joint.LEFT_SHOULDER: 11, Joint.RIGHT_SHOULDER: 12, Joint.LEFT_ELBOW: 13, Joint.RIGHT_ELBOW: 14,
    Joint.LEFT_WRIST: 15, Joint.RIGHT_WRIST: 16, Joint.LEFT_HIP: 23, Joint.RIGHT_HIP: 24,
    Joint.LEFT_KNEE: 25, Joint.RIGHT_KNEE: 26, Joint.LEFT_ANKLE: 27, Joint.RIGHT_ANKLE: 28,
    Joint.LEFT_HEEL: 29, Joint.RIGHT_HEEL: 30, Joint.LEFT_BIG_TOE: 31, Joint.RIGHT_BIG_TOE: 32,
}  # fmt: skip


def processed(clip: Clip) -> Clip:
    stage = MediaPipeBody()
    stage.setup()
    stage.process(clip)
    for name in stage.gives:
        check(name, clip.artifacts[name], clip)
    return clip


def numbered_track(count: int = 3) -> BodyTrack:
    points = np.arange(count * 66, dtype=float).reshape(count, 33, 2)
    return BodyTrack(np.ones(count, bool), points, np.full((count, 33), 0.9), np.zeros((count, 33, 3)))


def test_body_and_feet_are_where_mediapipe_has_them() -> None:
    assert {joint: WHOLE_BODY_FROM_MEDIAPIPE[joint] for joint in COCO_NAMES_IN_MEDIAPIPE} == COCO_NAMES_IN_MEDIAPIPE
    track = numbered_track()
    pose = whole_body(track)
    np.testing.assert_array_equal(pose.keypoints[:, Joint.LEFT_WRIST], track.points[:, 15])


def test_points_that_the_model_lacks_have_score_zero() -> None:
    scores = whole_body(numbered_track()).scores[0]
    assert scores[Joint.LEFT_SMALL_TOE] == scores[Joint.RIGHT_SMALL_TOE] == 0
    assert (scores > 0).sum() == len(WHOLE_BODY_FROM_MEDIAPIPE)
    assert not (scores[23:40] > 0).any()  # the jaw


def test_hand_joints_come_from_the_hand_model_where_it_sees_the_hand() -> None:
    hands = Hands(
        scores=np.array([[0.8, 0], [0, 0], [0, 0.6]], np.float32),
        joints_2d=np.full((3, 2, 21, 2), 7, np.float32),
        joints_3d=np.zeros((3, 2, 21, 3), np.float32),
        method="drawn",
    )
    pose = whole_body(numbered_track(), hands)
    assert (pose.keypoints[0, 91:112] == 7).all()
    assert (pose.scores[2, 112:133] == np.float16(0.6)).all()
    assert (pose.scores[1, 91:] > 0).sum() == 8  # wrist and three knuckles of either hand, from the body model


def test_person_is_absent_with_zeros_and_people_are_counted_at_the_nearest_look() -> None:
    track = numbered_track(4).where(np.array([True, False, True, True]))
    two = as_boxes([np.array([0, 0, 9, 9.0]), np.array([20, 0, 29, 9.0])])
    looks = [Sighting(0, as_boxes([]), as_boxes([])), Sighting(3, two, as_boxes([]))]
    person = person_track(track, looks, width=50, height=50)
    assert not person.boxes[1].any()
    assert person.scores[1] == 0
    assert person.counts.tolist() == [1, 0, 2, 2]


@pytest.mark.parametrize("count", [1, 2, 9])
def test_tiny_clips_with_nobody_in_them(tmp_path: Path, count: int) -> None:
    need_models()
    noise = np.random.default_rng(0).integers(0, 255, (count, 96, 64, 3), np.uint8)
    clip = processed(from_pictures(noise, tmp_path / "noise.mp4"))
    assert not clip.artifacts["person"].counts.any()
    assert not clip.artifacts["pose"].scores.any()


def test_single_frame_of_a_person(tmp_path: Path) -> None:
    need_models()
    picture = frames(clip_from(shared("clips/vivid/videos/lower1.mp4"))).images[:1]
    clip = processed(from_pictures(picture, tmp_path / "one.mp4"))
    assert clip.artifacts["person"].counts.tolist() == [1]
    assert clip.artifacts["hands"].present.all()


def test_person_is_found_in_every_frame_of_a_real_clip_and_boxed() -> None:
    clip = prepared("lower1")
    person, pose = clip.artifacts["person"], clip.artifacts["pose"]
    assert (person.counts == 1).all()
    width = person.boxes[:, 2] - person.boxes[:, 0]
    height = person.boxes[:, 3] - person.boxes[:, 1]
    assert (height > 0.85 * clip.span.height).all()  # she fills the height, feet and bag in the picture
    assert (width > 0.25 * clip.span.width).all()
    assert (width < 0.75 * clip.span.width).all()
    body = pose.keypoints[:, : Joint.RIGHT_ANKLE + 1]
    assert (body[:, Joint.LEFT_SHOULDER, 0] > body[:, Joint.RIGHT_SHOULDER, 0]).all()  # she faces the camera
    assert (body[:, Joint.LEFT_ANKLE, 1] > body[:, Joint.LEFT_HIP, 1]).all()


def test_headless_side_view_is_followed_back_from_where_the_person_is_found() -> None:
    """Neither direction alone does it: the detector sees no one in the first quarter of the clip."""
    pose = prepared("upper1").artifacts["pose"]
    scale = pixels_per_metre(pose)
    assert (scale > 0).all()
    torso = pose.keypoints[:, Joint.RIGHT_HIP, 1] - pose.keypoints[:, Joint.RIGHT_SHOULDER, 1]
    assert (torso > 0.8 * np.median(torso)).all()


def test_hand_close_to_the_camera_is_no_person(tmp_path: Path) -> None:
    need_models()
    images = frames(clip_from(shared("clips/open_hand.mp4"))).images[::8]
    clip = processed(from_pictures(images, tmp_path / "hand.mp4"))
    assert not clip.artifacts["pose"].scores[:, : Joint.RIGHT_ANKLE].any()
    hands: Hands = clip.artifacts["hands"]
    assert hands.present[:, 1].mean() > 0.9  # the right hand, and said so
    assert hands.present[:, 0].mean() < 0.1


def test_same_bytes_give_the_same_artifacts_whatever_came_before(tmp_path: Path) -> None:
    need_models()
    images = frames(clip_from(shared("clips/vivid/videos/lower1.mp4"))).images[:6]
    file = tmp_path / "six.mp4"
    first = processed(from_pictures(images, file))
    processed(from_pictures(images[::-1], tmp_path / "other.mp4"))
    again = processed(clip_from(file))
    for name, field in (("person", "boxes"), ("pose", "keypoints"), ("pose", "scores"), ("hands", "joints_3d")):
        one, other = (getattr(clip.artifacts[name], field) for clip in (first, again))
        np.testing.assert_array_equal(one, other)


def test_size_of_the_body_is_that_of_its_bones() -> None:
    pose: Pose = prepared("lower1").artifacts["pose"]
    scale = pixels_per_metre(pose)
    height = pose.keypoints[:, Joint.LEFT_ANKLE, 1] - pose.keypoints[:, Joint.LEFT_SHOULDER, 1]
    assert np.all((height / scale > 1.15) & (height / scale < 1.5))  # shoulder to ankle of an adult: 1.3 m
