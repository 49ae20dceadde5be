"""Resolution of the recording."""

from __future__ import annotations

from typing import ClassVar

from schemas.clip import Clip
from schemas.metrics import Metric
from schemas.stage import Filter


class Resolution(Filter):
    """Size of the recording as shown, before the clip was scaled."""

    needs: ClassVar[tuple[str, ...]] = ()
    metrics: ClassVar[dict[str, Metric]] = {
        "short_side": Metric("shorter side of the recording's picture", "px", (1, None), (360, None)),
    }

    def measure(self, clip: Clip) -> dict[str, float]:
        """The shorter side."""
        return {"short_side": min(clip.source.width, clip.source.height)}
