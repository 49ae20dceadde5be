"""Floating-point operations of a training step of the Context Blocks and the Guider (`train: branch`), in closed form.

Counted is what the model asks for: products of matrices, two operations a multiply-add, forward once and backward as
far as gradients are needed. Not counted is what an implementation adds: blocks computed again by checkpointing, scores
computed again by flash attention backward. So it serves as the numerator of model FLOP utilisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Size:
    """What of the model and its input decides the operations.

    Attributes:
        width: C.
        inner: of the feed-forward layers.
        layers: main blocks.
        branch: blocks of a branch: of the Context Blocks, and as many of the Guider.
        text_width: D.
        frequencies: of the embedding of time.
        video: N, tokens of a sample.
        text: L, tokens of a sample's captions.
        batch: B.

    """

    width: int
    inner: int
    layers: int
    branch: int
    text_width: int
    frequencies: int
    video: int
    text: int
    batch: int

    @classmethod
    def of(cls, config: Any, *, video: int, text: int, batch: int) -> Size:
        """That of a `WanVACETransformer3DModel` of `config`."""
        return cls(
            width=config.num_attention_heads * config.attention_head_dim,
            inner=config.ffn_dim,
            layers=config.num_layers,
            branch=len(config.vace_layers),
            text_width=config.text_dim,
            frequencies=config.freq_dim,
            video=video,
            text=text,
            batch=batch,
        )


def step_flops(size: Size) -> int:
    """Operations of forward and backward of a step, without the optimizer's few."""
    c, n, words = size.width, size.video, size.text
    linear = (
        2 * n * c * (6 * c + 2 * size.inner)
    )  # of video tokens: q, k, v, o; q, o of the cross-attention; two of ffn
    of_text = 2 * words * c * 2 * c  # k, v of the cross-attention
    attention, cross = 4 * n * n * c, 4 * n * words * c
    square = 2 * n * c * c

    main_forward = linear + of_text + attention + cross
    # Frozen: no gradients of weights, hence none of keys and values of text; and none at all of the first block.
    main_backward = linear + 2 * attention + cross
    main = size.layers * main_forward + (size.layers - 1) * main_backward

    blocks = 2 * size.branch
    outputs, inputs = size.branch * 2 * square, 2 * square
    branch_forward = blocks * main_forward + outputs + inputs
    # All trained; but text itself needs no gradient.
    branch_backward = blocks * (2 * linear + of_text + 2 * attention + 2 * cross) + 2 * (outputs + inputs)

    patch = 4
    embedding = (
        2 * n * patch * (16 + 2 * 96 + 2 * 16) * c
    )  # video forward; context and hands backward too: weights only
    text_embedding = 2 * words * (size.text_width + c) * c
    time_embedding = 2 * (size.frequencies + c + 6 * c) * c
    head = 2 * (2 * n * c * patch * 16)
    ends = embedding + text_embedding + time_embedding + head
    return size.batch * (main + branch_forward + branch_backward + ends)
