"""Backbone of DensePose R-CNN: ResNet-50 as MSRA trained it, and a feature pyramid.

Parameters are named as detectron2 names them. Shape legend: N pictures, H×W their size in px, multiples of 32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

EPSILON = 1e-5
LEVELS = 256
"""Channels of every level of the pyramid."""


class FrozenNorm(nn.Module):
    """The four vectors of a batch norm that is not trained."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.empty(channels))


class NormedConv(nn.Conv2d):
    """A convolution without bias and the frozen norm after it, which `fold` makes one convolution with bias."""

    norm: FrozenNorm

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: int = 0) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding, bias=False)
        self.norm = FrozenNorm(outputs)

    @torch.no_grad()
    def fold(self) -> None:
        """Multiply the norm into the weights; the module is a plain convolution from here on."""
        norm = self.norm
        scale = norm.weight.double() / (norm.running_var.double() + EPSILON).sqrt()
        self.bias = nn.Parameter((norm.bias - norm.running_mean * scale).to(self.weight.dtype), requires_grad=False)
        self.weight.copy_(self.weight * scale[:, None, None, None])
        del self.norm


class Bottleneck(nn.Module):
    """Residual block; the stride sits in the first 1 × 1 convolution (He et al., 2015, as MSRA published it)."""

    def __init__(self, inputs: int, inner: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.shortcut = NormedConv(inputs, outputs, 1, stride=stride) if inputs != outputs else None
        self.conv1 = NormedConv(inputs, inner, 1, stride=stride)
        self.conv2 = NormedConv(inner, inner, 3, padding=1)
        self.conv3 = NormedConv(inner, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, outputs, H / stride, W / stride)."""
        y = F.relu_(self.conv1(x))
        y = F.relu_(self.conv2(y))
        return F.relu_(self.conv3(y).add_(x if self.shortcut is None else self.shortcut(x)))


class Stem(nn.Module):
    """First convolution and pooling, to stride 4."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = NormedConv(3, 64, 7, stride=2, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 64, H / 4, W / 4)."""
        return F.max_pool2d(F.relu_(self.conv1(x)), 3, stride=2, padding=1)


class ResNet50(nn.Module):
    """Stages res2 to res5, at strides 4 to 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Stem()
        channels = 64
        for number, (blocks, inner) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), start=2):
            stage = []
            for block in range(blocks):
                stride = 2 if block == 0 and number > 2 else 1
                stage.append(Bottleneck(channels, inner, 4 * inner, stride=stride))
                channels = 4 * inner
            self.add_module(f"res{number}", nn.Sequential(*stage))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Outputs of res2 to res5, of 256, 512, 1024 and 2048 channels."""
        x, outputs = self.stem(x), []
        for number in range(2, 6):
            x = self.get_submodule(f"res{number}")(x)
            outputs.append(x)
        return outputs


class FeaturePyramid(nn.Module):
    """Feature pyramid (Lin et al., 2017) over ResNet-50, levels p2 to p5 at strides 4 to 32."""

    def __init__(self) -> None:
        super().__init__()
        self.bottom_up = ResNet50()
        for number, channels in enumerate((256, 512, 1024, 2048), start=2):
            self.add_module(f"fpn_lateral{number}", nn.Conv2d(channels, LEVELS, 1))
            self.add_module(f"fpn_output{number}", nn.Conv2d(LEVELS, LEVELS, 3, padding=1))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Levels p2 to p5 of (N, 3, H, W) pictures, (N, 256, ·, ·) each, still without their output convolutions."""
        stages = self.bottom_up(images)
        levels = [self.get_submodule("fpn_lateral5")(stages[3])]
        for number in (4, 3, 2):
            above = F.interpolate(levels[0], scale_factor=2.0, mode="nearest")
            levels.insert(0, self.get_submodule(f"fpn_lateral{number}")(stages[number - 2]).add_(above))
        return levels

    def outputs(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """`levels` p2 to p5, or cut-outs of them, after their output convolutions: as the heads take them."""
        return [self.get_submodule(f"fpn_output{number}")(level) for number, level in enumerate(levels, start=2)]
