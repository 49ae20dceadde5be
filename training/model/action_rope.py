"""Positions that tie captions to their time in cross-attention: A-RoPE and ReRoPE.

Legend: B samples, F latent frames with the reference first, L text tokens, S segments, H heads, d their width.
Queries are video tokens, keys are text tokens. Position 0 is no rotation: the reference latent, the global caption and
padding have it, whatever the scheme.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from training.model.inputs import Captions, Segments


class Positions(NamedTuple):
    """Where queries and keys stand on the axis of time.

    Attributes:
        queries: (B, F) float32, of the tokens of each latent frame.
        keys: (B, L) float32, of each text token.

    """

    queries: Tensor
    keys: Tensor


class Rotation(NamedTuple):
    """By what pairs of channels are turned: cosines and sines, (B, n, d/2) float32 each."""

    cos: Tensor
    sin: Tensor


def a_rope(segments: Segments, captions: Captions, *, spacing: float) -> Positions:
    """Action-aware positions of iTryOn (arXiv 2605.21431, 3.5): i·spacing for segment i.

    Queries of every segment have them, keys only those of captions of interactive segments. A score of query i and
    key j thus depends on i - j, and is that of the backbone where i = j. That segments count from 0 is inferred.
    """
    queries = segments.frames.clamp(min=0) * float(spacing)
    keys = captions.segments * float(spacing)
    return Positions(queries, keys.where(_timed(segments, captions), 0.0))


def rerope(segments: Segments, captions: Captions, *, length: float) -> Positions:
    """Rescaled positions of MinT (arXiv 2412.05263): every segment is `length` long, however long it lasts.

    Frame t of segment i, which spans [start, end), is at (t + 1/2 - start)·length / (end - start) + i·length, and the
    caption of segment i in its middle, (i + 1/2)·length: then frames at a boundary attend equally to both sides, as
    MinT's Figure 4 says; the formula for keys is inferred from that. MinT has a layer of its own for timed captions
    beside that for the global one. Here both share one, so in a sample without actions all positions are 0.
    """
    number = segments.frames.clamp(min=0)
    bounds = segments.bounds.float().gather(1, number[..., None].expand(-1, -1, 2))
    start, end = bounds.unbind(-1)
    moment = torch.arange(number.shape[1], device=number.device) - 0.5  # centre of the frame, the reference not counted
    queries = ((moment - start) / (end - start).clamp(min=1) + number) * length
    timed = (segments.frames >= 0) & segments.interactive.any(1, keepdim=True)
    keys = (captions.segments + 0.5) * float(length)
    return Positions(queries.where(timed, 0.0), keys.where(_timed(segments, captions), 0.0))


def rotation(positions: Tensor, *, width: int, theta: float) -> Rotation:
    """Angles p·theta^(-2j/width) for pair j of `width` channels: rotary embedding in one dimension (arXiv 2104.09864).

    Args:
        positions: (B, n) float.
        width: d, even.
        theta: base of the frequencies.

    """
    pairs = torch.arange(0, width, 2, device=positions.device, dtype=torch.float32)
    angles = positions.float()[..., None] * theta ** (-pairs / width)
    return Rotation(angles.cos(), angles.sin())


def rotate(x: Tensor, by: Rotation) -> Tensor:
    """`x` with channels 2j and 2j + 1 turned as a pair.

    Args:
        x: (B, n·m, H, d): m tokens in a row share one of the n angles.
        by: (B, n, d/2).

    """
    parts = x.unflatten(1, (by.cos.shape[1], -1))
    even, odd = parts.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = (part[:, :, None, None] for part in by)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).flatten(1, 2).type_as(x)


def visible(segments: Segments, captions: Captions) -> Tensor:
    """(B, F, L) bool: which tokens the hard mask lets a frame see, those of the global caption and its own segment's.

    The reference sees the global caption only. Padding counts as its segment says; another mask rules it out.
    """
    of = captions.segments[:, None]
    return (of < 0) | (of == segments.frames[..., None])


def _timed(segments: Segments, captions: Captions) -> Tensor:
    """(B, L) bool: whether a token belongs to the caption of an interactive segment."""
    of_action = segments.interactive.gather(1, captions.segments.clamp(min=0))
    return of_action & (captions.segments >= 0) & captions.mask
