"""Mask of the garment in its own image: product pictures laid flat, and pictures of somebody wearing it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from preprocess import selfie
from preprocess.garment_worn import worn_garment
from schemas.clip import Clip
from schemas.stage import Stage

Mask = NDArray[np.bool_]


class GarmentMask(Stage):
    """Gives the mask of the pair's garment image.

    A product picture has a plain background: what hangs together with the picture's border and has its colour, or
    its colour in a soft and narrow shadow, is background, except where the segmenter sees clothes (white on white).
    Where the segmenter sees skin or hair, somebody wears the garment, and clothes are split as in the video.

    Does nothing for a pair without a garment image: `GarmentCrop` gives picture and mask together.
    """

    needs: ClassVar[tuple[str, ...]] = ("garment",)
    gives: ClassVar[tuple[str, ...]] = ("garment_mask",)
    weights: ClassVar[tuple[str, ...]] = (selfie.WEIGHTS, "pose_landmarker_full")

    tolerance: float = Field(
        default=3.0, gt=0, description="Distance in CIELAB at which a colour is still the background's."
    )
    shadow_chroma: float = Field(
        default=6.0, ge=0, description="Distance in a, b of CIELAB at which a shadow still has its colour."
    )
    shadow_depth: float = Field(default=60.0, ge=0, description="How much darker, in L of CIELAB, a shadow may be.")
    shadow_slope: float = Field(
        default=5.0, gt=0, description="Steepest change of L over a pixel inside a shadow; edges are steeper."
    )
    shadow_width: float = Field(
        default=0.05, ge=0, le=1, description="Widest shadow, over the longer side; wider ones are garment."
    )
    edge: int = Field(
        default=4, ge=1, le=32, description="Width in px of the rim whose pixels must be nearer the garment's colour."
    )
    worn_share: float = Field(
        default=0.04, ge=0, le=1, description="Share of skin and hair in the person from which the garment is worn."
    )

    def process(self, clip: Clip) -> None:
        """Give `garment_mask`, (H, W) bool, true = garment."""
        if clip.pair.garment is None:
            return
        image = clip.artifacts["garment"]
        with selfie.SelfieSegmenter() as segmenter:
            confidences = segmenter.confidences(image)
        seen = confidences.argmax(0)
        person = np.count_nonzero(seen != selfie.BACKGROUND)
        bare = np.isin(seen, (selfie.HAIR, selfie.BODY_SKIN, selfie.FACE_SKIN)).sum()
        if person and bare > self.worn_share * person:
            clip.artifacts["garment_mask"] = worn_garment(image, confidences, clip.pair.part)
        else:
            clip.artifacts["garment_mask"] = self._flat(image, confidences)

    def _flat(self, image: NDArray[np.uint8], confidences: selfie.Confidences) -> Mask:
        import cv2

        lab = np.asarray(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)
        offset = lab - _border_colour(lab)
        distance = np.linalg.norm(offset, axis=2)
        things = 1 - cv2.resize(confidences[selfie.BACKGROUND], lab.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        garment = _eroded(things > 0.5, 2 * self.edge)
        plain = (distance < self.tolerance) & ~garment
        strict = ~_reached_from_border(plain)
        soft = ~_reached_from_border(plain | (self._shadow(offset) & ~garment))
        mask = soft | _wide(strict & ~soft, self.shadow_width * max(image.shape))
        return _trimmed(tidy(mask), distance, self.edge)

    def _shadow(self, offset: NDArray[np.float32]) -> Mask:
        """Where a pixel could be the background in a soft shadow."""
        import cv2

        light = cv2.GaussianBlur(offset[..., 0], (0, 0), 1.0)
        slope = np.hypot(
            cv2.Sobel(light, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(light, cv2.CV_32F, 0, 1, scale=1 / 8)
        )
        darker = (offset[..., 0] < 0) & (offset[..., 0] > -self.shadow_depth)
        return darker & (np.hypot(offset[..., 1], offset[..., 2]) < self.shadow_chroma) & (slope < self.shadow_slope)


def _border_colour(lab: NDArray[np.float32], width: int = 6) -> NDArray[np.float32]:
    """(3,) median colour of the picture's rim."""
    rims = (lab[:width], lab[-width:], lab[:, :width], lab[:, -width:])
    return np.median(np.concatenate([rim.reshape(-1, 3) for rim in rims]), axis=0).astype(np.float32)


def _reached_from_border(free: Mask) -> Mask:
    """The part of `free` that hangs together with the outside of the picture."""
    import cv2

    padded = cv2.copyMakeBorder(free.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    _, pieces = cv2.connectedComponents(padded, connectivity=4)
    return (pieces == pieces[0, 0])[1:-1, 1:-1]


def _wide(mask: Mask, width: float) -> Mask:
    """Those connected pieces of `mask` that are wider than `width` px somewhere."""
    import cv2

    _, pieces = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    wide = np.unique(pieces[depth > width / 2])
    return np.isin(pieces, wide[wide > 0])


def _disc(radius: int) -> NDArray[np.uint8]:
    import cv2

    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)), np.uint8)


def _eroded(mask: Mask, radius: int) -> Mask:
    import cv2

    return cv2.erode(mask.astype(np.uint8), _disc(radius)) > 0


def tidy(mask: Mask) -> Mask:
    """`mask` (H, W) without threads thinner than 1/150 of its longer side and without pieces that are small beside
    the largest.
    """
    import cv2

    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, _disc(max(1, max(mask.shape) // 300)))
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(opened)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    return np.isin(pieces, np.flatnonzero((areas > 0) & (areas >= 0.05 * areas.max())))


def _trimmed(mask: Mask, distance: NDArray[np.float32], rim: int) -> Mask:
    """`mask` without those pixels of its rim that look more like the background than like the garment beside them."""
    import cv2

    inner = _eroded(mask, rim)
    beside = cv2.dilate(np.where(inner, distance, 0), _disc(2 * rim))
    return inner | (mask & (distance > beside / 2))
