"""What the model is asked in a training step, and how wrong its answer is.

Shape legend: B samples, F latent frames with the reference garment's first, h×w latent pixels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor, nn

from training.flow import draw, noisy, velocity
from training.losses import Losses, flow_loss, garment_attention_loss
from training.sample import Batch

if TYPE_CHECKING:
    from collections.abc import Callable

    from training.conditioning import Encoded
    from training.train_settings import LossSettings


def training_step(
    model: nn.Module, conditioner: Callable[[Batch], Encoded], batch: Batch, settings: LossSettings
) -> Losses:
    """Losses of `batch`, each sample at the noise level and with the noise that its seed gives."""
    encoded = conditioner(batch)
    sigma, noise = draw(batch["seed"], encoded.latents.shape[1:], shift=settings.shift)
    return losses_at(model, encoded, sigma=sigma, noise=noise, settings=settings)


def losses_at(model: nn.Module, encoded: Encoded, *, sigma: Tensor, noise: Tensor, settings: LossSettings) -> Losses:
    """Losses at noise levels of the caller's choice.

    Args:
        model: an `ITryOn`, as it is or as prepared by accelerate.
        encoded: conditions and clean latents.
        sigma: (B,) 0..1, already shifted, on any device.
        noise: (B, 16, F, h, w), on any device.
        settings: weights of the losses.

    """
    clean = encoded.latents
    sigma, noise = sigma.to(clean.device), noise.to(clean.device)
    predicted = model(noisy(clean, noise, sigma=sigma), sigma, encoded.conditions)
    losses = flow_loss(
        predicted.velocity,
        velocity(clean, noise),
        encoded.interactive,
        action_weight=settings.action_weight,
        reference=settings.reference,
    )
    if not settings.garment_attention:
        return losses
    garment = garment_attention_loss(
        predicted.garment_attention, encoded.repaint, negative_weight=settings.garment_negative
    )
    return replace(losses, total=losses.total + settings.garment_attention * garment, garment=garment)
