"""The crops that HaMeR's network sees (Pavlakos et al., CVPR 2024). Shape legend: H×W the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.conditions import Float32, UInt8

CROP = 256
"""Side of a crop, px."""
_ROOM = np.float32(2)  # the crop is so many times the hand's box
_ASPECT = (192, 256)  # width and height of what the network looks at
_BLUR_FROM = 1.1  # half the px of the picture to a px of the crop; beyond, the picture is blurred first
_MEAN = 255 * np.array([0.485, 0.456, 0.406])  # ImageNet, RGB
_STD = 255 * np.array([0.229, 0.224, 0.225])
_FRACTION_BITS, _POSITION_BITS = 5, 10  # of OpenCV's fixed-point positions


@dataclass(frozen=True, eq=False)
class Square:
    """Which part of a picture a crop shows: `center` (2,) float32, x y in px, and `size`, its side in px."""

    center: Float32
    size: float


def square_around(box: Float32) -> Square:
    """The square that HaMeR crops for a hand's box (4,) (x0 y0 x1 y1, px): twice the box, widened to 192:256."""
    box = np.asarray(box, np.float32)
    width, height = _ROOM * (box[2:] - box[:2])
    center = ((box[:2] + box[2:]) / 2).astype(np.float32)
    return Square(center=center, size=float(max(height, width * _ASPECT[1] / _ASPECT[0])))


def crop_hand(image: UInt8, square: Square, *, right: bool) -> Float32:
    """What the network sees of a hand: (3, 256, 256) float32 RGB, normalised. Left hands are mirrored.

    A picture that shrinks by more than 2.2 is blurred first. HaMeR blurs the whole of it for every hand; here only
    what the crop shows, to the same numbers. Positions are those of OpenCV's fixed-point `warpAffine` up to 4.10,
    which HaMeR was made with; later versions round otherwise.

    Args:
        image: (H, W, 3) uint8 RGB.
        square: from `square_around`; it may reach beyond the picture, where all is black. Its size must be above 0.
        right: whether it is a right hand.

    """
    width = image.shape[1]
    x, y = square.center if right else (width - square.center[0] - 1, square.center[1])
    pixels = _resampled(image if right else image[:, ::-1], float(x), float(y), square.size)
    return np.ascontiguousarray(((pixels.astype(np.float32) - _MEAN) / _STD).transpose(2, 0, 1), np.float32)


def _resampled(image: UInt8, x: float, y: float, size: float) -> NDArray[Any]:
    """(256, 256, 3) of the square of side `size` around (x, y): uint8, or float64 where it was blurred."""
    import cv2

    columns, rows = _positions(x, y, size)
    shown = tuple(_within(at, limit) for at, limit in ((rows, image.shape[0]), (columns, image.shape[1])))
    if any(side.start >= side.stop for side in shown):
        return np.zeros((CROP, CROP, 3), np.uint8)
    part = _shown_part(image, shown, factor=size / CROP / 2)
    steps = 1 << _FRACTION_BITS
    whole = np.stack([columns // steps - shown[1].start, rows // steps - shown[0].start], axis=2).astype(np.int16)
    fraction = (rows % steps * steps + columns % steps).astype(np.uint16)
    return cv2.remap(part, whole, fraction, cv2.INTER_LINEAR)  # the border is black


def _positions(x: float, y: float, size: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the pixels of a crop lie in the picture: columns and rows, each (256, 256), in 1/32 px."""
    import cv2

    source = np.array([(x, y), (x, y + size / 2), (x + size / 2, y)], np.float32)
    half = CROP / 2
    target = np.array([(half, half), (half, CROP), (CROP, half)], np.float32)
    matrix = cv2.invertAffineTransform(cv2.getAffineTransform(source, target))
    one, shift = 1 << _POSITION_BITS, _POSITION_BITS - _FRACTION_BITS
    index = np.arange(CROP)
    # What is off the diagonal is 0 but for rounding, which decides where a position is a tie.
    along = np.rint(matrix[:, 0, None] * index * one).astype(np.int64)
    across = np.rint((matrix[:, 1, None] * index + matrix[:, 2, None]) * one).astype(np.int64) + (1 << (shift - 1))
    columns, rows = (along[:, None, :] + across[:, :, None]) >> shift
    return columns, rows


def _within(positions: NDArray[np.int64], limit: int) -> slice:
    """Px of the picture, from 0 to `limit`, that `positions` (1/32 px) are interpolated from."""
    first, last = int(positions.min() >> _FRACTION_BITS), int(positions.max() >> _FRACTION_BITS)
    return slice(max(first, 0), min(last + 2, limit))


def _shown_part(image: UInt8, shown: tuple[slice, ...], *, factor: float) -> NDArray[Any]:
    """`image[shown]`, uint8; blurred, in float64, where the crop shrinks it."""
    if factor <= _BLUR_FROM:
        return np.ascontiguousarray(image[shown])
    import cv2

    sigma = (factor - 1) / 2
    reach = int(4 * sigma + 0.5)
    around = [
        slice(max(side.start - reach, 0), min(side.stop + reach, limit))
        for side, limit in zip(shown, image.shape[:2], strict=True)
    ]
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    part = image[tuple(around)].astype(np.float64)
    blurred = cv2.sepFilter2D(part, -1, weights, weights, borderType=cv2.BORDER_REPLICATE)
    inside = tuple(
        slice(side.start - wide.start, side.stop - wide.start) for side, wide in zip(shown, around, strict=True)
    )
    return np.ascontiguousarray(blurred[inside])
