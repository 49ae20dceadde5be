"""Points fixed to the body: where they are in each frame, and what lies on them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.body import Joint
from schemas.conditions import Hands, Pose
from schemas.manifest import Part

ALONG, ACROSS = 12, 8
"""Points on each limb, along and across it."""

REACH = 0.7
"""How far the points go to the limb's sides, as share of its half width: parsing is unsure at outlines."""

SLIMMEST = 0.12
"""Half width over length of a limb seen from its side, at least."""

ABOVE_HIP = 0.3
"""How far above the hip joint trousers and skirts begin, over the length of the thigh."""

FOREARM_HALF_WIDTH, HAND_LENGTH = 0.25, 0.5
"""Of a forearm and the hand that it points to, over the forearm's length."""

_SHOULDERS = (Joint.LEFT_SHOULDER, Joint.RIGHT_SHOULDER)
_HIPS = (Joint.LEFT_HIP, Joint.RIGHT_HIP)
_LEFT, _RIGHT = (Joint.LEFT_SHOULDER, Joint.LEFT_HIP), (Joint.RIGHT_SHOULDER, Joint.RIGHT_HIP)


def body_points(pose: Pose, part: Part) -> NDArray[np.float64]:
    """(T, P, 2) points x y in px on the limbs that wear a garment of `part`; NaN where a joint is not found."""
    found = np.where(pose.scores[..., None] > 0, pose.keypoints, np.nan).astype(np.float64)
    limbs = []
    if part is not Part.LOWER:
        limbs.append(_grid(found[:, _SHOULDERS], found[:, _HIPS]))
    if part in (Part.LOWER, Part.DRESS):
        for hip, knee in ((Joint.LEFT_HIP, Joint.LEFT_KNEE), (Joint.RIGHT_HIP, Joint.RIGHT_KNEE)):
            waist = found[:, [hip, hip]] + ABOVE_HIP * (found[:, [hip, hip]] - found[:, [knee, knee]])
            limbs.append(_grid(waist, found[:, [knee, knee]]))
    return np.concatenate(limbs, axis=1)


def _grid(start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, P, 2) points on the quadrangles from side to side (T, 2, 2) at the start to those at the end of a limb."""
    along = ((np.arange(ALONG) + 0.5) / ALONG)[None, :, None]
    across = ((np.arange(ACROSS) + 0.5) / ACROSS * 2 - 1) * REACH
    middle = start.mean(axis=1)[:, None] * (1 - along) + end.mean(axis=1)[:, None] * along
    half = (start[:, 0] - start[:, 1])[:, None] / 2 * (1 - along) + (end[:, 0] - end[:, 1])[:, None] / 2 * along
    axis = (end - start).mean(axis=1)[:, None]
    normal = np.stack(
        [axis[..., 1], -axis[..., 0]], axis=-1
    )  # as long as the limb, to the left of one seen from the front
    slim = np.linalg.norm(half, axis=-1, keepdims=True) < SLIMMEST * np.linalg.norm(axis, axis=-1, keepdims=True)
    half = np.where(slim, normal * SLIMMEST, half)
    points = middle[:, :, None] + half[:, :, None] * across[:, None]
    return points.reshape(len(points), -1, 2)


def labels_at(points: NDArray[np.float64], parsing: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(T, P) label under each point; -1 outside the picture or where the point is NaN."""
    frames, height, width = parsing.shape
    x, y = np.round(np.nan_to_num(points, nan=-1.0)).astype(np.int64).transpose(2, 0, 1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    labels = parsing[np.arange(frames)[:, None], y.clip(0, height - 1), x.clip(0, width - 1)]
    return np.where(inside, labels.astype(np.int64), -1)


def under_arms(points: NDArray[np.float64], pose: Pose) -> NDArray[np.bool_]:
    """(T, P) whether a point lies on a forearm, or on the hand that it points to."""
    under = np.zeros(points.shape[:2], dtype=bool)
    for elbow, wrist in ((Joint.LEFT_ELBOW, Joint.LEFT_WRIST), (Joint.RIGHT_ELBOW, Joint.RIGHT_WRIST)):
        start = pose.keypoints[:, None, elbow].astype(np.float64)
        bone = pose.keypoints[:, None, wrist] - start
        length = np.maximum(np.linalg.norm(bone, axis=-1), 1e-6)
        place = ((points - start) * bone).sum(axis=-1) / length**2
        distance = np.linalg.norm(points - start - place.clip(0, 1 + HAND_LENGTH)[..., None] * bone, axis=-1)
        found = np.asarray((pose.scores[:, [elbow, wrist]] > 0).all(axis=1))
        under |= found[:, None] & (distance < FOREARM_HALF_WIDTH * length)
    return under


def under_hands(points: NDArray[np.float64], hands: Hands) -> NDArray[np.bool_]:
    """(T, P) whether a point lies in the convex hull of a hand's joints."""
    import cv2

    under = np.zeros(points.shape[:2], dtype=bool)
    for frame, side in np.argwhere(hands.present):
        hull = cv2.convexHull(hands.joints_2d[frame, side])
        (x0, y0), (x1, y1) = hull.min(axis=(0, 1)), hull.max(axis=(0, 1))
        x, y = points[frame].T
        for i in np.flatnonzero((x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)):
            under[frame, i] |= cv2.pointPolygonTest(hull, (float(x[i]), float(y[i])), False) >= 0
    return under


def faces_camera(pose: Pose) -> NDArray[np.bool_]:
    """(T,) whether the person is seen from the front: their left shoulder and hip are to the right in the picture."""
    left, right = pose.keypoints[:, _LEFT, 0], pose.keypoints[:, _RIGHT, 0]
    return (left - right).sum(axis=1) >= 0
