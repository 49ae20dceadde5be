"""LPIPS: how different two pictures look, by the features of an image network (Zhang et al. 2018), version 0.1.

The networks are torchvision's, under its parameter names, without needing torchvision; the weights of their layers
("heads") are those that torchmetrics ships. Shape legend: N pictures, H×W pixels, C channels.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from schemas.errors import MissingExtraError
from training.features import Backbone
from training.features.published import read_state
from weights.checkpoints import load_strictly

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_CLASSIFIER = ("classifier.",)


class LPIPS(nn.Module):
    """Two (N, 3, H, W) float -1..1 RGB → (N,) distances, 0 for equal pictures. H and W at least 64 px.

    Args:
        backbone: "alex" is what its authors recommend to compare methods by.

    """

    def __init__(self, backbone: Backbone = "alex") -> None:
        super().__init__()
        self.features, self._taps, widths = _BACKBONES[backbone]()
        self.heads = nn.ParameterList(torch.ones(1, width, 1, 1) for width in widths)
        self.register_buffer("shift", torch.tensor(_SHIFT)[None, :, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE)[None, :, None, None], persistent=False)

    @classmethod
    def load(cls, name: str, *, backbone: Backbone = "alex") -> LPIPS:
        """From torchvision's published file of the backbone, by name in the registry or path.

        Raises:
            WeightsError: it is absent, or not the one of `backbone`.
            MissingExtraError: torchmetrics, which brings the heads, is not installed.

        """
        network = cls(backbone)
        state, file = read_state(name)
        features = {key: value for key, value in state.items() if not key.startswith(_CLASSIFIER)}
        heads, shipped = read_state(str(_shipped_heads(backbone)))
        named = {f"heads.{key.split('.')[0].removeprefix('lin')}": value for key, value in heads.items()}
        where = f"{file} (heads: {shipped.name} of torchmetrics)"
        load_strictly(network, features | named, where=where)
        return network.eval()

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        total = one.new_zeros(len(one))
        for head, first, second in zip(self.heads, self._tapped(one), self._tapped(other), strict=True):
            total = total + ((first - second).square() * head).sum(1).mean((1, 2))
        return total

    def _tapped(self, pictures: Tensor) -> list[Tensor]:
        """Features of each tapped layer, (N, C, h, w), of unit length over C."""
        x = (pictures - self.get_buffer("shift")) / self.get_buffer("scale")
        tapped = []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self._taps:
                tapped.append(x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt())
        return tapped


def _shipped_heads(backbone: Backbone) -> Path:
    spec = find_spec("torchmetrics")
    if spec is None or spec.origin is None:
        raise MissingExtraError("torchmetrics", "train", purpose="LPIPS")
    return Path(spec.origin).parent / "functional" / "image" / "lpips_models" / f"{backbone}.pth"


class _Fire(nn.Module):
    """Of SqueezeNet: fewer channels, then 1×1 and 3×3 convolutions side by side."""

    def __init__(self, channels: int, squeezed: int, made: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, made, 1)
        self.expand3x3 = nn.Conv2d(squeezed, made, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.squeeze(x))
        return functional.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1))


# Each gives the layers up to the last tapped one, the numbers of the tapped ones, and their channels.
_Layers = tuple[nn.Sequential, tuple[int, ...], tuple[int, ...]]


def _alex() -> _Layers:
    """AlexNet (Krizhevsky 2014)."""
    layers = nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
    )  # fmt: skip
    return layers, (1, 4, 7, 9, 11), (64, 192, 384, 256, 256)


def _vgg() -> _Layers:
    """VGG-16 (Simonyan and Zisserman 2015)."""
    widths, depths = (64, 128, 256, 512, 512), (2, 2, 3, 3, 3)
    layers: list[nn.Module] = []
    taps, channels = [], 3
    for width, depth in zip(widths, depths, strict=True):
        layers += [nn.MaxPool2d(2, 2)] if layers else []
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        taps.append(len(layers) - 1)
    return nn.Sequential(*layers), tuple(taps), widths


def _squeeze() -> _Layers:
    """SqueezeNet 1.1 (Iandola et al. 2016)."""

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    layers = nn.Sequential(
        nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(),
        pool(), _Fire(64, 16, 64), _Fire(128, 16, 64),
        pool(), _Fire(128, 32, 128), _Fire(256, 32, 128),
        pool(), _Fire(256, 48, 192), _Fire(384, 48, 192), _Fire(384, 64, 256), _Fire(512, 64, 256),
    )  # fmt: skip
    return layers, (1, 4, 7, 9, 10, 11, 12), (64, 128, 256, 384, 384, 512, 512)


_BACKBONES = {"alex": _alex, "squeeze": _squeeze, "vgg": _vgg}
