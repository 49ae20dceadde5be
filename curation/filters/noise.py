"""Noise: grain of a camera in the dark."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from curation.filters.sampling import still_lumas
from schemas.clip import Clip
from schemas.metrics import Metric
from schemas.stage import Filter

TILES = 8


class Noise(Filter):
    """Standard deviation of white noise, in levels of 8-bit luma."""

    metrics: ClassVar[dict[str, Metric]] = {
        "noise": Metric("standard deviation of the noise in luma", "levels", (0, 255), (None, 6.0)),
    }

    def measure(self, clip: Clip) -> dict[str, float]:
        """Median over the stills."""
        return {"noise": float(np.median([_noise(luma) for luma in still_lumas(clip)]))}


def _noise(luma: NDArray[np.uint8]) -> float:
    """Immerkær, "Fast noise variance estimation" (CVIU 1996), on the calmer quarter of the tiles.

    Noise is everywhere, texture is not: a knitted jumper fills some tiles but not the calmest ones.
    """
    import cv2

    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
    response = np.abs(cv2.filter2D(luma, cv2.CV_16S, kernel)).astype(np.float32)
    tiles = cv2.resize(response, (TILES, TILES), interpolation=cv2.INTER_AREA)
    return float(np.quantile(tiles, 0.25) * np.sqrt(np.pi / 2) / 6)
