"""Detection half of DensePose R-CNN: proposals (Ren et al., 2015), and the box branch that judges them.

Parameters are named as detectron2 names them. Shape legend: N pictures, K proposals, D detections.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from preprocess.densepose import boxes as box
from preprocess.densepose.backbone import LEVELS
from preprocess.densepose.regions import STRIDES, roi_align

ANCHOR_SIZES = (32, 64, 128, 256, 512)
"""Side in px of the anchors of p2 to p6."""
RATIOS = (0.5, 1.0, 2.0)
"""Height over width."""
PROPOSALS = 1000
"""Most that a level gives, and that all levels give together."""
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
POOLED = 7


@dataclass(frozen=True)
class Proposals:
    """Boxes that may hold a person, best first: `boxes` (N, K, 4) px, `logits` (N, K), `there` (N, K) bool."""

    boxes: Tensor
    logits: Tensor
    there: Tensor


@dataclass(frozen=True)
class Detections:
    """People in one picture, best first: `boxes` (D, 4) px of the network's frame, `scores` (D,) in 0..1."""

    boxes: Tensor
    scores: Tensor


def cell_anchors(size: int) -> Tensor:
    """(3, 4) float32 boxes of area `size`² around (0, 0), one of each ratio."""
    rows = []
    for ratio in RATIOS:
        width = math.sqrt(size**2 / ratio)
        rows.append([-width / 2, -ratio * width / 2, width / 2, ratio * width / 2])
    return torch.tensor(rows)


def anchors(size: int, height: int, width: int, *, stride: int) -> Tensor:
    """(height · width · 3, 4) in px: those of each feature pixel lie around its corner, not its centre."""
    x, y = torch.arange(width) * stride, torch.arange(height) * stride
    y, x = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack([x, y, x, y], -1).float()
    return (shifts[:, :, None] + cell_anchors(size)).view(-1, 4)


class ProposalHead(nn.Module):
    """Objectness and box of the three anchors at each pixel; the same for all levels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(LEVELS, LEVELS, 3, padding=1)
        self.objectness_logits = nn.Conv2d(LEVELS, len(RATIOS), 1)
        self.anchor_deltas = nn.Conv2d(LEVELS, 4 * len(RATIOS), 1)

    def forward(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, h, w) logits and (N, 12, h, w) deltas, anchor by anchor."""
        hidden = F.relu_(self.conv(level))
        return self.objectness_logits(hidden), self.anchor_deltas(hidden)


class ProposalNetwork(nn.Module):
    """Region proposal network over p2 to p6."""

    def __init__(self) -> None:
        super().__init__()
        self.rpn_head = ProposalHead()

    def forward(self, pyramid: Sequence[Tensor], size: tuple[int, int]) -> Proposals:
        """At most 1000 proposals in each picture, of `size` (height, width) px without padding; `pyramid` is p2..p5."""
        levels = [*pyramid, pyramid[-1][:, :, ::2, ::2]]
        found = [self._of_level(number, level, size) for number, level in enumerate(levels)]
        boxes, logits, there = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
        logits, order = logits.masked_fill(~there, -math.inf).sort(descending=True, stable=True)
        order = order[:, :PROPOSALS]
        kept = torch.take_along_dim(boxes, order[..., None], 1)
        return Proposals(kept, logits[:, :PROPOSALS], there.gather(1, order))

    def _of_level(self, number: int, level: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        logits, deltas = (maps.float() for maps in self.rpn_head(level))
        images, _, height, width = logits.shape
        logits = logits.permute(0, 2, 3, 1).reshape(images, -1)
        deltas = deltas.permute(0, 2, 3, 1).reshape(images, -1, 4)
        logits, best = logits.topk(min(PROPOSALS, logits.shape[1]))
        places = anchors(ANCHOR_SIZES[number], height, width, stride=4 << number).to(level.device)
        boxes = box.decode(places[best], torch.take_along_dim(deltas, best[..., None], 1), weights=(1, 1, 1, 1))
        finite = boxes.isfinite().all(-1) & logits.isfinite()
        boxes = box.clip(boxes.nan_to_num(), size)
        there = finite & (boxes[..., 2:] > boxes[..., :2]).all(-1)
        return boxes, logits, box.suppressed(boxes, there, threshold=0.7)


class BoxHead(nn.Module):
    """Two fully connected layers over a pooled region."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(LEVELS * POOLED**2, 1024)
        self.fc2 = nn.Linear(1024, 1024)

    def forward(self, pooled: Tensor) -> Tensor:
        """(R, 1024) of (R, 256, 7, 7)."""
        return F.relu_(self.fc2(F.relu_(self.fc1(pooled.flatten(1)))))


class BoxPredictor(nn.Module):
    """Person or background, and the better box."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_score = nn.Linear(1024, 2)
        self.bbox_pred = nn.Linear(1024, 4)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """(R, 2) logits of person and background, (R, 4) deltas; both float32."""
        return self.cls_score(hidden).float(), self.bbox_pred(hidden).float()


def pool_boxes(pyramid: Sequence[Tensor], boxes: Tensor, of_image: Tensor) -> Tensor:
    """(R, 256, 7, 7): each of (R, 4) boxes pooled from the level, p2 to p5, that fits its size (Lin et al., 2017)."""
    number = (4 + torch.log2(box.areas(boxes).sqrt() / 224 + 1e-8)).floor().clamp(2, 5).long() - 2
    pooled = pyramid[0].new_empty(len(boxes), LEVELS, POOLED, POOLED)
    for level, features in enumerate(pyramid):
        those = (number == level).nonzero()[:, 0]
        pooled[those] = roi_align(features, boxes[those], of_image[those], stride=STRIDES[level], size=POOLED)
    return pooled


def best_boxes(
    boxes: Tensor, scores: Tensor, size: tuple[int, int], *, least_score: float = 0.05, most: int = 100
) -> Detections:
    """Of (K, 4) boxes with (K,) scores in one picture, the `most` best ones above `least_score`, each person once."""
    finite = boxes.isfinite().all(-1) & scores.isfinite()
    those = (finite & (scores > least_score)).nonzero()[:, 0]
    scores, order = scores[those].sort(descending=True, stable=True)
    boxes = box.clip(boxes[those], size)[order]
    stays = box.suppressed(boxes[None], torch.ones_like(scores, dtype=torch.bool)[None], threshold=0.5)[0]
    return Detections(boxes[stays][:most], scores[stays][:most])
