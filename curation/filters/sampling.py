"""The frames that the model-free filters look at. They share them, so a clip is decoded once for all."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from media import FrameBatch, frames
from schemas.clip import Clip

SAMPLE_FPS = 5.0
"""Samples a second: close enough to see motion and freezes, far enough to skip frames that a rate conversion
repeated (a recording of 10 frames a second still changes with every sample)."""

SMALL_HEIGHT = 360
"""Height in px of `small_luma`: plenty for exposure, motion and borders."""

STILLS = 3
"""Full-size pictures a clip for the filters that measure compression and focus."""

_small: WeakKeyDictionary[FrameBatch, NDArray[np.uint8]] = WeakKeyDictionary()
_stills: WeakKeyDictionary[FrameBatch, list[NDArray[np.uint8]]] = WeakKeyDictionary()


def samples(clip: Clip) -> FrameBatch:
    """About `SAMPLE_FPS` frames a second, at the clip's own size."""
    return frames(clip, fps=SAMPLE_FPS)


def small_luma(clip: Clip) -> NDArray[np.uint8]:
    """(N, h, w) uint8 luma of `samples`, h at most `SMALL_HEIGHT`."""
    import cv2

    batch = samples(clip)
    if batch not in _small:
        height, width = batch.images.shape[1:3]
        scale = min(1.0, SMALL_HEIGHT / height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        _small[batch] = np.stack(
            [
                cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
                for image in batch.images
            ]
        )
    return _small[batch]


def still_lumas(clip: Clip) -> list[NDArray[np.uint8]]:
    """`STILLS` full-size (H, W) uint8 luma pictures, evenly spread over the clip; fewer from a tiny clip."""
    import cv2

    batch = samples(clip)
    if batch not in _stills:
        _stills[batch] = [cv2.cvtColor(batch.images[i], cv2.COLOR_RGB2GRAY) for i in spread(len(batch), STILLS)]
    return _stills[batch]


def sample_times(clip: Clip) -> NDArray[np.float64]:
    """(N,) seconds from the clip's start at which `samples` are shown."""
    return samples(clip).indices / float(clip.span.fps)


def spread(length: int, count: int) -> list[int]:
    """`count` indices in the middles of equal stretches of `range(length)`, without repeats."""
    return sorted({int((i + 0.5) * length / count) for i in range(count)})
