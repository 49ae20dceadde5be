"""People in pictures, by YOLOX-L as DWPose runs it.

Shapes: H×W the picture, 8400 = 80² + 40² + 20² cells of the detector's grids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocess.dwpose.network import Device, Float32, Network, Signature, Tensor

SIDE = 640
"""Of the detector's square input, px."""
STRIDES = (8, 16, 32)
_CELLS = sum((SIDE // stride) ** 2 for stride in STRIDES)
_PERSON = 5
"""Column of the first class, person: before it are the box and whether there is anything."""
_GREY = 114

SIGNATURE = Signature(Tensor("images", (3, SIDE, SIDE)), (Tensor("output", (_CELLS, 85)),))

Boxes = NDArray[np.float64]


class PersonDetector:
    """YOLOX over a file with raw outputs.

    Args:
        file: ONNX: `images` (N, 3, 640, 640) to `output` (N, 8400, 85), not yet decoded.
        least_score: above which a box is a person.
        most_overlap: intersection over union up to which two boxes are two people.
        device, batch: as `Network` takes them.

    Raises:
        WeightsError: the file is not such a network.

    """

    def __init__(
        self,
        file: Path,
        *,
        least_score: float = 0.3,
        most_overlap: float = 0.45,
        device: Device = "auto",
        batch: int = 16,
    ) -> None:
        self._network = Network(file, SIGNATURE, device=device, batch=batch)
        self._least_score, self._most_overlap = least_score, most_overlap

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> Iterator[Boxes]:
        """(P, 4) boxes x0 y0 x1 y1 in px, surest first, for each (H, W, 3) RGB image; they may reach beyond it."""
        return self._network.map(images, letterbox, self._people)

    def _people(self, image: NDArray[np.uint8], outputs: tuple[Float32, ...]) -> Boxes:
        boxes, scores = people(outputs[0], ratio=_ratio(image), least_score=self._least_score)
        return boxes[distinct(boxes, scores, most_overlap=self._most_overlap)]


def letterbox(image: NDArray[np.uint8]) -> Float32:
    """(3, 640, 640) float32 BGR in 0..255 of an (H, W, 3) RGB image: shrunk or grown to fit, top left on grey."""
    height, width = image.shape[:2]
    ratio = _ratio(image)
    square = np.full((SIDE, SIDE, 3), _GREY, np.uint8)
    fitting = max(1, int(width * ratio)), max(1, int(height * ratio))
    square[: fitting[1], : fitting[0]] = cv2.resize(image, fitting, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(square[..., ::-1].transpose(2, 0, 1), np.float32)


def people(raw: Float32, *, ratio: float, least_score: float) -> tuple[Boxes, NDArray[np.float64]]:
    """Boxes (P, 4) in px of the picture, and their scores (P,), of (8400, 85) raw outputs of the detector.

    `ratio` is that of the detector's input to the picture. Only people above `least_score`, still overlapping.
    """
    scores = (raw[:, 4] * raw[:, _PERSON]).astype(np.float64)
    chosen = np.flatnonzero(scores > least_score)
    cells, strides = _grid()
    centres = (raw[chosen, :2] + cells[chosen]) * strides[chosen]
    halves = np.exp(raw[chosen, 2:4]) * strides[chosen] / 2
    boxes = np.concatenate([centres - halves, centres + halves], axis=1) / np.float32(ratio)
    return boxes.astype(np.float64), scores[chosen]


def distinct(boxes: Boxes, scores: NDArray[np.float64], *, most_overlap: float) -> NDArray[np.intp]:
    """Which of (P, 4) boxes stay, surest first, if none may overlap a surer one by more than `most_overlap`.

    Greedy non-maximum suppression. A box is a px wider and higher than its corners are apart, as in YOLOX's own.
    """
    left = scores.argsort(kind="stable")[::-1]
    areas = (boxes[:, 2:] - boxes[:, :2] + 1).prod(1)
    kept = []
    while left.size:
        best, left = left[0], left[1:]
        kept.append(best)
        corner = np.minimum(boxes[left, 2:], boxes[best, 2:]) - np.maximum(boxes[left, :2], boxes[best, :2])
        shared = (corner + 1).clip(0).prod(1)
        left = left[shared / (areas[left] + areas[best] - shared) <= most_overlap]
    return np.array(kept, np.intp)


def _ratio(image: NDArray[np.uint8]) -> float:
    return min(SIDE / image.shape[0], SIDE / image.shape[1])


@cache
def _grid() -> tuple[Float32, Float32]:
    """Column and row of each cell (8400, 2), and its stride in px (8400, 1)."""
    cells, strides = [], []
    for stride in STRIDES:
        count = SIDE // stride
        cells.append(np.indices((count, count), np.float32)[::-1].reshape(2, -1).T)
        strides.append(np.full((count**2, 1), stride, np.float32))
    return np.concatenate(cells), np.concatenate(strides)
