"""Garment occlusion: how much of the worn garment hands, hair and things hide, and whether it ever shows."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from curation.filters.body_points import body_points, faces_camera, labels_at, under_arms, under_hands
from schemas.clip import Clip
from schemas.conditions import Label
from schemas.metrics import Metric
from schemas.outfit import GARMENT_LABELS
from schemas.stage import Filter

OCCLUDERS = (
    Label.BACKGROUND, Label.HAT, Label.HAIR, Label.GLOVE, Label.SCARF, Label.FACE, Label.LEFT_ARM, Label.RIGHT_ARM,
    Label.BAG, Label.OTHER,
)  # fmt: skip
"""What hides a garment where a body wears it; background in the middle of a body is a thing before it. Legs, bare
torso and other garments are left out of account: there the garment ends."""

STRIDE = 4
"""Every so manieth row and column is enough for an area."""

SKIN = (Label.TORSO_SKIN, Label.LEFT_LEG, Label.RIGHT_LEG)
"""Parsing by the nearest bone may take an arm before the trunk for its skin: under an arm, this is an arm."""


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
            "share of the garment hidden by hands, hair or things, mean over frames", "share", (0, 1), (None, 0.5)
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
        labels = labels_at(points, parsing)
        shown = (labels >= 0) & garment[labels]
        hidden = (labels >= 0) & ~shown & np.isin(labels, OCCLUDERS)
        hidden |= under_arms(points, clip.artifacts["pose"]) & np.isin(labels, SKIN)
        hidden |= under_hands(points, clip.artifacts["hands"]) & shown
        shown &= ~hidden
        judged = shown | hidden
        if not judged.any():
            return visible
        frames = judged.any(axis=1)
        return {
            **visible,
            "garment_occlusion": float((hidden.sum(axis=1)[frames] / judged.sum(axis=1)[frames]).mean()),
            "garment_never_seen": _never_seen(shown, hidden, faces_camera(clip.artifacts["pose"])),
        }


def _never_seen(shown: NDArray[np.bool_], hidden: NDArray[np.bool_], front: NDArray[np.bool_]) -> float:
    """Share of (point, side) that no frame shows, each weighed by the frames that it is judged in."""
    never = total = 0
    for view in (front, ~front):
        judged = (shown | hidden)[view].sum(axis=0)
        total += judged.sum()
        never += judged[~shown[view].any(axis=0)].sum()
    return float(never / total)
