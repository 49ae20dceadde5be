"""Cross-attention of video to captions, with time.

Legend: B samples, F latent frames, N = F·n video tokens, L text tokens, C width of the network, H heads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from training.model import action_rope
from training.model.action_rope import Rotation, rotate
from training.model.inputs import Captions, Segments
from training.model.settings import ModelSettings


class TimedText(NamedTuple):
    """What blocks of diffusers hand on, as their `encoder_hidden_states`, to the cross-attention.

    It travels as an argument, not as state of a module, so a block that checkpointing runs again sees it again.

    Attributes:
        tokens: (B, L, C), embedded.
        queries: how far the queries of each latent frame are turned; none: not at all.
        keys: how far the keys are.
        mask: (B, 1, 1 or N, L) bool, true where a query may look; none: everywhere, which lets the fastest kernels run.

    """

    tokens: Tensor
    queries: Rotation | None
    keys: Rotation | None
    mask: Tensor | None


class CaptionAttention:
    """Attention processor for diffusers' `WanAttention`: its cross-attention, with turned queries and keys."""

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: TimedText, *_: object) -> Tensor:
        text = encoder_hidden_states
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        key = attn.norm_k(attn.to_k(text.tokens)).unflatten(2, (attn.heads, -1))
        value = attn.to_v(text.tokens).unflatten(2, (attn.heads, -1))
        if text.queries is not None and text.keys is not None:
            query, key = rotate(query, text.queries), rotate(key, text.keys)
        seen = functional.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=text.mask
        )
        return attn.to_out[0](seen.transpose(1, 2).flatten(2))


def filled(captions: Captions, *, length: int) -> Captions:
    """Captions with at least `length` tokens a sample that are seen: zeros, of no segment, stand in for missing ones.

    Wan was trained on captions filled up with zeros to 512 tokens, and attends to all of them. Padding comes last.
    """
    given = captions.tokens.shape[1]
    missing = max(0, length - given)
    index = torch.arange(given + missing, device=captions.tokens.device)
    return Captions(
        tokens=functional.pad(captions.tokens, (0, 0, 0, missing)),
        mask=functional.pad(captions.mask, (0, missing)) | (index < length),
        segments=functional.pad(captions.segments.where(captions.mask, -1), (0, missing), value=-1),
    )


def timed(
    tokens: Tensor, captions: Captions, segments: Segments, settings: ModelSettings, *, width: int, size: int
) -> TimedText:
    """Caption tokens with the rotations and the mask that `settings` ask for.

    Args:
        tokens: (B, L, C): `captions.tokens` as the network embeds them.
        captions: as `filled` gives them.
        segments: of the video.
        settings: of the model.
        width: channels of a head.
        size: n, video tokens of a latent frame.

    """
    mask = None
    # Only here the host waits for the device: where captions outgrow `text_length`, or padding is not to be seen.
    if captions.mask.shape[1] > settings.text_length and not bool(captions.mask.all()):
        mask = captions.mask[:, None, None]
    if settings.segment_mask:
        own = action_rope.visible(segments, captions).repeat_interleave(size, dim=1)[:, None]
        mask = own if mask is None else own & mask
    if settings.positions == "none":
        return TimedText(tokens, None, None, mask)
    positions = (
        action_rope.a_rope(segments, captions, spacing=settings.spacing)
        if settings.positions == "a_rope"
        else action_rope.rerope(segments, captions, length=settings.rerope_length)
    )
    queries, keys = (action_rope.rotation(at, width=width, theta=settings.theta) for at in positions)
    return TimedText(tokens, queries, keys, mask)
