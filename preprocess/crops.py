"""Where to look in each frame: crops that follow a person smoothly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.clip import Span

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in px, the last ones exclusive."""

SLIMMEST = 0.56
"""Least ratio of a crop's sides (9:16): models that squeeze it into a square were trained on such pictures."""


def crop_boxes(boxes: NDArray[np.float32], span: Span, *, margin: float) -> list[Box]:
    """A crop for each frame around `boxes` ((T, 4), zeros where nobody is found): roomy, smooth, inside the frame.

    Frames without a box take one from those around them; a clip without any is not cropped. `margin` is over the
    longer side of the box.
    """
    from scipy.ndimage import maximum_filter1d, minimum_filter1d, uniform_filter1d

    found = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    if not found.any():
        return [(0, 0, span.width, span.height)] * len(boxes)
    index = np.arange(len(boxes))
    whole = np.stack([np.interp(index, index[found], boxes[found, side]) for side in range(4)], axis=1)
    window = 2 * round(float(span.fps) / 4) + 1
    low = uniform_filter1d(minimum_filter1d(whole[:, :2], window, axis=0), window, axis=0)
    high = uniform_filter1d(maximum_filter1d(whole[:, 2:], window, axis=0), window, axis=0)
    room = margin * (high - low).max(1, keepdims=True)
    low, high = low - room, high + room
    sides = high - low
    missing = np.maximum(SLIMMEST * sides[:, ::-1] - sides, 0) / 2
    # In steps of 8 px, so that a trembling box does not move the model's sampling grid in every frame.
    low = np.floor((low - missing) / 8) * 8
    high = np.ceil((high + missing) / 8) * 8
    limit = np.array([span.width, span.height])
    low = low.clip(0, limit - 1).astype(int)
    high = np.maximum(high.clip(0, limit).astype(int), low + 1)
    return [(int(x0), int(y0), int(x1), int(y1)) for (x0, y0), (x1, y1) in zip(low, high, strict=True)]
