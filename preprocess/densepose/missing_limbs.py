"""Missing limbs: what the pose sees of the person and DensePose lacks."""

from __future__ import annotations

from typing import ClassVar

from preprocess.densepose.limbs import View, limb_views
from schemas.clip import Clip
from schemas.metrics import Metric
from schemas.stage import Filter


class MissingLimbs(Filter):
    """Hands, feet, and both halves of arms and legs, each in every frame in which the pose sees both its ends.

    A limb is missing where DensePose has nothing around its bone. One whose place another part of the body takes is
    not judged: it may be behind that.
    """

    needs: ClassVar[tuple[str, ...]] = ("pose", "densepose")
    metrics: ClassVar[dict[str, Metric]] = {
        "missing_limbs": Metric(
            "share of the limbs that the pose sees which DensePose lacks, over all frames", "share", (0, 1), (None, 0.3)
        ),
    }

    def measure(self, clip: Clip) -> dict[str, float]:
        """Left out where the pose sees no limb."""
        views = limb_views(clip.artifacts["densepose"], clip.artifacts["pose"])
        missing, shown = int((views == View.MISSING).sum()), int((views == View.SHOWN).sum())
        return {"missing_limbs": missing / (missing + shown)} if missing + shown else {}
