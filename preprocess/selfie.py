"""MediaPipe's selfie-multiclass segmenter, on pictures and on crops of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import weights
from schemas.errors import MissingExtraError

WEIGHTS = "selfie_multiclass_256x256"
SIDE = 256
BACKGROUND, HAIR, BODY_SKIN, FACE_SKIN, CLOTHES, OTHERS = range(6)
CLASSES = 6

Confidences = NDArray[np.float32]
"""(6, h, w), a plane for each class."""


class SelfieSegmenter:
    """Runs the model on one picture at a time. Stateless: a picture always gives the same answer.

    Use it in a `with`: a model that is left to the garbage collector complains on stderr when Python ends.

    Model: MediaPipe "multi-class selfie segmentation", Apache-2.0; classes background, hair, body skin, face skin,
    clothes, others (accessories, shoes, bags).

    Raises:
        MissingExtraError: mediapipe is not installed.
        WeightsError: the model file is absent or wrong.

    """

    def __init__(self) -> None:
        try:
            from mediapipe import Image, ImageFormat
            from mediapipe.tasks.python import BaseOptions, vision
        except ImportError as error:
            raise MissingExtraError("mediapipe", "conditions", purpose="Parsing of people") from error
        self._wrap = lambda pixels: Image(ImageFormat.SRGB, pixels)
        self._model: Any = vision.ImageSegmenter.create_from_options(
            vision.ImageSegmenterOptions(
                base_options=BaseOptions(model_asset_path=str(weights.path(WEIGHTS))),
                output_confidence_masks=True,
                output_category_mask=False,
            )
        )

    def __enter__(self) -> SelfieSegmenter:
        return self

    def __exit__(self, *_: object) -> None:
        self._model.close()

    def confidences(self, image: NDArray[np.uint8]) -> Confidences:
        """(6, 256, 256) float32 in 0..1, summing to 1, of an (H, W, 3) RGB picture squeezed into the square."""
        import cv2

        # Shrunk here, over areas: the model's own resizing would alias, and would blow its answer up to full size.
        square = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        masks = self._model.segment(self._wrap(np.ascontiguousarray(square))).confidence_masks
        return np.stack([mask.numpy_view().reshape(SIDE, SIDE) for mask in masks])


def likeliest(scores: Confidences, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """(H, W) uint8 of `shape`: class of the highest score, enlarged to that before it is taken: smooth edges."""
    import cv2

    best = cv2.resize(scores[0], shape[::-1], interpolation=cv2.INTER_LINEAR)
    chosen, score = np.zeros(shape, np.uint8), np.empty_like(best)
    for index in range(1, len(scores)):
        cv2.resize(scores[index], shape[::-1], dst=score, interpolation=cv2.INTER_LINEAR)
        # Indices rise, so the highest of those that were better is the last one.
        np.maximum(chosen, (score > best).view(np.uint8) * np.uint8(index), out=chosen)
        cv2.max(best, score, dst=best)
    return chosen
