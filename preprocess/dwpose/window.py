"""The part of a picture that the pose network sees, sampled as OpenCV 4 samples it.

OpenCV 4's `warpAffine` rounds sampling places to 1/32 px; OpenCV 5 does not, and its other greys move points of DWPose
by whole bins. The places are therefore worked out here, in OpenCV 4's integers, and `remap` takes them as they are.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 288, 384
"""Of the window in px of the network's input."""
PADDING = 1.25
"""Room around a person's box."""
_STEP_BITS = 5  # OpenCV's INTER_BITS: places are in 1/32 px
_BITS = 10  # OpenCV's AB_BITS: sums are in 1/1024 px
_REACH = np.iinfo(np.int16)  # remap's places; a picture has fewer px


def windows(boxes: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres and sizes, (N, 2) each in px, of the windows around (N, 4) boxes x0 y0 x1 y1: padded, then widened."""
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)
    centres = (corners[:, :2] + corners[:, 2:]) * 0.5
    width, height = ((corners[:, 2:] - corners[:, :2]) * PADDING).clip(1).T  # a box may have no extent
    ratio = WIDTH / HEIGHT
    wide = width > height * ratio
    return centres, np.stack([np.where(wide, width, height * ratio), np.where(wide, width / ratio, height)], axis=1)


def window_pixels(
    image: NDArray[np.uint8], centre: NDArray[np.float64], size: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """The window of (H, W, C) `image`, scaled to (384, 288, C); black outside the image."""
    x, y = _places(centre, size)
    steps = (1 << _STEP_BITS) - 1
    whole = np.stack([x >> _STEP_BITS, y >> _STEP_BITS], axis=2).clip(_REACH.min, _REACH.max).astype(np.int16)
    part = ((y & steps) << _STEP_BITS | x & steps).astype(np.uint16)
    pixels = cv2.remap(image, whole, part, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(pixels, np.uint8)


def _places(centre: NDArray[np.float64], size: NDArray[np.float64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Where each pixel of the window lies in the picture: x and y, (384, 288) each, in 1/32 px."""
    middle, top = centre.astype(np.float32), (centre - (0, size[0] / 2)).astype(np.float32)
    corner = top - (middle - top)[::-1]
    onto = np.array([(WIDTH, HEIGHT), (WIDTH, HEIGHT - WIDTH), (0, HEIGHT - WIDTH)], np.float32) / 2
    back = cv2.invertAffineTransform(cv2.getAffineTransform(np.stack([middle, top, corner]), onto))
    column, row = np.arange(WIDTH), np.arange(HEIGHT)[:, None]
    half_step = 1 << (_BITS - _STEP_BITS - 1)
    x, y = (
        (_rounded(across * column) + _rounded(down * row + shift) + half_step) >> (_BITS - _STEP_BITS)
        for across, down, shift in back
    )
    return x, y


def _rounded(pixels: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.rint(pixels * (1 << _BITS)).astype(np.int32)
