"""Contact evidence on a drawn person: what makes a touch, and what only looks like one."""

from __future__ import annotations

import numpy as np
import pytest

from annotators.contact import ContactEvidence
from schemas.artifacts import check
from schemas.clip import Clip
from schemas.conditions import LEFT, RIGHT, Contact, Label
from tests.annotators.scenes import AT_CHEST, RESTING, nobody, scene


def contact(clip: Clip) -> Contact:
    ContactEvidence().process(clip)
    found = clip.artifacts["contact"]
    check("contact", found, clip)
    return found


def test_nobody_there_is_no_contact_and_no_error() -> None:
    found = contact(nobody())
    assert not found.probability.any()
    assert not found.place.any()


@pytest.mark.parametrize("frames", [1, 2, 3, 10])
def test_tiny_clips(frames: int) -> None:
    found = contact(scene({LEFT: [AT_CHEST]}, frames=frames))
    assert found.probability.shape == (frames, 2)
    assert (found.probability[:, LEFT] > 0.6).all()


def test_garment_of_the_part_is_nowhere_to_be_seen() -> None:
    clip = scene({LEFT: [AT_CHEST]})
    clip.artifacts["parsing"][:] = Label.BACKGROUND
    assert not contact(clip).probability.any()


def test_hand_that_rests_on_the_shirt_is_contact_and_the_hanging_one_is_not() -> None:
    found = contact(scene({LEFT: [AT_CHEST]}))
    assert (found.probability[:, LEFT] > 0.6).all()
    assert (found.probability[:, RIGHT] < 0.1).all()


def test_same_hand_does_not_handle_the_trousers() -> None:
    found = contact(scene({LEFT: [AT_CHEST]}, part="lower"))
    assert (found.probability[:, LEFT] < 0.1).all()


def test_place_is_where_the_fingers_are_in_the_garments_own_frame() -> None:
    found = contact(scene({LEFT: [AT_CHEST]}))
    x, y = found.place[:, LEFT].mean(0)
    assert 0.4 < x < 0.8  # the shirt reaches from 76 to 125 px, wearer's right first; the fingers are at about 103
    assert 0.4 < y < 0.7  # 38 to 95 px; the fingers are at about 68
    assert not found.place[:, RIGHT][found.probability[:, RIGHT] == 0].any()


def test_hand_at_the_collar_is_backed_by_neck_and_face_too() -> None:
    found = contact(scene({LEFT: [((132, 72), (109, 50))]}))
    assert (found.probability[:, LEFT] > 0.6).all()
    assert (found.place[:, LEFT, 1] < 0.2).all()


def test_hand_before_the_face_is_not_contact() -> None:
    assert contact(scene({LEFT: [((128, 50), (106, 28))]})).probability.max() < 0.2


def test_hand_that_passes_in_front_is_not_contact() -> None:
    sweep = [((150 - 3 * step, 62), (128 - 3 * step, 66)) for step in range(25)]
    assert (contact(scene({LEFT: sweep}, frames=25)).probability[:, LEFT] < 0.3).all()


def test_hand_that_moves_with_the_walking_body_still_is() -> None:
    clip = scene({LEFT: [AT_CHEST]})
    shift = np.linspace(-20, 20, 30, dtype=np.float32)  # 0.4 m in 1.2 s
    for name, field in (("pose", "keypoints"), ("hands", "joints_2d")):
        points = getattr(clip.artifacts[name], field)
        points[..., 0] += shift.reshape(-1, *(1,) * (points.ndim - 2))
    for frame in range(30):
        clip.artifacts["parsing"][frame] = np.roll(clip.artifacts["parsing"][frame], round(float(shift[frame])), axis=1)
    assert (contact(clip).probability[:, LEFT] > 0.6).all()


def test_hand_beside_the_body_is_not_contact() -> None:
    for beside in (((150, 45), (134, 82)), ((142, 60), (133, 84)), RESTING[LEFT]):
        assert contact(scene({LEFT: [beside]})).probability[:, LEFT].max() < 0.35, beside


def test_folded_arms_are_not_contact() -> None:
    folded = {LEFT: [((130, 64), (92, 64))], RIGHT: [((70, 68), (108, 68))]}
    assert contact(scene(folded)).probability.max() < 0.1


def test_hand_held_far_in_front_appears_larger_and_is_doubted() -> None:
    near = contact(scene({LEFT: [AT_CHEST]})).probability[:, LEFT].mean()
    front = contact(scene({LEFT: [AT_CHEST]}, hand_scale=2.0)).probability[:, LEFT].mean()
    assert front < 0.2 < near


def test_hand_lost_in_the_garment_counts_less_but_counts() -> None:
    seen = contact(scene({LEFT: [AT_CHEST]})).probability[:, LEFT].mean()
    lost = contact(scene({LEFT: [AT_CHEST]}, lost=(LEFT,))).probability[:, LEFT].mean()
    assert 0.5 < lost < seen


def test_unseen_hand_of_an_unseen_wrist_is_no_evidence() -> None:
    clip = scene({LEFT: [AT_CHEST]}, lost=(LEFT,))
    clip.artifacts["pose"].scores[:, 9] = 0.1
    assert not contact(clip).probability[:, LEFT].any()


def test_own_sleeve_is_nothing_that_a_hand_handles() -> None:
    clip = scene({LEFT: [RESTING[LEFT]]})
    parsing = clip.artifacts["parsing"]
    parsing[:] = Label.BACKGROUND
    parsing[:, 38:96, 119:132] = Label.UPPER_CLOTHES  # a long sleeve down to the wrist, no shirt
    assert contact(clip).probability.max() < 0.05


def test_mirrored_scene_gives_mirrored_contact() -> None:
    width = 200
    mirror = [tuple((width - x, y) for x, y in AT_CHEST)]
    left = contact(scene({LEFT: [AT_CHEST]}))
    right = contact(scene({RIGHT: mirror}))
    np.testing.assert_allclose(right.probability[:, ::-1], left.probability, atol=0.1)
    np.testing.assert_allclose(right.place[:, RIGHT, 0], 1 - left.place[:, LEFT, 0], atol=0.05)
