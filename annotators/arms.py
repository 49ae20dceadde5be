"""What arms and hands do, measured on pose and hands: where the hands are, how they move, how the arms are held."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from annotators.wearing import BodyAxes, Points
from schemas.body import SEEN, Joint
from schemas.conditions import HAND_POINTS, Hands, Pose

Values = NDArray[np.float64]

ARMS = (
    (Joint.LEFT_SHOULDER, Joint.LEFT_ELBOW, Joint.LEFT_WRIST),
    (Joint.RIGHT_SHOULDER, Joint.RIGHT_ELBOW, Joint.RIGHT_WRIST),
)
"""Shoulder, elbow, wrist of either side, left first."""
_PALM = [0, 5, 9, 13, 17]
_STRAIGHT = np.cos(np.deg2rad(35))  # between upper arm and forearm
_DOWNWARD = np.cos(np.deg2rad(25))  # between the whole arm and the torso
_SWAPPED, _SWAPPED_WIDTH = 0.05, 0.015  # metres by which crossed wrists have passed each other, softly
_LEVEL = 0.25  # metres, up and down, between the wrists of folded arms


def hand_joints(pose: Pose, hands: Hands, scale: Values) -> Points:
    """(T, 2, 21, 2) float64 joints in px: those seen, else guessed along the line that the forearm points out.

    A guessed hand is straight and flat: joint 0 at the wrist, the tips 0.16 m from it (`scale` px per metre).
    """
    joints = hands.joints_2d.astype(float)
    from_wrist = np.zeros(HAND_POINTS)
    from_wrist[1:] = np.tile((0.04, 0.08, 0.12, 0.16), 5)
    for side, (_, elbow, wrist) in enumerate(ARMS):
        unseen = ~hands.present[:, side]
        start = pose.keypoints[unseen, wrist].astype(float)
        forearm = start - pose.keypoints[unseen, elbow]
        direction = forearm / np.maximum(np.linalg.norm(forearm, axis=1, keepdims=True), 1e-6)
        reach = scale[unseen, None, None] * from_wrist[:, None]
        joints[unseen, side] = start[:, None] + direction[:, None] * reach
    return joints


def relative_speed(pose: Pose, hands: Hands, axes: BodyAxes, scale: Values, *, fps: float, window: float) -> Values:
    """(T, 2) float64 speed of both hands, in m/s, relative to the spine level with them, over `window` seconds.

    The palm is followed where the hand model sees it at both ends of the window, else the pose's wrist.
    """
    frames = len(scale)
    half = max(1, round(window * fps / 2))
    first = np.maximum(np.arange(frames) - half, 0)
    last = np.minimum(np.arange(frames) + half, frames - 1)
    seconds = np.maximum(last - first, 1) / fps
    speed = np.zeros((frames, 2))
    for side, (_, _, wrist) in enumerate(ARMS):
        palm = hands.joints_2d[:, side, _PALM].astype(float).mean(1)
        palm_seen = hands.present[first, side] & hands.present[last, side]
        moves = []
        for place in (palm, pose.keypoints[:, wrist].astype(float)):
            level = axes.level(place)
            moved_with = axes.spine(level, last) - axes.spine(level, first)
            moves.append(np.linalg.norm(place[last] - place[first] - moved_with, axis=1))
        moved = np.where(palm_seen, *moves)
        speed[:, side] = np.where(scale > 0, moved / np.maximum(scale, 1e-6) / seconds, 0)
    return speed


def magnification(hands: Hands, scale: Values, *, window: int) -> Values:
    """(T, 2) float64 size of the hand in the picture over the size that it would have at the body's distance.

    The hand's own scale is that of its joints in the picture over those in metres, seen along the camera's axis;
    its median over `window` frames is taken. 1 where the hand is not seen.
    """
    flat, metric = hands.joints_2d.astype(float), hands.joints_3d[..., :2].astype(float)
    flat, metric = (points - points.mean(2, keepdims=True) for points in (flat, metric))
    metres = np.linalg.norm(metric, axis=(2, 3))
    own = np.linalg.norm(flat, axis=(2, 3)) / np.maximum(metres, 1e-6)
    usable = hands.present & (scale[:, None] > 0) & (metres > 0)
    ratio = np.where(usable, own / np.maximum(scale[:, None], 1e-6), np.nan)
    half = window // 2
    medians = np.ones_like(ratio)
    for frame, side in np.argwhere(usable):
        near = ratio[max(0, frame - half) : frame + half + 1, side]
        medians[frame, side] = np.nanmedian(near)
    return medians


def hanging(pose: Pose, axes: BodyAxes) -> Values:
    """(T, 2) float64: 1 where the arm is straight and points down the torso, else 0."""
    keypoints = pose.keypoints.astype(float)
    hangs = np.zeros((len(keypoints), 2))
    for side, (shoulder, elbow, wrist) in enumerate(ARMS):
        upper, lower = keypoints[:, elbow] - keypoints[:, shoulder], keypoints[:, wrist] - keypoints[:, elbow]
        straight = _cosine(upper, lower) > _STRAIGHT
        downward = _cosine(upper + lower, axes.down) > _DOWNWARD
        hangs[:, side] = straight & downward
    return hangs


def folded(pose: Pose, axes: BodyAxes, scale: Values) -> Values:
    """(T, 2) float64 in 0..1: how surely the wrists are level and have passed each other, as with folded arms."""
    wrists = [arm[-1] for arm in ARMS]
    left, right = (pose.keypoints[:, wrist].astype(float) for wrist in wrists)
    metres = np.maximum(scale, 1e-6)[:, None]
    apart = (left - right) / metres
    passed = -(apart * axes.across).sum(1) - _SWAPPED
    level = np.abs((apart * axes.down).sum(1)) < _LEVEL
    seen = (pose.scores[:, wrists].min(1) >= SEEN) & (scale > 0)
    crossed = seen * level / (1 + np.exp(-np.clip(passed / _SWAPPED_WIDTH, -50, 50)))
    return np.stack([crossed, crossed], axis=1)


def _cosine(one: Points, other: Points) -> Values:
    return (one * other).sum(1) / np.maximum(np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1), 1e-6)
