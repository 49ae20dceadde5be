"""From what the network says of a box to part, U and V of every pixel of the picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from preprocess.densepose.heads import Surfaces

Patch = tuple[int, int, int, int]
"""x, y, width, height in px of the picture."""


def patch_of(box: Tensor) -> Patch:
    """Whole pixels that stand for a (4,) `box` x0 y0 x1 y1: position and size truncated, the size at least 1."""
    x0, y0, x1, y1 = box  # the differences in float32, as DensePose takes them
    return int(x0), int(y0), max(int(x1 - x0), 1), max(int(y1 - y0), 1)


def resample(surfaces: Surfaces, region: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Part (h, w) uint8 in 0..24 and U, V (2, h, w) float32 of one region at `size`; 0 where there is no body.

    Part: the likeliest of 25 where body is likelier than background. U, V: those of that part, not clamped.
    """
    coarse, fine, u, v = (
        F.interpolate(maps[region : region + 1], size, mode="bilinear", align_corners=False)[0]
        for maps in (surfaces.coarse, surfaces.fine, surfaces.u, surfaces.v)
    )
    part = fine.argmax(0) * (coarse.argmax(0) > 0)
    uv = torch.cat([maps.gather(0, part[None]) for maps in (u, v)]) * (part > 0)
    return part.to(torch.uint8), uv


def as_bytes(uv: Tensor) -> Tensor:
    """uint8: 0..1 as 0..255, clamped and truncated, as DensePose stores it."""
    return (uv * 255).clamp(0, 255).to(torch.uint8)
