"""A garment image cut out of the video, for pairs that have none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from media import frames
from preprocess.garment import Mask, tidy
from schemas.body import Joint
from schemas.clip import Clip
from schemas.conditions import Label, Pose
from schemas.metrics import Metric
from schemas.outfit import GARMENT_LABELS
from schemas.stage import Filter

IN_FRONT = (Label.HAIR, Label.LEFT_ARM, Label.RIGHT_ARM, Label.BAG, Label.OTHER, Label.SCARF, Label.GLOVE)
"""What hides a garment from view."""
FRONTAL = 0.7
"""Breadth of the shoulders over the length of the torso, of somebody who faces the camera."""


class GarmentCrop(Filter):
    """Cuts the garment out of the frame that shows it best and lays it on white.

    Best is large, whole, little hidden, frontal and sharp, each beside the clip's other frames. Does nothing for a
    pair that has a garment image. Gives no garment where none is seen; its short side is then 0.
    """

    needs: ClassVar[tuple[str, ...]] = ("video", "parsing", "pose")
    gives: ClassVar[tuple[str, ...]] = ("garment", "garment_mask")
    version: ClassVar[int] = 2
    metrics: ClassVar[dict[str, Metric]] = {
        "crop_short_side": Metric("shorter side of the garment image", "px", (0, None), (96, None)),
    }

    candidates: int = Field(default=24, ge=1, description="Frames looked at, evenly spread over the clip.")
    margin: float = Field(default=0.06, ge=0, le=1, description="White around the garment, over its longer side.")
    sharpness_side: int = Field(default=416, ge=64, description="Height in px at which sharpness is compared.")

    def process(self, clip: Clip) -> None:
        """Give `garment` and `garment_mask`, then measure."""
        if clip.pair.garment is None:
            garment = GARMENT_LABELS[clip.pair.part]
            frame = _best_frame(clip, garment, candidates=self.candidates, height=self.sharpness_side)
            mask = tidy(np.isin(clip.artifacts["parsing"][frame], garment))
            if mask.any():
                cut = _on_white(frames(clip).images[frame], mask, margin=self.margin)
                clip.artifacts["garment"], clip.artifacts["garment_mask"] = cut
        super().process(clip)

    def measure(self, clip: Clip) -> dict[str, float]:
        """Size of the cut, 0 if there is none; nothing for a pair that has an image."""
        if clip.pair.garment is not None:
            return {}
        image = clip.artifacts.get("garment")
        return {"crop_short_side": 0.0 if image is None else float(min(image.shape[:2]))}


def _best_frame(clip: Clip, garment: Sequence[Label], *, candidates: int, height: int) -> int:
    """The candidate that shows most garment, whole, frontal, sharp and little hidden; 0 if none shows any."""
    parsing, images = clip.artifacts["parsing"], frames(clip).images
    chosen = np.unique(np.linspace(0, len(parsing) - 1, candidates).round().astype(int))
    scale = min(1.0, height / images.shape[1])
    size = max(1, round(images.shape[2] * scale)), max(1, round(images.shape[1] * scale))
    looks = [_look(parsing[frame], images[frame], garment, size) for frame in chosen]
    area, sharp, whole = (np.array(column) for column in zip(*looks, strict=True))
    facing = _facing(clip.artifacts["pose"])[chosen]
    score = (
        np.minimum(area, np.median(area))
        / max(np.median(area), 1)
        * whole**2
        * (1 + facing)
        * (1 + sharp / max(sharp.max(), 1e-6))
    )
    return int(chosen[score.argmax()])


def _look(
    labels: NDArray[np.uint8], image: NDArray[np.uint8], garment: Sequence[Label], size: tuple[int, int]
) -> tuple[float, float, float]:
    """Area of the garment in px, sharpness inside it, and how whole it is (0..1), in one frame shrunk to `size`."""
    import cv2

    small = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    mask = np.isin(small, garment)
    area = int(mask.sum())
    if not area:
        return 0.0, 0.0, 0.0
    grey = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    edges = np.abs(cv2.Laplacian(grey, cv2.CV_32F))[cv2.erode(mask.astype(np.uint8), np.ones((5, 5))) > 0]
    hull = np.zeros(mask.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.argwhere(mask)[:, ::-1].astype(np.int32)), 1)
    hidden = np.isin(small[hull > 0], IN_FRONT).sum() / area
    rim = mask[0].sum() + mask[-1].sum() + mask[:, 0].sum() + mask[:, -1].sum()
    cut_off = rim / np.sqrt(area)
    return float(area), float(edges.mean()) if edges.size else 0.0, float(max(0, 1 - hidden) * max(0, 1 - cut_off))


def _facing(pose: Pose) -> NDArray[np.float64]:
    """(T,) 1 for who faces the camera, towards 0 in profile, from behind, or where no pose is known."""
    points = pose.keypoints.astype(float)
    left, right = points[:, Joint.LEFT_SHOULDER], points[:, Joint.RIGHT_SHOULDER]
    torso = (left + right - points[:, Joint.LEFT_HIP] - points[:, Joint.RIGHT_HIP]) / 2
    known = pose.scores[:, [Joint.LEFT_SHOULDER, Joint.RIGHT_SHOULDER, Joint.LEFT_HIP, Joint.RIGHT_HIP]].min(1) > 0
    breadth = (left - right)[:, 0] / np.maximum(np.linalg.norm(torso, axis=1), 1)
    return np.where(known, (breadth / FRONTAL).clip(0, 1), 0.0)


def _on_white(image: NDArray[np.uint8], mask: Mask, *, margin: float) -> tuple[NDArray[np.uint8], Mask]:
    """What `mask` (H, W) shows of `image`, on white, and the mask, both cropped with room around."""
    import cv2

    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    inside = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    room = round(margin * max(np.ptp(rows), np.ptp(columns)))
    pad = ((room, room), (room, room))
    cut = np.pad(mask[inside], pad)
    shown = np.pad(image[inside], (*pad, (0, 0)), constant_values=255)
    opacity = cv2.GaussianBlur(cut.astype(np.float32), (0, 0), 0.8)[..., None] * cut[..., None]
    return np.round(shown * opacity + 255 * (1 - opacity)).astype(np.uint8), cut
