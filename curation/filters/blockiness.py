"""Blockiness: edges on the grid of the codec's transform blocks."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from curation.filters.sampling import still_lumas
from schemas.clip import Clip
from schemas.metrics import Metric
from schemas.stage import Filter

GRID = 8.0
"""Pixels between block edges; the grids of all common codecs lie on multiples of it."""

INVISIBLE = 1
"""Luma steps up to this many levels are not seen, and every encoder leaves some on its grid."""


class Blockiness(Filter):
    """How much stronger steps between neighbouring pixels are on the block grid than off it.

    After Muijs and Kirenko, "A no-reference blocking artifact measure for adaptive video processing" (EUSIPCO
    2005): each step is divided by the mean step around it, so texture does not count. The grid is looked for at
    the size that the recording's 8 px have in the clip, at every offset.
    """

    metrics: ClassVar[dict[str, Metric]] = {
        "blockiness": Metric(
            "steps on the codec's block grid over steps off it; 1 is no trace of blocks",
            "ratio",
            (0, None),
            (None, 2.2),
        ),
    }

    def measure(self, clip: Clip) -> dict[str, float]:
        """Median over the stills."""
        shrunk = GRID * min(1.0, clip.span.height / clip.source.height)
        grids = {max(shrunk, 2.0), GRID}
        return {
            "blockiness": float(
                np.median([max(_blockiness(luma, grid) for grid in grids) for luma in still_lumas(clip)])
            )
        }


def _blockiness(luma: NDArray[np.uint8], grid: float) -> float:
    across, down = (_on_grid(_steps(picture), grid) for picture in (luma, luma.T))
    return float(np.sqrt(across * down))


def _steps(luma: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(W - 1,) mean over rows of the visible step from each column to the next, over the mean step nearby."""
    import cv2

    step = np.maximum(cv2.absdiff(luma[:, 1:], luma[:, :-1]), INVISIBLE).astype(np.float32) - INVISIBLE
    return (step / (cv2.blur(step, (9, 1)) + 1)).mean(axis=0)


def _on_grid(steps: NDArray[np.float64], grid: float) -> float:
    if len(steps) < 2 * grid:
        return 1.0
    position = np.arange(len(steps))
    best = 1.0
    for offset in range(round(grid)):
        edge = np.floor((position + 1 + offset) / grid) != np.floor((position + offset) / grid)
        best = max(best, (steps[edge].mean() + 1e-3) / (steps[~edge].mean() + 1e-3))
    return best
