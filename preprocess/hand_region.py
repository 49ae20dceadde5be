"""Which pixels are hands, to the wrist: from the hand joints, and from skin beyond the wrist where those are lost."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from preprocess.body import HANDS, Bone, Skeleton
from schemas.conditions import Hands, Label

FINGERS = ((1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12), (13, 14, 15, 16), (17, 18, 19, 20))
PALM = (0, 1, 5, 9, 13, 17)
_WRIST, _MIDDLE_KNUCKLE, _INDEX_KNUCKLE, _LITTLE_KNUCKLE = 0, 9, 5, 17
SKIN = np.zeros(len(Label), np.uint8)
SKIN[[Label.FACE, Label.LEFT_ARM, Label.RIGHT_ARM, Label.LEFT_LEG, Label.RIGHT_LEG, Label.TORSO_SKIN, Label.GLOVE]] = 1


class HandRegion(BaseModel):
    """Marks hands in the pixels of a clip. Lengths are over the hand's: from the wrist to the middle knuckle."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    core: float = Field(
        default=0.09, ge=0, description="Half width of a finger that is hand whatever the parsing says."
    )
    sure_score: float = Field(
        default=0.5, ge=0, le=1, description="Hands scored lower have no such core: skin must be seen as well."
    )
    least_skin: float = Field(
        default=0.3, ge=0, le=1, description="Share of skin among a hand's pixels below which it is not believed."
    )
    reach: float = Field(default=0.45, ge=0, description="Skin this far from a finger's line is hand too.")
    beyond_wrist: float = Field(
        default=0.4, ge=0, description="Where no joints are known: length of the hand, over the torso's."
    )
    spread: float = Field(default=0.17, ge=0, description="There, half its width, over the torso's length.")
    rim: float = Field(default=0.004, ge=0, description="Widening of the region's edge, over the person's height.")

    def mask(
        self, hands: Hands, body: Skeleton | None, labels: NDArray[np.uint8], frame: int, *, extent: int
    ) -> NDArray[np.bool_]:
        """(H, W) bool of one frame, whose `labels` (H, W) are the parsing's. `extent` is the person's height in px."""
        import cv2

        skin, region = SKIN[labels], np.zeros(labels.shape, np.uint8)
        for side in range(2):
            joints, score = hands.joints_2d[frame, side], float(hands.scores[frame, side])
            core = self._near_joints(joints, labels.shape, self.core) if score > 0 else region[:0]
            if core.any() and skin[core > 0].mean() >= self.least_skin:
                region |= self._near_joints(joints, labels.shape, self.reach) & skin
                region |= core if score >= self.sure_score else core & skin
            elif body is not None:
                region |= self._past_wrist(body, HANDS[side], frame, labels.shape) & skin
        rim = 2 * round(self.rim * extent) + 1
        return cv2.dilate(region, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (rim, rim))) > 0

    def _near_joints(self, joints: NDArray[np.float32], shape: tuple[int, ...], half_width: float) -> NDArray[np.uint8]:
        import cv2

        span = max(
            float(np.linalg.norm(joints[_MIDDLE_KNUCKLE] - joints[_WRIST])),
            float(np.linalg.norm(joints[_INDEX_KNUCKLE] - joints[_LITTLE_KNUCKLE])),
        )
        thickness = max(1, round(2 * half_width * span))
        canvas = np.zeros(shape, np.uint8)
        points = np.round(joints).clip(-(2**15), 2**15).astype(np.int32)
        palm = np.asarray(cv2.convexHull(points[list(PALM)]), np.int32)
        cv2.fillConvexPoly(canvas, palm, 1)
        for line in _lines(points, palm):
            cv2.polylines(canvas, [line], isClosed=False, color=1, thickness=thickness)
        return canvas

    def _past_wrist(self, body: Skeleton, hand: Bone, frame: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        import cv2

        canvas = np.zeros(shape, np.uint8)
        (wrist, tip), torso = body.ends[frame, hand], float(body.torso[frame])
        if np.isnan(wrist).any() or np.isnan(tip).any():
            return canvas
        ahead = (tip - wrist) / max(float(np.linalg.norm(tip - wrist)), 1e-3)
        across = np.array([-ahead[1], ahead[0]]) * self.spread * torso
        end = wrist + ahead * self.beyond_wrist * torso
        corners = np.stack([wrist - across, wrist + across, end + across, end - across])
        cv2.fillConvexPoly(canvas, np.round(corners).clip(-(2**15), 2**15).astype(np.int32), 1)
        return canvas


def _lines(points: NDArray[np.int32], palm: NDArray[np.int32]) -> Iterator[NDArray[np.int32]]:
    yield np.concatenate([palm, palm[:1]])
    for finger in FINGERS:
        yield points[list(finger)][:, None]
