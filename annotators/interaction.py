"""How much of a clip is interaction."""

from __future__ import annotations

from typing import ClassVar

from schemas.annotation import Annotation
from schemas.clip import Clip
from schemas.metrics import Metric
from schemas.stage import Filter


class InteractionShare(Filter):
    """Drops clips in which nobody handles the garment. In the paper's data, 5 to 10 % of frames are interactive."""

    needs: ClassVar[tuple[str, ...]] = ("annotation",)
    light: ClassVar[bool] = True
    metrics: ClassVar[dict[str, Metric]] = {
        "interactive_share": Metric("share of frames with a labelled interaction", "share", (0, 1), (0.01, None)),
        "interaction_count": Metric("labelled interactions", "count", (0, None)),
    }

    def measure(self, clip: Clip) -> dict[str, float]:
        """Share of labelled frames, and number of segments."""
        annotation: Annotation = clip.artifacts["annotation"]
        share = sum(annotation.labels) / max(1, len(annotation.labels))
        return {"interactive_share": share, "interaction_count": float(len(annotation.actions))}
