"""A tiny random checkpoint in the layout of Wan2.1-VACE, to try training with: seconds on a CPU, no download.

It has every part of the published one, of the same classes of diffusers and transformers, so that whatever runs on it
runs on that. It has learnt nothing: its VAE's latents tell videos apart, but decode to no picture.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

import weights
from schemas.errors import MissingExtraError
from weights.torchvision_operators import declare_missing_operators

TEXT_WIDTH = 32
_MEANS = [(channel - 8) / 100 for channel in range(16)]
_DEVIATIONS = [(channel + 10) / 100 for channel in range(16)]
"""Of its latents: about what they are of videos of noise, and each its own, so that channels cannot be mistaken."""
_CACHED = "tiny-wan-vace-2"
"""To be counted up whenever the checkpoint changes."""


def tiny_checkpoint() -> Path:
    """The folder of the tiny checkpoint, among the weights; written on first use."""
    folder = weights.folder() / _CACHED
    if not folder.exists():
        write_tiny_checkpoint(folder)
    return folder


def write_tiny_checkpoint(folder: Path, *, seed: int = 0) -> None:
    """Write a tiny checkpoint, laid out like `Wan-AI/Wan2.1-VACE-1.3B-diffusers`; the same for the same seed.

    `folder` appears when all of it is written; of processes that write it at once, the first wins.

    Raises:
        MissingExtraError: diffusers or transformers is not installed.

    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            _write(unfinished)
        unfinished.chmod(0o755)
        os.rename(unfinished, folder)
    except OSError:
        if not (folder / "model_index.json").exists():
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write(folder: Path) -> None:
    declare_missing_operators()
    try:
        from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanVACEPipeline, WanVACETransformer3DModel
        from transformers import ByT5Tokenizer, UMT5Config, UMT5EncoderModel
    except ImportError as error:
        raise MissingExtraError(error.name or "diffusers", "train", purpose="The tiny checkpoint") from error

    tokenizer = ByT5Tokenizer()  # bytes: no vocabulary to learn or to store
    text_encoder = UMT5EncoderModel(
        UMT5Config(vocab_size=len(tokenizer), d_model=TEXT_WIDTH, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    )
    transformer = WanVACETransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=24,
        text_dim=TEXT_WIDTH,
        ffn_dim=96,
        num_layers=4,
        vace_layers=[0, 2],
        vace_in_channels=96,
    )
    vae: Any = AutoencoderKLWan(
        base_dim=3,
        z_dim=16,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=_MEANS,
        latents_std=_DEVIATIONS,
    )
    for name, parameter in vae.named_parameters():
        if name.endswith("bias"):  # else latents would consist mostly of what biases leave behind, whatever the video
            torch.nn.init.zeros_(parameter)
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=5.0
    )
    pipeline: Any = WanVACEPipeline(
        tokenizer=tokenizer, text_encoder=text_encoder, vae=vae, scheduler=scheduler, transformer=transformer
    )
    pipeline.save_pretrained(folder)
