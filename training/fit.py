"""Fitting pictures, masks and points of one size into another: aspect kept, centred, the rest filled."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from schemas.conditions import Bool, Float32, UInt8

Size = tuple[int, int]
"""(height, width) in px."""


@dataclass(frozen=True)
class Fit:
    """How a picture of size `source` lies in one of size `target`: scaled to `inner`, moved by `offset`.

    All are (height, width) in px; `offset` is the row and column of its top left pixel.
    """

    source: Size
    target: Size
    inner: Size
    offset: Size

    @classmethod
    def into(cls, target: Size | None, source: Size) -> Fit:
        """The largest fit of `source` into `target`; None: as it is."""
        height, width = target or source
        scale = min(height / source[0], width / source[1])
        inner = (max(1, round(source[0] * scale)), max(1, round(source[1] * scale)))
        return cls(source, (height, width), inner, ((height - inner[0]) // 2, (width - inner[1]) // 2))

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
        (top, left), (height, width) = self.offset, self.inner
        for picture, placed in zip(pictures, canvas, strict=True):
            placed[top : top + height, left : left + width] = cv2.resize(picture, (width, height), interpolation=method)
        return canvas
