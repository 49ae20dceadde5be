"""Which pixels are hands, to the wrist: from the hand joints, and from skin beyond the wrist where those are lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from preprocess.body import HANDS, Bone, Skeleton
from schemas.conditions import Hands, Label

FINGERS = ((1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12), (13, 14, 15, 16), (17, 18, 19, 20))
PALM = (0, 1, 5, 9, 13, 17)
_WRIST, _MIDDLE_KNUCKLE, _INDEX_KNUCKLE, _LITTLE_KNUCKLE = 0, 9, 5, 17
SKIN_LABELS = (
    Label.FACE, Label.LEFT_ARM, Label.RIGHT_ARM, Label.LEFT_LEG, Label.RIGHT_LEG, Label.TORSO_SKIN, Label.GLOVE,
)  # fmt: skip
SKIN = np.zeros(256, np.uint8)
SKIN[list(SKIN_LABELS)] = 1


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

        skin = np.asarray(cv2.LUT(labels, SKIN), np.uint8)
        region = np.zeros(labels.shape, np.uint8)
        for side in range(2):
            lines = _bones(hands.joints_2d[frame, side], None if body is None else body.ends[frame, HANDS[side], 0])
            score = float(hands.scores[frame, side])
            core = _drawn(lines, self.core, labels.shape) if score > 0 else np.zeros_like(region)
            if core.any() and cv2.countNonZero(core & skin) >= self.least_skin * cv2.countNonZero(core):
                region |= _drawn(lines, self.reach, labels.shape) & skin
                region |= core if score >= self.sure_score else core & skin
            elif body is not None:
                region |= self._past_wrist(body, HANDS[side], frame, labels.shape) & skin
        rim = 2 * round(self.rim * extent) + 1
        return cv2.dilate(region, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (rim, rim))).view(np.bool_)

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
        cv2.fillConvexPoly(canvas, _whole(corners), 1)
        return canvas


def _hand_length(joints: NDArray[np.float32]) -> float:
    """Wrist to middle knuckle in px; the breadth of the palm where the hand points at the camera."""
    return max(
        float(np.linalg.norm(joints[_MIDDLE_KNUCKLE] - joints[_WRIST])),
        float(np.linalg.norm(joints[_INDEX_KNUCKLE] - joints[_LITTLE_KNUCKLE])),
    )


@dataclass(frozen=True, eq=False)
class _HandLines:
    """Palm (N, 2) and fingers as polylines, and the hand's `length`, in px."""

    palm: NDArray[np.float32]
    lines: list[NDArray[np.float32]]
    length: float


def _bones(joints: NDArray[np.float32], pose_wrist: NDArray[np.float32] | None) -> _HandLines:
    """Lines of a hand with `joints` (21, 2). The body's wrist, (2,), belongs to it where it is near.

    Both models put the wrist somewhere between heel of the hand and cuff: the hand is taken to reach to the farther.
    """
    length = _hand_length(joints)
    lines = [joints[list(finger)] for finger in FINGERS]
    if pose_wrist is not None and np.linalg.norm(pose_wrist - joints[_WRIST]) < length:
        lines.append(np.stack([joints[_WRIST], pose_wrist]))
    return _HandLines(palm=joints[list(PALM)], lines=lines, length=length)


def _drawn(hand: _HandLines, half_width: float, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """(H, W) 1 where the palm is, or within `half_width` hand lengths of a line."""
    import cv2

    canvas = np.zeros(shape, np.uint8)
    thickness = max(1, round(2 * half_width * hand.length))
    palm = cv2.convexHull(_whole(hand.palm))
    cv2.fillConvexPoly(canvas, palm, 1)
    cv2.polylines(canvas, [palm], isClosed=True, color=1, thickness=thickness)
    cv2.polylines(canvas, [_whole(line) for line in hand.lines], isClosed=False, color=1, thickness=thickness)
    return canvas


def _whole(points: NDArray[np.float32]) -> NDArray[np.int32]:
    return np.round(points).clip(-(2**14), 2**14).astype(np.int32)
