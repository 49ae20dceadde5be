"""The Interaction Guider: a second branch, of the Context Blocks' design, that takes the hand prior.

iTryOn (arXiv 2605.21431, 3.3 and 3.4): hand prior and context pass through modules of one architecture, and the
features of both are added to the video tokens. Inferred: its own patch embedding, and the blocks that it feeds, which
are those that the Context Blocks feed.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


class InteractionGuider(nn.Module):
    """Patch embedding and blocks. What the blocks give out starts at zero, so that the backbone is as it was.

    Args:
        backbone: diffusers' `WanVACETransformer3DModel`; its weights, types and device are taken over, as copies.
        anew: draw the weights anew.

    """

    def __init__(self, backbone: Any, *, anew: bool) -> None:
        super().__init__()
        # Hands come as latents of the video's own space, so its patch embedding is where theirs starts.
        self.patch_embedding = copy.deepcopy(backbone.patch_embedding)
        self.blocks = copy.deepcopy(backbone.vace_blocks)
        if anew:
            self._draw_weights()
        for block in self.blocks:
            nn.init.zeros_(block.get_parameter("proj_out.weight"))
            nn.init.zeros_(block.get_parameter("proj_out.bias"))

    def forward(self, hands: Tensor) -> Tensor:
        """Latents of the hand prior (B, 16, F, h, w) → tokens (B, N, C)."""
        return self.patch_embedding(hands.to(self.patch_embedding.weight.dtype)).flatten(2).transpose(1, 2).contiguous()

    def _draw_weights(self) -> None:
        for module in self.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        with torch.no_grad():
            for block in self.blocks:
                table = block.get_parameter("scale_shift_table")
                table.normal_(std=table.shape[-1] ** -0.5)
