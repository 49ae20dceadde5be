"""Tiny models and what they are given."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.model.backbone import load_backbone
from training.model.inputs import Captions, Conditions, Segments
from training.model.itryon import ITryOn
from training.model.settings import ModelSettings
from training.tiny import TEXT_WIDTH

FRAMES, HEIGHT, WIDTH = 5, 4, 6
"""Of the latents: a reference and four frames of 2×3 tokens."""


def settings(base: Path, **fields: Any) -> ModelSettings:
    """Short captions, as most tests need no 512 tokens."""
    return ModelSettings(**{"base": str(base), "text_length": 12, **fields})


def model(base: Path, *, seed: int = 0, **fields: Any) -> ITryOn:
    torch.manual_seed(seed)
    return ITryOn.load(settings(base, **fields))


def opened(network: ITryOn) -> ITryOn:
    """The model as after some training: outputs of the Guider and adapters are no longer zero."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".lora_" in name or (parameter.requires_grad and not parameter.any()):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return network


@cache
def latents(*, batch: int = 2) -> tuple[Tensor, Tensor]:
    """Noisy latents and sigma."""
    generator = torch.Generator().manual_seed(1)
    noisy = torch.randn(batch, 16, FRAMES, HEIGHT, WIDTH, generator=generator)
    return noisy, torch.rand(batch, generator=generator)


def conditions(*, batch: int = 2, actions: bool = True, length: int = 9) -> Conditions:
    """Random ones. With actions: segments 0, 1, 1, 2 of which 1 is interactive, and has the last 4 text tokens."""
    generator = torch.Generator().manual_seed(2)

    def random(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator)

    of_tokens = [-1] * (length - 4) + [1 if actions else -1] * 4
    return Conditions(
        context=random(96, FRAMES, HEIGHT, WIDTH),
        hands=random(16, FRAMES, HEIGHT, WIDTH),
        captions=Captions(
            tokens=random(length, TEXT_WIDTH),
            mask=torch.ones(batch, length, dtype=torch.bool),
            segments=torch.tensor([of_tokens] * batch),
        ),
        segments=video_segments(batch=batch, actions=actions),
    )


def video_segments(*, batch: int = 2, actions: bool = True) -> Segments:
    if not actions:
        return Segments(
            frames=torch.tensor([[-1, 0, 0, 0, 0]] * batch),
            interactive=torch.zeros(batch, 1, dtype=torch.bool),
            bounds=torch.tensor([[[0.0, 4.0]]] * batch),
        )
    return Segments(
        frames=torch.tensor([[-1, 0, 1, 1, 2]] * batch),
        interactive=torch.tensor([[False, True, False]] * batch),
        bounds=torch.tensor([[[0.0, 1.0], [1.0, 3.0], [3.0, 4.0]]] * batch),
    )


def backbone_alone(base: Path, noisy: Tensor, sigma: Tensor, given: Conditions, *, text_length: int) -> Tensor:
    """What diffusers' own forward gives, captions padded with zeros as its pipeline does."""
    missing = text_length - given.captions.tokens.shape[1]
    with torch.no_grad():
        return load_backbone(base, dtype=torch.float32)(
            hidden_states=noisy,
            timestep=sigma * 1000,
            encoder_hidden_states=torch.nn.functional.pad(given.captions.tokens, (0, 0, 0, missing)),
            control_hidden_states=given.context,
            return_dict=False,
        )[0]
