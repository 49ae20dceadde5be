"""What training minimises.

Shape legend: B samples, F latent frames with the reference garment's first, h×w latent pixels, one token 2×2 of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ACTION_WEIGHT = 0.5
"""λ of iTryOn's action-aware constraint loss (arXiv 2605.21431)."""
NEGATIVE_WEIGHT = 0.01
"""λ_N of RealVVT's attention loss."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Losses:
    """Scalars, float32.

    Attributes:
        total: what is minimised.
        flow: mean squared error of the velocity.
        action: the same with the error of all but interactive frames set to 0, before its weight.
        garment: RealVVT's attention loss before its weight, if it is asked for.

    """

    total: Tensor
    flow: Tensor
    action: Tensor
    garment: Tensor | None = None


def flow_loss(
    predicted: Tensor,
    target: Tensor,
    interactive: Tensor,
    *,
    action_weight: float = ACTION_WEIGHT,
    reference: bool = True,
) -> Losses:
    """Flow matching with iTryOn's action-aware constraint: mean(e²) + λ·mean(M·e²), M = 1 on interactive frames.

    Both means are over all elements, so that the share of a batch does not depend on what else is in it.

    Args:
        predicted: (B, C, F, h, w) velocity, of any float dtype; the loss is reckoned in float32.
        target: of the same shape.
        interactive: (B, F) 0 or 1, see `training.segments.latent_mask`.
        action_weight: λ; 0 switches the constraint off.
        reference: whether the reference latent's error counts, as VACE has it denoised like the other frames. Nothing
            is published of it: our own choice is yes.

    """
    error = (predicted.float() - target.float()).square()
    mask = interactive.to(error)[:, None, :, None, None]
    if not reference:
        error, mask = error[:, :, 1:], mask[:, :, 1:]
    flow, action = error.mean(), (mask * error).mean()
    return Losses(total=flow + action_weight * action, flow=flow, action=action)


def garment_attention_loss(
    mass: Tensor | Sequence[Tensor], repaint: Tensor, *, negative_weight: float = NEGATIVE_WEIGHT
) -> Tensor:
    """RealVVT's agnostic-mask-guided attention loss, eq. 4: Σ_i (1 - max_{a∈A} T_i^a)² + λ_N·Σ_i Σ_{a∉A} (T_i^a)².

    A is the region to repaint in frame i, and T_i^a the attention of its token a to the garment; that this is, in a
    transformer, the mass that falls on the tokens of the reference garment is inferred. Where the paper sums over
    frames we take the mean, over samples and layers too, so that the weight means the same for every length. The sum
    outside of A stays a sum over all of a frame's tokens, estimated from those sampled; the maximum is that of the
    sampled ones. A frame adds nothing to a term for which no token of it was sampled.

    Args:
        mass: (B, F - 1, h / 2, w / 2) 0..1, NaN at tokens not sampled; or one such tensor a layer.
        repaint: the same shape, bool: A.
        negative_weight: λ_N.

    Returns:
        A scalar, float32.

    """
    if not isinstance(mass, Tensor):
        return torch.stack(
            [garment_attention_loss(layer, repaint, negative_weight=negative_weight) for layer in mass]
        ).mean()
    sampled, share = ~mass.isnan(), mass.float().flatten(2)
    inside, outside = (sampled & repaint).flatten(2), (sampled & ~repaint).flatten(2)
    most = torch.where(inside, share, 0).amax(2)
    positive = torch.where(inside.any(2), (1 - most).square(), 0)
    scale = (~repaint).flatten(2).sum(2) / outside.sum(2).clamp(min=1)
    negative = scale * torch.where(outside, share, 0).square().sum(2)
    return (positive + negative_weight * negative).mean()
