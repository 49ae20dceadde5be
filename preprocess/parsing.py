"""Human parsing of the embedded tier: selfie-multiclass classes, told apart further by the pose."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from media.frames import frames
from preprocess import selfie
from preprocess.crops import Box, crop_boxes
from preprocess.labels import body_labels
from preprocess.outfit import OutfitSplit
from schemas.clip import Clip
from schemas.stage import Stage


class SelfieParsing(Stage):
    """Labels every pixel of every frame with `schemas.conditions.Label`.

    The model sees the presenter's surroundings at 256 × 256; its confidences are averaged with those of the frames
    before and after wherever the picture does not change, which steadies them without lag. Clothes are then split
    into upper and lower garment by colour and pose (`preprocess.outfit`), skin and accessories by the nearest bone.

    What this tier cannot tell: inner from outer garments (both are UPPER_CLOTHES, or COAT where the pair's part is
    outer), a dress from a top and skirt of the same look (DRESS where the pair's part is dress), trousers from a
    skirt (PANTS).
    """

    needs: ClassVar[tuple[str, ...]] = ("video", "person", "pose")
    gives: ClassVar[tuple[str, ...]] = ("parsing",)
    weights: ClassVar[tuple[str, ...]] = (selfie.WEIGHTS,)

    crop_margin: float = Field(
        default=0.2, ge=0, le=1, description="Room left around the person's box, over its longer side."
    )
    grid: int = Field(
        default=416,
        ge=64,
        le=2048,
        description="Longer side in pixels of the grid on which confidences are averaged.",
    )
    every: int = Field(
        default=1,
        ge=1,
        le=2,
        description="2 asks the model about every other frame only: 40 % faster, less exact where hands move fast.",
    )
    temporal_radius: int = Field(
        default=1,
        ge=1,
        le=5,
        description="Frames before and after each that its confidences are averaged over.",
    )
    temporal_sigma: float = Field(
        default=10.0,
        gt=0,
        description="Grey levels by which a pixel may change between frames and still be averaged.",
    )
    split: OutfitSplit = Field(default_factory=OutfitSplit, description="How clothes are split into garments.")

    def process(self, clip: Clip) -> None:
        """Give `parsing`, (T, H, W) uint8."""
        scale = min(1.0, self.grid / max(clip.span.height, clip.span.width))
        images = frames(clip).images
        size = (max(1, round(clip.span.width * scale)), max(1, round(clip.span.height * scale)))
        boxes = crop_boxes(clip.artifacts["person"].boxes, clip.span, margin=self.crop_margin)
        with selfie.SelfieSegmenter() as segmenter:
            classes = np.stack(list(self._classes(segmenter, images, boxes, size)))
        small = np.stack([_shrink(image, size) for image in images])
        clip.artifacts["parsing"] = body_labels(
            classes, small, clip.artifacts["pose"], part=clip.pair.part, split=self.split
        )

    def _classes(
        self, segmenter: selfie.SelfieSegmenter, images: NDArray[np.uint8], boxes: list[Box], size: tuple[int, int]
    ) -> Iterator[NDArray[np.uint8]]:
        """Class of each pixel, (H, W) uint8, frame by frame, steadied over time."""
        window: deque[_Look] = deque(maxlen=2 * self.temporal_radius + 1)
        last, waiting = len(images) - 1, 0
        for index, (image, box) in enumerate(zip(images, boxes, strict=True)):
            asked = index % self.every == 0 or index == last
            confidences = _on_grid(segmenter, image, box, size) if asked else None
            window.append(_Look(_shrink(image, size).astype(np.float32), confidences))
            waiting += 1
            if waiting > self.temporal_radius:
                waiting -= 1
                yield self._steady(window, len(window) - 1 - waiting, images.shape[1:3])
        for later in range(waiting, 0, -1):
            yield self._steady(window, len(window) - later, images.shape[1:3])

    def _steady(self, window: Sequence[_Look], centre: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """Classes of the look at `centre`: those around it count as far as the picture is the same there."""
        import cv2

        total = np.zeros((*window[centre].picture.shape[:2], selfie.CLASSES), np.float32)
        for look in window:
            if look.confidences is None:
                continue
            change = cv2.blur(((window[centre].picture - look.picture) ** 2).mean(2), (3, 3))
            # A little weight is left to every look, for pixels that no look knows better.
            weight = np.exp(-change / (2 * self.temporal_sigma**2)) + 1e-3
            total += look.confidences * weight[..., None]
        return _argmax_at(total, shape)


@dataclass(frozen=True, eq=False)
class _Look:
    """One frame on the grid: (h, w, 3) float32 picture, and (h, w, 6) confidences if the model was asked."""

    picture: NDArray[np.float32]
    confidences: NDArray[np.float32] | None


def _on_grid(
    segmenter: selfie.SelfieSegmenter, image: NDArray[np.uint8], box: Box, size: tuple[int, int]
) -> NDArray[np.float32]:
    """(h, w, 6) confidences of one frame on a grid of `size` (w, h), background outside the crop `box`."""
    import cv2

    x0, y0, x1, y1 = box
    confidences = segmenter.confidences(image[y0:y1, x0:x1])
    steps = np.array([image.shape[1] / size[0], image.shape[0] / size[1]])
    corner, cells = np.array([x0, y0]), np.array([x1 - x0, y1 - y0]) / selfie.SIDE
    # From pixel centres of the grid, over those of the frame, to those of the model's square.
    offset = (0.5 * steps - corner) / cells - 0.5
    to_square = np.column_stack([np.diag(steps / cells), offset])

    def warp(channels: NDArray[np.float32], outside: float) -> NDArray[np.float32]:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        warped = cv2.warpAffine(channels, to_square, size, flags=flags, borderValue=outside)
        return np.asarray(warped, np.float32)

    first = warp(confidences[..., 0], 1.0)
    return np.dstack([first, warp(confidences[..., 1:4], 0.0), warp(confidences[..., 4:], 0.0)])


def _shrink(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    import cv2

    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _argmax_at(scores: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Index of the highest of the (h, w, C) scores, enlarged to `shape` before it is taken: smooth edges."""
    import cv2

    best = np.full(shape, -np.inf, np.float32)
    chosen = np.zeros(shape, np.uint8)
    for index in range(scores.shape[2]):
        score = cv2.resize(scores[..., index], shape[::-1], interpolation=cv2.INTER_LINEAR)
        better = score > best
        chosen[better] = index
        np.maximum(best, score, out=best)
    return chosen
