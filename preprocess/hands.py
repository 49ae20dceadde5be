"""Both hands through a clip: 21 joints in the picture and in metres, sides taken from the pose."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preprocess.mediapipe_tasks import Hand, HandModel
from schemas.body import Joint, pixels_per_metre
from schemas.conditions import HAND_POINTS, Hands, Pose

WRISTS = (Joint.LEFT_WRIST, Joint.RIGHT_WRIST)
ELBOWS = (Joint.LEFT_ELBOW, Joint.RIGHT_ELBOW)
HAND_METRES = 0.18
"""Wrist to fingertip of an adult."""


@dataclass(frozen=True, eq=False)
class HandSearch:
    """How hands are looked for and which of those found are kept.

    Attributes:
        crop: side of the square looked at, in metres at the body's distance.
        farthest: how far, in metres, a found wrist may lie from the pose's wrist.
        gap: gaps of at most this many frames between two sightings are filled.
    """

    crop: float = 0.5
    farthest: float = 0.16
    gap: int = 4


def find_hands(images: NDArray[np.uint8], pose: Pose, *, search: HandSearch = HandSearch()) -> Hands:
    """Hands near the pose's wrists, in every frame of (T, H, W, 3) uint8 RGB images."""
    frames = len(images)
    scale = pixels_per_metre(pose)
    found: list[list[Hand | None]] = []
    model = HandModel(most=2)
    try:
        for frame in range(frames):
            wrists = pose.keypoints[frame, WRISTS].astype(float)
            seen = (pose.scores[frame, WRISTS].astype(float) > 0) & (scale[frame] > 0)
            candidates: list[Hand] = []
            for side in np.flatnonzero(seen):
                elbow = pose.keypoints[frame, ELBOWS[side]].astype(float)
                window = _window(wrists[side], elbow, scale[frame], search.crop, images.shape[1:3])
                if window is not None:
                    candidates += _look(model, images[frame], window)
            found.append(_assign(_distinct(candidates, scale[frame]), wrists, seen, scale[frame], search))
    finally:
        model.close()
    return _fill(_stack(found), search.gap)


def _window(
    wrist: NDArray[np.float64], elbow: NDArray[np.float64], scale: float, crop: float, size: Sequence[int]
) -> tuple[slice, slice] | None:
    """Rows and columns of the square around a hand, which lies beyond the wrist as seen from the elbow."""
    forearm = wrist - elbow
    direction = forearm / max(float(np.linalg.norm(forearm)), 0.1 * scale, 1e-6)
    x, y = wrist + direction * (0.5 * HAND_METRES * scale)
    half = max(16.0, crop * scale / 2)
    rows = slice(max(0, round(y - half)), min(size[0], round(y + half)))
    columns = slice(max(0, round(x - half)), min(size[1], round(x + half)))
    if rows.stop - rows.start < 16 or columns.stop - columns.start < 16:
        return None
    return rows, columns


def _look(model: HandModel, image: NDArray[np.uint8], window: tuple[slice, slice]) -> list[Hand]:
    corner = (window[1].start, window[0].start)
    return [
        Hand(score=hand.score, is_right=hand.is_right, joints=hand.joints + corner, world=hand.world)
        for hand in model(image[window])
    ]


def _distinct(hands: Sequence[Hand], scale: float) -> list[Hand]:
    """Hands without those that both windows showed."""
    kept: list[Hand] = []
    for hand in sorted(hands, key=lambda hand: -hand.score):
        apart = [np.linalg.norm(hand.joints - other.joints, axis=1).mean() for other in kept]
        if not apart or min(apart) > 0.03 * scale:
            kept.append(hand)
    return kept


def _assign(
    hands: Sequence[Hand],
    wrists: NDArray[np.float64],
    seen: NDArray[np.bool_],
    scale: float,
    search: HandSearch,
) -> list[Hand | None]:
    """At most one hand for each side, by distance to the pose's wrist; a wrong look costs half the way allowed."""
    from scipy.optimize import linear_sum_assignment

    sides: list[Hand | None] = [None, None]
    if not hands:
        return sides
    reach = search.farthest * scale
    cost = np.full((2, len(hands)), 10.0)
    for column, hand in enumerate(hands):
        for side in np.flatnonzero(seen):
            away = float(np.linalg.norm(hand.joints[0] - wrists[side])) / reach
            if away <= 1 and _plausible(hand, scale):
                cost[side, column] = away + 0.5 * (hand.is_right != bool(side))
    for side, column in zip(*linear_sum_assignment(cost), strict=True):
        if cost[side, column] < 10:
            sides[side] = hands[column]
    return sides


def _plausible(hand: Hand, scale: float) -> bool:
    extent = float(np.ptp(hand.joints, axis=0).max()) / scale
    return 0.04 <= extent <= 2 * HAND_METRES


def _stack(found: Sequence[Sequence[Hand | None]]) -> Hands:
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


def _fill(hands: Hands, gap: int) -> Hands:
    """Fill short gaps linearly, at half the lower score of both ends."""
    scores, joints_2d, joints_3d = hands.scores.copy(), hands.joints_2d.copy(), hands.joints_3d.copy()
    for side in range(2):
        seen = np.flatnonzero(hands.scores[:, side])
        for before, after in itertools.pairwise(seen):
            if 1 < after - before <= gap + 1:
                share = (np.arange(before + 1, after) - before)[:, None, None] / (after - before)
                inside = slice(before + 1, after)
                scores[inside, side] = min(scores[before, side], scores[after, side]) / 2
                joints_2d[inside, side] = (1 - share) * joints_2d[before, side] + share * joints_2d[
                    after, side
                ]
                joints_3d[inside, side] = (1 - share) * joints_3d[before, side] + share * joints_3d[
                    after, side
                ]
    return Hands(scores=scores, joints_2d=joints_2d, joints_3d=joints_3d, method=hands.method)
