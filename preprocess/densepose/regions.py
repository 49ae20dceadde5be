"""Regions of feature maps: RoIAlign, and the windows around boxes outside which nothing needs to be computed.

Shape legend: N pictures, C channels, H×W a feature map, R regions, P side of a pooled region, S samples a side of
each of its cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

SAMPLES = 2
STRIDES = (4, 8, 16, 32)
"""Of the levels p2 to p5, in px."""
CELL = STRIDES[-1]


def roi_align(features: Tensor, boxes: Tensor, of_image: Tensor, *, stride: int, size: int) -> Tensor:
    """(R, C, P, P) means of 2 × 2 bilinear samples in each cell of each box (Mask R-CNN, He et al., 2017).

    The original alignment: no shift by half a pixel, and boxes are at least one feature pixel wide and high. Samples
    more than a pixel outside the map count as 0.

    Args:
        features: (N, C, H, W); fastest in channels_last.
        boxes: (R, 4) float32 in px of the network's frame.
        of_image: (R,) int64, which picture each box lies in.
        stride: px per feature pixel.
        size: P.

    """
    _, channels, height, width = features.shape
    low, high = boxes[:, :2] / stride, boxes[:, 2:] / stride
    extent = (high - low).clamp(min=1)
    x, x_weights = _samples(low[:, 0], extent[:, 0], width, size)
    y, y_weights = _samples(low[:, 1], extent[:, 1], height, size)
    rows = of_image[:, None, None] * height + y
    index = rows[:, :, None, :, None] * width + x[:, None, :, None, :]  # (R, P, P, 2S, 2S)
    weights = y_weights[:, :, None, :, None] * x_weights[:, None, :, None, :]
    each = (2 * SAMPLES) ** 2
    pooled = F.embedding_bag(
        index.reshape(-1, each),
        features.permute(0, 2, 3, 1).reshape(-1, channels),
        mode="sum",
        per_sample_weights=weights.reshape(-1, each).to(features.dtype),
    )
    return pooled.view(len(boxes), size, size, channels).permute(0, 3, 1, 2)


def _samples(start: Tensor, extent: Tensor, length: int, size: int) -> tuple[Tensor, Tensor]:
    """(R, P, 2S) feature pixels that the samples along one side fall between, and their weights in the mean."""
    cell = (extent / size)[:, None, None]
    cells = torch.arange(size, device=start.device, dtype=start.dtype)[:, None]
    within = (torch.arange(SAMPLES, device=start.device, dtype=start.dtype) + 0.5) / SAMPLES
    place = start[:, None, None] + cells * cell + within * cell
    inside = (place >= -1) & (place <= length)
    place = place.clamp(0, length - 1)
    before = place.floor()
    share = torch.stack([1 - (place - before), place - before], -1) * inside[..., None] / SAMPLES
    index = torch.stack([before, (before + 1).clamp(max=length - 1)], -1).long()
    return index.flatten(2), share.flatten(2)


@dataclass(frozen=True)
class Windows:
    """One window in each of N pictures, all of one size, in cells of 32 px: the pixel of the coarsest level.

    Attributes:
        y, x: first row and column of each.
        height, width: of all.
        whole: rows and columns of the pictures.

    """

    y: tuple[int, ...]
    x: tuple[int, ...]
    height: int
    width: int
    whole: tuple[int, int]

    @classmethod
    def around(cls, boxes: Tensor, of_image: Tensor, *, images: int, whole: tuple[int, int]) -> Windows:
        """The smallest that hold every box of each picture; (R, 4) in px, pictures of `whole` cells."""
        rows, columns = whole
        low = torch.tensor([[columns, rows]] * images)
        high = torch.zeros_like(low)
        limit = torch.tensor([columns, rows])
        index = of_image.cpu()[:, None].expand(-1, 2)
        first = (boxes[:, :2].cpu() / CELL).floor().long().minimum(limit - 1).clamp(min=0)
        last = (boxes[:, 2:].cpu() / CELL).ceil().long().minimum(limit)
        low = low.scatter_reduce(0, index, first, "amin")
        high = high.scatter_reduce(0, index, torch.maximum(last, first + 1), "amax")
        size = (high - low).amax(0)
        low = low.minimum(limit - size)  # of smaller ones grown to this size
        width, height = size.tolist()
        return cls(tuple(low[:, 1].tolist()), tuple(low[:, 0].tolist()), height, width, whole)

    @classmethod
    def everything(cls, images: int, whole: tuple[int, int]) -> Windows:
        """All of each picture."""
        return cls((0,) * images, (0,) * images, *whole, whole)

    def widened(self, by: int) -> Windows:
        """With `by` cells more on every side, moved inwards where that would reach outside."""
        (rows, columns), (height, width) = self.whole, (self.height + 2 * by, self.width + 2 * by)
        height, width = min(height, rows), min(width, columns)
        y = tuple(min(max(first - by, 0), rows - height) for first in self.y)
        x = tuple(min(max(first - by, 0), columns - width) for first in self.x)
        return Windows(y, x, height, width, self.whole)

    def cut(self, features: Tensor, *, stride: int, of: Windows | None = None) -> Tensor:
        """(N, C, h, w) part of (N, C, H, W) `features`, which show all, or only the windows `of`."""
        if (self.height, self.width) == ((of.height, of.width) if of else self.whole):
            return features
        cell = CELL // stride
        parts = []
        for image, (y, x) in enumerate(zip(self.y, self.x, strict=True)):
            top, left = (y - of.y[image], x - of.x[image]) if of else (y, x)
            rows = slice(top * cell, (top + self.height) * cell)
            parts.append(features[image : image + 1, :, rows, left * cell : (left + self.width) * cell])
        return torch.cat(parts)

    def corners(self, of_image: Tensor) -> Tensor:
        """(R, 4) x y x y in px of the first corner of the window of each picture in `of_image`."""
        corner = torch.tensor([self.x, self.y, self.x, self.y], device=of_image.device).T * CELL
        return corner[of_image]
