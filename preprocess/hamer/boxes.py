"""Where the pose puts each hand: the boxes that HaMeR crops. Shape legend: T frames, sides left (0) and right (1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.body import HAND_START, SEEN, Joint
from schemas.conditions import HAND_POINTS, LEFT, RIGHT, Bool, Float32, Pose

SURE = 0.5
"""Confidence above which HaMeR trusts a keypoint of a hand."""
_LEAST_POINTS = 4
_SAME = 0.15  # of a hand's extent: keypoints closer than this on average are of one and the same hand
_ROWS = np.stack([np.arange(start, start + HAND_POINTS) for start in HAND_START])


def hand_boxes(pose: Pose, *, sure: float = SURE) -> tuple[Float32, Float32]:
    """Boxes of both hands: the extent of the keypoints surer than `sure`, if they are more than three.

    HaMeR's demo (Pavlakos et al., CVPR 2024).

    Returns:
        (T, 2, 4) float32, x0 y0 x1 y1 in px, zeros where there is none; and (T, 2) float32, the mean confidence of
        the keypoints inside, in 0..1, zero where there is none.

    """
    points, scores = pose.keypoints[:, _ROWS], pose.scores[:, _ROWS].astype(np.float32)
    valid = scores > sure
    found = valid.sum(2) >= _LEAST_POINTS
    low = np.where(valid[..., None], points, np.inf).min(2)
    high = np.where(valid[..., None], points, -np.inf).max(2)
    boxes = np.where(found[..., None], np.concatenate([low, high], axis=2), 0)
    confidence = np.where(found, (scores * valid).sum(2) / np.maximum(valid.sum(2), 1), 0)
    return boxes.astype(np.float32), confidence.clip(0, 1).astype(np.float32)


def worth_a_look(pose: Pose, boxes: Float32, confidence: Float32, *, height: int, width: int) -> Bool:
    """Which of `hand_boxes` show a hand of their own side: (T, 2) bool.

    A box must have a size and touch the picture. Where the pose draws both hands onto one and the same (the other is
    hidden), that hand is the side's whose arm ends nearer, so that it does not turn into its mirror image.
    """
    extent = (boxes[..., 2:] - boxes[..., :2]).max(-1)
    limit = np.array([width, height], np.float32)
    shown = (extent >= 1) & (boxes[..., 2:] >= 0).all(-1) & (boxes[..., :2] < limit).all(-1)
    hands = pose.keypoints[:, _ROWS]
    seen = np.all(pose.scores[:, _ROWS] > SEEN, axis=1)
    apart = np.linalg.norm(hands[:, LEFT] - hands[:, RIGHT], axis=2).sum(1, where=seen)
    twice = np.flatnonzero(shown.all(1) & seen.any(1) & (apart < _SAME * extent.max(1) * seen.sum(1)))
    shown[twice, 1 - _owner(pose, hands, confidence)[twice]] = False
    return shown


def _owner(pose: Pose, hands: Float32, confidence: Float32) -> NDArray[np.int64]:
    """The side (T,) whose wrist its hand is nearer to; without both wrists, the surer one."""
    wrists = [Joint.LEFT_WRIST, Joint.RIGHT_WRIST]
    away = np.linalg.norm(hands[:, :, 0] - pose.keypoints[:, wrists], axis=2)
    armed = (pose.scores[:, wrists] > SEEN).all(1)
    return np.where(armed, away.argmin(1), confidence.argmax(1))
