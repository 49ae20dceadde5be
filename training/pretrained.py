"""Parts of a published checkpoint in the layout of diffusers, read from its folder alone, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from schemas.errors import WeightsError
from weights.checkpoints import listed


def load_part(kind: Any, folder: Path, part: str, *, dtype: torch.dtype, device: torch.device | str = "cpu") -> Any:
    """The network in `folder/part`, in evaluation mode, not to be trained.

    Args:
        kind: its class, of diffusers or transformers.
        folder: the checkpoint, e.g. a download of Wan-AI/Wan2.1-VACE-1.3B-diffusers.
        part: "vae", "text_encoder", …: a folder in it, with config.json and safetensors.
        dtype: of the weights.
        device: where they are put.

    Raises:
        WeightsError: it is not there, damaged, or lacks weights or has others (which the libraries would pass over).

    """
    where = folder / part
    if not (where / "config.json").is_file():
        raise WeightsError(
            f"there is no config.json of a {part}", where=str(where),
            allowed="a checkpoint in the layout of diffusers, e.g. of Wan-AI/Wan2.1-VACE-1.3B-diffusers",
        )  # fmt: skip
    # diffusers and transformers call it by other names.
    of_dtype = {"torch_dtype" if kind.__module__.startswith("diffusers.") else "dtype": dtype}
    try:
        network, report = kind.from_pretrained(
            where, use_safetensors=True, local_files_only=True, output_loading_info=True, **of_dtype
        )
    except Exception as error:  # of damaged files they raise whatever comes
        raise WeightsError(f"it cannot be loaded: {type(error).__name__}: {error}", where=str(where)) from error
    faults = [listed("lacks", report["missing_keys"]), listed("has besides", report["unexpected_keys"])]
    if any(faults):
        raise WeightsError(f"the checkpoint {'; '.join(filter(None, faults))}", where=str(where))
    return network.eval().requires_grad_(False).to(device)
