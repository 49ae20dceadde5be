"""Pictures of conditions: against DWPose's own drawings, and by what must be seen in them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from media import draw
from media.draw import MESH_COLOUR
from schemas.annotation import DEFAULT_CATEGORIES, ActionCaption, Annotation
from schemas.errors import ArtifactError
from tests.clips import shared

DWPOSE_CASES = ("one_lower", "one_upper", "border", "two", "full", "weak", "none")


@pytest.mark.parametrize("case", DWPOSE_CASES)
def test_skeleton_is_drawn_as_dwpose_draws_it(case):
    golden = np.load(shared(f"golden/hand_pose_mask/dwpose/{case}.npz"))
    theirs = np.asarray(Image.open(shared(f"golden/hand_pose_mask/dwpose/{case}_pose_rgb.png")).convert("RGB"))
    height, width, _ = golden["draw_hwc_shape"]

    ours = draw.skeleton(golden["kpts133"], golden["scores133"], height=int(height), width=int(width))

    differ = np.abs(ours.astype(int) - theirs).max(axis=2) > 2
    assert differ.mean() <= 0.001  # what the golden set allows between versions of OpenCV
    assert ours.any() == theirs.any()


def test_skeleton_of_nobody_is_black():
    assert not draw.skeleton(np.zeros((133, 2), np.float32), np.zeros(133, np.float16), height=20, width=30).any()
    assert not draw.skeleton(np.zeros((0, 133, 2)), np.zeros((0, 133)), height=20, width=30).any()


def test_skeleton_survives_points_far_outside():
    keypoints = np.full((133, 2), 1e9, np.float32)
    keypoints[::2] *= -1

    draw.skeleton(keypoints, np.ones(133, np.float16), height=40, width=30)


def test_skeleton_is_drawn_over_whatever_was_there():
    random = np.random.default_rng(0)
    points, scores = random.normal(50, 40, (133, 2)), np.float16(random.random(133))
    picture = np.full((90, 70, 3), 7, np.uint8)

    assert draw.skeleton(points, scores, height=90, width=70, out=picture) is picture
    assert np.array_equal(picture, draw.skeleton(points, scores, height=90, width=70))


def test_skeleton_hides_points_below_the_threshold():
    keypoints = np.full((133, 2), 20, np.float32)
    faint = draw.skeleton(keypoints, np.full(133, 0.29), height=40, width=40)
    clear = draw.skeleton(keypoints, np.full(133, 0.31), height=40, width=40)

    assert not faint.any()
    assert clear.any()


@pytest.mark.parametrize("shape", [(17, 2), (133, 3), (1, 1, 133, 2)])
def test_skeleton_refuses_other_layouts(shape):
    with pytest.raises(ArtifactError, match="133"):
        draw.skeleton(np.zeros(shape), np.ones(shape[:-1]), height=20, width=20)


def flat_hand(*, x: float, y: float, pixels_per_metre: float = 1000) -> tuple[np.ndarray, np.ndarray]:
    """A hand spread in the picture plane, wrist at (x, y), fingers up."""
    joints = np.zeros((21, 3), np.float32)
    for finger in range(5):
        for joint in range(4):
            joints[1 + finger * 4 + joint] = (-0.04 + 0.02 * finger, -0.06 - 0.025 * joint, 0)
    return joints[:, :2] * pixels_per_metre + (x, y), joints


def test_hand_covers_its_joints_in_the_colour_of_the_mesh():
    flat, solid = flat_hand(x=100, y=180)
    picture = draw.hand_picture(
        np.stack([flat, flat]), np.stack([solid, solid]), np.array([1, 0]), height=200, width=200
    )

    for x, y in flat.round().astype(int):
        assert picture[y, x].any()
    lit = picture[picture.any(axis=2)].astype(float)
    assert np.allclose(lit / lit[:, 2:], np.array(MESH_COLOUR) / MESH_COLOUR[2], atol=0.05)
    assert lit[:, 2].max() > 1.5 * lit[:, 2].min()  # shaded, not flat
    assert not picture[:20].any()


@pytest.mark.parametrize("tilt", [0, 30, -50])
def test_fingers_are_lit_like_meshes(tilt):
    flat, solid = flat_hand(x=100, y=180)
    along = np.arange(4) * 0.025
    flat[9:13, 1] = 180 + 1000 * (-0.06 - along * np.cos(np.radians(tilt)))
    solid[9:13, 1] = -0.06 - along * np.cos(np.radians(tilt))
    solid[9:13, 2] = along * np.sin(np.radians(tilt))
    picture = draw.hand_picture(
        np.stack([flat, flat]), np.stack([solid, solid]), np.array([1, 0]), height=200, width=200
    )

    x, y = (flat[10] + flat[11]) / 2
    taper = 4  # degrees that the finger narrows to either side
    darkest, brightest = (0.3 + 0.7 * np.cos(np.radians(abs(tilt) + turn)) for turn in (taper, -taper))
    assert 255 * darkest - 2 <= picture[round(y), round(x), 2] / MESH_COLOUR[2] <= 255 * brightest + 2
    drawn = picture[picture.any(axis=2)][:, 2]
    assert drawn.min() >= 255 * 0.3 * MESH_COLOUR[2] - 1
    assert drawn.max() <= 255 * MESH_COLOUR[2] + 1


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (0, 3, 4)])
def test_brightness_becomes_the_colour_of_hands(shape):
    shade = np.resize(np.array([0, 1, 100, 255], np.uint8), shape)
    picture = draw.hand_colours(shade)

    assert picture.shape == (*shape, 3)
    assert picture.dtype == np.uint8
    assert ((picture > 0).all(axis=-1) == (shade > 0)).all()
    if picture.size:
        assert picture.reshape(-1, 3)[:4].tolist() == [[0, 0, 0], [1, 1, 1], [65, 74, 86], [166, 189, 219]]


@pytest.mark.parametrize("factor", [1e-6, 40, 1e6, 1e30])
def test_hands_of_any_size_are_harmless(factor):
    flat, solid = flat_hand(x=0, y=0)
    flat = flat * factor + 100
    both = np.stack([flat, flat]).astype(np.float32), np.stack([solid, solid])

    assert draw.hand_picture(*both, np.ones(2), height=200, width=200).shape == (200, 200, 3)


def test_absent_hands_are_not_drawn():
    flat, solid = flat_hand(x=100, y=180)
    nothing = draw.hand_picture(np.stack([flat, flat]), np.stack([solid, solid]), np.zeros(2), height=200, width=200)

    assert not nothing.any()


def test_hand_outside_the_frame_and_hand_without_extent_are_harmless():
    flat, solid = flat_hand(x=-500, y=-500)
    point = np.full((21, 2), 50, np.float32)
    picture = draw.hand_picture(
        np.stack([flat, point]), np.stack([solid, 0 * solid]), np.ones(2), height=100, width=100
    )

    assert picture[50, 50].any()
    assert not picture[:40].any()


def test_the_nearer_finger_hides_the_farther():
    flat, solid = flat_hand(x=100, y=180)
    flat[5:9, 0] = flat[9:13, 0]  # index finger in front of, or behind, the middle finger
    pictures = []
    for depth in (-0.05, 0.05):
        solid[5:9, 2] = depth
        both = np.stack([flat, flat]), np.stack([solid, solid])
        pictures.append(draw.hand_picture(*both, np.array([1, 0]), height=200, width=200))

    assert (pictures[0] != pictures[1]).any()


def test_the_larger_hand_is_in_front():
    near, solid = flat_hand(x=100, y=180, pixels_per_metre=1200)
    far, _ = flat_hand(x=100, y=180, pixels_per_metre=600)
    args = np.stack([solid, solid]), np.ones(2)
    alone = draw.hand_picture(np.stack([near, far]), args[0], np.array([1, 0]), height=200, width=200)
    for order in ([near, far], [far, near]):
        both = draw.hand_picture(np.stack(order), *args, height=200, width=200)
        covered = alone.any(axis=2)
        assert (both[covered] == alone[covered]).all()


def test_hands_of_another_shape_are_refused():
    with pytest.raises(ArtifactError, match="21"):
        draw.hand_picture(np.zeros((2, 5, 2)), np.zeros((2, 21, 3)), np.ones(2), height=10, width=10)


def test_agnostic_is_grey_inside_and_untouched_outside():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 10, 3), dtype=np.uint8)
    mask = np.zeros((3, 8, 10), bool)
    mask[1, 2:5, 3:7] = True

    agnostic = draw.agnostic(images, mask)

    assert agnostic.dtype == np.uint8
    assert (agnostic[mask] == 126).all()
    assert (agnostic[~mask] == images[~mask]).all()


def test_agnostic_refuses_a_mask_of_another_size():
    with pytest.raises(ArtifactError, match=r"\(2, 8, 9\)"):
        draw.agnostic(np.zeros((2, 8, 10, 3), np.uint8), np.zeros((2, 8, 9), bool))


def test_densepose_is_viridis_from_background_to_head():
    picture = draw.densepose_picture(np.array([[0, 12, 24]], np.uint8))

    assert picture.tolist() == [[[68, 1, 84], [33, 144, 141], [253, 231, 37]]]
    with pytest.raises(ArtifactError, match="25"):
        draw.densepose_picture(np.array([[25]], np.uint8))


def test_tint_and_paste_leave_their_input_alone():
    image = np.full((20, 20, 3), 100, np.uint8)
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    picture = np.zeros_like(image)
    picture[0, 0] = (255, 0, 0)

    tinted, pasted = draw.tint(image, mask, colour=(255, 0, 0)), draw.paste(image, picture)

    assert (image == 100).all()
    assert tinted[10, 10, 0] > 100 > tinted[10, 10, 1]
    assert (tinted[0, 0] == 100).all()
    assert pasted[0, 0].tolist() == [255, 0, 0]
    assert (pasted[1:] == 100).all()


def annotation(labels: list[bool], *actions: tuple[int, int]) -> Annotation:
    return Annotation(
        global_caption="A person stands.",
        actions=tuple(
            ActionCaption(category=DEFAULT_CATEGORIES[1], caption="adjusts the hem", start_frame=start, end_frame=end)
            for start, end in actions
        ),
        probabilities=tuple(float(label) for label in labels),
        labels=tuple(labels),
        labeller="test",
    )


def test_timeline_shows_each_action_where_it_happens():
    labels = [20 <= t <= 39 or 60 <= t <= 69 for t in range(100)]
    strip = draw.timeline(annotation(labels, (20, 39), (60, 69)), width=1000, height=90)

    row = strip[1].astype(int)  # above the words
    coloured = (row.max(axis=1) - row.min(axis=1)) > 60
    for frame in range(1, 99):
        if labels[frame - 1] == labels[frame] == labels[frame + 1]:
            assert coloured[frame * 10 + 5] == labels[frame], frame


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_timeline_of_very_short_clips(frames):
    strip = draw.timeline(annotation([False] * frames), width=300, height=80, marks=range(frames))

    assert strip.shape == (80, 300, 3)
