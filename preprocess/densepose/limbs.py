"""Limbs that the pose sees and DensePose lacks: found, and filled from the frames around.

Shape legend: T frames of H×W px, L limbs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from schemas.body import HAND_START, SEEN, Joint, pixels_per_metre
from schemas.conditions import Pose

REACH = 0.15
"""How far around its bone a limb is looked for, in metres."""
LEAST_SHARE = 0.05
"""Share of what is around the bone that has to show the limb for it to be there."""
COVERED = 0.5
"""Share of it from which another part of the body, rather than nothing, is where the limb should be."""
STRIDE = 2
"""Every so manieth row and column is enough to count pixels."""
_KNUCKLE = 9


@dataclass(frozen=True)
class Limb:
    """A limb between two keypoints, and its DensePose parts."""

    name: str
    start: int
    end: int
    parts: tuple[int, ...]


LIMBS = (
    Limb("right hand", Joint.RIGHT_WRIST, HAND_START[1] + _KNUCKLE, (3,)),
    Limb("left hand", Joint.LEFT_WRIST, HAND_START[0] + _KNUCKLE, (4,)),
    # Some lists have the feet the other way round; this is how DensePose labels ViViD's clips.
    Limb("left foot", Joint.LEFT_ANKLE, Joint.LEFT_BIG_TOE, (5,)),
    Limb("right foot", Joint.RIGHT_ANKLE, Joint.RIGHT_BIG_TOE, (6,)),
    Limb("right thigh", Joint.RIGHT_HIP, Joint.RIGHT_KNEE, (7, 9)),
    Limb("left thigh", Joint.LEFT_HIP, Joint.LEFT_KNEE, (8, 10)),
    Limb("right leg", Joint.RIGHT_KNEE, Joint.RIGHT_ANKLE, (11, 13)),
    Limb("left leg", Joint.LEFT_KNEE, Joint.LEFT_ANKLE, (12, 14)),
    Limb("left upper arm", Joint.LEFT_SHOULDER, Joint.LEFT_ELBOW, (15, 17)),
    Limb("right upper arm", Joint.RIGHT_SHOULDER, Joint.RIGHT_ELBOW, (16, 18)),
    Limb("left forearm", Joint.LEFT_ELBOW, Joint.LEFT_WRIST, (19, 21)),
    Limb("right forearm", Joint.RIGHT_ELBOW, Joint.RIGHT_WRIST, (20, 22)),
)
"""By DensePose's own numbers; left and right are the person's own."""


class View(IntEnum):
    """How a limb stands in a frame."""

    UNSEEN = 0
    """The pose does not see both its ends in the picture."""
    SHOWN = 1
    HIDDEN = 2
    """Another part of the body is where it should be: it may be behind that."""
    MISSING = 3


def limb_views(part: NDArray[np.uint8], pose: Pose) -> NDArray[np.uint8]:
    """(T, L) `View` of each of `LIMBS` in (T, H, W) DensePose parts."""
    views = np.full((len(part), len(LIMBS)), View.UNSEEN, np.uint8)
    reach = REACH * pixels_per_metre(pose)
    seen = _in_view(pose, part.shape[1:])
    for frame, number in np.argwhere(seen & (reach > 0)[:, None]):
        limb = LIMBS[number]
        rows, columns, near = _around(pose.keypoints[frame], limb, reach[frame], part.shape[1:])
        labels = part[frame, rows, columns][near]
        share = np.isin(labels, limb.parts).mean()
        covered = (labels > 0).mean() >= COVERED
        views[frame, number] = View.SHOWN if share >= LEAST_SHARE else View.HIDDEN if covered else View.MISSING
    return views


def fill_limbs(part: NDArray[np.uint8], uv: NDArray[np.uint8], pose: Pose, *, longest: int) -> None:
    """Fill limbs that are missing for at most `longest` frames between two that show them, in place.

    A limb is carried over from the nearer of the two, turned and scaled as its bone is, and put only where nothing
    is labelled. `part` is (T, H, W), `uv` (T, 2, H, W).
    """
    views = limb_views(part, pose)
    fills = []  # all taken from what the network said, before any is put in
    for number, limb in enumerate(LIMBS):
        for first, end in _gaps(views[:, number], longest):
            for frame in range(first, end):
                source = first - 1 if frame - first < end - 1 - frame else end
                fills.append((frame, _carried(part, uv, pose, limb, source, frame)))
    for frame, carried in fills:
        empty = (part[frame] == 0) & (carried[..., 0] > 0)
        part[frame][empty] = carried[empty, 0]
        for axis in range(2):
            uv[frame, axis][empty] = carried[empty, 1 + axis]


def _in_view(pose: Pose, size: tuple[int, ...]) -> NDArray[np.bool_]:
    ends = np.array([(limb.start, limb.end) for limb in LIMBS])
    points, limit = pose.keypoints[:, ends], (size[1], size[0])
    inside = ((points >= 0) & (points < limit)).all(-1)
    return np.asarray((inside & (pose.scores[:, ends] >= SEEN)).all(-1))


def _gaps(views: NDArray[np.uint8], longest: int) -> Iterator[tuple[int, int]]:
    """First frame and end of each run of at most `longest` missing frames between two that show the limb."""
    runs, first = [], 0
    for view, run in groupby(views.tolist()):
        end = first + len(list(run))
        runs.append((view, first, end))
        first = end
    for (before, _, _), (view, first, end), (after, _, _) in zip(runs, runs[1:], runs[2:], strict=False):
        if view == View.MISSING and before == after == View.SHOWN and end - first <= longest:
            yield first, end


def _around(
    keypoints: NDArray[np.float32], limb: Limb, reach: float, size: tuple[int, ...]
) -> tuple[slice, slice, NDArray[np.bool_]]:
    """Rows and columns, every `STRIDE`th, and which of their pixels (h, w) lie within `reach` px of the limb's bone."""
    start, end = keypoints[[limb.start, limb.end]].astype(float)
    reach = max(reach, float(STRIDE))  # never none
    x0, y0 = np.maximum(np.floor(np.minimum(start, end) - reach), 0).astype(int).tolist()
    x1, y1 = np.ceil(np.maximum(start, end) + reach).astype(int).tolist()
    rows, columns = slice(y0, min(y1 + 1, size[0]), STRIDE), slice(x0, min(x1 + 1, size[1]), STRIDE)
    y, x = np.mgrid[rows, columns]
    bone = end - start
    along = ((x - start[0]) * bone[0] + (y - start[1]) * bone[1]) / max(float(bone @ bone), 1e-6)
    along = along.clip(0, 1)
    away = np.hypot(x - start[0] - along * bone[0], y - start[1] - along * bone[1])
    return rows, columns, away <= reach


def _carried(
    part: NDArray[np.uint8], uv: NDArray[np.uint8], pose: Pose, limb: Limb, source: int, frame: int
) -> NDArray[np.uint8]:
    """(H, W, 3) part, U and V of the limb in frame `source`, moved to where its bone is in `frame`; else 0."""
    import cv2

    height, width = part.shape[1:]
    shown = np.isin(part[source], limb.parts)
    picture = np.dstack([part[source] * shown, *(uv[source] * shown)])
    motion = _motion(*(pose.keypoints[at][[limb.start, limb.end]].astype(float) for at in (source, frame)))
    return np.asarray(cv2.warpAffine(picture, motion, (width, height), flags=cv2.INTER_NEAREST))


def _motion(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2, 3) affine matrix that takes the (2, 2) ends of a bone to others: turn, scale and shift.

    A bone that points at the camera is too short to tell turn and scale: only the shift of its middle is left.
    """
    (ax, ay), (bx, by) = before[1] - before[0], after[1] - after[0]
    turn = complex(bx, by) / complex(ax, ay) if np.hypot(ax, ay) > 1 else 1 + 0j
    if not 0.5 <= abs(turn) <= 2:
        turn = 1 + 0j
    linear = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    shift = after.mean(0) - linear @ before.mean(0)
    return np.concatenate([linear, shift[:, None]], 1)
