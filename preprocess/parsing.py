"""Human parsing of the embedded tier: selfie-multiclass classes, told apart further by the pose."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from media.frames import frames
from preprocess import selfie
from preprocess.crops import Box, crop_boxes
from preprocess.labels import body_labels
from preprocess.outfit import OutfitSplit
from preprocess.selfie import Confidences
from schemas.clip import Clip
from schemas.stage import Stage

LEAST_WEIGHT = np.float32(1e-3)
"""Left to every look, for pixels that no look knows better."""


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
    version: ClassVar[int] = 2

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
        small = np.stack([_shrink(image, size) for image in images])
        classes = np.empty(images.shape[:3], np.uint8)
        with selfie.SelfieSegmenter() as segmenter:
            asked = self._asked(segmenter, images, boxes, size)
            for frame, confidences in enumerate(self._steadied(asked, small)):
                classes[frame] = selfie.likeliest(confidences, images.shape[1:3])
        clip.artifacts["parsing"] = body_labels(
            classes, small, clip.artifacts["pose"], part=clip.pair.part, split=self.split
        )

    def _asked(
        self, segmenter: selfie.SelfieSegmenter, images: NDArray[np.uint8], boxes: list[Box], size: tuple[int, int]
    ) -> Iterator[Confidences | None]:
        """What the model says of each frame; None for those that it is not asked about."""
        for index, (image, box) in enumerate(zip(images, boxes, strict=True)):
            wanted = index % self.every == 0 or index == len(images) - 1
            yield _on_grid(segmenter, image, box, size) if wanted else None

    def _steadied(self, asked: Iterable[Confidences | None], pictures: NDArray[np.uint8]) -> Iterator[Confidences]:
        """Confidences of each frame, and of those around it as far as the picture (h, w, 3) is the same there.

        Sums, not means: only which class has the most of it counts.
        """
        totals: deque[Confidences] = deque()
        looks: deque[tuple[int, Confidences]] = deque()
        for index, confidences in enumerate(asked):
            totals.append(np.zeros((selfie.CLASSES, *pictures.shape[1:3]), np.float32))
            while looks and looks[0][0] < index - self.temporal_radius:
                looks.popleft()
            first = index + 1 - len(totals)
            weights = [self._alike(pictures[index], pictures[other]) for other in range(first, index)]
            for other, earlier in looks:
                totals[-1] += earlier * weights[other - first]
            if confidences is not None:
                looks.append((index, confidences))
                for total, weight in zip(totals, weights, strict=False):
                    total += confidences * weight
                totals[-1] += confidences * (1 + LEAST_WEIGHT)
            if len(totals) > self.temporal_radius:
                yield totals.popleft()
        yield from totals

    def _alike(self, picture: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(h, w) weight of one picture's confidences in the other's: near 1 where they are the same."""
        import cv2

        squares = cv2.transform(np.square(cv2.absdiff(picture, other), dtype=np.float32), np.ones((1, 3)))
        change = cv2.blur(squares, (3, 3))
        return np.asarray(cv2.exp(change * np.float32(-1 / (6 * self.temporal_sigma**2))) + LEAST_WEIGHT)


def _on_grid(
    segmenter: selfie.SelfieSegmenter, image: NDArray[np.uint8], box: Box, size: tuple[int, int]
) -> Confidences:
    """Confidences of one frame on a grid of `size` (w, h), background outside the crop `box`."""
    import cv2

    x0, y0, x1, y1 = box
    steps = np.array([image.shape[1] / size[0], image.shape[0] / size[1]])
    corner, cells = np.array([x0, y0]), np.array([x1 - x0, y1 - y0]) / selfie.SIDE
    # From pixel centres of the grid, over those of the frame, to those of the model's square.
    offset = (0.5 * steps - corner) / cells - 0.5
    to_square = np.column_stack([np.diag(steps / cells), offset])
    warped = np.empty((selfie.CLASSES, size[1], size[0]), np.float32)
    for index, confidences in enumerate(segmenter.confidences(image[y0:y1, x0:x1])):
        flags, outside = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, float(index == selfie.BACKGROUND)
        cv2.warpAffine(confidences, to_square, size, dst=warped[index], flags=flags, borderValue=outside)
    return warped


def _shrink(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    import cv2

    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
