"""Exposure: black, white and flat pictures, fades and flashes."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from curation.filters.sampling import small_luma
from schemas.clip import Clip
from schemas.metrics import Metric
from schemas.stage import Filter

FLAT = 20
"""A picture is flat if 90 % of its luma lies within this many levels: black, white, a fade's end, a lens cap."""


class Exposure(Filter):
    """Mean luma, its change over the clip, and the share of pictures that show nothing."""

    metrics: ClassVar[dict[str, Metric]] = {
        "luma": Metric("mean luma of the clip", "levels", (0, 255), (25, 245)),
        "luma_change": Metric(
            "mean luma of the brightest less that of the darkest frame: fades and flashes",
            "levels",
            (0, 255),
            (None, 60),
        ),
        "flat_share": Metric("share of frames that show hardly any contrast", "share", (0, 1), (None, 0.05)),
    }

    def measure(self, clip: Clip) -> dict[str, float]:
        """On all samples."""
        luma = small_luma(clip)
        means = luma.mean(axis=(1, 2))
        low, high = np.percentile(luma[:, ::4, ::4].reshape(len(luma), -1), (5, 95), axis=1)
        return {
            "luma": float(means.mean()),
            "luma_change": float(np.ptp(means)),
            "flat_share": float((high - low < FLAT).mean()),
        }
