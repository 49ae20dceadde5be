"""Fitting pictures, masks and points of one size into another: aspect kept, what lies outside cut off, gaps filled."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from schemas.conditions import Bool, Float32, UInt8

Size = tuple[int, int]
"""(height, width) in px."""
Box = tuple[float, float, float, float]
"""x0 y0 x1 y1 in px, the last two outside of it."""


@dataclass(frozen=True)
class Fit:
    """How a picture of size `source` lies in one of size `target`: scaled to `inner`, moved by `offset`.

    All are (height, width) in px; `offset` is the row and column of its top left pixel, below 0 where it is cut.
    """

    source: Size
    target: Size
    inner: Size
    offset: Size

    @classmethod
    def into(cls, target: Size | None, source: Size) -> Fit:
        """The largest fit of all of `source` into `target`, centred; None: as it is."""
        height, width = target or source
        scale = min(height / source[0], width / source[1])
        inner = (max(1, round(source[0] * scale)), max(1, round(source[1] * scale)))
        return cls(source, (height, width), inner, ((height - inner[0]) // 2, (width - inner[1]) // 2))

    @classmethod
    def around(cls, box: Box, target: Size, source: Size) -> Fit:
        """`source` cut to cover `target`, as far as `box` leaves room for it: nothing of the box is cut off.

        Where the box is too long for that, the picture becomes as much smaller as it takes, with a border.
        """
        x0, y0, x1, y1 = box
        ratios = (target[0] / source[0], target[1] / source[1])
        whole = min(target[0] / max(y1 - y0, 1), target[1] / max(x1 - x0, 1))
        scale = min(max(ratios), max(whole, min(ratios)))
        inner = (max(1, round(source[0] * scale)), max(1, round(source[1] * scale)))
        middles = ((y0 + y1) / 2 / source[0], (x0 + x1) / 2 / source[1])
        top, left = (_offset(*each) for each in zip(target, inner, middles, strict=True))
        return cls(source, target, inner, (top, left))

    def pictures(self, pictures: UInt8, *, fill: int = 0) -> UInt8:
        """(N, H, W, 3) uint8 RGB or (N, H, W) grey resampled, by area when they shrink, the border grey `fill`."""
        smaller = self.inner[0] < self.source[0]
        return self._resized(pictures, cv2.INTER_AREA if smaller else cv2.INTER_CUBIC, fill)

    def maps(self, maps: UInt8) -> UInt8:
        """(N, H, W) uint8 labels resampled to the nearest, the border 0."""
        return self._resized(maps, cv2.INTER_NEAREST_EXACT, 0)

    def masks(self, masks: Bool) -> Bool:
        """(N, H, W) bool resampled to the nearest, the border false."""
        return self.maps(masks.view(np.uint8)).view(np.bool_)

    def points(self, points: Float32) -> Float32:
        """(..., 2) x y in px, pixel centres at integers, moved along with the picture."""
        scale = np.array(self.inner[::-1], dtype=np.float32) / np.array(self.source[::-1], dtype=np.float32)
        moved = (points + 0.5) * scale - 0.5 + np.array(self.offset[::-1], dtype=np.float32)
        return moved.astype(np.float32)

    def _resized(self, pictures: UInt8, method: int, fill: int) -> UInt8:
        if self.source == self.target:
            return pictures
        canvas = np.full((len(pictures), *self.target, *pictures.shape[3:]), fill, dtype=np.uint8)
        (rows, from_rows), (columns, from_columns) = (
            _overlap(*each) for each in zip(self.target, self.inner, self.offset, strict=True)
        )
        for picture, placed in zip(pictures, canvas, strict=True):
            resized = cv2.resize(picture, self.inner[::-1], interpolation=method)
            placed[rows, columns] = resized[from_rows, from_columns]
        return canvas


def _offset(target: int, inner: int, middle: float) -> int:
    """Where a side of `inner` px starts in one of `target`: centred, or cut about `middle`, a share of it."""
    if inner <= target:
        return (target - inner) // 2
    return round(min(0.0, max(target - inner, target / 2 - middle * inner)))


def _overlap(target: int, inner: int, offset: int) -> tuple[slice, slice]:
    """Of a side of `target` px what one of `inner` px at `offset` covers, and what of that lies there."""
    first, last = max(0, offset), min(target, offset + inner)
    return slice(first, last), slice(first - offset, last - offset)
