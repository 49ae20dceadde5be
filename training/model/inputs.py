"""What the model is given, as tensors.

Shape legend: B samples, F latent frames with the reference garment's first (F = 1 + (T + 3) // 4 of T pixel frames),
h×w latent pixels (an eighth of the video's), L text tokens of all captions of a sample, D their width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Captions:
    """The captions of a batch as embedded by the text encoder: the global one, then one a segment with an action.

    Attributes:
        tokens: (B, L, D) float, zeros at padding.
        mask: (B, L) bool, false at padding.
        segments: (B, L) int64: number of the segment whose caption a token belongs to, -1 of the global caption.

    """

    tokens: Tensor
    mask: Tensor
    segments: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Segments:
    """How a video falls into segments, stretches with one action or none, numbered from 0 in time.

    Attributes:
        frames: (B, F) int64: number of the segment of each latent frame; -1 of the reference latent.
        interactive: (B, S) bool: whether segment s shows an action; false beyond a sample's last segment.
        bounds: (B, S, 2) float32: first and one past the last latent frame of segment s, the reference not counted.

    """

    frames: Tensor
    interactive: Tensor
    bounds: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Conditions:
    """All that the model is told beside the noisy latents and their time.

    Attributes:
        context: (B, 96, F, h, w): of the Context Blocks: latents of the unmasked region (agnostic), of the masked one
            (pose), and the mask; the reference garment in the first latent frame.
        hands: (B, 16, F, h, w): latents of the hand prior for the Interaction Guider, zeros in the first latent frame.
        captions: the text.
        segments: when the actions are.

    """

    context: Tensor
    hands: Tensor
    captions: Captions
    segments: Segments
