"""Networks with weights of a rule: the golden one, and one of our own where the golden files are absent."""

from __future__ import annotations

import importlib.util
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch

from preprocess.densepose.model import DensePoseRCNN, network_of
from tests.clips import shared

FOLDER = "golden/densepose"
VARIANTS = ("s1x", "DL_s1x")


@cache
def golden_module(name: str) -> ModuleType:
    """One of the scripts beside the golden arrays: the rule of the weights, or the comparison."""
    spec = importlib.util.spec_from_file_location(f"golden_densepose_{name}", shared(f"{FOLDER}/{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def _golden_value(name: str, shape: tuple[int, ...], salt: str) -> np.ndarray:
    return golden_module("weights").synth(name, shape, salt)


def golden_values(variant: str, *, salt: str = "golden-A") -> dict[str, np.ndarray]:
    """Name → array of the published key list. What both variants have is made once."""
    keys = golden_module("weights").read_keys(shared(f"{FOLDER}/state_dict_{variant}.tsv"))
    return {name: _golden_value(name, shape, salt) for name, shape in keys}


@cache
def golden_network(variant: str) -> DensePoseRCNN:
    return network_of(golden_values(variant), where=variant)


_GAINS = {
    "stem": 0.03,
    "lateral": 0.003,
    "output": 0.7,
    "logits": 0.3,
    "deltas": 0.1,
    "cls_score": 0.3,
    "bbox_pred": 0.3,
    "_lowres": 0.05,
}
"""Of weights by a part of their name, over those that keep the size of what goes through a ReLU."""


@cache
def random_values(*, deeplab: bool = False) -> dict[str, torch.Tensor]:
    """Name → tensor: random, of such a size that activations neither fade nor grow."""
    with torch.device("meta"):
        wanted = DensePoseRCNN(deeplab=deeplab).state_dict()
    block = torch.rand(1_000_003, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return {name: _random(name, tensor.shape, block) for name, tensor in wanted.items()}


def _random(name: str, shape: torch.Size, block: torch.Tensor) -> torch.Tensor:
    uniform = block.roll(1009 * len(name)).repeat(shape.numel() // len(block) + 1)[: shape.numel()].view(shape)
    if len(shape) > 1:
        gain = next((gain for part, gain in _GAINS.items() if part in name), 1.0)
        return uniform * gain * (6 / shape[1:].numel()) ** 0.5
    if name.endswith((".running_var", ".weight")):
        return (0.2 if "conv3" in name else 1.0) + 0.1 * uniform
    return 0.1 * uniform


@cache
def random_network(*, deeplab: bool = False) -> DensePoseRCNN:
    return network_of(random_values(deeplab=deeplab), where="random")


def as_pickle(values: dict[str, Any]) -> dict[str, Any]:
    """What a published checkpoint holds."""
    return {"model": {name: np.asarray(value) for name, value in values.items()}, "__author__": "tests"}
