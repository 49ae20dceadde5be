"""Freeze: a picture that stands still, as in a stalled stream or a slide show."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from curation.filters.sampling import sample_times, small_luma
from schemas.clip import Clip
from schemas.metrics import Metric
from schemas.stage import Filter

TILE = 8
"""Side in px of the small picture's tiles that are compared."""

CODEC_NOISE = 3.0
"""Levels by which the mean of a tile may wander between two encodings of one picture."""


class Freeze(Filter):
    """Share of the clip in which no tile of the picture changes from one sample to the next.

    Samples are 0.2 s apart, so frames that a rate conversion repeated do not count, and one moving hand is motion
    enough.
    """

    metrics: ClassVar[dict[str, Metric]] = {
        "frozen_share": Metric("share of the clip in which the picture stands still", "share", (0, 1), (None, 0.25)),
        "longest_freeze": Metric("longest time without any change of the picture", "s", (0, None), (None, 1.0)),
    }

    def measure(self, clip: Clip) -> dict[str, float]:
        """Nothing for a clip of one sample."""
        if len(small_luma(clip)) < 2:
            return {}
        stands = _stands_still(small_luma(clip))
        gaps = np.diff(sample_times(clip))
        longest = running = 0.0
        for gap, still in zip(gaps, stands, strict=True):
            running = running + gap if still else 0.0
            longest = max(longest, running)
        return {"frozen_share": float(gaps[stands].sum() / gaps.sum()), "longest_freeze": longest}


def _stands_still(luma: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(N - 1,) whether each picture of (N, h, w) is followed by itself."""
    import cv2

    size = (max(1, luma.shape[2] // TILE), max(1, luma.shape[1] // TILE))
    tiles = [cv2.resize(picture.astype(np.float32), size, interpolation=cv2.INTER_AREA) for picture in luma]
    return np.array([np.abs(after - before).max() <= CODEC_NOISE for before, after in pairwise(tiles)])
