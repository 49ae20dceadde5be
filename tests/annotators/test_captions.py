"""Words for places and postures."""

from __future__ import annotations

import numpy as np
import pytest

from annotators.captions import Handling, action_caption, category, global_caption
from schemas.annotation import DEFAULT_CATEGORIES
from schemas.body import Joint
from schemas.conditions import LEFT, RIGHT, Pose
from schemas.manifest import Part
from tests.annotators.scenes import FPS, nobody, scene


def handling(part: str, x: float, y: float, *, across: float = 0.0, down: float = 0.0) -> Handling:
    return Handling(part=Part(part), hand="the left hand", place=(x, y), travel=(across, down))


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (handling("upper", 0.5, 0.05), "adjusting the collar"),
        (handling("dress", 0.4, 0.1), "adjusting the collar"),
        (handling("upper", 0.7, 0.95), "adjusting the hem"),
        (handling("lower", 0.3, 0.97), "adjusting the hem"),
        (handling("outer", 0.5, 0.5, down=0.4), "opening or closing a fastening"),
        (handling("upper", 0.2, 0.5, across=0.2), "stretching or pinching the fabric"),
        (handling("lower", 0.6, 0.05), "hand in or at a pocket or waistband"),
        (handling("lower", 0.9, 0.4), "hand in or at a pocket or waistband"),
        (handling("upper", 0.4, 0.5), "other interaction"),
    ],
)
def test_category_is_told_by_where_the_hand_works(what: Handling, expected: str) -> None:
    assert category(what) == expected
    assert expected in DEFAULT_CATEGORIES


@pytest.mark.parametrize("part", list(Part))
@pytest.mark.parametrize("name", [*DEFAULT_CATEGORIES, "a category of the user's"])
def test_captions_name_garment_and_hand_and_leave_nothing_to_fill_in(part: Part, name: str) -> None:
    words = action_caption(handling(part, 0.5, 0.5), name)
    assert "the left hand" in words
    assert "{" not in words
    assert words[0].islower()


def test_both_hands_are_named_when_both_work() -> None:
    place = np.full((5, 2, 2), 0.5, np.float32)
    both = Handling.of(np.full((5, 2), 0.9, np.float32), place, Part.UPPER)
    one = Handling.of(np.tile(np.array([0.1, 0.9], np.float32), (5, 1)), place, Part.UPPER)
    assert (both.hand, one.hand) == ("both hands", "the right hand")


def test_nobody_is_said_to_be_nobody() -> None:
    assert global_caption(nobody().artifacts["pose"], fps=FPS) == "No person is clearly visible."


def caption(pose: Pose) -> str:
    return global_caption(pose, fps=FPS)


def test_standing_person_faces_the_camera() -> None:
    assert caption(scene().artifacts["pose"]) == "A person stands facing the camera."


def test_seen_from_behind() -> None:
    pose = scene().artifacts["pose"]
    pose.keypoints[..., 0] = 200 - pose.keypoints[..., 0]
    assert "back to the camera" in caption(pose)


def test_turning_is_told_from_start_to_end() -> None:
    pose = scene().artifacts["pose"]
    squeeze = np.linspace(0.05, 1, 30, dtype=np.float32)[:, None]
    pose.keypoints[..., 0] = 100 + (pose.keypoints[..., 0] - 100) * squeeze
    assert "turns from the side to the front" in caption(pose)


def test_walking_across() -> None:
    pose = scene().artifacts["pose"]
    pose.keypoints[..., 0] += np.linspace(0, 90, 30, dtype=np.float32)[:, None]
    assert "walks" in caption(pose)


def test_sitting() -> None:
    pose = scene().artifacts["pose"]
    for knee, ankle, y in ((Joint.LEFT_KNEE, Joint.LEFT_ANKLE, 95), (Joint.RIGHT_KNEE, Joint.RIGHT_ANKLE, 95)):
        pose.keypoints[:, knee, 1], pose.keypoints[:, ankle, 1] = y, y + 40
    assert "sits" in caption(pose)


@pytest.mark.parametrize(("sides", "words"), [((LEFT,), "left arm raised"), ((LEFT, RIGHT), "both arms raised")])
def test_raised_arms(sides: tuple[int, ...], words: str) -> None:
    up = {LEFT: [((140, 35), (140, 10))], RIGHT: [((60, 35), (60, 10))]}
    assert words in caption(scene({side: up[side] for side in sides}).artifacts["pose"])
