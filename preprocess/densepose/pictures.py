"""Pictures as DensePose R-CNN takes them: resized as Pillow does, blue green red, less their means.

Shape legend: N pictures, H×W their size, h×w after the resize, K taps of the filter.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Tensor

from preprocess.densepose.regions import CELL

MEANS = (103.53, 116.28, 123.675)
"""Of blue, green and red."""
BITS = 22
"""Of the fixed-point weights in Pillow's resize of bytes."""


def resized_size(height: int, width: int, *, shortest: int, longest: int = 1333) -> tuple[int, int]:
    """(h, w) with the shorter side `shortest`, or less where the longer side would pass `longest`."""
    scale = shortest / min(height, width)
    h, w = (shortest, scale * width) if height < width else (scale * height, shortest)
    if max(h, w) > longest:
        scale = longest / max(h, w)
        h, w = h * scale, w * scale
    return int(h + 0.5), int(w + 0.5)


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, h, w, 3) uint8: (N, H, W, 3) uint8 `images` as Pillow's BILINEAR resizes them: by it, or on their device."""
    if images.device.type != "cpu":
        return resize_on_device(images, size)
    height, width = size
    resized = [Image.fromarray(image.numpy()).resize((width, height), Image.Resampling.BILINEAR) for image in images]
    return torch.from_numpy(np.stack([np.asarray(image) for image in resized]))


def resize_on_device(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The same wherever `images` are: bit for bit where they grow.

    Where they shrink Pillow 13 sometimes begins with the columns, and is up to one grey level away.
    """
    for axis, length in ((2, size[1]), (1, size[0])):  # across first, rounded to bytes between
        if images.shape[axis] != length:
            images = _resize_along(images, axis, length)
    return images


def _resize_along(images: Tensor, axis: int, length: int) -> Tensor:
    index, weights = (table.to(images.device) for table in _taps(images.shape[axis], length))
    shape = [1] * images.ndim
    shape[axis] = length
    total = torch.full((), 1 << (BITS - 1), dtype=torch.int32, device=images.device)
    for tap, weight in zip(index, weights, strict=True):
        total = total + images.index_select(axis, tap).int() * weight.view(shape)
    return (total >> BITS).clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=64)
def _taps(before: int, after: int) -> tuple[Tensor, Tensor]:
    """(K, after) int64 source pixels and int32 weights: a triangle over an output pixel, at least an input one."""
    scale = before / after
    reach = max(scale, 1.0)
    centre = (np.arange(after) + 0.5) * scale
    first = np.maximum((centre - reach + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + reach + 0.5).astype(np.int64), before)
    index = first + np.arange((last - first).max())[:, None]
    weights = np.maximum(1 - np.abs((index - centre + 0.5) * (1 / reach)), 0) * (index < last)
    # One after the other, as Pillow adds them: the last bit of a sum depends on the order.
    total = np.zeros(after)
    for row in weights:
        total = total + row
    fixed = (0.5 + weights / total * (1 << BITS)).astype(np.int32)
    return torch.from_numpy(index.clip(max=before - 1)), torch.from_numpy(fixed)


def network_input(images: Tensor, size: tuple[int, int], *, dtype: torch.dtype) -> Tensor:
    """(N, 3, H', W') of (N, H, W, 3) uint8 RGB `images`: resized to `size`, padded right and below to cells of 32."""
    height, width = size
    small = resize(images, size).flip(-1).float() - torch.tensor(MEANS, device=images.device)
    small = small.permute(0, 3, 1, 2)  # channels_last in memory
    return F.pad(small, (0, -width % CELL, 0, -height % CELL)).to(dtype, memory_format=torch.channels_last)
