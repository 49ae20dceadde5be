"""Person cut off: the part of the body that wears the garment lies outside the picture."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from curation.filters.garment_parts import GARMENT_JOINTS
from schemas.clip import Clip
from schemas.conditions import Pose
from schemas.metrics import Metric
from schemas.stage import Filter

MARGIN = 0.01
"""How far outside, as share of the picture's size, a joint counts as inside: poses are that exact."""


class PersonCutOff(Filter):
    """Share of the joints under the garment that are outside the picture or not found; the head may be cut off.

    The default keeps trousers without ankles (a third of the joints) and drops a top without hips (a half).
    """

    needs: ClassVar[tuple[str, ...]] = ("pose",)
    light: ClassVar[bool] = True
    metrics: ClassVar[dict[str, Metric]] = {
        "cut_off_share": Metric(
            "share of the joints under the garment that are outside the picture, mean over frames",
            "share",
            (0, 1),
            (None, 0.4),
        ),
    }

    def measure(self, clip: Clip) -> dict[str, float]:
        """Over the frames in which a pose was found; 1 if there is none."""
        pose: Pose = clip.artifacts["pose"]
        joints = list(GARMENT_JOINTS[clip.pair.part])
        found = (pose.scores > 0).any(axis=1)
        if not found.any():
            return {"cut_off_share": 1.0}
        place = pose.keypoints[found][:, joints] / (clip.span.width, clip.span.height)
        inside = np.all((place >= -MARGIN) & (place <= 1 + MARGIN), axis=2) & (pose.scores[found][:, joints] > 0)
        return {"cut_off_share": float(1 - inside.mean())}
