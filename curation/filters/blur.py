"""Blur: out of focus, smeared, or scaled up from a small picture."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from curation.filters.sampling import still_lumas
from schemas.clip import Clip
from schemas.metrics import Metric
from schemas.stage import Filter


class Blur(Filter):
    """How little a picture changes when it is blurred once more."""

    metrics: ClassVar[dict[str, Metric]] = {
        "blur": Metric("share of edge contrast that a second blur leaves; 0 is sharp", "share", (0, 1), (None, 0.55)),
    }

    def measure(self, clip: Clip) -> dict[str, float]:
        """Median over the stills."""
        return {"blur": float(np.median([blur_of(luma) for luma in still_lumas(clip)]))}


def blur_of(luma: NDArray[np.uint8], *, size: int = 11) -> float:
    """Perceptual blur of an (H, W) uint8 picture, 0 (sharp) to 1.

    Crete et al., "The blur effect: perception and estimation with a new no-reference perceptual blur metric"
    (SPIE 2007): smooth over `size` px and see how much of the neighbouring pixels' difference goes. Edges weigh by
    their contrast, so a blurred background behind a sharp person counts little. A picture without any edge is 1.
    """
    import cv2

    return max(
        _kept(picture, cv2.blur(picture, kernel)) for picture, kernel in ((luma, (size, 1)), (luma.T, (size, 1)))
    )


def _kept(picture: NDArray[Any], smooth: NDArray[Any]) -> float:
    import cv2

    before = cv2.absdiff(picture[:, 1:], picture[:, :-1])
    after = cv2.absdiff(smooth[:, 1:], smooth[:, :-1])
    contrast = float(before.sum())
    return 1.0 - float(cv2.subtract(before, after).sum()) / contrast if contrast else 1.0
