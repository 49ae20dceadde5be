"""One hand on the maps of one frame: how much of it lies on the garment, and how much body is around it.

Maps and points are in pixels of the maps; lengths are in metres, `scale` px of the maps each.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from annotators.wearing import Points

Mask = NDArray[np.bool_]

TIPS = [4, 8, 12, 16, 20]
"""Fingertips among the 21 joints of a hand."""
_FINGERS = [4, 6, 7, 8, 10, 11, 12, 14, 15, 16, 18, 19, 20]  # from the middle joints on; of the thumb, the tip
_FAR = 1e4  # px; drawing farther outside than this overflows


def in_view(joints: Points, height: int, width: int) -> bool:
    """Whether at least half of the fingers of (21, 2) `joints` are in the picture."""
    fingers = joints[_FINGERS]
    return bool(((fingers >= 0) & (fingers <= (width - 1, height - 1))).all(1).mean() >= 0.5)


def window_around(
    joints: Points, height: int, width: int, *, margin: float
) -> tuple[tuple[slice, slice], NDArray[np.intp]]:
    """Rows and columns of a (height, width) map within `margin` px of (21, 2) `joints`, and their first x, y."""
    size = np.array([width, height])
    low = np.clip(np.floor(joints.min(0) - margin), 0, size - 1).astype(np.intp)
    high = np.clip(np.ceil(joints.max(0) + margin) + 1, low + 1, size).astype(np.intp)
    return (slice(low[1], high[1]), slice(low[0], high[0])), low


def arm_mask(arm: Points, height: int, width: int, *, thickness: float) -> Mask:
    """(H, W) bool: a band of `thickness` px along shoulder, elbow and wrist, (3, 2)."""
    import cv2

    mask = np.zeros((height, width), np.uint8)
    cv2.polylines(mask, [_drawable(arm)], False, 1, max(1, round(thickness)))
    return mask > 0


def share_touching(
    joints: Points, garment: Mask, *, scale: float, on: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> float:
    """0..1, how far the better half of the finger joints is on `garment`; `on` judges distances in metres."""
    import cv2

    if not garment.any():
        return 0.0
    height, width = garment.shape
    away = cv2.distanceTransform((~garment).astype(np.uint8), cv2.DIST_L2, 5)
    at = np.clip(np.rint(joints[_FINGERS]), 0, (width - 1, height - 1)).astype(int)
    touching = np.sort(on(away[at[:, 1], at[:, 0]].astype(float) / scale))
    return float(touching[len(touching) // 2 :].mean())


def share_backed(joints: Points, body: Mask, ignored: Mask, *, scale: float, radius: float) -> float:
    """0..1, how much of what is within `radius` of the fingertips' middle is `body`.

    The hand itself and what is `ignored` do not count either way; 0 if nothing else is there.
    """
    import cv2

    height, width = body.shape
    hand = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(hand, cv2.convexHull(_drawable(joints)), 1)
    near = np.zeros((height, width), np.uint8)
    x, y = _drawable(joints[TIPS].mean(0)).tolist()
    cv2.circle(near, (x, y), max(2, round(radius * scale)), 1, -1)
    around = (near > 0) & (cv2.dilate(hand, np.ones((3, 3), np.uint8)) == 0) & ~ignored
    return float(body[around].mean()) if around.any() else 0.0


def _drawable(points: Points) -> NDArray[np.int32]:
    return np.rint(np.clip(points, -_FAR, _FAR)).astype(np.int32)
