"""Whole-body pose drawn the way DWPose draws it, so that models trained on DWPose pictures fit ours.

Source: DWPose (https://github.com/IDEA-Research/DWPose, `ControlNet-v1-1-nightly/annotator/dwpose`), which
follows OpenPose (https://github.com/CMU-Perceptual-Computing-Lab/openpose).
"""

from __future__ import annotations

import colorsys
import math

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.conditions import POSE_POINTS, UInt8
from schemas.errors import ArtifactError

VISIBLE = 0.3
"""Score from which DWPose draws a point."""

# OpenPose body order out of COCO-WholeBody rows; row 17 is the neck once it is inserted.
_BODY = (0, 17, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
_NECK = 1
_FACE, _LEFT_HAND, _RIGHT_HAND = slice(23, 91), slice(91, 112), slice(112, 133)

_LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13),
    (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
_WHEEL = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0),
    (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255),
    (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85),
)  # fmt: skip
_FINGER_BONES = tuple((0 if joint % 4 == 1 else joint - 1, joint) for joint in range(1, 21))
_FINGER_COLOURS = tuple(tuple(255 * c for c in colorsys.hsv_to_rgb(i / 20, 1, 1)) for i in range(20))
_LIMB_COLOURS = tuple(tuple(int(0.6 * c) for c in colour) for colour in _WHEEL[: len(_LIMBS)])
_REACH = 6
"""Pixels around points that are drawn on; about limbs, whose angles are cut to whole degrees, a hundredth more."""
_FAR = 30_000  # OpenCV's fixed-point drawing overflows beyond; such points are far outside any frame


def skeleton(
    keypoints: NDArray[np.floating],
    scores: NDArray[np.floating],
    *,
    height: int,
    width: int,
    out: UInt8 | None = None,
) -> UInt8:
    """Body, hands and face of one or more people on black; feet are not drawn.

    Args:
        keypoints: (133, 2) or (people, 133, 2), x y in px, layout COCO-WholeBody.
        scores: (133,) or (people, 133); a body point is drawn above 0.3, a hand or face point from 0.3 on.
        height: of the picture, px.
        width: of the picture, px.
        out: (height, width, 3) uint8, contiguous: the picture to draw, whatever is in it; None: a new one.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        ArtifactError: the arrays are not of these shapes.

    """
    if keypoints.shape[-2:] != (POSE_POINTS, 2) or keypoints.ndim > 3 or scores.shape != keypoints.shape[:-1]:
        raise ArtifactError(
            f"pose has keypoints {keypoints.shape}, scores {scores.shape}",
            allowed="(133, 2) and (133,), or the same with a leading axis of people",
        )
    points = keypoints.reshape(-1, POSE_POINTS, 2).astype(np.float64).clip(-_FAR, _FAR)
    points = points / (width, height) * (width, height)  # as DWPose does, whose truncated px may be one less for it
    seen = scores.reshape(-1, POSE_POINTS).astype(np.float64)
    if out is None:
        canvas = np.zeros((height, width, 3), dtype=np.uint8)
    else:
        canvas = out
        canvas[:] = 0
    _draw_bodies(canvas, points, seen)
    # DWPose loses hand and face points in row or column 0, and so do we.
    pixels = points.astype(int)
    shown = (seen >= VISIBLE) & (pixels > 0).all(axis=-1)
    for rows in (_LEFT_HAND, _RIGHT_HAND):  # every left hand first, then every right one
        for person in np.flatnonzero(shown[:, rows].any(axis=1)):
            _draw_hand(canvas, pixels[person, rows].tolist(), shown[person, rows].tolist())
    for point in pixels[:, _FACE][shown[:, _FACE]].tolist():
        cv2.circle(canvas, point, 3, (255, 255, 255), -1)
    return canvas


def _draw_bodies(canvas: UInt8, points: NDArray[np.float64], scores: NDArray[np.floating]) -> None:
    """Limbs as filled ellipses dimmed to 0.6, then joints at full colour."""
    neck = points[:, 5:7].mean(axis=1, keepdims=True)
    neck_seen = (scores[:, 5:7] > VISIBLE).all(axis=1, keepdims=True)
    body = np.concatenate([points[:, :17], neck], axis=1)[:, _BODY]
    seen = np.concatenate([scores[:, :17] > VISIBLE, neck_seen], axis=1)[:, _BODY].T.tolist()
    joints, people = body.tolist(), range(len(points))
    for (start, end), colour in zip(_LIMBS, _LIMB_COLOURS, strict=True):
        for person in people:
            if seen[start][person] and seen[end][person]:
                _draw_limb(canvas, joints[person][start], joints[person][end], colour)
    pixels = body.astype(int).tolist()
    for joint, colour in enumerate(_WHEEL):
        for person in people:
            if seen[joint][person]:
                cv2.circle(canvas, pixels[person][joint], 4, colour, -1)


def _draw_limb(canvas: UInt8, start: list[float], end: list[float], colour: tuple[int, ...]) -> None:
    middle = (int((start[0] + end[0]) / 2), int((start[1] + end[1]) / 2))
    along = (start[0] - end[0], start[1] - end[1])
    length, angle = math.hypot(*along), math.degrees(math.atan2(along[1], along[0]))
    outline = cv2.ellipse2Poly(middle, (int(length / 2), 4), int(angle), 0, 360, 1)
    cv2.fillConvexPoly(canvas, np.asarray(outline), colour)


def _draw_hand(canvas: UInt8, points: list[list[int]], shown: list[bool]) -> None:
    """21 points in px, and which of them are drawn."""
    for (start, end), colour in zip(_FINGER_BONES, _FINGER_COLOURS, strict=True):
        if shown[start] and shown[end]:
            cv2.line(canvas, points[start], points[end], colour, thickness=2)
    for point, visible in zip(points, shown, strict=True):
        if visible:
            cv2.circle(canvas, point, 4, (0, 0, 255), -1)
