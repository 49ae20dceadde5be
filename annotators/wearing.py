"""Where the garment of the pair is, and the wearer's own axes: what contact is measured against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.body import Joint
from schemas.conditions import Label, Pose
from schemas.manifest import Part
from schemas.outfit import GARMENT_LABELS

Points = NDArray[np.float64]

_EDGE_ROWS = 160  # rows of a parsing map that are enough to find the garment's edges
_EDGE_PERCENTILES = (1, 99)  # of garment pixels; stray ones lie beyond

OWN_ARM = (Label.LEFT_ARM, Label.RIGHT_ARM)
"""Label of the bare arm and hand of either side, left first."""
_NO_BODY = (Label.BACKGROUND, Label.BAG, Label.OTHER)


def garment_map(labels: NDArray[np.uint8], part: Part) -> NDArray[np.bool_]:
    """Pixels of the pair's garment in a map of `schemas.conditions.Label`, any shape."""
    return np.isin(labels, GARMENT_LABELS[part])


def body_map(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels of the person, dressed or bare, in a map of `schemas.conditions.Label`, any shape."""
    return ~np.isin(labels, _NO_BODY)


@dataclass(frozen=True, eq=False)
class BodyAxes:
    """The wearer's own axes through a clip of T frames.

    Attributes:
        shoulders, hips: (T, 2) float64, their middles, in px.
        down: (T, 2) unit vectors from shoulders to hips.
        across: (T, 2) unit vectors square to `down`, towards the wearer's left.

    """

    shoulders: Points
    hips: Points
    down: Points
    across: Points

    @classmethod
    def of(cls, pose: Pose) -> BodyAxes:
        """Axes of the torso; where there is no pose, those of the picture, facing the camera."""
        keypoints = pose.keypoints.astype(float)
        left = keypoints[:, [Joint.LEFT_SHOULDER, Joint.LEFT_HIP]]
        right = keypoints[:, [Joint.RIGHT_SHOULDER, Joint.RIGHT_HIP]]
        shoulders, hips = np.moveaxis((left + right) / 2, 1, 0)
        length = np.linalg.norm(hips - shoulders, axis=1, keepdims=True)
        down = np.where(length > 0, (hips - shoulders) / np.maximum(length, 1e-6), (0.0, 1.0))
        across = np.stack([down[:, 1], -down[:, 0]], axis=1)
        facing_away = ((left - right).sum(1) * across).sum(1) < 0
        return cls(shoulders=shoulders, hips=hips, down=down, across=np.where(facing_away[:, None], -across, across))

    def level(self, points: Points) -> NDArray[np.float64]:
        """(T,) how far down the spine each of (T, 2) px `points` is: 0 at the shoulders, 1 at the hips or below."""
        torso = self.hips - self.shoulders
        along = ((points - self.shoulders) * torso).sum(1) / np.maximum((torso**2).sum(1), 1e-6)
        return np.clip(along, 0, 1)

    def spine(self, level: NDArray[np.float64], frames: NDArray[np.intp]) -> Points:
        """(N, 2) px places on the spine at `level` (N,) in `frames` (N,)."""
        return self.shoulders[frames] + level[:, None] * (self.hips - self.shoulders)[frames]

    def project(self, points: Points, frame: int) -> Points:
        """(N, 2) coordinates of (N, 2) px `points` along `across` and `down` from between the hips, in px."""
        offset = points - self.hips[frame]
        return np.stack([offset @ self.across[frame], offset @ self.down[frame]], axis=1)


def garment_places(
    points: Points, parsing: NDArray[np.uint8], axes: BodyAxes, *, part: Part, window: int
) -> NDArray[np.float64]:
    """Where (T, 2, 2) px `points`, one a side, lie in the garment's own frame.

    The frame spans the garment along the wearer's axes: x from the right edge (0) to the left one (1), y from the
    top (0) to the bottom (1), as of `schemas.conditions.Contact`. Its edges are medians over `window` frames around
    each, so that a hand that hides an edge does not move it. Zeros where the garment is never seen.
    """
    frames = len(points)
    edges = np.full((frames, 2, 2), np.nan)  # right and top, left and bottom
    for frame in range(frames):
        step = max(1, parsing.shape[1] // _EDGE_ROWS)
        rows, columns = np.nonzero(garment_map(parsing[frame, ::step, ::step], part))
        if len(rows):
            pixels = axes.project(np.stack([columns, rows], axis=1).astype(float) * step, frame)
            edges[frame] = np.percentile(pixels, _EDGE_PERCENTILES, axis=0)
    places = np.zeros((frames, 2, 2))
    for frame in range(frames):
        near = edges[max(0, frame - window // 2) : frame + window // 2 + 1]
        near = near[np.isfinite(near[:, 0, 0])]
        if len(near):
            low, high = np.median(near, axis=0)
            places[frame] = (axes.project(points[frame], frame) - low) / np.maximum(high - low, 1.0)
    return places
