"""Whole-body points of people whose boxes are known, by DWPose's network.

Shapes: K = 133 points of COCO-WholeBody, in windows of 288×384 px.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocess.dwpose.network import Device, Float32, Network, Signature, Tensor
from preprocess.dwpose.window import HEIGHT, WIDTH, window_pixels, windows
from schemas.conditions import POSE_POINTS

_BINS = 2
"""Bins a px of the window, along either axis."""
_MEAN = np.array([123.675, 116.28, 103.53])
_DEVIATION = np.array([58.395, 57.12, 57.375])
_NORMALISED = ((np.arange(256)[:, None] - _MEAN) / _DEVIATION).astype(np.float32)
"""(256, 3): what the network is fed for each grey of its three channels."""

SIGNATURE = Signature(
    Tensor("input", (3, HEIGHT, WIDTH)),
    (Tensor("simcc_x", (POSE_POINTS, WIDTH * _BINS)), Tensor("simcc_y", (POSE_POINTS, HEIGHT * _BINS))),
)

Points = tuple[NDArray[np.float64], Float32]
"""(133, 2) x y in px of the picture, and (133,) scores as the network has them: about 0..1, but not bounded."""
_Seen = tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]
"""A picture, and centre and size of the window in it."""


class PoseEstimator:
    """DWPose's pose network.

    Args:
        file: ONNX: `input` (N, 3, 384, 288) to `simcc_x` (N, 133, 576) and `simcc_y` (N, 133, 768).
        device, batch: as `Network` takes them.

    Raises:
        WeightsError: the file is not such a network.

    """

    def __init__(self, file: Path, *, device: Device = "auto", batch: int = 16) -> None:
        self._network = Network(file, SIGNATURE, device=device, batch=batch)

    def __call__(self, images: Sequence[NDArray[np.uint8]], boxes: NDArray[np.floating]) -> Iterator[Points]:
        """Points of the person in each of (N, 4) boxes x0 y0 x1 y1 in px, of N images (H, W, 3) RGB."""
        seen = list(zip(images, *windows(boxes), strict=True))
        return self._network.map(seen, _window, _points)


def normalised(pixels: NDArray[np.uint8]) -> Float32:
    """(3, 384, 288) float32 that the network is fed for (384, 288, 3) uint8 RGB: BGR under RGB's mean and deviation."""
    fed = cv2.LUT(np.ascontiguousarray(pixels[..., ::-1]), _NORMALISED[None])
    return np.asarray(fed, np.float32).transpose(2, 0, 1)


def _window(seen: _Seen) -> Float32:
    return normalised(window_pixels(*seen))


def _points(seen: _Seen, outputs: tuple[Float32, ...]) -> Points:
    _, centre, size = seen
    bins, scores = simcc_peaks(*outputs)
    return bins / _BINS / (WIDTH, HEIGHT) * size + centre - size / 2, scores


def simcc_peaks(along_x: Float32, along_y: Float32) -> tuple[NDArray[np.float64], Float32]:
    """Bins (K, 2) and scores (K,) of the peaks of (K, 576) and (K, 768) SimCC (Li et al., 2022).

    A point is as sure as the lower of its peaks. One without any, of score 0 or less, lies in bin -1 of both axes.
    """
    bins = np.stack([along_x.argmax(1), along_y.argmax(1)], axis=1).astype(np.float64)
    scores = np.minimum(along_x.max(1), along_y.max(1))
    bins[scores <= 0] = -1
    return bins, scores
