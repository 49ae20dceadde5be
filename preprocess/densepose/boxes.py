"""Boxes: decoding, clipping, overlap and non-maximum suppression, over whole batches at once.

Boxes are x0 y0 x1 y1 in px of the network's frame, width = x1 - x0. Shape legend: G groups, K boxes in each.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MOST_GROWTH = math.log(1000 / 16)
"""Cap on the logarithm by which a box may grow (Detectron)."""


def decode(sources: Tensor, deltas: Tensor, *, weights: tuple[float, float, float, float]) -> Tensor:
    """(..., 4) boxes that `deltas` (dx dy dw dh, times `weights`) make of `sources` (R-CNN, Girshick et al., 2014)."""
    low, high = sources[..., :2], sources[..., 2:]
    size = high - low
    shift = deltas[..., :2] / deltas.new_tensor(weights[:2])
    growth = (deltas[..., 2:] / deltas.new_tensor(weights[2:])).clamp(max=MOST_GROWTH)
    centre, half = low + 0.5 * size + shift * size, 0.5 * growth.exp() * size
    return torch.cat([centre - half, centre + half], -1)


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """(..., 4) `boxes` inside a picture of `size` (height, width)."""
    height, width = size
    return boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))


def areas(boxes: Tensor) -> Tensor:
    """(...) px²."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """(..., K, L) intersection over union of (..., K, 4) with (..., L, 4); 0 where both are empty."""
    low = torch.maximum(boxes[..., :, None, :2], others[..., None, :, :2])
    high = torch.minimum(boxes[..., :, None, 2:], others[..., None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    union = areas(boxes)[..., :, None] + areas(others)[..., None, :] - shared
    return torch.where(union > 0, shared / union, 0.0)


def suppressed(boxes: Tensor, there: Tensor, *, threshold: float) -> Tensor:
    """(G, K) bool: which boxes stay when each takes away those after it that it overlaps by more than `threshold`.

    Greedy non-maximum suppression as the fixed point of "stays unless one before it that stays overlaps it": each
    round settles one more link of every chain of boxes, so that few rounds do, each of them one operation.

    Args:
        boxes: (G, K, 4), best first.
        there: (G, K) bool: others neither stay nor take anything away.
        threshold: intersection over union.

    """
    beats = (overlaps(boxes, boxes) > threshold).triu(diagonal=1).mT.contiguous()  # [later, earlier]
    stays = there
    while True:
        again = there & ~(beats & stays[:, None, :]).any(-1)
        if torch.equal(again, stays):
            return stays
        stays = again
