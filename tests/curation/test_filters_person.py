"""Person and occlusion filters, on bodies made by hand and on the real clips."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from curation.filters.garment_occlusion import GarmentOcclusion
from curation.filters.person_count import PersonCount
from curation.filters.person_cut_off import PersonCutOff
from curation.filters.person_screen import PersonScreen
from media import forget
from schemas.body import Joint
from schemas.clip import Clip, Source, Span
from schemas.conditions import HAND_POINTS, POSE_POINTS, Hands, Label, PersonTrack, Pose
from schemas.errors import WeightsError
from schemas.manifest import Pair, Part
from schemas.stage import Filter
from tests.clips import clip_from, shared
from tests.curation.degrade import normalised

WIDTH, HEIGHT = 120, 200
BODY = {
    Joint.NOSE: (60, 20), Joint.LEFT_SHOULDER: (75, 40), Joint.RIGHT_SHOULDER: (45, 40), Joint.LEFT_ELBOW: (85, 70),
    Joint.RIGHT_ELBOW: (35, 70), Joint.LEFT_WRIST: (88, 95), Joint.RIGHT_WRIST: (32, 95), Joint.LEFT_HIP: (70, 95),
    Joint.RIGHT_HIP: (50, 95), Joint.LEFT_KNEE: (70, 140), Joint.RIGHT_KNEE: (50, 140), Joint.LEFT_ANKLE: (70, 185),
    Joint.RIGHT_ANKLE: (50, 185),
}  # fmt: skip
"""A person seen from the front, hands at their sides."""


def clip_of(frames: int = 10, *, part: str = "upper") -> Clip:
    """Somebody in shirt and trousers who stands still, entirely visible."""
    pair = Pair(pair_id="pair", video="v.mp4", garment=None, part=part)
    source = Source(
        url="v.mp4", container="mp4", codec="h264", pixel_format="yuv420p", width=WIDTH, height=HEIGHT,
        frame_rate=Fraction(25), duration=None, size_bytes=None,
    )  # fmt: skip
    span = Span(
        first_frame=0, last_frame=frames - 1, first_pts=0, last_pts=frames - 1, time_base=Fraction(1, 25),
        fps=Fraction(25), frames=frames, width=WIDTH, height=HEIGHT, bytes=1,
    )  # fmt: skip
    keypoints, scores = np.zeros((frames, POSE_POINTS, 2), np.float32), np.zeros((frames, POSE_POINTS), np.float16)
    for joint, place in BODY.items():
        keypoints[:, joint], scores[:, joint] = place, 1
    parsing = np.zeros((frames, HEIGHT, WIDTH), np.uint8)
    parsing[:, 10:35, 50:70] = Label.FACE
    parsing[:, 35:95, 40:80] = Label.COAT if part == "outer" else Label.UPPER_CLOTHES
    parsing[:, 60:95, 28:40], parsing[:, 60:95, 80:92] = Label.RIGHT_ARM, Label.LEFT_ARM
    parsing[:, 80:190, 42:78] = Label.PANTS
    boxes = np.tile(np.array([28, 8, 92, 192], np.float32), (frames, 1))
    artifacts = {
        "person": PersonTrack(boxes=boxes, scores=np.ones(frames, np.float32), counts=np.ones(frames, np.uint8)),
        "pose": Pose(keypoints=keypoints, scores=scores),
        "hands": no_hands(frames),
        "parsing": parsing,
    }
    return Clip(key="pair-00000000", pair=pair, source=source, span=span, artifacts=artifacts)


def no_hands(frames: int) -> Hands:
    return Hands(
        scores=np.zeros((frames, 2), np.float32),
        joints_2d=np.zeros((frames, 2, HAND_POINTS, 2), np.float32),
        joints_3d=np.zeros((frames, 2, HAND_POINTS, 3), np.float32),
        method="none",
    )


def measure(kind: type[Filter], clip: Clip) -> dict[str, float]:
    clip.metrics.clear()
    kind().process(clip)
    return dict(clip.metrics)


def is_dropped(kind: type[Filter], metrics: dict[str, float]) -> bool:
    return kind().decide(metrics) is not None


def hide(clip: Clip, label: Label, rows: slice, columns: slice, frames: slice = slice(None)) -> None:
    clip.artifacts["parsing"][frames, rows, columns] = label


# Nobody there.


def nobody(clip: Clip) -> Clip:
    frames = clip.span.frames
    clip.artifacts["person"] = PersonTrack(
        boxes=np.zeros((frames, 4), np.float32),
        scores=np.zeros(frames, np.float32),
        counts=np.zeros(frames, np.uint8),
    )
    pose = clip.artifacts["pose"]
    clip.artifacts["pose"] = Pose(keypoints=np.zeros_like(pose.keypoints), scores=np.zeros_like(pose.scores))
    clip.artifacts["parsing"] = np.zeros_like(clip.artifacts["parsing"])
    return clip


@pytest.mark.parametrize("part", list(Part))
@pytest.mark.parametrize("frames", [1, 10])
def test_a_clip_without_a_person_is_dropped(part: Part, frames: int) -> None:
    clip = nobody(clip_of(frames, part=part))
    assert measure(PersonScreen, clip) == {"person_presence": 0, "person_screen_share": 0}
    assert measure(PersonCount, clip) == {"multi_person_share": 0}
    assert measure(PersonCutOff, clip) == {"cut_off_share": 1}
    assert measure(GarmentOcclusion, clip) == {"garment_visible_share": 0}
    for kind in (PersonScreen, PersonCutOff, GarmentOcclusion):
        assert is_dropped(kind, measure(kind, clip))


@pytest.mark.parametrize("part", list(Part))
@pytest.mark.parametrize("frames", [1, 10])
def test_somebody_who_just_stands_there_stays(part: Part, frames: int) -> None:
    clip = clip_of(frames, part=part)
    for kind in (PersonScreen, PersonCount, PersonCutOff, GarmentOcclusion):
        assert not is_dropped(kind, measure(kind, clip))


# On the screen.


def test_screen_share_is_the_box_within_the_picture() -> None:
    clip = clip_of()
    for size, share in ((1.0, 1.0), (0.5, 0.25), (0.2, 0.04)):
        box = np.array([0, 0, size * WIDTH, size * HEIGHT], np.float32)
        clip.artifacts["person"].boxes[:] = box
        assert measure(PersonScreen, clip)["person_screen_share"] == pytest.approx(share)
    assert is_dropped(PersonScreen, clip.metrics)
    clip.artifacts["person"].boxes[:] = (-WIDTH, 0, WIDTH / 2, 2 * HEIGHT)
    assert measure(PersonScreen, clip)["person_screen_share"] == pytest.approx(0.5)


def test_presence_is_the_share_of_frames() -> None:
    clip = clip_of()
    clip.artifacts["person"].scores[:4] = 0
    metrics = measure(PersonScreen, clip)
    assert metrics["person_presence"] == pytest.approx(0.6)
    assert is_dropped(PersonScreen, metrics)


def test_a_second_presenter_is_dropped_but_not_one_who_passes() -> None:
    clip = clip_of()
    clip.artifacts["person"].counts[:1] = 3
    assert not is_dropped(PersonCount, measure(PersonCount, clip))
    clip.artifacts["person"].counts[:5] = 2
    assert measure(PersonCount, clip)["multi_person_share"] == 0.5
    assert is_dropped(PersonCount, clip.metrics)


@pytest.mark.parametrize(
    ("part", "shift", "stays"),
    [
        ("upper", (0, -30), True),  # the head is cut off
        ("upper", (0, -45), False),  # and the shoulders
        ("upper", (0, 80), True),  # the legs
        ("upper", (0, 110), False),  # and the hips
        ("upper", (50, 0), True),  # one shoulder
        ("upper", (65, 0), False),  # nearly all
        ("lower", (0, -90), True),  # all above the hips
        ("lower", (0, 30), True),  # the feet
        ("lower", (0, 70), False),  # and the knees
        ("dress", (0, 70), True),  # the knees
        ("dress", (0, 110), False),  # and the hips
    ],
)
def test_only_the_part_that_wears_the_garment_has_to_be_inside(part: str, shift: tuple[int, int], stays: bool) -> None:
    clip = clip_of(part=part)
    clip.artifacts["pose"].keypoints[:] += np.array(shift, np.float32)
    assert is_dropped(PersonCutOff, measure(PersonCutOff, clip)) is not stays


def test_cut_off_grows_as_the_person_leaves() -> None:
    values = []
    for shift in range(0, 180, 10):
        clip = clip_of()
        clip.artifacts["pose"].keypoints[..., 1] += shift
        values.append(measure(PersonCutOff, clip)["cut_off_share"])
    assert values == sorted(values)
    assert (values[0], values[-1]) == (0, 1)


def test_frames_without_a_pose_are_left_to_presence() -> None:
    clip = clip_of()
    clip.artifacts["pose"].scores[3:] = 0
    assert measure(PersonCutOff, clip)["cut_off_share"] == 0


# Occlusion.


@pytest.mark.parametrize("label", [Label.HAIR, Label.BAG, Label.OTHER, Label.LEFT_ARM, Label.BACKGROUND])
def test_occlusion_grows_with_what_lies_before_the_garment(label: Label) -> None:
    values = []
    for bottom in (40, 55, 70, 85):
        clip = clip_of()
        hide(clip, label, slice(35, bottom), slice(30, 90))
        values.append(measure(GarmentOcclusion, clip))
    for metric in ("garment_occlusion", "garment_never_seen"):
        assert [value[metric] for value in values] == sorted(value[metric] for value in values)
    assert values[-1]["garment_occlusion"] > 0.8
    assert is_dropped(GarmentOcclusion, values[-1])
    visible = [value["garment_visible_share"] for value in values]
    assert visible == sorted(visible, reverse=True)


@pytest.mark.parametrize("label", [Label.PANTS, Label.SKIRT, Label.TORSO_SKIN])
def test_where_the_garment_ends_nothing_is_hidden(label: Label) -> None:
    clip = clip_of()
    hide(clip, label, slice(65, 95), slice(40, 80))
    assert measure(GarmentOcclusion, clip)["garment_occlusion"] == 0


def test_what_moves_away_can_be_recovered() -> None:
    clip = clip_of(10)
    hide(clip, Label.BAG, slice(35, 50), slice(30, 90), slice(0, 5))
    hide(clip, Label.BAG, slice(60, 80), slice(30, 90), slice(5, 10))
    moving = measure(GarmentOcclusion, clip)
    assert moving["garment_occlusion"] > 0.2
    assert moving["garment_never_seen"] == 0
    assert not is_dropped(GarmentOcclusion, moving)


def test_a_turn_shows_another_side() -> None:
    """Hair hides the back throughout; the front is in plain view in the other frames."""
    clip = clip_of(10)
    keypoints = clip.artifacts["pose"].keypoints
    for left, right in ((5, 6), (7, 8), (9, 10), (11, 12), (13, 14)):
        keypoints[5:, [left, right]] = keypoints[5:, [right, left]]
    hide(clip, Label.HAIR, slice(35, 80), slice(30, 90), slice(5, 10))
    assert measure(GarmentOcclusion, clip)["garment_never_seen"] == pytest.approx(0.5, abs=0.1)


def test_a_person_seen_from_their_side_has_a_trunk() -> None:
    clip = clip_of()
    clip.artifacts["pose"].keypoints[:, [5, 6, 11, 12], 0] = 60
    assert measure(GarmentOcclusion, clip)["garment_occlusion"] == 0
    hide(clip, Label.LEFT_ARM, slice(35, 80), slice(40, 80))
    assert measure(GarmentOcclusion, clip)["garment_occlusion"] > 0.9


def test_a_hand_that_parsing_overlooks_hides_the_garment() -> None:
    clip = clip_of()
    hands = clip.artifacts["hands"]
    hands.scores[:, 0] = 0.9
    angle = np.linspace(0, 2 * np.pi, HAND_POINTS, endpoint=False)
    hands.joints_2d[:, 0] = np.stack([60 + 9 * np.cos(angle), 60 + 9 * np.sin(angle)], axis=1)
    assert 0.15 < measure(GarmentOcclusion, clip)["garment_occlusion"] < 0.5


def test_skin_on_the_trunk_is_an_arm_where_an_arm_is() -> None:
    clip = clip_of()
    hide(clip, Label.TORSO_SKIN, slice(62, 72), slice(42, 78))
    assert measure(GarmentOcclusion, clip)["garment_occlusion"] == 0
    keypoints = clip.artifacts["pose"].keypoints
    keypoints[:, Joint.LEFT_ELBOW], keypoints[:, Joint.LEFT_WRIST] = (80, 67), (50, 67)
    assert measure(GarmentOcclusion, clip)["garment_occlusion"] > 0.1


@pytest.mark.parametrize("part", ["lower", "dress"])
def test_the_thighs_wear_the_garment_of_other_parts(part: str) -> None:
    clip = clip_of(part=part)
    if part == "dress":
        hide(clip, Label.DRESS, slice(35, 190), slice(40, 80))
    assert measure(GarmentOcclusion, clip)["garment_occlusion"] == 0
    hide(clip, Label.BAG, slice(95, 145), slice(30, 90))
    assert measure(GarmentOcclusion, clip)["garment_occlusion"] > 0.3


def test_points_far_outside_the_picture_are_not_judged() -> None:
    clip = clip_of()
    clip.artifacts["pose"].keypoints[:] += 10_000
    assert set(measure(GarmentOcclusion, clip)) == {"garment_visible_share"}


# The real clips.


@pytest.mark.parametrize(
    ("name", "part"), [("vivid/videos/lower1", "lower"), ("vivid/videos/upper1", "upper"), ("dance_man", "upper")]
)
def test_real_presenters_stay(name: str, part: str, tmp_path: Path) -> None:
    pytest.importorskip("mediapipe")
    from preprocess.mediapipe_body import MediaPipeBody
    from preprocess.parsing import SelfieParsing

    file = shared(f"clips/{name}.mp4")
    normalised(file, tmp_path / "clip.mp4", "fps=10", seconds=3)
    clip = clip_from(tmp_path / "clip.mp4", part=part)
    try:
        for stage in (MediaPipeBody(), SelfieParsing()):
            stage.setup()
            stage.process(clip)
    except WeightsError as error:
        pytest.skip(str(error))
    forget(clip)
    stages = [PersonScreen(), PersonCount(), PersonCutOff(), GarmentOcclusion()]
    for stage in stages:
        stage.process(clip)
    assert [drop.words for stage in stages if (drop := stage.decide(clip.metrics))] == []
    assert clip.metrics["garment_visible_share"] > 0.05
