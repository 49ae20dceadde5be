"""How good an agnostic mask is, by the clip's own conditions.

Shape legend: T frames, H×W pixels.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from media.frames import frames
from preprocess.agnostic import kept_beside
from preprocess.automasker import Mask, UInt8, among
from preprocess.hand_region import HandRegion
from preprocess.wearer import Wearer
from schemas.clip import Clip
from schemas.conditions import Label
from schemas.metrics import Metric
from schemas.stage import Filter

SIDE = 256
"""Longer side in px of the pictures that motion is sought in."""
LEAST = 1e-3
"""Share of the picture, summed over frames, that a thing must take for its share to mean anything."""


class MaskQuality(Filter):
    """Measures the agnostic mask against what the other conditions say of the same clip.

    It sees the mask's errors, not theirs. Clips of people in full view measure a leak below 0.1, a flicker below 0.07
    and a looseness of 1.3 to 2.1 under the default masks.

    Flicker is what is left of the change from frame to frame when the mask before is moved by dense optical flow
    (DIS: Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016).
    """

    needs: ClassVar[tuple[str, ...]] = ("video", "agnostic_mask", "parsing", "pose", "hands")
    uses: ClassVar[tuple[str, ...]] = ("person", "densepose", "garment_track")
    metrics: ClassVar[dict[str, Metric]] = {
        "mask_coverage": Metric(
            "share of the garment's pixels, but for hands on it, that the mask covers", "share", (0, 1), (0.97, None)
        ),
        "mask_leak": Metric(
            "share that the mask covers of the hands, of the face, or of all else that is kept, whichever is most",
            "share",
            (0, 1),
            (None, 0.25),
        ),
        "mask_flicker": Metric(
            "change of the mask from frame to frame that motion does not explain, over its area; mean over frames",
            "share",
            (0, 1),
            (None, 0.15),
        ),
        "mask_looseness": Metric("area of the mask over that of the garment", "ratio", (0, None), (None, 4)),
    }

    hands: HandRegion = Field(default_factory=HandRegion, description="How hands are marked off.")

    def measure(self, clip: Clip) -> dict[str, float]:
        """Leaves out what cannot be said: of a garment or kept things never seen, of a clip of one frame."""
        mask: Mask = clip.artifacts["agnostic_mask"]
        wearer = Wearer.of(clip)
        areas = np.zeros((4, 2))  # garment, hands, face, else: in all, and painted
        for frame, painted in enumerate(mask):
            for total, region in zip(areas, self._regions(wearer, frame), strict=True):
                total += np.count_nonzero(region), np.count_nonzero(region & painted)
        seen = areas[:, 0] >= max(1, LEAST * mask.size)
        shares = areas[:, 1] / np.maximum(areas[:, 0], 1)
        numbers = {}
        if seen[0]:
            numbers["mask_coverage"] = float(shares[0])
            numbers["mask_looseness"] = float(np.count_nonzero(mask) / areas[0, 0])
        if seen[1:].any():
            numbers["mask_leak"] = float(shares[1:][seen[1:]].max())
        if len(mask) > 1:
            numbers["mask_flicker"] = flicker(frames(clip).images, mask)
        return numbers

    def _regions(self, wearer: Wearer, frame: int) -> tuple[Mask, Mask, Mask, Mask]:
        """(H, W) bool each: the garment that shows, hands, face, and all else that is kept."""
        labels, strangers = wearer.labels(frame)
        hands = wearer.limbs(labels, frame, self.hands)
        garment = wearer.garment(labels, frame) & ~hands
        other = among(labels, kept_beside(wearer.clip.pair.part)) & ~garment & ~hands
        if strangers is not None:
            other |= strangers
        return garment, hands, labels == Label.FACE, other


def flicker(images: UInt8, mask: Mask) -> float:
    """Mean over frames of the change (xor over or) between a mask and the one before, moved as the picture moves.

    Args:
        images: (T, H, W, 3) uint8 RGB frames, T from 2 on.
        mask: (T, H, W) bool.

    """
    import cv2

    scale = min(1.0, SIDE / max(mask.shape[1:]))
    size = max(16, round(mask.shape[2] * scale)), max(16, round(mask.shape[1] * scale))
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    place = np.stack(np.meshgrid(*(np.arange(side, dtype=np.float32) for side in size)), axis=-1)

    def shrunk(frame: int) -> tuple[UInt8, NDArray[np.float32]]:
        grey = cv2.cvtColor(cv2.resize(images[frame], size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        small = cv2.resize(mask[frame].astype(np.float32), size, interpolation=cv2.INTER_AREA)
        return np.asarray(grey, np.uint8), np.asarray(small, np.float32)

    changes = []
    before, mask_before = shrunk(0)
    for frame in range(1, len(mask)):
        after, mask_after = shrunk(frame)
        came_from = place + dis.calc(after, before, np.zeros_like(place))
        moved = cv2.remap(
            mask_before, came_from[..., 0], came_from[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        either = float(np.maximum(moved, mask_after).sum())
        changes.append(float(np.abs(moved - mask_after).sum()) / either if either else 0.0)
        before, mask_before = after, mask_after
    return float(np.mean(changes))
