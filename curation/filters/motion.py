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
CORNERS = 200
RIM = 0.15
"""Share of width and height at each side that is taken for background: a person is rarely most of it."""

FEWEST = 8
"""Corners that an estimate of the camera's motion needs; a plain backdrop has less and tells nothing."""


class Motion(Filter):
    """Speeds in per cent of the picture's height a second, whatever the frame rate and size.

    `motion` is dense optical flow by DIS (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV
    2016). `camera_motion` tracks Shi-Tomasi corners of the picture's rim by pyramidal Lucas-Kanade (Bouguet, 2001):
    dense flow spreads a person's motion into a plain background, corners do not.
    """

    metrics: ClassVar[dict[str, Metric]] = {
        "motion": Metric("mean speed of what the picture shows, per cent of its height", "%/s", (0, None), (0.3, None)),
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
    """(N - 1,) length of the median move of the rim's corners from each picture to the next, in px."""
    import cv2

    speeds = np.zeros(len(luma) - 1)
    rim = _rim(*luma[0].shape)
    for i, (before, after) in enumerate(pairwise(luma)):
        corners = cv2.goodFeaturesToTrack(before, CORNERS, 0.01, 5, mask=rim)
        if corners is None:
            continue
        found, status, _ = cv2.calcOpticalFlowPyrLK(
            before, after, corners, corners.copy(), winSize=(15, 15), maxLevel=3
        )
        moves = (found - corners)[status[:, 0] == 1, 0]
        if len(moves) >= FEWEST:
            speeds[i] = np.linalg.norm(np.median(moves, axis=0))
    return speeds


def _rim(height: int, width: int) -> NDArray[np.uint8]:
    rim = np.ones((height, width), dtype=np.uint8)
    rim[round(RIM * height) : round((1 - RIM) * height), round(RIM * width) : round((1 - RIM) * width)] = 0
    return rim


def _shrink(luma: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    import cv2

    scale = min(1.0, HEIGHT / luma.shape[1])
    size = (max(1, round(luma.shape[2] * scale)), max(1, round(luma.shape[1] * scale)))
    return [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in luma]
