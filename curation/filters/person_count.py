"""Number of people: a sample shows one presenter."""

from __future__ import annotations

from typing import ClassVar

from schemas.clip import Clip
from schemas.metrics import Metric
from schemas.stage import Filter


class PersonCount(Filter):
    """Share of frames with more than one person."""

    needs: ClassVar[tuple[str, ...]] = ("person",)
    light: ClassVar[bool] = True
    metrics: ClassVar[dict[str, Metric]] = {
        "multi_person_share": Metric("share of frames that show more than one person", "share", (0, 1), (None, 0.2)),
    }

    def measure(self, clip: Clip) -> dict[str, float]:
        """From the counts of the person track."""
        return {"multi_person_share": float((clip.artifacts["person"].counts > 1).mean())}
