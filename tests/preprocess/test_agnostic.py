"""Agnostic masks: the garment covered, the hands spared, nothing else repainted, whatever is missing."""

from __future__ import annotations

from itertools import pairwise

import av
import cv2
import numpy as np
import pytest

from preprocess.agnostic import RULES, AgnosticMask, smooth_mask
from preprocess.body import skeleton
from preprocess.hand_region import HandRegion
from schemas import artifacts
from schemas.clip import Clip
from schemas.conditions import Label
from schemas.manifest import Part
from schemas.outfit import GARMENT_LABELS
from tests.clips import shared
from tests.preprocess import worn

LIKE_VIVID = {"lower1": 0.067, "upper1": 0.086}
"""Frame-to-frame change (xor over or) of ViViD's own masks."""
HAND = (slice(132, 148), slice(108, 134))
"""Rows and columns of the drawn left hand, which lies on the garment."""


def mask_of(labels: np.ndarray, *, part: str = "upper", pose: bool = True, hands: bool = False) -> np.ndarray:
    frames = len(labels)
    clip = worn.encode(np.zeros((frames, *worn.DRAWN, 3), np.uint8), part=part)
    clip.artifacts |= {
        "parsing": labels,
        "pose": worn.drawn_pose(frames) if pose else worn.no_pose(frames),
        "hands": drawn_hands(frames) if hands else worn.no_hands(frames),
    }
    AgnosticMask().process(clip)
    artifacts.check("agnostic_mask", clip.artifacts["agnostic_mask"], clip)
    return clip.artifacts["agnostic_mask"]


def drawn_hands(frames: int, place: tuple[float, float] = (135, 135)):
    """The left hand from `place`, its wrist, 22 px to the left."""
    hands = worn.no_hands(frames)
    hands.scores[:, 0] = 0.9
    joint = np.arange(20)
    hands.joints_2d[:, 0, 0] = place
    hands.joints_2d[:, 0, 1:] = np.stack([place[0] - 8 - 5 * (joint % 4), place[1] - 4 + 3 * (joint // 4)], axis=1)
    return hands


@pytest.mark.parametrize("part", [*Part])
def test_nothing_seen_nothing_painted(part: str) -> None:
    assert not mask_of(np.zeros((2, *worn.DRAWN), np.uint8), part=part, pose=False).any()


@pytest.mark.parametrize("frames", [1, 2, 10])
def test_short_clips(frames: int) -> None:
    mask = mask_of(worn.drawn_labels(frames))
    assert mask[worn.drawn_labels(frames) == Label.UPPER_CLOTHES].mean() > 0.95


def test_without_pose_and_hands_the_garment_is_still_covered() -> None:
    labels = worn.drawn_labels(3)
    mask = mask_of(labels, pose=False)
    assert mask[labels == Label.UPPER_CLOTHES].all()
    assert not mask[:, 175:][labels[:, 175:] == Label.PANTS].any()


@pytest.mark.parametrize("part", [*Part])
def test_garment_covered_others_kept(part: str) -> None:
    garment = GARMENT_LABELS[Part(part)]
    labels = worn.drawn_labels(3)
    labels[labels == Label.UPPER_CLOTHES] = garment[0] if part != "lower" else Label.UPPER_CLOTHES
    mask = mask_of(labels, part=part)
    assert mask[np.isin(labels, garment)].mean() > 0.93  # but for the rim of the hand on it
    # AutoMasker lets the mask creep a little over what is kept.
    inside = (
        cv2.erode(np.isin(labels[1], (*RULES[Part(part)].kept, Label.FACE)).astype(np.uint8), np.ones((17, 17))) > 0
    )
    assert not mask[1][inside].any()


@pytest.mark.parametrize("model_sees_it", [True, False])
def test_hand_on_the_garment_is_not_painted(model_sees_it: bool) -> None:
    labels = worn.drawn_labels(3)
    mask = mask_of(labels, hands=model_sees_it)
    hand = labels[1][HAND] == Label.LEFT_ARM
    assert hand.sum() > 200
    assert mask[1][HAND][hand].mean() < 0.05
    forearm = mask[1, 118:132, 145:162][labels[1, 118:132, 145:162] == Label.LEFT_ARM]
    assert forearm.mean() > 0.3  # arms are repainted with an upper garment


def test_hand_that_parsing_took_for_clothes_is_not_painted() -> None:
    labels = worn.drawn_labels(3)
    blurred = labels[:, :, :118]
    blurred[blurred == Label.LEFT_ARM] = Label.UPPER_CLOTHES  # the finger tips
    mask = mask_of(labels, hands=True)
    tips = drawn_hands(3).joints_2d[1, 0, 4::4].astype(int)
    assert not mask[1][tips[:, 1], tips[:, 0]].any()


def test_hand_seen_where_no_skin_is_is_not_believed() -> None:
    labels = worn.drawn_labels(1)
    region = HandRegion().mask(drawn_hands(1, (125, 100)), skeleton(worn.drawn_pose(1)), labels[0], 0, extent=320)
    assert not region[95:110, 100:130].any()
    assert region[HAND].any()  # the pose still knows where the hand is


def test_mask_does_not_flicker_with_the_parsing() -> None:
    labels = worn.drawn_labels(9)
    still = mask_of(labels)
    labels[4, 120:160, 90:130] = Label.BACKGROUND  # seen through for one frame
    mask = mask_of(labels)
    assert np.mean(mask[4] != still[4]) < 0.002


def test_smoothing_keeps_a_still_mask_and_drops_a_flash() -> None:
    mask = np.zeros((9, 64, 64), bool)
    mask[:, 16:48, 16:48] = True
    flash = mask.copy()
    flash[4, :, :12] = True
    smooth = smooth_mask(mask, side=5, half_window=3)
    assert np.array_equal(smooth_mask(flash, side=5, half_window=3), smooth)
    assert np.array_equal(smooth[:, 18:46, 18:46], mask[:, 18:46, 18:46])


@pytest.fixture(scope="module", params=["lower1", "upper1"])
def masked(request: pytest.FixtureRequest) -> tuple[str, Clip]:
    clip = worn.prepared(request.param)
    AgnosticMask().process(clip)
    return request.param, clip


def test_truth_frames(masked: tuple[str, Clip]) -> None:
    name, clip = masked
    for frame in worn.TRUTH_FRAMES[name]:
        mask = clip.artifacts["agnostic_mask"][frame]
        garment, hand = worn.truth(name, frame, "garment"), worn.truth(name, frame, "hand")
        assert mask[garment].mean() >= 0.99
        assert mask[hand].mean() <= 0.05
        assert mask.sum() <= 1.8 * garment.sum()


def test_agrees_with_vivid(masked: tuple[str, Clip]) -> None:
    name, clip = masked
    with av.open(str(shared(f"clips/vivid/agnostic_mask/{name}.mp4"))) as video:
        reference = np.stack([frame.to_ndarray(format="gray") > 127 for frame in video.decode(video=0)])
    mask = clip.artifacts["agnostic_mask"]
    assert np.sum(mask & reference) / np.sum(mask | reference) >= 0.65


def test_steady_over_time(masked: tuple[str, Clip]) -> None:
    name, clip = masked
    mask = clip.artifacts["agnostic_mask"]
    change = [np.sum(one ^ other) / np.sum(one | other) for one, other in pairwise(mask)]
    assert np.mean(change) <= LIKE_VIVID[name]


def test_same_artifacts_same_mask(masked: tuple[str, Clip]) -> None:
    _, clip = masked
    first = clip.artifacts["agnostic_mask"]
    AgnosticMask().process(clip)
    assert np.array_equal(first, clip.artifacts["agnostic_mask"])
