"""How a block is run: as it is, or computed again backward."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

Runner = Callable[..., Any]
"""Takes a block and its inputs, and gives its outputs."""

_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
}


def runner(*, checkpointing: bool, keep: bool) -> Runner:
    """How blocks are to be run: with `checkpointing`, again backward; with `keep`, all of them but self-attention."""
    if not checkpointing:
        return _plain
    return partial(_checkpointed, context_fn=_keeping) if keep else _checkpointed


def _plain(block: nn.Module, *inputs: Any) -> Any:
    return block(*inputs)


def _checkpointed(block: nn.Module, video: Tensor, *inputs: Any, **options: Any) -> Any:
    learns = video.requires_grad or any(parameter.requires_grad for parameter in block.parameters())
    if not (learns and torch.is_grad_enabled()):  # as the first block of a frozen backbone: nothing to keep
        return block(video, *inputs)
    # Nothing in a block is random.
    return checkpoint(block, video, *inputs, use_reentrant=False, preserve_rng_state=False, **options)


def _keeping() -> Any:
    return create_selective_checkpoint_contexts(_policy)


def _policy(_: Any, operation: Any, *inputs: Any, **__: Any) -> CheckpointPolicy:
    """Self-attention has as many queries as keys; attention to captions costs little."""
    if operation in _ATTENTION and inputs[0].shape[2] == inputs[1].shape[2]:
        return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE
