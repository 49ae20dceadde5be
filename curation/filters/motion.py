"""Motion: of what the picture shows, and of the camera."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from curation.filters.sampling import sample_times, small_luma
from schemas.clip import Clip
from schemas.metrics import Metric
from schemas.stage import Filter

HEIGHT = 180
CELL = 8
"""Side in px of the cells, of a picture of `HEIGHT`, that give one corner each."""

WEAKEST_CORNER = 1e-4
"""Smaller eigenvalue of the gradients' covariance (OpenCV's scale for 8 bits) from which a corner can be tracked."""

SIDE = 0.2
"""Share of the width at the left and at the right that is taken for background."""

FEWEST = 8
"""Corners that an estimate of the camera's motion needs; a plain backdrop has less and tells nothing."""


class Motion(Filter):
    """Speeds in per cent of the picture's height a second, whatever the frame rate and size.

    `motion` is dense optical flow by DIS (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV
    2016). `camera_motion` tracks corners (Shi and Tomasi, CVPR 1994) at the picture's sides by pyramidal
    Lucas-Kanade (Bouguet, 2001): dense flow spreads a person's motion into a plain background, corners do not.
    """

    metrics: ClassVar[dict[str, Metric]] = {
        "motion": Metric("mean speed of what the picture shows, per cent of its height", "%/s", (0, None), (0.1, None)),
        "camera_motion": Metric(
            "speed of the background (mean over time of its median corner): pans and shake",
            "%/s",
            (0, None),
            (None, 40),
        ),
    }

    def measure(self, clip: Clip) -> dict[str, float]:
        """Nothing for a clip of one sample."""
        luma = _shrink(small_luma(clip))
        if len(luma) < 2:
            return {}
        per_cent_a_second = 100 / luma[0].shape[0] / np.diff(sample_times(clip))
        return {
            "motion": float((_flow_speeds(luma) * per_cent_a_second).mean()),
            "camera_motion": float((_camera_speeds(luma) * per_cent_a_second).mean()),
        }


def _flow_speeds(luma: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """(N - 1,) mean length of the flow from each picture to the next, in px."""
    import cv2

    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    at_rest = np.zeros((*luma[0].shape, 2), dtype=np.float32)
    flows = (dis.calc(before, after, at_rest.copy()) for before, after in pairwise(luma))
    return np.array([cv2.magnitude(flow[..., 0], flow[..., 1]).mean() for flow in flows], dtype=np.float64)


def _camera_speeds(luma: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """(N - 1,) length of the median move of the background's corners from each picture to the next, in px."""
    import cv2

    speeds = np.zeros(len(luma) - 1)
    for i, (before, after) in enumerate(pairwise(luma)):
        corners = _side_corners(before)
        if len(corners) < FEWEST:
            continue
        found, status, _ = cv2.calcOpticalFlowPyrLK(
            before, after, corners, corners.copy(), winSize=(15, 15), maxLevel=3
        )
        moves = (found - corners)[status[:, 0] == 1]
        if len(moves) >= FEWEST:
            speeds[i] = np.linalg.norm(np.median(moves, axis=0))
    return speeds


def _side_corners(luma: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(K, 2) x y of the best corner of each cell at the sides, if it is one: each place weighs the same."""
    import cv2

    rows, columns = luma.shape[0] // CELL, luma.shape[1] // CELL
    strength = cv2.cornerMinEigenVal(luma, 3)[: rows * CELL, : columns * CELL]
    cells = strength.reshape(rows, CELL, columns, CELL).swapaxes(1, 2).reshape(rows, columns, -1)
    strong = cells.max(axis=2) >= WEAKEST_CORNER
    strong[:, round(SIDE * columns) : round((1 - SIDE) * columns)] = False
    row, column = np.nonzero(strong)
    inside = cells.argmax(axis=2)[row, column]
    return np.stack([column * CELL + inside % CELL, row * CELL + inside // CELL], axis=1).astype(np.float32)


def _shrink(luma: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    import cv2

    scale = min(1.0, HEIGHT / luma.shape[1])
    size = (max(1, round(luma.shape[2] * scale)), max(1, round(luma.shape[1] * scale)))
    return [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in luma]
