"""Garment occlusion: how much of the worn garment hands, hair and things hide, and whether it ever shows."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from curation.filters.garment_parts import GARMENT_LABELS
from schemas.body import Joint
from schemas.clip import Clip
from schemas.conditions import Hands, Label, Pose
from schemas.manifest import Part
from schemas.metrics import Metric
from schemas.stage import Filter

OCCLUDERS = (
    Label.BACKGROUND, Label.HAT, Label.HAIR, Label.GLOVE, Label.SCARF, Label.FACE, Label.LEFT_ARM, Label.RIGHT_ARM,
    Label.BAG, Label.OTHER,
)  # fmt: skip
"""What hides a garment where a body wears it; background in the middle of a body is a thing before it. Legs, bare
torso and other garments are left out of account: there the garment ends."""

STRIDE = 4
"""Every so manieth row and column is enough for an area."""

ALONG, ACROSS = 12, 8
"""Points on each limb, along and across it."""

SKIN = (Label.TORSO_SKIN, Label.LEFT_LEG, Label.RIGHT_LEG)
"""Parsing by the nearest bone may take an arm before the trunk for its skin: under an arm, this is an arm."""

REACH = 0.7
"""How far the points go to the limb's sides, as share of its half width: parsing is unsure at outlines."""

SLIMMEST = 0.12
"""Half width over length of a limb seen from its side, at least."""

ARM_HALF_WIDTH = 0.25
"""Half width of a forearm over its length."""

ABOVE_HIP = 0.3
"""How far above the hip joint trousers and skirts begin, over the length of the thigh."""

_SHOULDERS = (Joint.LEFT_SHOULDER, Joint.RIGHT_SHOULDER)
_HIPS = (Joint.LEFT_HIP, Joint.RIGHT_HIP)
_LEFT, _RIGHT = (Joint.LEFT_SHOULDER, Joint.LEFT_HIP), (Joint.RIGHT_SHOULDER, Joint.RIGHT_HIP)


class GarmentOcclusion(Filter):
    """Looks at points fixed to the body (trunk, thighs, or both, by the pair's part) through the clip.

    Each point shows the garment, or something before it, or neither. Points of the front and of the back are kept
    apart, so that a turn shows new ones. A point that shows the garment in any frame can be recovered by a model;
    one that is hidden in all of them cannot.
    """

    needs: ClassVar[tuple[str, ...]] = ("pose", "hands", "parsing")
    metrics: ClassVar[dict[str, Metric]] = {
        "garment_visible_share": Metric(
            "share of the picture that shows the garment, mean over frames", "share", (0, 1), (0.02, None)
        ),
        "garment_occlusion": Metric(
            "share of the garment hidden by hands, hair or things, mean over frames", "share", (0, 1), (None, 0.4)
        ),
        "garment_never_seen": Metric(
            "share of the garment hidden in every frame that its place faces the camera", "share", (0, 1), (None, 0.2)
        ),
    }

    def measure(self, clip: Clip) -> dict[str, float]:
        """Occlusion is left out where no point is ever on the garment or hidden."""
        parsing: NDArray[np.uint8] = clip.artifacts["parsing"]
        garment = np.isin(np.arange(256), GARMENT_LABELS[clip.pair.part])
        visible = {"garment_visible_share": float(garment[parsing[:, ::STRIDE, ::STRIDE]].mean())}
        points = body_points(clip.artifacts["pose"], clip.pair.part)
        labels = _labels_at(points, parsing)
        shown = (labels >= 0) & garment[labels]
        hidden = (labels >= 0) & ~shown & np.isin(labels, OCCLUDERS)
        hidden |= _under_arms(points, clip.artifacts["pose"]) & np.isin(labels, SKIN)
        hidden |= _under_hands(points, clip.artifacts["hands"]) & shown
        shown &= ~hidden
        judged = shown | hidden
        if not judged.any():
            return visible
        frames = judged.any(axis=1)
        return {
            **visible,
            "garment_occlusion": float((hidden.sum(axis=1)[frames] / judged.sum(axis=1)[frames]).mean()),
            "garment_never_seen": _never_seen(shown, hidden, _faces_camera(clip.artifacts["pose"])),
        }


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


def _labels_at(points: NDArray[np.float64], parsing: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(T, P) label under each point; -1 outside the picture or where the point is NaN."""
    frames, height, width = parsing.shape
    x, y = np.round(np.nan_to_num(points, nan=-1.0)).astype(np.int64).transpose(2, 0, 1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    labels = parsing[np.arange(frames)[:, None], y.clip(0, height - 1), x.clip(0, width - 1)]
    return np.where(inside, labels.astype(np.int64), -1)


def _under_arms(points: NDArray[np.float64], pose: Pose) -> NDArray[np.bool_]:
    """(T, P) whether a point lies on a forearm, or on the hand that it points to."""
    under = np.zeros(points.shape[:2], dtype=bool)
    for elbow, wrist in ((Joint.LEFT_ELBOW, Joint.LEFT_WRIST), (Joint.RIGHT_ELBOW, Joint.RIGHT_WRIST)):
        start = pose.keypoints[:, None, elbow].astype(np.float64)
        bone = pose.keypoints[:, None, wrist] - start
        length = np.maximum(np.linalg.norm(bone, axis=-1), 1e-6)
        place = ((points - start) * bone).sum(axis=-1) / length**2
        distance = np.linalg.norm(points - start - place.clip(0, 1.5)[..., None] * bone, axis=-1)
        found = np.asarray((pose.scores[:, [elbow, wrist]] > 0).all(axis=1))
        under |= found[:, None] & (distance < ARM_HALF_WIDTH * length)
    return under


def _under_hands(points: NDArray[np.float64], hands: Hands) -> NDArray[np.bool_]:
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


def _faces_camera(pose: Pose) -> NDArray[np.bool_]:
    """(T,) whether the person is seen from the front: their left shoulder and hip are to the right in the picture."""
    left, right = pose.keypoints[:, _LEFT, 0], pose.keypoints[:, _RIGHT, 0]
    return (left - right).sum(axis=1) >= 0


def _never_seen(shown: NDArray[np.bool_], hidden: NDArray[np.bool_], front: NDArray[np.bool_]) -> float:
    """Share of (point, side) that no frame shows, each weighed by the frames that it is judged in."""
    never = total = 0
    for view in (front, ~front):
        judged = (shown | hidden)[view].sum(axis=0)
        total += judged.sum()
        never += judged[~shown[view].any(axis=0)].sum()
    return float(never / total)
