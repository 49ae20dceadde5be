"""A clip as the model is shown it.

Shapes: T frames of the clip.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import media
from annotators.vlm.backend import Picture
from annotators.vlm.windows import Plan, Sampling, plan
from schemas.clip import Clip
from schemas.manifest import Part

EVERY_FRAME = 1000.0
"""Labels a second: the most that `Sampling` takes."""


@dataclass(frozen=True, eq=False)
class Footage:
    """Frames of a clip, small enough to be shown, with their times.

    Attributes:
        key: of the clip.
        part: which part of the outfit the pair's garment is.
        images: (T, H, W, 3) uint8 RGB.
        times: (T,) float64, seconds since the clip's begin.

    """

    key: str
    part: Part
    images: NDArray[np.uint8]
    times: NDArray[np.float64]

    @classmethod
    def of(cls, clip: Clip, *, max_side: int) -> Footage:
        """All frames of `clip`, their longer side at most `max_side` px."""
        span = clip.span
        height = int(min(span.height, max_side, max_side * span.height / span.width))
        images = media.frames(clip, height=height).images
        return cls(clip.key, clip.pair.part, images, np.arange(len(images)) / float(span.fps))

    def __len__(self) -> int:
        return len(self.times)

    def plan(self, sampling: Sampling, *, frames: range | None = None) -> Plan:
        """What is asked about the whole clip, or about each of `frames`, however little they differ."""
        if frames is None:
            return plan(self.images, self.times, sampling)
        run = slice(frames.start, frames.stop)
        return plan(self.images[run], self.times[run], sampling.model_copy(update={"rate": EVERY_FRAME, "still": 0.0}))

    def pictures(self, frames: Iterable[int]) -> list[Picture]:
        """These frames."""
        return [Picture(self.images[frame], float(self.times[frame])) for frame in frames]
