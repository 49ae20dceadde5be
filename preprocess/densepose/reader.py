"""Reads part, U and V of one person in each of several pictures, with whichever network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from preprocess.densepose import boxes as box
from preprocess.densepose.detector import Detections
from preprocess.densepose.heads import Surfaces
from preprocess.densepose.pictures import network_input, resized_size
from preprocess.densepose.surface import as_bytes, patch_of, resample

SAME = 0.3
"""Least intersection over union of a detection and the tracked box of the same person."""


class Network(Protocol):
    """What `DensePoseRCNN` does, and what stands for it."""

    @property
    def dtype(self) -> torch.dtype: ...
    def features(self, pictures: Tensor) -> Any: ...
    def finish(self, features: Any) -> Any: ...
    def detect(self, features: Any, size: tuple[int, int]) -> list[Detections]: ...
    def surfaces(self, features: Any, boxes: Tensor, of_image: Tensor) -> Surfaces: ...


@dataclass(frozen=True)
class Reading:
    """One person's surface: `part` (h, w) and `uv` (2, h, w), uint8, with their first corner at (`x`, `y`) px."""

    x: int
    y: int
    part: Tensor
    uv: Tensor


@dataclass(frozen=True)
class SurfaceReader:
    """`network` on pictures with a shorter side of `min_size` px.

    `detect`: the person's box is the detection that overlaps the given one best, where one does.
    """

    network: Network
    min_size: int = 800
    detect: bool = False

    @torch.inference_mode()
    def read(self, images: Tensor, boxes: Tensor) -> list[Reading]:
        """The person in each of (N, 4) float32 `boxes`, px, one in each of (N, H, W, 3) uint8 RGB `images`.

        A box that is empty inside its picture gives an empty part. float32 is that on a GPU, too, not TF32.
        """
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return self._read(images, boxes)

    def _read(self, images: Tensor, boxes: Tensor) -> list[Reading]:
        height, width = images.shape[1:3]
        size = resized_size(height, width, shortest=self.min_size)
        scale = boxes.new_tensor([size[1] / width, size[0] / height] * 2)
        back = boxes.new_tensor([width / size[1], height / size[0]] * 2)
        features = self.network.features(network_input(images, size, dtype=self.network.dtype))
        shown, wanted = box.clip(boxes, (height, width)), box.clip(boxes * scale, size)
        if self.detect:
            features = self.network.finish(features)
            for number, found in enumerate(self.network.detect(features, size)):
                if (person := _same_person(found, wanted[number])) is not None:
                    wanted[number], shown[number] = person, box.clip(person * back, (height, width))
        surfaces = self.network.surfaces(features, wanted, torch.arange(len(images), device=images.device))
        return [_reading(surfaces, number, one) for number, one in enumerate(shown.cpu())]


def _same_person(found: Detections, wanted: Tensor) -> Tensor | None:
    """(4,) the detection that overlaps the `wanted` box best; None where none does enough."""
    shared = box.overlaps(wanted[None], found.boxes)[0]
    return found.boxes[shared.argmax()] if len(shared) and shared.max() >= SAME else None


def _reading(surfaces: Surfaces, number: int, shown: Tensor) -> Reading:
    if not (shown[2:] > shown[:2]).all():
        nothing = surfaces.coarse.new_zeros(3, 0, 0, dtype=torch.uint8)
        return Reading(0, 0, nothing[0], nothing[1:])
    x, y, width, height = patch_of(shown)
    part, uv = resample(surfaces, number, (height, width))
    return Reading(x, y, part.cpu(), as_bytes(uv).cpu())
