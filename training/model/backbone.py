"""Published weights of Wan2.1-VACE, as diffusers reads them, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import weights
from schemas.errors import MissingExtraError, WeightsError
from weights.checkpoints import listed
from weights.torchvision_operators import declare_missing_operators

TINY = "tiny"
"""As `base`: a random checkpoint of a few thousand parameters."""


def base_folder(base: str) -> Path:
    """The checkpoint that a config's `base` means. Raises `WeightsError` where it is not there."""
    if base == TINY:
        from training.tiny import tiny_checkpoint

        return tiny_checkpoint()
    return weights.path(base)


def load_backbone(folder: Path, *, dtype: torch.dtype) -> Any:
    """The `WanVACETransformer3DModel` of `folder/transformer`, on the CPU.

    Args:
        folder: a checkpoint in the layout of diffusers: `transformer/` with config.json and safetensors.
        dtype: of the weights, but for those that diffusers keeps in float32: time embedding, norms, modulation.

    Raises:
        WeightsError: it is not there, damaged, of another model, or lacks weights (which diffusers would make up).
        MissingExtraError: diffusers is not installed.

    """
    where = folder / "transformer"
    if not (where / "config.json").is_file():
        raise WeightsError(
            "there is no config.json of a transformer", where=str(where),
            allowed="a checkpoint in the layout of diffusers, e.g. of Wan-AI/Wan2.1-VACE-1.3B-diffusers",
        )  # fmt: skip
    kind = vace_transformer()
    config = _read(kind.load_config, where)
    if (named := config.get("_class_name")) != kind.__name__:
        raise WeightsError(f"this is a {named}", where=str(where), allowed=kind.__name__)
    model, report = _read(
        kind.from_pretrained, where,
        torch_dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True,
    )  # fmt: skip
    faults = [listed("lacks", report["missing_keys"]), listed("has besides", report["unexpected_keys"])]
    if any(faults):
        raise WeightsError(f"the checkpoint {'; '.join(filter(None, faults))}", where=str(where))
    return model


def vace_transformer() -> Any:
    """The class `WanVACETransformer3DModel`. Raises `MissingExtraError` without diffusers."""
    declare_missing_operators()
    try:
        from diffusers import WanVACETransformer3DModel
    except ImportError as error:
        raise MissingExtraError("diffusers", "train", purpose="the model") from error
    return WanVACETransformer3DModel


def _read(reader: Callable[..., Any], where: Path, **options: Any) -> Any:
    try:
        return reader(str(where), **options)
    except Exception as error:  # diffusers, accelerate and safetensors raise whatever comes of damaged files
        raise WeightsError(f"it cannot be loaded: {type(error).__name__}: {error}", where=str(where)) from error
