"""Reading the published files of the feature networks: state dicts that `torch.save` wrote, of any age."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

import weights
from schemas.errors import WeightsError


def read_state(name: str) -> tuple[dict[str, Tensor], Path]:
    """Tensors by their names, and the file: `name` is one of the registry, or a path.

    A training checkpoint is read for its `state_dict`, and the prefix `module.` of data-parallel training dropped.
    Nothing that a pickle asks for is run: torch admits tensors and plain values only.

    Raises:
        WeightsError: the file is not there, is damaged, holds anything else, or no tensors.

    """
    file = weights.path(name)
    try:
        held = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise WeightsError(
            f"this is no state dict: {type(error).__name__}: {str(error).partition('. ')[0]}", where=str(file),
            allowed="tensors by name, as `torch.save` writes them",
        ) from error  # fmt: skip
    state = held.get("state_dict", held) if isinstance(held, Mapping) else None
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError("this holds no state dict", where=str(file), allowed="tensors by name")
    return {str(key).removeprefix("module."): value for key, value in state.items()}, file


def with_batch_counts(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with the counters of batch norms, which files older than torch 0.4.1 lack and inference ignores."""
    counts = {name: value for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")}
    return counts | dict(state)
