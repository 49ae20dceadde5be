"""Names for the joints of COCO-WholeBody, and how large a person appears."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from schemas.conditions import Pose

SEEN = 0.3
"""Score from which a keypoint counts as seen (DWPose draws from here, too)."""


class Joint(IntEnum):
    """Body joints of COCO-WholeBody; left and right are the person's own."""

    NOSE = 0
    LEFT_EYE = 1
    RIGHT_EYE = 2
    LEFT_EAR = 3
    RIGHT_EAR = 4
    LEFT_SHOULDER = 5
    RIGHT_SHOULDER = 6
    LEFT_ELBOW = 7
    RIGHT_ELBOW = 8
    LEFT_WRIST = 9
    RIGHT_WRIST = 10
    LEFT_HIP = 11
    RIGHT_HIP = 12
    LEFT_KNEE = 13
    RIGHT_KNEE = 14
    LEFT_ANKLE = 15
    RIGHT_ANKLE = 16
    LEFT_BIG_TOE = 17
    LEFT_SMALL_TOE = 18
    LEFT_HEEL = 19
    RIGHT_BIG_TOE = 20
    RIGHT_SMALL_TOE = 21
    RIGHT_HEEL = 22


HAND_START = (91, 112)
"""First of the 21 hand keypoints, left and right."""

_BONES = (
    (Joint.LEFT_SHOULDER, Joint.RIGHT_SHOULDER, 0.36),
    (Joint.LEFT_SHOULDER, Joint.LEFT_HIP, 0.50),
    (Joint.RIGHT_SHOULDER, Joint.RIGHT_HIP, 0.50),
    (Joint.LEFT_SHOULDER, Joint.LEFT_ELBOW, 0.29),
    (Joint.RIGHT_SHOULDER, Joint.RIGHT_ELBOW, 0.29),
    (Joint.LEFT_ELBOW, Joint.LEFT_WRIST, 0.25),
    (Joint.RIGHT_ELBOW, Joint.RIGHT_WRIST, 0.25),
    (Joint.LEFT_HIP, Joint.LEFT_KNEE, 0.42),
    (Joint.RIGHT_HIP, Joint.RIGHT_KNEE, 0.42),
    (Joint.LEFT_KNEE, Joint.LEFT_ANKLE, 0.40),
    (Joint.RIGHT_KNEE, Joint.RIGHT_ANKLE, 0.40),
)
"""Bones and their usual length in metres, for an adult of 1.70 m (shares of height: Winter, Biomechanics, 2009)."""


def pixels_per_metre(pose: Pose, *, window: int = 31) -> NDArray[np.float64]:
    """(T,) size at which the body appears, in px per metre at its own distance; NaN-free, 0 where no pose is.

    A bone can appear shorter than it is but not longer, so of the bones' own estimates an upper one (the third
    largest seen, against outliers) is taken; then a running median over `window` frames.
    """
    keypoints, scores = pose.keypoints.astype(float), pose.scores.astype(float)
    starts, ends, metres = (np.array(column) for column in zip(*_BONES, strict=True))
    starts, ends = starts.astype(int), ends.astype(int)
    estimates = np.linalg.norm(keypoints[:, starts] - keypoints[:, ends], axis=2) / metres
    estimates[np.minimum(scores[:, starts], scores[:, ends]) < SEEN] = 0
    scale = np.sort(estimates, axis=1)[:, -3]
    return _running_median(scale, window)


def _running_median(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Median of the positive values within `window` frames; 0 where there are none."""
    half = window // 2
    medians = np.zeros(len(values))
    for frame in range(len(values)):
        near = values[max(0, frame - half) : frame + half + 1]
        near = near[near > 0]
        medians[frame] = np.median(near) if near.size else 0.0
    return medians
