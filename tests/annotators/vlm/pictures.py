"""Pictures and frame times for tests."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

RATES = {"30": Fraction(30), "29.97": Fraction(30000, 1001), "25": Fraction(25), "24": Fraction(24)}


def times_of(frames: int, fps: Fraction | float) -> np.ndarray:
    """(frames,) seconds, as of a normalised clip."""
    return np.arange(frames) / float(fps)


def noise(frames: int, *, size: tuple[int, int] = (72, 54), seed: int = 0) -> np.ndarray:
    """Pictures no two of which are alike."""
    return np.random.default_rng(seed).integers(0, 256, (frames, *size, 3), dtype=np.uint8)
