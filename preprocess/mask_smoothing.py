"""Masks averaged over space and time, in whole numbers.

Shape legend: T frames, H×W pixels.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

CATV2TON_SIDE, CATV2TON_FRAMES = 15, 7


def smooth_mask(mask: Mask, *, side: int, frames: int, beyond: Literal["edge", "nothing"] = "edge") -> Mask:
    """(T, H, W) bool: mean over a square of `side` px, then over `frames` frames around each, more than a half.

    Sums of whole numbers, of which each pixel's is made from its neighbour's: exact, and as fast for large windows.
    `side` and `frames` are odd. Beyond the picture and the clip lies their "edge", repeated, or "nothing".
    """
    import cv2

    border = cv2.BORDER_REPLICATE if beyond == "edge" else cv2.BORDER_CONSTANT
    depth = cv2.CV_8U if side * side < 256 else cv2.CV_16U if side * side < 65536 else cv2.CV_32F
    count = len(mask)

    def summed(frame: int) -> NDArray[np.generic] | None:
        if beyond == "nothing" and not 0 <= frame < count:
            return None
        pixels = mask[min(max(frame, 0), count - 1)].view(np.uint8)
        return np.asarray(cv2.boxFilter(pixels, depth, (side, side), normalize=False, borderType=border))

    small = side * side * frames < 65536
    total = np.zeros(mask.shape[1:], np.uint16 if small else np.uint32)
    smooth = np.empty_like(mask)
    window: deque[NDArray[np.generic] | None] = deque()
    for frame in range(-(frames // 2), count + frames // 2):
        window.append(summed(frame))
        if window[-1] is not None:
            np.add(total, window[-1], out=total, casting="unsafe")
        if len(window) == frames:
            np.greater(total, side * side * frames // 2, out=smooth[frame - frames // 2])
            oldest = window.popleft()
            if oldest is not None:
                np.subtract(total, oldest, out=total, casting="unsafe")
    return smooth


def catv2ton_smooth(mask: Mask) -> Mask:
    """(T, H, W) bool, as CatV2TON smooths the masks of a video; the first and last three frames shrink by it."""
    return smooth_mask(mask, side=CATV2TON_SIDE, frames=CATV2TON_FRAMES, beyond="nothing")
