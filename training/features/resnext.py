"""3D ResNeXt-101 with 32 groups (Hara, Kataoka and Satoh 2018), trained on Kinetics-400.

Parameter names are those of https://github.com/kenshohara/video-classification-3d-cnn-pytorch, whose file is
`resnext-101-kinetics.pth`. Shape legend: B clips, T frames, H×W pixels.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from training.features.published import read_state, with_batch_counts
from weights.checkpoints import load_strictly

MEAN = (114.7748, 107.7354, 99.4750)
"""Of Kinetics, in 0..255 RGB: what the network was trained with it subtracted."""
_GROUPS = 32
_LAYERS = {"layer1": (128, 3), "layer2": (256, 4), "layer3": (512, 23), "layer4": (1024, 3)}  # inner width, blocks
_EXPANSION = 2


class ResNeXt101(nn.Module):
    """(B, 3, T, H, W) float → (B, 2048) features, the mean over time and space.

    It was trained on RGB 0..255 less `MEAN`, 16 frames of 112×112 pixels.
    """

    width = 2048

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, 64, 7, stride=(1, 2, 2), padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        channels = 64
        for name, (inner, blocks) in _LAYERS.items():
            stride = 1 if name == "layer1" else 2
            made = inner * _EXPANSION
            first = _Block(channels, inner, stride=stride)
            self.add_module(name, nn.Sequential(first, *(_Block(made, inner, stride=1) for _ in range(blocks - 1))))
            channels = made
        self.fc = nn.Linear(channels, 400)

    @classmethod
    def load(cls, name: str) -> ResNeXt101:
        """From the published file, by name in the registry or path. Raises `WeightsError`."""
        state, file = read_state(name)
        network = cls()
        load_strictly(network, with_batch_counts(network, state), where=file)
        return network.eval()

    def forward(self, clips: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(clips)))
        x = functional.max_pool3d(x, 3, stride=2, padding=1)
        for name in _LAYERS:
            x = self.get_submodule(name)(x)
        return x.mean((2, 3, 4))


class _Block(nn.Module):
    """Bottleneck of three convolutions, the middle one in groups, beside a shortcut."""

    def __init__(self, channels: int, inner: int, *, stride: int) -> None:
        super().__init__()
        made = inner * _EXPANSION
        self.conv1, self.bn1 = nn.Conv3d(channels, inner, 1, bias=False), nn.BatchNorm3d(inner)
        self.conv2 = nn.Conv3d(inner, inner, 3, stride=stride, padding=1, groups=_GROUPS, bias=False)
        self.bn2 = nn.BatchNorm3d(inner)
        self.conv3, self.bn3 = nn.Conv3d(inner, made, 1, bias=False), nn.BatchNorm3d(made)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != made:
            self.downsample = nn.Sequential(
                nn.Conv3d(channels, made, 1, stride=stride, bias=False), nn.BatchNorm3d(made)
            )

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.bn1(self.conv1(x)))
        inner = functional.relu(self.bn2(self.conv2(inner)))
        return functional.relu(self.bn3(self.conv3(inner)) + self.downsample(x))
