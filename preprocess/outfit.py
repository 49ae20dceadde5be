"""Where the upper garment ends and the lower begins: colour over the whole clip, and the pose."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from preprocess import selfie
from preprocess.body import FEET, FOREARMS, SHINS, THIGHS, UPPER_ARMS, BodyMap, Bone, Skeleton, body_map

BINS = (32, 64, 64)
"""Bins of the colour histograms along L, a, b of CIELAB."""
_BIN = np.stack([np.arange(256) * count // 256 for count in BINS], axis=1).astype(np.uint8)[None]
_BIN_STRIDES = np.array([[BINS[1] * BINS[2], BINS[2], 1]], np.float32)


class OutfitSplit(BaseModel):
    """Splits clothes pixels into upper and lower garment.

    Colour histograms of both garments are learnt from places that the pose makes sure of: chest and upper arms for
    one, legs from `sure_thigh` down for the other. A pixel goes to the garment for which the sum of two log ratios
    speaks: its colour's, averaged over its neighbourhood, and its place's along the torso and limbs. So the hem is
    found where it is seen, and lies at `waist` where both garments look alike.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    waist: float = Field(
        default=0.95,
        ge=0,
        le=2,
        description="Where garments of one colour are split: 0 at the shoulders, 1 at the hips.",
    )
    steepness: float = Field(default=6.0, ge=0, description="Log odds gained by place over one length of the torso.")
    sure_torso: float = Field(default=0.55, ge=0, le=1, description="The torso down to here is surely upper garment.")
    sure_thigh: float = Field(default=0.3, ge=0, le=1, description="Thighs from here on are surely lower garment.")
    colour_clip: float = Field(default=4.5, ge=0, description="Largest log odds that colour alone can give.")
    place_clip: float = Field(default=3.5, ge=0, description="Largest log odds that place alone can give.")
    island: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="Pieces of a garment smaller than this, over all clothes, are the other's.",
    )
    learn_from: int = Field(default=48, ge=1, description="Frames, spread over the clip, that colours are learnt from.")
    sleeve: float = Field(default=1.0, ge=0, description="Log odds for the upper garment along forearms.")
    smoothing: float = Field(
        default=0.01,
        gt=0,
        description="Sigma of the Gaussian that colour is averaged over, over the longer side.",
    )

    def colour_odds(
        self, classes: NDArray[np.uint8], pictures: NDArray[np.uint8], body: Skeleton, size: tuple[int, int]
    ) -> NDArray[np.float32]:
        """How much likelier each colour is in the lower garment: log odds by colour bin, learnt over the clip.

        `classes` (T, H, W) are the segmenter's, `pictures` (T, h, w, 3) the frames at the scale to work at; `body`
        is in pixels of a picture of `size` (height, width). All zero where one of the garments is never seen.
        """
        import cv2

        scale = pictures.shape[2], pictures.shape[1]
        counts = np.zeros((2, int(np.prod(BINS))))
        for frame in np.unique(np.linspace(0, len(classes) - 1, self.learn_from).round().astype(int)):
            seen = cv2.resize(classes[frame], scale, interpolation=cv2.INTER_NEAREST)
            sure = cv2.resize(self._sure(body_map(body, frame, *size)), scale, interpolation=cv2.INTER_NEAREST)
            colours = _colour_bins(pictures[frame])
            for garment in (0, 1):
                chosen = colours[(seen == selfie.CLOTHES) & (sure == garment + 1)]
                counts[garment] += np.bincount(chosen, minlength=counts.shape[1])
        return _log_ratio(counts).clip(-self.colour_clip, self.colour_clip)

    def log_odds(
        self, seen: NDArray[np.uint8], picture: NDArray[np.uint8], near: BodyMap, odds: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """(h, w) float32, how much likelier clothes at each pixel of `picture` (h, w, 3) are the lower garment.

        `seen` (H, W) are the segmenter's classes, `odds` from `colour_odds`.
        """
        import cv2

        size = picture.shape[1], picture.shape[0]
        clothes = (cv2.resize(seen, size, interpolation=cv2.INTER_NEAREST) == selfie.CLOTHES).astype(np.uint8)
        colour = odds[_colour_bins(picture)] * clothes
        # Colours that both garments have take the side of the telling ones around them.
        telling = np.abs(colour) + 1e-2
        sigma = self.smoothing * max(size)
        local = cv2.GaussianBlur(colour * telling, (0, 0), sigma) / cv2.GaussianBlur(telling, (0, 0), sigma)
        place = cv2.resize(self._place(near), size, interpolation=cv2.INTER_LINEAR)
        return _without_islands(np.asarray(local + place, np.float32), clothes, self.island)

    def _place(self, near: BodyMap) -> NDArray[np.float32]:
        """Log odds of the lower garment from the place on the body alone."""
        trunk, arms = near.trunk, near.arms
        odds = self.steepness * (trunk.along - np.float32(self.waist))
        odds[trunk.bone == Bone.HEAD] = -self.place_clip
        thigh = np.isin(trunk.bone, THIGHS)
        odds[thigh] = (self.steepness * (trunk.along[thigh] + 1 - self.waist)).clip(0.5, None)
        odds[np.isin(trunk.bone, SHINS + FEET)] = self.place_clip
        in_arm = arms.distance < np.minimum(1, trunk.distance)
        odds[in_arm & np.isin(arms.bone, UPPER_ARMS)] = -self.place_clip
        odds[in_arm & np.isin(arms.bone, FOREARMS)] = -self.sleeve
        return odds.clip(-self.place_clip, self.place_clip).astype(np.float32)

    def _sure(self, near: BodyMap) -> NDArray[np.uint8]:
        """1 where clothes are surely the upper garment, 2 where surely the lower, 0 elsewhere."""
        nearest = near.all
        bone, along = nearest.bone, nearest.along
        torso = (bone == Bone.TORSO) & (along > 0) & (along < self.sure_torso)
        leg = (np.isin(bone, THIGHS) & (along > self.sure_thigh)) | np.isin(bone, SHINS)
        sure = np.where(torso | np.isin(bone, UPPER_ARMS), 1, np.where(leg, 2, 0)).astype(np.uint8)
        sure[nearest.distance > 1] = 0
        return sure


def _colour_bins(picture: NDArray[np.uint8]) -> NDArray[np.intp]:
    import cv2

    lab = cv2.transform(cv2.LUT(cv2.cvtColor(picture, cv2.COLOR_RGB2LAB), _BIN).astype(np.float32), _BIN_STRIDES)
    return lab.astype(np.intp)


def _without_islands(odds: NDArray[np.float32], clothes: NDArray[np.uint8], smallest: float) -> NDArray[np.float32]:
    """`odds` with the sign turned in small pieces of either garment that touch the other one."""
    import cv2

    least = smallest * np.count_nonzero(clothes)
    lower = odds > 0
    turned = odds.copy()
    for garment, other in ((clothes * lower, clothes * ~lower), (clothes * ~lower, clothes * lower)):
        beside = cv2.dilate(other, np.ones((3, 3), np.uint8)) * garment
        _, pieces, stats, _ = cv2.connectedComponentsWithStats(garment)
        small = stats[:, cv2.CC_STAT_AREA] < least
        small[0] = False  # what is not this garment
        if small.any():
            touching = np.zeros(len(small), bool)
            touching[pieces[beside > 0]] = True
            turned[(small & touching)[pieces]] *= -1
    return turned


def _log_ratio(counts: NDArray[np.float64], least: int = 100) -> NDArray[np.float32]:
    """Log of the second histogram over the first, smoothed; zeros where one holds fewer than `least` samples."""
    from scipy.ndimage import gaussian_filter

    if counts.sum(1).min() < least:
        return np.zeros(counts.shape[1], np.float32)
    smooth = np.stack([gaussian_filter(count.reshape(BINS), 1.0).ravel() for count in counts])
    density = smooth / smooth.sum(1, keepdims=True) + 1e-5
    return np.log(density[1] / density[0]).astype(np.float32)
