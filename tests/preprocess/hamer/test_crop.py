"""Crops as HaMeR cuts them."""

from __future__ import annotations

import json
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from preprocess.hamer.crop import CROP, crop_hand, square_around
from tests.clips import shared

GOLDEN = "golden/hand_pose_mask/hamer"
MEAN = 255 * np.array([0.485, 0.456, 0.406])[:, None, None]
STD = 255 * np.array([0.229, 0.224, 0.225])[:, None, None]


def picture(height: int = 240, width: int = 320, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.5)


def pixels(crop: np.ndarray) -> np.ndarray:
    return crop * STD + MEAN


def plainly(image: np.ndarray, box: tuple[float, ...], *, right: bool) -> np.ndarray:
    """The recipe word for word, in float64 and over the whole picture: (3, 256, 256) grey levels."""
    square = square_around(np.array(box))
    picture, x = image.astype(float), float(square.center[0])
    if (factor := square.size / CROP / 2) > 1.1:
        picture = gaussian_filter(picture, ((factor - 1) / 2,) * 2 + (0,), mode="nearest", truncate=4)
    if not right:
        picture, x = picture[:, ::-1], image.shape[1] - x - 1
    at = [center + (np.arange(CROP) - CROP / 2) * square.size / CROP for center in (x, float(square.center[1]))]
    framed = np.pad(picture, ((1000, 1000), (1000, 1000), (0, 0)))
    for axis, positions in ((1, at[0] + 1000), (0, at[1] + 1000)):
        low = np.floor(positions).astype(int)
        share = (positions - low).reshape((-1, 1) if axis else (-1, 1, 1))
        framed = (1 - share) * framed.take(low, axis) + share * framed.take(low + 1, axis)
    return framed.transpose(2, 0, 1)


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize(
    "box",
    [
        (100, 80, 160, 150),
        (120.3, 90.7, 131.2, 99.1),  # tiny
        (-30, 200, 40, 260),  # over a corner
        (300, -10, 330, 30),
        (-100, -100, 500, 400),  # larger than the picture, and blurred
        (3.5, 2.25, 250.1, 233.3),
        (40, 100, 300, 101),  # flat
    ],
)
def test_crops_are_what_the_recipe_says_word_for_word(box: tuple[float, ...], *, right: bool) -> None:
    image = picture()
    ours = pixels(crop_hand(image, square_around(np.array(box)), right=right))
    off = np.abs(ours - plainly(image, box, right=right))
    # Positions are rounded to 1/32 px and unblurred pixels to whole levels.
    assert off.max() < 8
    assert off.mean() < 0.8


def test_left_hand_is_a_right_hand_in_the_mirror() -> None:
    image = picture(200, 301)
    left = crop_hand(image, square_around(np.array([40, 50, 90, 120])), right=False)
    right = crop_hand(image[:, ::-1], square_around(np.array([300 - 90, 50, 300 - 40, 120])), right=True)
    np.testing.assert_array_equal(left, right)


def test_square_is_twice_the_box_in_three_by_four() -> None:
    assert square_around(np.array([10, 20, 40, 120])).size == 200  # tall: the height counts
    assert square_around(np.array([10, 20, 100, 30])).size == 240  # wide: 4/3 of the width
    np.testing.assert_array_equal(square_around(np.array([10, 20, 41, 120])).center, [25.5, 70])


@pytest.mark.parametrize("box", [(1000, 10, 1050, 60), (10, -900, 60, -800), (-5000, -5000, -4000, -4000)])
def test_beyond_the_picture_all_is_black(box: tuple[float, ...]) -> None:
    crop = crop_hand(picture(), square_around(np.array(box)), right=True)
    np.testing.assert_allclose(pixels(crop), 0, atol=1e-4)


def golden_image(file: str) -> np.ndarray:
    return np.ascontiguousarray(cv2.imread(str(shared(f"{GOLDEN}/{file}")))[..., ::-1])


def golden_hands(kind: str) -> list[tuple[str, str, Any, bool]]:
    """(tag, picture, box, right) of the golden crops."""
    groups = json.loads(shared(f"{GOLDEN}/hands.json").read_text())[kind]
    found = [
        (f"{group.get('tag', '')}{index}", group["file"], np.array(box), bool(right))
        for group in groups
        for index, (box, right) in enumerate(zip(group["boxes"], group["right"], strict=True))
    ]
    return found if kind == "extra" else [(str(index), *hand[1:]) for index, hand in enumerate(found)]


def test_crops_are_hamers_to_the_last_bit() -> None:
    for tag, file, box, right in golden_hands("images"):
        golden = np.load(shared(f"{GOLDEN}/crop_{tag}.npz"))
        square = square_around(box)
        assert square.size == golden["box_size"]
        np.testing.assert_array_equal(square.center, golden["box_center"])
        # The network divides by about 57 grey levels: 1e-6 of them is the last bit of float32.
        np.testing.assert_allclose(crop_hand(golden_image(file), square, right=right), golden["img"], atol=1e-6)


def test_crops_at_borders_of_all_sizes_are_hamers() -> None:
    golden = np.load(shared(f"{GOLDEN}/crops_extra.npz"))
    for tag, file, box, right in golden_hands("extra"):
        crop = crop_hand(golden_image(file), square_around(box), right=right)
        np.testing.assert_allclose(crop[:, ::4, ::4], golden[f"{tag}_img_sub4"], atol=1e-6, err_msg=tag)
        np.testing.assert_allclose(crop.mean((1, 2), dtype=float), golden[f"{tag}_mean"], atol=1e-8, err_msg=tag)
