"""iTryOn: Wan2.1-VACE with an Interaction Guider, and captions tied to their time.

Legend: B samples, F latent frames with the reference garment first, h×w latent pixels, N = F·h/2·w/2 tokens, C width of
the network, L text tokens, D their width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from schemas.errors import ConfigError
from training.flow import TIMESTEPS
from training.model import trained
from training.model.backbone import base_folder, load_backbone
from training.model.cross_attention import CaptionAttention, TimedText, filled, timed
from training.model.garment_attention import Probe, ProbedAttention, as_grid, spread_tokens
from training.model.guider import InteractionGuider
from training.model.inputs import Conditions
from training.model.running import Runner, runner
from training.model.settings import GarmentAttentionSettings, ModelSettings


class Prediction(NamedTuple):
    """What the model gives.

    Attributes:
        velocity: (B, 16, F, h, w), of the type of the noisy latents: noise minus clean latents.
        garment_attention: (B, F - 1, h/2, w/2) float32 in 0..1: share of a video token's attention that falls on the
            reference garment, NaN at tokens not looked at; none unless `settings.garment_attention` asks for it.

    """

    velocity: Tensor
    garment_attention: Tensor | None


class ITryOn(nn.Module):
    """The network that is trained.

    Only parameters that `settings.train` names require gradients. Blocks of all three branches are run as modules
    (`backbone.blocks`, `backbone.vace_blocks`, `guider.blocks`), so they can be sharded and compiled one by one.

    Args:
        backbone: diffusers' `WanVACETransformer3DModel`, taken over and changed.
        settings: how.

    Raises:
        ConfigError: a layer whose attention is to be measured is not there, or LoRA finds no such targets.

    """

    def __init__(self, backbone: Any, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        for block in [*backbone.blocks, *backbone.vace_blocks]:
            block.attn2.set_processor(CaptionAttention())
        self.backbone = backbone
        self.guider = InteractionGuider(backbone, anew=settings.guider_start == "random") if settings.guider else None
        if settings.garment_attention is not None:
            _check_layers(backbone, settings.garment_attention)
            for layer in settings.garment_attention.layers:
                attention = backbone.blocks[layer].attn1
                attention.set_processor(ProbedAttention(attention.processor))
        trained.prepare(self)
        self._run: Runner = runner(checkpointing=settings.gradient_checkpointing, keep=settings.keep_attention)

    @classmethod
    def load(
        cls, settings: ModelSettings, *, dtype: torch.dtype = torch.float32, trained_dtype: torch.dtype | None = None
    ) -> Self:
        """The model on the weights of `settings.base`, on the CPU.

        Args:
            settings: how it is built.
            dtype: of the weights, but for those that diffusers keeps in float32.
            trained_dtype: of those that train, if another: float32 beside frozen bfloat16, say. Two types of weights
                need `torch.autocast` to run.

        Raises:
            WeightsError: the checkpoint is absent, damaged, incomplete or of another model.
            ConfigError: settings do not fit it.
            MissingExtraError: diffusers or peft is not installed.

        """
        model = cls(load_backbone(base_folder(settings.base), dtype=dtype), settings)
        if trained_dtype is not None:
            for parameter in model.trainable_parameters():
                parameter.data = parameter.data.to(trained_dtype)
        return model

    def forward(self, latents: Tensor, sigma: Tensor, conditions: Conditions) -> Prediction:
        """Velocity at noisy latents.

        Args:
            latents: (B, 16, F, h, w) float: (1 - σ)·clean + σ·noise, the reference garment's latent first.
            sigma: (B,) float32 in 0..1; the network's timestep is 1000σ.
            conditions: what it is told.

        Raises:
            ConfigError: shapes of latents and conditions do not agree, or latents do not divide into patches of 2×2.

        """
        self._check_shapes(latents, conditions)
        net, dtype = self.backbone, self.backbone.patch_embedding.weight.dtype
        rotary = net.rope(latents)
        video = net.patch_embedding(latents.to(dtype)).flatten(2).transpose(1, 2).contiguous()
        context = net.vace_patch_embedding(conditions.context.to(dtype)).flatten(2).transpose(1, 2).contiguous()
        captions = filled(conditions.captions, length=self.settings.text_length)
        time, modulation, tokens, _ = net.condition_embedder(sigma * TIMESTEPS, captions.tokens.to(dtype), None)
        modulation = modulation.unflatten(1, (6, -1))
        text = timed(
            tokens, captions, conditions.segments, self.settings,
            width=net.config.attention_head_dim, size=video.shape[1] // latents.shape[2],
        )  # fmt: skip

        hints = self._hints(net.vace_blocks, video, text, context, modulation, rotary)
        if self.guider is not None:
            of_hands = self._hints(self.guider.blocks, video, text, self.guider(conditions.hands), modulation, rotary)
            hints = [one + other for one, other in zip(hints, of_hands, strict=True)]
        hint_at = dict(zip(net.config.vace_layers, hints, strict=True))

        probes = self._probes(latents, rotary)
        for layer, block in enumerate(net.blocks):
            video = self._run(block, video, text, modulation, probes.get(layer, rotary))
            if layer in hint_at:
                video = video + hint_at[layer]

        shift, scale = (net.scale_shift_table + time[:, None]).chunk(2, dim=1)
        video = net.proj_out((net.norm_out(video.float()) * (1 + scale) + shift).type_as(video))
        mass = as_grid(probes.values(), latents) if probes else None
        return Prediction(_unpatched(video, latents).type_as(latents), mass)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Those that require gradients, in the order of `named_parameters`."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def save(self, folder: Path, *, state: dict[str, Tensor] | None = None) -> None:
        """Write what was trained, and the settings, to `folder`; see `training.model.trained.save`."""
        trained.save(self, folder, state=state)

    def load_trained(self, folder: Path) -> None:
        """Take over what `save` wrote. Raises `WeightsError` where it is not all of it and no more."""
        trained.load(self, folder)

    def compile_blocks(self, **options: Any) -> None:
        """Run blocks compiled, with `options` of `torch.compile`; blocks of a kind share what is compiled."""
        self._run = torch.compile(self._run, **options)

    def _hints(self, blocks: nn.ModuleList, video: Tensor, text: TimedText, state: Tensor, *rest: Any) -> list[Tensor]:
        """What each block of a branch gives to the main stream, (B, N, C); `state` passes from block to block."""
        hints = []
        for block in blocks:
            hint, state = self._run(block, video, text, state, *rest)
            hints.append(hint)
        return hints

    def _probes(self, latents: Tensor, rotary: tuple[Tensor, Tensor]) -> dict[int, Probe]:
        """What measures the self-attention of which main block."""
        settings = self.settings.garment_attention
        if settings is None:
            return {}
        _, _, frames, height, width = latents.shape
        size = height // 2 * (width // 2)
        tokens = spread_tokens(frames, size, settings.queries, device=latents.device)
        return {layer: Probe(rotary, tokens, size, []) for layer in settings.layers}

    def _check_shapes(self, latents: Tensor, conditions: Conditions) -> None:
        batch, _, frames, height, width = latents.shape
        captions = conditions.captions
        shapes = [
            ("context", conditions.context, (batch, 96, frames, height, width)),
            ("captions.tokens", captions.tokens, (batch, captions.mask.shape[1], self.backbone.config.text_dim)),
            ("segments.frames", conditions.segments.frames, (batch, frames)),
        ]
        if self.guider is not None:
            shapes.append(("hands", conditions.hands, (batch, 16, frames, height, width)))
        for name, given, wanted in shapes:
            if given.shape != wanted:
                raise ConfigError(
                    f"{name} has the shape {tuple(given.shape)}", allowed=f"{wanted}, as latents and checkpoint have it"
                )
        if height % 2 or width % 2:
            raise ConfigError(
                f"latents of {height}×{width} do not divide into patches of 2×2",
                allowed="videos with sides of 16·n pixels",
            )


def _check_layers(backbone: Any, settings: GarmentAttentionSettings) -> None:
    if beyond := [layer for layer in settings.layers if not 0 <= layer < len(backbone.blocks)]:
        raise ConfigError(
            f"there are no main blocks {', '.join(map(str, beyond))} whose attention to measure",
            where="garment_attention.layers", allowed=f"0 to {len(backbone.blocks) - 1}",
        )  # fmt: skip


def _unpatched(tokens: Tensor, latents: Tensor) -> Tensor:
    """(B, N, 2·2·16) → (B, 16, F, h, w), as `latents`."""
    _, channels, frames, height, width = latents.shape
    patches = tokens.unflatten(2, (2, 2, channels)).unflatten(1, (frames, height // 2, width // 2))
    return patches.permute(0, 6, 1, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)
