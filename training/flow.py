"""Flow matching as Wan2.1 is trained: straight paths from data to noise, times shifted towards noise.

x_σ = (1 - σ)·x0 + σ·ε, and the velocity to be predicted is ε - x0 (Lipman et al., Flow Matching, arXiv 2210.02747; Liu
et al., Rectified Flow, arXiv 2209.03003). The shift is that of Esser et al., arXiv 2403.03206, section 5.3.2.

Shape legend: B samples, ... a sample's own shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

TIMESTEPS = 1000
"""Wan's networks are told σ times this."""


def shifted(sigma: Tensor, *, shift: float) -> Tensor:
    """σ 0..1 → shift·σ / (1 + (shift - 1)·σ), of the same shape: more of the path's noisy end for `shift` above 1."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def noisy(x0: Tensor, noise: Tensor, *, sigma: Tensor) -> Tensor:
    """(B, ...) data and noise, (B,) σ 0..1 → (B, ...) the point of the path between them, in `x0`'s dtype."""
    share = sigma.view(-1, *(1,) * (x0.ndim - 1))
    return ((1 - share) * x0 + share * noise).to(x0.dtype)


def velocity(x0: Tensor, noise: Tensor) -> Tensor:
    """What the network has to predict, of the shape of both."""
    return noise - x0


def draw(seeds: Tensor, shape: Sequence[int], *, shift: float = 5.0) -> tuple[Tensor, Tensor]:
    """Time and noise of each sample, from its own seed, so that they do not depend on how samples are dealt out.

    Args:
        seeds: (B,) int64.
        shape: of a sample.
        shift: 5 as Wan's of 480p and above [V, papers.md].

    Returns:
        σ (B,) float32 in 0..1, uniform but for the shift, and noise (B, *shape) float32, both on the CPU, where a seed
        means the same numbers on every machine.

    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds.tolist()]
    sigma = torch.stack([torch.rand((), generator=generator) for generator in generators])
    noise = torch.stack([torch.randn(*shape, generator=generator) for generator in generators])
    return shifted(sigma, shift=shift), noise
