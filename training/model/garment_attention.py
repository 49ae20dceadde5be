"""How far video tokens look at the reference garment in self-attention, for RealVVT's attention loss.

RealVVT (eq. 4) has a cross-attention to the garment. In a transformer over all tokens, what stands for it is the share
of a token's attention that falls on the tokens of the reference latent (inferred).

Legend: B samples, N = F·n tokens, n of each latent frame, those of the reference garment first, C width, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from training.model.action_rope import Rotation, rotate

_GOLDEN = (math.sqrt(5) - 1) / 2


class Probe(NamedTuple):
    """What a block of diffusers hands on, as its `rotary_emb`, to a self-attention that is measured.

    Attributes:
        rotary: what it would have been: cosines and sines, (1, N, 1, d) each.
        tokens: (Q,) int64: the video tokens looked at.
        garment: number of tokens of the reference, the first ones.
        masses: takes the result, (B, Q) float32, at first; the same block run again by checkpointing adds nothing.

    """

    rotary: tuple[Tensor, Tensor]
    tokens: Tensor
    garment: int
    masses: list[Tensor]


class ProbedAttention:
    """Attention processor for diffusers' `WanAttention`: `inner`, and the measurement beside it."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: None, attention_mask: None, rotary_emb: Probe
    ) -> Tensor:
        mass = _mass(attn, hidden_states, rotary_emb)
        if not rotary_emb.masses:
            rotary_emb.masses.append(mass)
        return self.inner(attn, hidden_states, None, None, rotary_emb.rotary)


def _mass(attn: Any, hidden_states: Tensor, probe: Probe) -> Tensor:
    """(B, Q) float32 in 0..1, mean over heads. As attention to a value that is 1 at the garment and 0 elsewhere."""
    cos, sin = (part[:, :, 0, ::2] for part in (probe.rotary[0], probe.rotary[1]))
    query = attn.norm_q(attn.to_q(hidden_states[:, probe.tokens])).unflatten(2, (attn.heads, -1))
    key = attn.norm_k(attn.to_k(hidden_states)).unflatten(2, (attn.heads, -1))
    query = rotate(query, Rotation(cos[:, probe.tokens], sin[:, probe.tokens])).transpose(1, 2)
    key = rotate(key, Rotation(cos, sin)).transpose(1, 2)
    value = torch.zeros_like(key)
    value[:, :, : probe.garment] = 1
    return functional.scaled_dot_product_attention(query, key, value)[..., 0].float().mean(1)


def spread_tokens(frames: int, size: int, queries: int, *, device: torch.device) -> Tensor:
    """Numbers of `queries` evenly spread tokens of each latent frame but the first; others in each frame.

    Args:
        frames: F, the reference counted.
        size: n, tokens of a frame.
        queries: how many of each; more than n are n.
        device: of the result.

    Returns:
        ((F - 1)·queries,) int64, ascending.

    """
    queries = min(queries, size)
    frame = torch.arange(1, frames, device=device, dtype=torch.float64)[:, None]
    start = (frame * _GOLDEN).frac()  # golden ratio: starts of any run of frames are spread evenly too
    place = (torch.arange(queries, device=device) + start) * (size / queries)
    return (frame.long() * size + place.long()).flatten()


def as_grid(probes: Iterable[Probe], latents: Tensor) -> Tensor:
    """(B, F - 1, h/2, w/2) float32: what `probes` of one run over `latents` found, their mean; NaN at other tokens."""
    probes = list(probes)
    batch, _, frames, height, width = latents.shape
    mass = torch.stack([probe.masses[0] for probe in probes]).mean(0)
    grid = mass.new_full((batch, frames * (height // 2) * (width // 2)), math.nan)
    return grid.index_copy(1, probes[0].tokens, mass).view(batch, frames, height // 2, width // 2)[:, 1:]
