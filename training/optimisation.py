"""AdamW over what trains, and its learning rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from training.train_settings import OptimiserSettings


def make_optimiser(parameters: Iterable[torch.nn.Parameter], settings: OptimiserSettings) -> torch.optim.AdamW:
    """Loshchilov and Hutter, Decoupled Weight Decay Regularization, arXiv 1711.05101."""
    return torch.optim.AdamW(
        parameters, lr=settings.lr, betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay
    )


def learning_rate(settings: OptimiserSettings, *, step: int, steps: int) -> float:
    """Of step `step`, from 0, of a run of `steps`: it is a function of the step alone, so resuming needs no state."""
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / settings.warmup_steps
    if settings.decay == "constant":
        return settings.lr
    done = (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)
    return settings.lr * 0.5 * (1 + math.cos(math.pi * done))
