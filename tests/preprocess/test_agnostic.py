"""Agnostic masks: the garment covered, the hands spared, nothing else repainted, whatever is missing."""

from __future__ import annotations

from itertools import pairwise

import av
import cv2
import numpy as np
import pytest

from preprocess.agnostic import KEPT, AgnosticMask
from preprocess.automasker import as_atr, as_lip, automask
from preprocess.body import skeleton
from preprocess.hand_region import HandRegion
from preprocess.mask_smoothing import catv2ton_smooth, smooth_mask
from schemas import artifacts
from schemas.clip import Clip
from schemas.conditions import Label, Pose
from schemas.errors import StageError
from schemas.manifest import Part
from schemas.outfit import GARMENT_LABELS
from tests.clips import shared
from tests.preprocess import worn

LIKE_VIVID = {"lower1": 0.067, "upper1": 0.086}
"""Frame-to-frame change (xor over or) of ViViD's own masks."""
HAND = (slice(132, 148), slice(108, 134))
"""Rows and columns of the drawn left hand, which lies on the garment."""


def drawn_clip(labels: np.ndarray, *, part: str = "upper", pose: bool = True, hands: bool = False, **more) -> Clip:
    frames = len(labels)
    clip = worn.encode(np.zeros((*labels.shape, 3), np.uint8), part=part)
    clip.artifacts |= {
        "parsing": labels,
        "pose": worn.drawn_pose(frames) if pose else worn.no_pose(frames),
        "hands": drawn_hands(frames) if hands else worn.no_hands(frames),
        **more,
    }
    return clip


def masked_by(stage: AgnosticMask, clip: Clip) -> np.ndarray:
    stage.process(clip)
    artifacts.check("agnostic_mask", clip.artifacts["agnostic_mask"], clip)
    return clip.artifacts["agnostic_mask"]


def mask_of(labels: np.ndarray, **what) -> np.ndarray:
    return masked_by(AgnosticMask(), drawn_clip(labels, **what))


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
    inside = cv2.erode(np.isin(labels[1], (*KEPT[Part(part)], Label.FACE)).astype(np.uint8), np.ones((17, 17))) > 0
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
    smooth = smooth_mask(mask, side=5, frames=7)
    assert np.array_equal(smooth_mask(flash, side=5, frames=7), smooth)
    assert np.array_equal(smooth[:, 18:46, 18:46], mask[:, 18:46, 18:46])


NEIGHBOUR = 110
"""Columns from the presenter to somebody else, whose arm touches the presenter's."""


def two_people(frames: int) -> np.ndarray:
    one = worn.drawn_labels(frames)
    labels = np.zeros((frames, one.shape[1], one.shape[2] + NEIGHBOUR), np.uint8)
    labels[:, :, NEIGHBOUR:] = one
    labels[:, :, : one.shape[2]] = np.where(one > 0, one, labels[:, :, : one.shape[2]])
    return labels


@pytest.mark.parametrize("known_by", ["pose", "densepose", "box"])
@pytest.mark.parametrize("part", ["upper", "lower"])
def test_clothes_of_others_are_not_painted(part: str, known_by: str) -> None:
    labels = two_people(3)
    person = worn.no_person(3)
    person.boxes[:], person.scores[:], person.counts[:] = [62, 16, 172, 305], 1, [2, 1, 2]  # one look missed them
    more = {"person": person}
    if known_by == "densepose":
        more["densepose"] = drawn_densepose(3, width=labels.shape[2])
    mask = mask_of(labels, part=part, pose=known_by == "pose", **more)
    garment = np.isin(labels, GARMENT_LABELS[Part(part)])
    theirs = garment[:, :, NEIGHBOUR + 84 :]
    assert mask[:, :, NEIGHBOUR + 84 :][theirs].mean() < 0.02
    assert mask[:, :, :158][garment[:, :, :158]].mean() > 0.93


def test_clothes_apart_from_the_presenter_are_somebody_elses() -> None:
    labels = np.zeros((3, 320, 440), np.uint8)
    labels[:, :, :240] = worn.drawn_labels(3)
    alone = mask_of(labels)
    labels[:, 60:200, 300:400] = Label.UPPER_CLOTHES
    assert np.array_equal(mask_of(labels), alone)  # though only one person was counted


def test_wide_clothes_of_one_alone_are_painted_to_the_hem() -> None:
    labels = worn.drawn_labels(3)
    labels[:, 200:260, 10:230] = Label.SKIRT
    mask = mask_of(labels, part="lower")
    assert mask[labels == Label.SKIRT].all()


def test_wide_clothes_are_whole_though_others_are_about() -> None:
    labels = two_people(3)
    labels[:, 200:260, 60:180] = Label.SKIRT
    person = worn.no_person(3)
    person.counts[:] = 2
    mask = mask_of(labels, part="lower", person=person)
    assert mask[labels == Label.SKIRT].all()


def drawn_densepose(frames: int, *, width: int = 240) -> np.ndarray:
    """Index I of the drawn person: shapes as bare as DensePose's, narrower than the clothes."""
    image = np.zeros((320, width), np.uint8)
    cv2.rectangle(image, (92, 76), (148, 165), 2, -1)
    for thigh, shin, foot, arm, x in ((9, 13, 5, 16, 104), (10, 14, 6, 15, 136)):
        cv2.line(image, (x, 165), (x, 225), thigh, 18)
        cv2.line(image, (x, 225), (x, 285), shin, 12)
        cv2.circle(image, (x, 295), 8, foot, -1)
        cv2.line(image, (90 if x < 120 else 150, 80), (75 if x < 120 else 165, 120), arm, 12)
    cv2.line(image, (165, 120), (135, 135), 19, 10)
    cv2.line(image, (75, 120), (70, 155), 20, 10)
    cv2.line(image, (135, 135), (115, 140), 4, 14)
    cv2.line(image, (70, 155), (68, 180), 3, 14)
    cv2.circle(image, (120, 42), 20, 23, -1)
    return np.repeat(image[None], frames, axis=0)


def test_densepose_tells_body_and_hands_where_no_pose_does() -> None:
    labels = worn.drawn_labels(3)
    labels[labels == Label.UPPER_CLOTHES] = Label.BACKGROUND  # a shirt like the wall
    without = mask_of(labels, pose=False)
    assert not without[1, 90:120, 100:140].any()
    mask = mask_of(labels, pose=False, densepose=drawn_densepose(3))
    assert mask[1, 90:120, 100:140].all()
    hand = labels[1][HAND] == Label.LEFT_ARM
    assert mask[1][HAND][hand].mean() < 0.15
    assert without[1][HAND][hand].mean() > 0.5


def test_frames_that_densepose_misses_fall_back_on_the_pose() -> None:
    labels, densepose = worn.drawn_labels(3), drawn_densepose(3)
    densepose[:] = 0
    assert np.array_equal(mask_of(labels, densepose=densepose), mask_of(labels))


def test_tracked_garment_is_painted_whatever_parsing_calls_it() -> None:
    labels = worn.drawn_labels(5)
    track = labels == Label.UPPER_CLOTHES
    labels[labels == Label.UPPER_CLOTHES] = Label.PANTS
    mask = mask_of(labels, hands=True, garment_track=track)
    assert mask[track].mean() > 0.93
    tips = drawn_hands(3).joints_2d[1, 0, 4::4].astype(int)
    assert not mask[1][tips[:, 1], tips[:, 0]].any()
    track[2] = False  # lost for a frame
    labels[2] = worn.drawn_labels(1)[0]
    assert mask_of(labels, garment_track=track)[2][labels[2] == Label.UPPER_CLOTHES].mean() > 0.93


@pytest.mark.parametrize("with_densepose", [False, True])
@pytest.mark.parametrize("part", ["inner", "outer"])
def test_track_tells_a_garment_from_the_one_over_it(part: str, with_densepose: bool) -> None:
    labels = worn.drawn_labels(3)
    labels[labels == Label.UPPER_CLOTHES] = GARMENT_LABELS[Part(part)][0]  # parsing cannot tell them apart
    both = labels == GARMENT_LABELS[Part(part)][0]
    track = both.copy()
    track[:, :, :105], track[:, :, 135:] = False, False
    mask = mask_of(
        labels, part=part, garment_track=track, **({"densepose": drawn_densepose(3)} if with_densepose else {})
    )
    assert mask[track].mean() > 0.9
    assert mask[both & ~track].mean() < 0.4  # a rim of what is kept
    assert not mask[1, 100:130, 88:94].any()


def turned_away(frames: int) -> tuple[np.ndarray, Pose]:
    """The drawn person from behind: no face, hair down to the waist, sides swapped."""
    labels, pose = worn.drawn_labels(frames), worn.drawn_pose(frames)
    for image in labels:
        image[np.isin(image, (Label.FACE, Label.TORSO_SKIN))] = Label.HAIR
        cv2.rectangle(image, (105, 40), (135, 125), int(Label.HAIR), -1)
    swapped = labels.copy()
    for left, right in ((Label.LEFT_ARM, Label.RIGHT_ARM), (Label.LEFT_SHOE, Label.RIGHT_SHOE)):
        swapped[labels == left], swapped[labels == right] = right, left
    pose.keypoints[:, 5:17:2], pose.keypoints[:, 6:17:2] = pose.keypoints[:, 6:17:2], pose.keypoints[:, 5:17:2].copy()
    pose.scores[:, :5] = 0
    return swapped, pose


def test_back_view_paints_the_garment_and_spares_the_hair() -> None:
    labels, pose = turned_away(3)
    clip = drawn_clip(labels)
    clip.artifacts["pose"] = pose
    mask = masked_by(AgnosticMask(), clip)
    assert mask[labels == Label.UPPER_CLOTHES].mean() > 0.93
    inside = cv2.erode((labels[1] == Label.HAIR).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    assert inside.sum() > 1000
    assert not mask[1][inside].any()


@pytest.mark.parametrize("part", [*Part])
def test_catvton_is_automasker_on_our_maps(part: Part) -> None:
    labels, densepose = worn.drawn_labels(9), drawn_densepose(9)
    labels[4:, 200:230, 30:60] = Label.BAG
    frames = [
        [automask(dense, as_lip(seen), as_atr(seen), part, protect_again=again) for again in (False, True)]
        for dense, seen in zip(densepose, labels, strict=True)
    ]
    plain, protected = (np.stack(masks) for masks in zip(*frames, strict=True))
    clip = drawn_clip(labels, part=part, densepose=densepose)
    assert np.array_equal(masked_by(AgnosticMask(method="catvton"), clip), plain)
    assert np.array_equal(masked_by(AgnosticMask(method="catv2ton"), clip), catv2ton_smooth(protected))


@pytest.mark.parametrize("method", ["catvton", "catv2ton"])
def test_catvton_without_densepose_says_what_to_do(method: str) -> None:
    with pytest.raises(StageError, match=r"needs the artifact densepose.*method: ours"):
        AgnosticMask(method=method).process(drawn_clip(worn.drawn_labels(1)))


def vivid_densepose(name: str) -> np.ndarray:
    """(T, H, W) uint8 index I, from the colours of ViViD's DensePose video: right but for fringes of the codec."""
    colours = cv2.applyColorMap((np.arange(25) * 255 / 24).astype(np.uint8), cv2.COLORMAP_VIRIDIS)[:, 0, ::-1]
    cells = np.stack(np.meshgrid(*[np.arange(4, 256, 8)] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    nearest = np.square(cells - colours.astype(int)).sum(-1).argmin(-1).astype(np.uint8).reshape(32, 32, 32)
    with av.open(str(shared(f"clips/vivid/densepose/{name}.mp4"))) as video:
        cell = (frame.to_ndarray(format="rgb24") >> 3 for frame in video.decode(video=0))
        return np.stack([cv2.medianBlur(nearest[tuple(np.moveaxis(place, -1, 0))], 5) for place in cell])


@pytest.fixture(scope="module", params=[(name, dense) for name in LIKE_VIVID for dense in (False, True)], ids=str)
def masked(request: pytest.FixtureRequest) -> tuple[str, Clip]:
    name, dense = request.param
    clip = worn.prepared(name)
    if dense:
        clip.artifacts["densepose"] = vivid_densepose(name)
    AgnosticMask().process(clip)
    return name, clip


def test_truth_frames(masked: tuple[str, Clip]) -> None:
    name, clip = masked
    for frame in worn.TRUTH_FRAMES[name]:
        mask = clip.artifacts["agnostic_mask"][frame]
        garment, hand = worn.truth(name, frame, "garment"), worn.truth(name, frame, "hand")
        assert mask[garment].mean() >= 0.99
        assert mask[hand].mean() <= 0.03
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


def test_hulls_are_wider_on_request() -> None:
    labels = worn.drawn_labels(1)
    labels[:, 200:290, 112:128] = Label.BACKGROUND  # between the legs
    tight, wide = (masked_by(AgnosticMask(hull=hull), drawn_clip(labels, part="lower")) for hull in (False, True))
    assert not tight[0, 220:280, 120].any()
    assert wide[0, 220:280, 120].all()
    assert not (tight & ~wide).any()
