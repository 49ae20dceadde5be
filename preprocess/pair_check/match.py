"""Pair check without a model: colours and patterns of the garment image against those of the garment worn."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from preprocess.pair_check.cuts import cut_out, worn_cuts
from preprocess.pair_check.statistics import colour_match, colours, pattern_match
from schemas.clip import Clip
from schemas.metrics import Metric
from schemas.stage import Filter


class PairMatch(Filter):
    """Compares the garment image with the garment worn, frame by frame; the median over frames counts.

    Light, shadow and the camera's white balance change colours, folds add edges: the bound on colour only drops what
    is another colour altogether, and there is none on pattern. Two black shirts match, whoever made them. Nothing is
    measured for a pair without a garment image, whose garment was cut out of this very clip.
    """

    needs: ClassVar[tuple[str, ...]] = ("video", "parsing", "garment", "garment_mask")
    uses: ClassVar[tuple[str, ...]] = ("garment_track",)
    metrics: ClassVar[dict[str, Metric]] = {
        "garment_colour_match": Metric(
            "likeness of the colours of the garment image and of the garment worn; 1 are the same in the same shares",
            "", (0, 1), (0.15, None),
        ),
        "garment_pattern_match": Metric(
            "likeness of their patterns: edges in lightness and colour, by scale and direction", "", (0, 1)
        ),
    }  # fmt: skip

    frames: int = Field(
        default=8, ge=1, description="Frames looked at, evenly spread over those that show the garment."
    )
    tolerance: float = Field(
        default=12.0, gt=0, description="Colour difference (CIE94, textiles) at which likeness has fallen to 1/e."
    )

    def measure(self, clip: Clip) -> dict[str, float]:
        """Nothing where the garment is not to be seen, in its image or worn."""
        if clip.pair.garment is None:
            return {}
        garment = cut_out(clip.artifacts["garment"], clip.artifacts["garment_mask"])
        worn = worn_cuts(clip, most=self.frames)
        if garment is None or not worn:
            return {}
        wanted = colours(garment)
        by_colour = [colour_match(wanted, colours(cut), tolerance=self.tolerance) for cut in worn]
        by_pattern = [pattern_match(garment, cut) for cut in worn]
        return {
            "garment_colour_match": float(np.median(by_colour)),
            "garment_pattern_match": float(np.median(by_pattern)),
        }
