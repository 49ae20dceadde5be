"""DensePose half of DensePose R-CNN: decoder, head (plain or DeepLab), predictor.

Parameters are named as detectron2's DensePose project names them. Shape legend: N pictures, R regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from preprocess.densepose.backbone import LEVELS
from preprocess.densepose.regions import STRIDES, Windows

POOLED = 28
HIDDEN = 512
PARTS = 25
"""Background and 24 parts of the body's surface."""
COARSE = 2
"""Background and body."""
HALO = (1, 1, 2)
"""Cells of 32 px around the windows that p2, p3 and p4 are needed in; p5, tiny, is always taken whole. Of n right
pixels beyond a window every convolution leaves n - 1, every upsampling makes 2 n - 1: at stride 4 three are left, the
output convolutions of the pyramid included, and RoIAlign reaches for two at most."""


@dataclass(frozen=True)
class Surfaces:
    """What the network says of each region: logits of `coarse` (R, 2, 112, 112) and `fine` (R, 25, 112, 112)
    parts, and `u` and `v` (R, 25, 112, 112), about 0..1, on the surface of each part. All float32.
    """

    coarse: Tensor
    fine: Tensor
    u: Tensor
    v: Tensor


def _conv(inputs: int, outputs: int, kernel: int = 3, *, dilation: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=bias)


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class Decoder(nn.Module):
    """Brings p2 to p5 to stride 4 and sums them (Panoptic FPN, Kirillov et al., 2019)."""

    def __init__(self) -> None:
        super().__init__()
        for number, convolutions in ((2, 1), (3, 1), (4, 2), (5, 3)):
            # Even places are convolutions; the upsamplings between them have no parameters, but count.
            layers = [_conv(LEVELS, LEVELS) if i % 2 == 0 else nn.Identity() for i in range(2 * convolutions - 1)]
            self.add_module(f"p{number}", nn.Sequential(*layers))
        self.predictor = _conv(LEVELS, LEVELS, 1)

    @staticmethod
    def cut(levels: Sequence[Tensor], windows: Windows) -> list[Tensor]:
        """What the decoder, and the pyramid's output convolutions before it, need of p2 to p5 for `windows`."""
        cuts = [
            windows.widened(by).cut(level, stride=stride)
            for level, stride, by in zip(levels, STRIDES, HALO, strict=False)
        ]
        return [*cuts, levels[3]]

    def forward(self, cuts: Sequence[Tensor], windows: Windows) -> Tensor:
        """(N, 256, h, w) at stride 4 of the windows, one cell wider, of what `cut` gave; right inside the windows."""
        sides = [windows.widened(by) for by in HALO] + [Windows.everything(len(windows.y), windows.whole)]
        total = self._raised(2, cuts[0], sides)
        for number in (3, 4, 5):
            total = total + self._raised(number, cuts[number - 2], sides)
        return self.predictor(total)

    def _raised(self, number: int, x: Tensor, sides: Sequence[Windows]) -> Tensor:
        """Level p`number` brought to stride 4, step by step, each cut to what the next one needs."""
        for place, layer in self.get_submodule(f"p{number}").named_children():
            if int(place) % 2:  # an upsampling, done below
                continue
            x = F.relu_(layer(x))
            if number > 2:
                x = sides[number - 3].cut(_doubled(x), stride=STRIDES[number - 3], of=sides[number - 2])
                number -= 1
        return x


class PlainHead(nn.Sequential):
    """Eight convolutions with ReLU: the head of the plain configurations."""

    def __init__(self) -> None:
        super().__init__()
        for number in range(1, 9):
            self.add_module(f"body_conv_fcn{number}", _conv(LEVELS if number == 1 else HIDDEN, HIDDEN))

    def forward(self, pooled: Tensor) -> Tensor:
        """(R, 512, 28, 28) of (R, 256, 28, 28)."""
        for conv in self:
            pooled = F.relu_(conv(pooled))
        return pooled


class PyramidPooling(nn.Module):
    """Atrous spatial pyramid pooling (DeepLabv3, Chen et al., 2017)."""

    def __init__(self) -> None:
        super().__init__()
        convs = [
            _conv(LEVELS, LEVELS, 1 if dilation == 1 else 3, dilation=dilation, bias=False)
            for dilation in (1, 6, 12, 56)
        ]
        branches = [nn.Sequential(conv, nn.GroupNorm(32, LEVELS), nn.ReLU()) for conv in convs]
        pooled = (nn.AdaptiveAvgPool2d(1), _conv(LEVELS, LEVELS, 1, bias=False), nn.GroupNorm(32, LEVELS), nn.ReLU())
        self.convs = nn.ModuleList([*branches, nn.Sequential(*pooled)])
        self.project = nn.Sequential(_conv(5 * LEVELS, LEVELS, 1, bias=False), nn.ReLU())

    def forward(self, pooled: Tensor) -> Tensor:
        """(R, 256, 28, 28) of the same."""
        branches = [branch(pooled) for branch in self.convs]
        branches[-1] = branches[-1].expand_as(pooled)
        return self.project(torch.cat(branches, 1))


class GroupNormedConv(nn.Conv2d):
    """A convolution without bias, group norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(32, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(R, outputs, h, w)."""
        return F.relu_(self.norm(super().forward(x)))


class DeepLabHead(nn.Module):
    """Pyramid pooling and eight convolutions with group norm: the head of the DL configurations."""

    def __init__(self) -> None:
        super().__init__()
        self.ASPP = PyramidPooling()
        for number in range(1, 9):
            self.add_module(f"body_conv_fcn{number}", GroupNormedConv(LEVELS if number == 1 else HIDDEN, HIDDEN))

    def forward(self, pooled: Tensor) -> Tensor:
        """(R, 512, 28, 28) of (R, 256, 28, 28)."""
        x = self.ASPP(pooled)
        for number in range(1, 9):
            x = self.get_submodule(f"body_conv_fcn{number}")(x)
        return x


class Predictor(nn.Module):
    """Parts and surface coordinates, from 28 × 28 to 112 × 112."""

    def __init__(self) -> None:
        super().__init__()
        for name, channels in (("ann_index", COARSE), ("index_uv", PARTS), ("u", PARTS), ("v", PARTS)):
            self.add_module(f"{name}_lowres", nn.ConvTranspose2d(HIDDEN, channels, 4, stride=2, padding=1))

    def forward(self, hidden: Tensor) -> Surfaces:
        """Of (R, 512, 28, 28)."""
        # All four side by side as one: one pass over the input.
        weight = torch.cat([weight for name, weight in self.named_parameters() if name.endswith("weight")], 1)
        bias = torch.cat([bias for name, bias in self.named_parameters() if name.endswith("bias")])
        maps = _doubled(F.conv_transpose2d(hidden, weight, bias, stride=2, padding=1).float())
        return Surfaces(*maps.split((COARSE, PARTS, PARTS, PARTS), 1))
