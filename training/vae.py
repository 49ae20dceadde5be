"""Wan's video autoencoder, between pixels and normalised latents.

Shape legend: B videos, T = 4f - 3 frames of H×W pixels; f latent frames of h = H/8 by w = W/8.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from schemas.errors import ConfigError, MissingExtraError
from training.pretrained import load_part
from training.segments import latent_frames
from weights.torchvision_operators import declare_missing_operators

CHANNELS = 16
"""Of the latents."""
SCALE = 8
"""Pixels to a side of a latent pixel."""


class VideoVae:
    """diffusers' `AutoencoderKLWan`, with the normalisation of latents that Wan's transformers are trained on.

    Videos go through one at a time, and within one the network works four frames by four, so memory does not grow with
    the batch, and with T only by the video itself. Not to be called from two threads: the network keeps state.

    Args:
        network: the autoencoder, in evaluation mode.

    """

    def __init__(self, network: Any) -> None:
        self.network = network
        # The same numbers as diffusers' pipelines: float32, whatever the network computes in.
        shape = (1, CHANNELS, 1, 1, 1)
        self._mean = torch.tensor(network.config.latents_mean, device=network.device).view(shape)
        self._deviation = torch.tensor(network.config.latents_std, device=network.device).view(shape)

    @classmethod
    def load(cls, folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Self:
        """The one in `folder/vae`.

        Raises:
            WeightsError: it is not there, or damaged.
            MissingExtraError: diffusers is not installed.

        """
        declare_missing_operators()
        try:
            from diffusers import AutoencoderKLWan
        except ImportError as error:
            raise MissingExtraError("diffusers", "train", purpose="Wan's autoencoder") from error
        return cls(load_part(AutoencoderKLWan, folder, "vae", dtype=dtype, device=device))

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.network.device

    @torch.no_grad()
    def encode(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) float -1..1 → (B, 16, f, h, w) float32: the mode of the latents' distribution, normalised.

        Raises:
            ConfigError: T is not 4n + 1, or H or W no multiple of 8.

        """
        *_, frames, height, width = video.shape
        latent_frames(frames)
        if height % SCALE or width % SCALE:
            raise ConfigError(f"a video of {height}×{width} px", allowed=f"sides that are multiples of {SCALE}")
        return torch.cat([self._encode(one) for one in video.split(1)])

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """(B, 16, f, h, w) normalised → (B, 3, T, H, W) float32 -1..1."""
        return torch.cat([self._decode(one) for one in latents.split(1)])

    def _encode(self, video: Tensor) -> Tensor:
        mode = self.network.encode(video.to(self.device, self.network.dtype)).latent_dist.mode()
        return (mode.float() - self._mean) / self._deviation

    def _decode(self, latents: Tensor) -> Tensor:
        raw = latents.to(self.device, torch.float32) * self._deviation + self._mean
        return self.network.decode(raw.to(self.network.dtype)).sample.float().clamp(-1, 1)
