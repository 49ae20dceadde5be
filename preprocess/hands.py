"""Both hands through a clip: 21 joints in the picture and in metres, sides taken from the pose."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from preprocess.mediapipe_tasks import Hand, HandModel
from schemas.body import Joint, pixels_per_metre
from schemas.conditions import HAND_POINTS, LEFT, RIGHT, Hands, Pose

_WRISTS = (Joint.LEFT_WRIST, Joint.RIGHT_WRIST)
_ELBOWS = (Joint.LEFT_ELBOW, Joint.RIGHT_ELBOW)
_HAND_METRES = 0.18  # wrist to fingertip of an adult
_LEAST_WINDOW = 32  # px; smaller pictures of a hand show nothing
_UNLIKELY = 10.0

Sides = list[Hand | None]
Window = tuple[slice, slice]


class HandSearch(BaseModel):
    """How hands are looked for and which of those found are kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    windows: tuple[float, ...] = Field(
        default=(0.6, 0.4),
        min_length=1,
        description="Sides of the squares looked at around a wrist, in metres on the body; a later one only if "
        "the earlier ones show no hand.",
    )
    farthest: float = Field(
        default=0.16, gt=0, description="Farthest that a hand may lie from the pose's wrist, in metres on the body."
    )
    confidence: float = Field(default=0.3, gt=0, lt=1, description="From which the model reports a hand.")
    unseen: float = Field(
        default=0.12,
        ge=0,
        description="A hand seen at neither end of so many seconds is not looked for between; 0 looks at every frame.",
    )
    gap: float = Field(default=0.15, ge=0, description="Longest gap between two sightings that is filled, in seconds.")


@dataclass(frozen=True, eq=False)
class _Arm:
    """Where the pose puts one side's hand, in px."""

    wrist: NDArray[np.float64]
    elbow: NDArray[np.float64]
    scale: float  # px per metre

    def window(self, metres: float, height: int, width: int) -> Window | None:
        """The square around the hand, which lies beyond the wrist as seen from the elbow; None if out of the frame."""
        forearm = self.wrist - self.elbow
        direction = forearm / max(float(np.linalg.norm(forearm)), 0.1 * self.scale)
        x, y = (float(value) for value in self.wrist + direction * (0.5 * _HAND_METRES * self.scale))
        half = max(_LEAST_WINDOW, metres * self.scale) / 2
        rows = slice(max(0, round(y - half)), min(height, round(y + half)))
        columns = slice(max(0, round(x - half)), min(width, round(x + half)))
        large_enough = min(rows.stop - rows.start, columns.stop - columns.start) >= _LEAST_WINDOW / 2
        return (rows, columns) if large_enough else None


def find_hands(images: NDArray[np.uint8], pose: Pose, *, fps: float, search: HandSearch) -> Hands:
    """The presenter's hands in every frame of (T, H, W, 3) uint8 RGB images.

    The model looks at a window around each of the pose's wrists, at full resolution, and a hand belongs to the side
    whose wrist it hangs on; how it looks only helps where both are near. So sides are as stable as the pose's.
    Where there is no pose (close-ups), the whole frame is searched and the model says which side a hand is. Every few
    frames both hands are looked for; between, only those that were seen before or after.
    """
    scale = pixels_per_metre(pose)
    found: list[Sides] = [[None, None] for _ in images]
    ends = sorted({*range(0, len(images), max(1, round(search.unseen * fps))), len(images) - 1})
    with HandModel(most=2, confidence=search.confidence) as model:

        def look(frame: int, sides: Sequence[int]) -> None:
            arms = [_arm(pose, frame, side, scale[frame]) for side in (LEFT, RIGHT)]
            found[frame] = _in_frame(model, images[frame], arms, search, sides)

        for frame in ends:
            look(frame, (LEFT, RIGHT))
        for first, last in itertools.pairwise(ends):
            sides = [side for side in (LEFT, RIGHT) if found[first][side] or found[last][side]]
            for frame in range(first + 1, last) if sides else ():
                look(frame, sides)
    return _fill_gaps(_stack(found), round(search.gap * fps))


def _arm(pose: Pose, frame: int, side: int, scale: float) -> _Arm | None:
    wrist, elbow = _WRISTS[side], _ELBOWS[side]
    if pose.scores[frame, wrist] <= 0 or scale <= 0:
        return None
    return _Arm(pose.keypoints[frame, wrist].astype(float), pose.keypoints[frame, elbow].astype(float), float(scale))


def _in_frame(
    model: HandModel, image: NDArray[np.uint8], arms: Sequence[_Arm | None], search: HandSearch, wanted: Sequence[int]
) -> Sides:
    """Hands of one frame; those of the `wanted` sides are looked for."""
    if not any(arms):
        return _by_look(model(image))
    candidates: list[Hand] = []
    sides: Sides = [None, None]
    for metres in search.windows:
        for side in wanted:
            arm = arms[side] if sides[side] is None else None
            window = arm.window(metres, *image.shape[:2]) if arm is not None else None
            if window is not None:
                candidates += _look(model, image, window)
        sides = _by_wrist(candidates, arms, search.farthest)
    return sides


def _look(model: HandModel, image: NDArray[np.uint8], window: Window) -> list[Hand]:
    corner = np.array([window[1].start, window[0].start])
    return [
        Hand(score=hand.score, is_right=hand.is_right, joints=hand.joints + corner, world=hand.world)
        for hand in model(image[window])
    ]


def _by_look(hands: Sequence[Hand]) -> Sides:
    """The surest hand of either side, as the model names them."""
    return [
        max((hand for hand in hands if hand.is_right == bool(side)), key=lambda hand: hand.score, default=None)
        for side in (LEFT, RIGHT)
    ]


def _by_wrist(hands: Sequence[Hand], arms: Sequence[_Arm | None], farthest: float) -> Sides:
    """At most one hand for each side, by distance to its wrist; the look of the other side counts as half of it."""
    from scipy.optimize import linear_sum_assignment

    sides: Sides = [None, None]
    hands = _distinct(hands)
    if not hands:
        return sides
    cost = np.full((2, len(hands)), _UNLIKELY)
    for side, arm in enumerate(arms):
        for column, hand in enumerate(hands):
            if arm is not None and _plausible(hand, arm.scale):
                away = float(np.linalg.norm(hand.joints[0] - arm.wrist)) / (farthest * arm.scale)
                if away <= 1:
                    cost[side, column] = away + 0.5 * (hand.is_right != bool(side))
    for side, column in zip(*linear_sum_assignment(cost), strict=True):
        if cost[side, column] < _UNLIKELY:
            sides[side] = hands[column]
    return sides


def _distinct(hands: Sequence[Hand]) -> list[Hand]:
    """The surer one of those that show the same hand: joints closer than a quarter of its extent, on average."""
    kept: list[Hand] = []
    for hand in sorted(hands, key=lambda hand: -hand.score):
        extent = float(np.ptp(hand.joints, axis=0).max())
        apart = [float(np.linalg.norm(hand.joints - other.joints, axis=1).mean()) for other in kept]
        if not apart or min(apart) > 0.25 * extent:
            kept.append(hand)
    return kept


def _plausible(hand: Hand, scale: float) -> bool:
    """Whether the hand's size fits the body: a fist seen end on at least, a spread hand near the camera at most."""
    extent = float(np.ptp(hand.joints, axis=0).max()) / scale
    return 0.04 <= extent <= 2 * _HAND_METRES


def _stack(found: Sequence[Sides]) -> Hands:
    frames = len(found)
    scores = np.zeros((frames, 2), np.float32)
    joints_2d = np.zeros((frames, 2, HAND_POINTS, 2), np.float32)
    joints_3d = np.zeros((frames, 2, HAND_POINTS, 3), np.float32)
    for frame, sides in enumerate(found):
        for side, hand in enumerate(sides):
            if hand is not None:
                scores[frame, side] = hand.score
                joints_2d[frame, side], joints_3d[frame, side] = hand.joints, hand.world
    return Hands(scores=scores, joints_2d=joints_2d, joints_3d=joints_3d, method="mediapipe")


def _fill_gaps(hands: Hands, longest: int) -> Hands:
    """Fill gaps of up to `longest` frames linearly, at half the lower score of both ends."""
    scores, joints_2d, joints_3d = hands.scores.copy(), hands.joints_2d.copy(), hands.joints_3d.copy()
    for side in (LEFT, RIGHT):
        for before, after in itertools.pairwise(np.flatnonzero(hands.present[:, side])):
            if 1 < after - before <= longest + 1:
                share = (np.arange(before + 1, after) - before)[:, None, None] / (after - before)
                inside = slice(before + 1, after)
                scores[inside, side] = min(scores[before, side], scores[after, side]) / 2
                joints_2d[inside, side] = (1 - share) * joints_2d[before, side] + share * joints_2d[after, side]
                joints_3d[inside, side] = (1 - share) * joints_3d[before, side] + share * joints_3d[after, side]
    return Hands(scores=scores, joints_2d=joints_2d, joints_3d=joints_3d, method=hands.method)
