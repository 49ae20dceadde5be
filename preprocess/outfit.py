"""Where the upper garment ends and the lower begins: colour over the whole clip, and the pose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from preprocess import selfie
from preprocess.body import FEET, FOREARMS, HANDS, SHINS, THIGHS, UPPER_ARMS, BodyMap, Bone

BINS = (32, 64, 64)
"""Bins of the colour histograms along L, a, b of CIELAB."""


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
    sleeve: float = Field(default=1.0, ge=0, description="Log odds for the upper garment along forearms.")
    smoothing: float = Field(
        default=0.01,
        gt=0,
        description="Sigma of the Gaussian that colour is averaged over, over the longer side.",
    )

    def margin(
        self, classes: NDArray[np.uint8], pictures: NDArray[np.uint8], near: Sequence[BodyMap]
    ) -> NDArray[np.float32]:
        """(T, h, w) float32 log odds that a clothes pixel is lower garment, on the grid of `pictures`.

        `classes` (T, H, W) are the model's, `pictures` (T, h, w, 3) the frames at the scale to work at.
        """
        import cv2

        size = pictures.shape[2], pictures.shape[1]

        def enlarge(values: NDArray[Any], how: int) -> NDArray[Any]:
            return cv2.resize(values, size, interpolation=how)

        clothes = [enlarge((seen == selfie.CLOTHES).astype(np.uint8), cv2.INTER_NEAREST) for seen in classes]
        sure = [enlarge(self._sure(bones), cv2.INTER_NEAREST) for bones in near]
        bins = [_colour_bins(picture) for picture in pictures]
        odds = _colour_log_odds(bins, clothes, sure).clip(-self.colour_clip, self.colour_clip)
        sigma = self.smoothing * max(size)
        result = np.empty(pictures.shape[:3], np.float32)
        for index, colours in enumerate(bins):
            colour = odds[colours] * clothes[index]
            # Colours that both garments have take the side of the telling ones around them.
            weight = np.abs(colour) + 1e-2
            local = cv2.GaussianBlur(colour * weight, (0, 0), sigma) / cv2.GaussianBlur(weight, (0, 0), sigma)
            result[index] = local + enlarge(self._place(near[index]), cv2.INTER_LINEAR)
        return result

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
        odds[in_arm & np.isin(arms.bone, HANDS)] = 0
        return odds.clip(-self.place_clip, self.place_clip).astype(np.float32)

    def _sure(self, near: BodyMap) -> NDArray[np.uint8]:
        """1 where clothes are surely the upper garment, 2 where surely the lower, 0 elsewhere."""
        bone, along = near.all.bone, near.all.along
        torso = (bone == Bone.TORSO) & (along > 0) & (along < self.sure_torso)
        leg = (np.isin(bone, THIGHS) & (along > self.sure_thigh)) | np.isin(bone, SHINS)
        sure = np.where(torso | np.isin(bone, UPPER_ARMS), 1, np.where(leg, 2, 0)).astype(np.uint8)
        sure[near.all.distance > 1] = 0
        return sure


def _colour_bins(picture: NDArray[np.uint8]) -> NDArray[np.intp]:
    import cv2

    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).astype(np.intp)
    light, green, blue = (lab[..., axis] * BINS[axis] // 256 for axis in range(3))
    return (light * BINS[1] + green) * BINS[2] + blue


def _colour_log_odds(
    bins: list[NDArray[np.intp]], clothes: list[NDArray[np.uint8]], sure: list[NDArray[np.uint8]]
) -> NDArray[np.float32]:
    """Per colour bin, log of how much likelier it is in the lower garment; all zero where one of them is not seen."""
    from scipy.ndimage import gaussian_filter

    density = []
    for kind in (1, 2):
        counts = np.zeros(int(np.prod(BINS)))
        for frame, worn, places in zip(bins, clothes, sure, strict=True):
            counts += np.bincount(frame[(worn > 0) & (places == kind)], minlength=len(counts))
        if counts.sum() < 100:
            return np.zeros(len(counts), np.float32)
        smooth = gaussian_filter(counts.reshape(BINS), 1.0).ravel()
        density.append(smooth / smooth.sum() + 1e-5)
    return np.log(density[1] / density[0]).astype(np.float32)
