"""What the pose network is shown, under any version of OpenCV."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from preprocess.dwpose.window import HEIGHT, WIDTH, window_pixels, windows

MADE_BY_OPENCV_4_10 = {
    (0, 0, 150, 200): "ee58aa3470a24d4b5c2726579371833b",
    (30.5, 20.25, 100.75, 180): "28bfe736d9a9982d1fa013e875b72f51",
    (-60, -40, 80, 90): "d47d2cd471a80c3c3b4350af7aac3052",
    (70.3, 90.1, 75.9, 95.2): "2bed58ca086c0671e9241bf435d560cf",
    (-900, -700, 1100, 1200): "d63495754f3151ffb0d4b22477150d3d",
    (10, 150, 140, 260): "f4e11926746b326f1bc1eb3d36ca3416",
}
"""Box → MD5 of what its `warpAffine` makes of the window around it in `picture()`."""


def picture() -> np.ndarray:
    y, x, channel = np.indices((200, 150, 3))
    return ((x * 7 + y * 13 + channel * 31 ^ x * y) % 256).astype(np.uint8)


@pytest.mark.parametrize("box", MADE_BY_OPENCV_4_10)
def test_every_grey_is_that_of_opencv_4(box: tuple[float, ...]) -> None:
    ((centre,), (size,)) = windows(np.array([box], float))
    pixels = window_pixels(picture(), centre, size)
    assert hashlib.md5(pixels.tobytes()).hexdigest() == MADE_BY_OPENCV_4_10[box]


def test_window_of_its_own_size_is_a_copy_and_black_outside_the_picture() -> None:
    pixels = window_pixels(picture(), np.array([100.0, 92.0]), np.array([WIDTH, HEIGHT], float))
    x, y = 100 - WIDTH // 2, 92 - HEIGHT // 2
    np.testing.assert_array_equal(pixels[-y : 200 - y, -x : 150 - x], picture())
    assert not pixels[: -y - 1].any()
    assert not pixels[:, 150 - x + 1 :].any()


def test_boxes_are_padded_by_a_quarter_and_widened_to_three_by_four() -> None:
    centres, sizes = windows(np.array([[10, 20, 40, 120], [0, 0, 120, 20]], np.float32))
    np.testing.assert_allclose(centres, [[25, 70], [60, 10]])
    np.testing.assert_allclose(sizes, [[93.75, 125], [150, 200]])


def test_box_without_extent_far_outside_is_black_and_no_error() -> None:
    ((centre,), (size,)) = windows(np.array([[1e6, -1e6, 1e6, -1e6]]))
    assert np.isfinite(size).all()
    assert not window_pixels(picture(), centre, size).any()
    assert windows(np.zeros((0, 4)))[0].shape == (0, 2)
