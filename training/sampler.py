"""From noise to video latents: the denoising loop, as diffusers' `WanVACEPipeline` does it, for a model of ours.

Shape legend: B samples, F latent frames with the reference garment's first, h×w latent pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from schemas.errors import ConfigError, MissingExtraError
from training.flow import TIMESTEPS
from training.generation_settings import SamplerSettings
from weights.torchvision_operators import declare_missing_operators

if TYPE_CHECKING:
    from training.model.inputs import Conditions
    from training.model.itryon import ITryOn

CHANNELS = 16
"""Of Wan's latents."""


@torch.no_grad()
def sample(
    model: ITryOn,
    conditions: Conditions,
    unconditional: Conditions | None,
    *,
    seeds: Sequence[int],
    settings: SamplerSettings,
) -> Tensor:
    """Latents of the video that `conditions` ask for.

    The reference garment's latent frame is denoised along with the others, from noise, as in training, where it is part
    of the target; it is dropped at the end. What is known of the video (frames of a window before, keyframes) is known
    by the context alone, whose mask is 0 there, as VACE has it.

    Guidance takes two passes of the model a step, one after the other: no more memory than training takes.

    Args:
        model: in evaluation mode, on the device of the conditions.
        conditions: of B samples.
        unconditional: the same without captions, which guidance leads away from; not used at a guidance of 1.
        seeds: of each sample's noise, which is drawn on the CPU: the same on every machine and in any batch.
        settings: scheduler, steps, shift, guidance.

    Returns:
        (B, 16, F - 1, h, w) float32, normalised as the VAE's encodings are.

    Raises:
        ConfigError: seeds are not as many as samples, or guidance lacks `unconditional`.
        MissingExtraError: diffusers is not installed.

    """
    batch, _, *shape = conditions.context.shape
    if len(seeds) != batch:
        raise ConfigError(f"{len(seeds)} seed(s) for {batch} sample(s)", allowed="one a sample")
    if settings.guidance > 1 and unconditional is None:
        raise ConfigError("guidance has nothing to lead away from", remedy="Give `unconditional`, or guidance 1")
    device = conditions.context.device
    scheduler = make_scheduler(settings, device=device)
    latents = torch.stack([_noise(seed, (CHANNELS, *shape)) for seed in seeds]).to(device)
    for timestep in scheduler.timesteps:
        sigma = (timestep.float() / TIMESTEPS).expand(batch)
        velocity = model(latents, sigma, conditions).velocity.float()
        if settings.guidance > 1:
            free = model(latents, sigma, unconditional).velocity.float()
            velocity = free + settings.guidance * (velocity - free)
        latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
    return latents[:, :, 1:]


def make_scheduler(settings: SamplerSettings, *, device: torch.device) -> Any:
    """The scheduler of diffusers, its steps set.

    Both step through the same noise levels, even ones shifted once. (Left to itself, the Euler scheduler begins from a
    lowest level that is shifted already and shifts it again, so that its last step does next to nothing.)

    Raises:
        MissingExtraError: diffusers is not installed.

    """
    declare_missing_operators()
    try:
        from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
    except ImportError as error:
        raise MissingExtraError(error.name or "diffusers", "train", purpose="Generating videos") from error
    scheduler: Any
    if settings.scheduler == "unipc":
        scheduler = UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=settings.shift
        )
        scheduler.set_timesteps(settings.steps, device=device)
    else:
        scheduler = FlowMatchEulerDiscreteScheduler(shift=settings.shift)
        sigmas = np.linspace(1, 1 / TIMESTEPS, settings.steps + 1)[:-1]
        scheduler.set_timesteps(sigmas=sigmas.tolist(), device=device)
    return scheduler


def _noise(seed: int, shape: Sequence[int]) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
