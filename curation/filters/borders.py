"""Borders: letterbox and pillarbox bars."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from curation.filters.sampling import small_luma, spread
from schemas.clip import Clip
from schemas.metrics import Metric
from schemas.stage import Filter

FLAT_LEVELS = 4.0
"""Standard deviation over space and time up to which a row is one colour."""

EDGE_LEVELS = 8.0
"""Luma step from the bar to the picture that counts as an edge."""

EDGE_SHARE = 0.5
"""Share of the side along which the picture has to begin with an edge, at any time of the clip."""

SAMPLES = 8


class Borders(Filter):
    """Share of the picture under bars of one colour that end in a straight edge along the whole side.

    The edge tells a bar from a studio's plain backdrop: a person before a white wall leaves white rows above the
    head too, but the picture does not begin all along one line.
    """

    metrics: ClassVar[dict[str, Metric]] = {
        "border_share": Metric(
            "share of the picture covered by letterbox or pillarbox bars", "share", (0, 1), (None, 0.03)
        ),
    }

    def measure(self, clip: Clip) -> dict[str, float]:
        """On a few samples together."""
        luma = small_luma(clip)
        picture = without_bars(luma)
        return {"border_share": 1.0 - (picture.shape[1] * picture.shape[2]) / (luma.shape[1] * luma.shape[2])}


def without_bars(luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The part of (N, h, w) pictures of one clip that no bar covers; a view."""
    seen = luma[spread(len(luma), SAMPLES)]
    sideways = seen.transpose(0, 2, 1)
    bottom, right = luma.shape[1] - _bar(seen[:, ::-1]), luma.shape[2] - _bar(sideways[:, ::-1])
    return luma[:, _bar(seen) : bottom, _bar(sideways) : right]


def _bar(luma: NDArray[np.uint8]) -> int:
    """How many rows of (N, h, w) are a bar at the top."""
    rows = luma.shape[1]
    flat = (luma.std(axis=(0, 2)) <= FLAT_LEVELS) & (np.abs(luma.mean(axis=(0, 2)) - luma[:, 0].mean()) <= FLAT_LEVELS)
    depth = rows if flat.all() else int(np.argmin(flat))
    if depth in (0, rows):
        return 0
    step = np.abs(luma[:, depth : depth + 3].astype(np.float32) - luma[:, 0].mean()).max(axis=(0, 1))
    return depth if (step > EDGE_LEVELS).mean() >= EDGE_SHARE else 0
