"""All people of one picture, as DWPose's own program finds them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from preprocess.dwpose.detector import PersonDetector
from preprocess.dwpose.estimator import PoseEstimator


def everyone(
    image: NDArray[np.uint8], detector: PersonDetector, estimator: PoseEstimator
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Points (P, 133, 2) in px and scores (P, 133), not bounded, of the people in an (H, W, 3) RGB image.

    As in the published program P is never 0: where nobody is found, the whole picture is taken for one person.
    """
    (boxes,) = detector([image])
    if not len(boxes):
        height, width = image.shape[:2]
        boxes = np.array([[0, 0, width, height]], float)
    points, scores = zip(*estimator([image] * len(boxes), boxes), strict=True)
    return np.stack(points), np.stack(scores)
