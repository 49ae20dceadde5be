"""I3D, 3D ResNeXt-101 and LPIPS: their files as published, and what they compute, against plain recomputation."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from schemas.errors import WeightsError
from training.features import Backbone
from training.features.i3d import I3D
from training.features.lpips import LPIPS
from training.features.published import read_state
from training.features.resnext import ResNeXt101

BACKBONES: tuple[Backbone, ...] = ("alex", "squeeze", "vgg")
needs_torchmetrics = pytest.mark.skipif(not find_spec("torchmetrics"), reason="the extra train is not installed")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def lively(kind: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """A state in which every parameter and statistic tells, without batch counts, as old files are."""
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in kind().state_dict().items()}
    state = {}
    for name, shape in shapes.items():
        if len(shape) > 1:
            state[name] = torch.randn(shape) * math.sqrt(2 / math.prod(shape[1:]))
        elif not name.endswith("num_batches_tracked"):
            drawn = torch.rand(shape)
            state[name] = 1 + 0.2 * drawn if name.endswith(("var", "weight")) else 0.2 * drawn - 0.1
    return state


@pytest.fixture(scope="module")
def i3d() -> dict[str, Tensor]:
    return lively(I3D)


@pytest.fixture(scope="module")
def resnext() -> dict[str, Tensor]:
    return lively(ResNeXt101)


def saved(path: Path, content: Any, *, old: bool = False) -> str:
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    return str(path)


# ---- files


@pytest.mark.parametrize("content", [b"", b"not a state dict", pickle.dumps(print)], ids=["empty", "text", "pickle"])
def test_bytes_that_are_no_state_dict_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=r"net\.pt: this is no state dict"):
        read_state(str(tmp_path / "net.pt"))


@pytest.mark.parametrize("content", [[1, 2], {}, {"state_dict": 3}, {"weight": "much"}])
def test_a_file_of_something_else_is_refused(content: Any, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds no state dict"):
        read_state(saved(tmp_path / "net.pt", content))


@pytest.mark.parametrize("old", [True, False])
def test_what_a_file_would_run_is_not_run(old: bool, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "it-ran",)

    with pytest.raises(WeightsError, match="no state dict"):
        read_state(saved(tmp_path / "net.pt", {"weight": Payload()}, old=old))
    assert not (tmp_path / "it-ran").exists()


def test_a_missing_file_says_how_it_is_had() -> None:
    with pytest.raises(WeightsError, match="not there"):
        I3D.load("no/such/file.pt")


def test_a_file_that_lacks_a_tensor_or_is_another_nets_is_refused(i3d: dict[str, Tensor], tmp_path: Path) -> None:
    lacking = {name: value for name, value in i3d.items() if name != "logits.conv3d.bias"}
    with pytest.raises(WeightsError, match=r"lacks logits\.conv3d\.bias"):
        I3D.load(saved(tmp_path / "net.pt", lacking))
    with pytest.raises(WeightsError, match="not the one that ResNeXt101 is for"):
        ResNeXt101.load(saved(tmp_path / "net.pt", i3d))


def test_sizes_are_the_published_ones() -> None:
    """I3D has 12.69 M (OpenVINO's model zoo), ResNeXt-101 48.75 M with 600 classes (Köpüklü et al. 2019)."""
    with torch.device("meta"):
        i3d, resnext = (sum(each.numel() for each in kind().parameters()) for kind in (I3D, ResNeXt101))
    assert i3d == 12_697_264
    assert resnext + 200 * 2049 == pytest.approx(48.75e6, abs=5e3)


# ---- what they compute, step by step from the published names


def batch_norm(x: Tensor, state: dict[str, Tensor], name: str, *, eps: float) -> Tensor:
    mean, var, weight, bias = (
        state[f"{name}.{each}"][:, None, None, None] for each in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + eps).sqrt() * weight + bias


def same(x: Tensor, kernel: int | tuple[int, ...], stride: int | tuple[int, ...]) -> Tensor:
    """Padding as TensorFlow documents SAME: out = ⌈in / stride⌉, the odd one behind."""
    kernel, stride = ((each,) * 3 if isinstance(each, int) else each for each in (kernel, stride))
    pads = []
    for size, width, step in list(zip(x.shape[2:], kernel, stride, strict=True))[::-1]:
        total = max((math.ceil(size / step) - 1) * step + width - size, 0)
        pads += [total // 2, total - total // 2]
    return functional.pad(x, pads)


def i3d_by_hand(x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    def unit(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = state[f"{name}.conv3d.weight"]
        x = functional.conv3d(same(x, tuple(weight.shape[2:]), stride), weight, stride=stride)
        return batch_norm(x, state, f"{name}.bn", eps=1e-3).relu()

    def pool(x: Tensor, kernel: Any, stride: Any) -> Tensor:
        return functional.max_pool3d(same(x, kernel, stride), kernel, stride)

    def mixed(x: Tensor, name: str) -> Tensor:
        chains = (("b0",), ("b1a", "b1b"), ("b2a", "b2b"))
        made = []
        for chain in chains:
            y = x
            for part in chain:
                y = unit(y, f"{name}.{part}")
            made.append(y)
        return torch.cat([*made, unit(pool(x, 3, 1), f"{name}.b3b")], 1)

    x = pool(unit(x, "Conv3d_1a_7x7", 2), (1, 3, 3), (1, 2, 2))
    x = pool(unit(unit(x, "Conv3d_2b_1x1"), "Conv3d_2c_3x3"), (1, 3, 3), (1, 2, 2))
    x = pool(mixed(mixed(x, "Mixed_3b"), "Mixed_3c"), 3, 2)
    for part in "bcdef":
        x = mixed(x, f"Mixed_4{part}")
    x = mixed(mixed(pool(x, 2, 2), "Mixed_5b"), "Mixed_5c")
    features = x.mean((2, 3, 4))
    return features, features @ state["logits.conv3d.weight"].flatten(1).T + state["logits.conv3d.bias"]


@pytest.mark.parametrize("shape", [(10, 32, 32), (9, 37, 50)])
def test_i3d_computes_what_its_published_names_say(
    shape: tuple[int, int, int], i3d: dict[str, Tensor], tmp_path: Path
) -> None:
    file = saved(tmp_path / "i3d.pt", i3d, old=True)
    clips = torch.rand(2, 3, *shape) * 2 - 1
    with torch.no_grad():
        features, logits = i3d_by_hand(clips, i3d)
        torch.testing.assert_close(I3D.load(file)(clips), features, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(I3D.load(file, output="logits")(clips), logits, rtol=1e-4, atol=1e-5)
    assert features.shape == (2, 1024)
    assert features.std() > 0.01  # else it would say nothing


def test_i3d_refuses_pictures_of_which_nothing_would_be_left() -> None:
    with pytest.raises(ValueError, match="I3D needs 32"):
        I3D()(torch.zeros(1, 3, 10, 31, 64))


def resnext_by_hand(x: Tensor, state: dict[str, Tensor]) -> Tensor:
    def norm(x: Tensor, name: str) -> Tensor:
        return batch_norm(x, state, name, eps=1e-5)

    x = norm(functional.conv3d(x, state["conv1.weight"], stride=(1, 2, 2), padding=3), "bn1").relu()
    x = functional.max_pool3d(functional.pad(x, (1,) * 6, value=-math.inf), 3, 2)
    for layer, blocks in enumerate((3, 4, 23, 3), start=1):
        for block in range(blocks):
            name, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            y = norm(functional.conv3d(x, state[f"{name}.conv1.weight"]), f"{name}.bn1").relu()
            y = functional.conv3d(y, state[f"{name}.conv2.weight"], stride=stride, padding=1, groups=32)
            y = functional.conv3d(norm(y, f"{name}.bn2").relu(), state[f"{name}.conv3.weight"])
            if block == 0:
                x = norm(
                    functional.conv3d(x, state[f"{name}.downsample.0.weight"], stride=stride), f"{name}.downsample.1"
                )
            x = (norm(y, f"{name}.bn3") + x).relu()
    return x.mean((2, 3, 4))


def test_resnext_computes_what_its_published_names_say(resnext: dict[str, Tensor], tmp_path: Path) -> None:
    """From a file like `resnext-101-kinetics.pth`: of old torch, data-parallel names, and training's other things."""
    checkpoint = {
        "epoch": 200, "arch": "resnext-101", "state_dict": {f"module.{name}": value for name, value in resnext.items()},
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1, "params": [1]}]},
    }  # fmt: skip
    network = ResNeXt101.load(saved(tmp_path / "net.pth", checkpoint, old=True))
    clips = torch.rand(2, 3, 10, 48, 40) * 2 - 1
    with torch.no_grad():
        found, expected = network(clips), resnext_by_hand(clips, resnext)
    assert found.shape == (2, network.width)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.max()))
    assert (found[0] - found[1]).abs().max() > 0.01 * expected.max()


# ---- LPIPS


def backbone_file(folder: Path, backbone: Backbone) -> tuple[str, dict[str, Tensor]]:
    """A file as torchvision publishes it, with its classifier, of random weights."""
    state = {name: value for name, value in lively(partial(LPIPS, backbone)).items() if name.startswith("features.")}
    classifier = {"classifier.1.weight": torch.zeros(2, 2), "classifier.1.bias": torch.zeros(2)}
    return saved(folder / f"{backbone}.pth", state | classifier, old=True), state


def pictures(*, height: int = 64, width: int = 80) -> tuple[Tensor, Tensor]:
    one, other = (torch.rand(3, 3, height, width) * 2 - 1 for _ in range(2))
    other[0] = one[0]
    return one, other


@needs_torchmetrics
@pytest.mark.parametrize("backbone", BACKBONES)
def test_lpips_is_a_distance(backbone: Backbone, tmp_path: Path) -> None:
    network = LPIPS.load(backbone_file(tmp_path, backbone)[0], backbone=backbone)
    one, other = pictures()
    with torch.no_grad():
        there, back = network(one, other), network(other, one)
        near = network(one, one + 0.05 * (other - one))
    torch.testing.assert_close(there, back)
    assert there[0] == 0
    assert (there[1:] > 0.001).all()
    assert (near[1:] < there[1:]).all()


@needs_torchmetrics
def test_lpips_by_alexnet_computes_what_its_published_names_say(tmp_path: Path) -> None:
    file, state = backbone_file(tmp_path, "alex")
    heads, _ = read_state(str(Path(find_spec("torchmetrics").origin).parent / "functional/image/lpips_models/alex.pth"))  # type: ignore[union-attr,arg-type]
    one, other = pictures()

    def layers(x: Tensor) -> list[Tensor]:
        shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
        x, found = (x - shift[:, None, None]) / scale[:, None, None], []
        for number, stride, padding in ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1)):
            x = functional.max_pool2d(x, 3, 2) if number in (3, 6) else x
            weight, bias = state[f"features.{number}.weight"], state[f"features.{number}.bias"]
            x = functional.conv2d(x, weight, bias, stride=stride, padding=padding).relu()
            found.append(x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt())
        return found

    expected = torch.zeros(3)
    for number, (first, second) in enumerate(zip(layers(one), layers(other), strict=True)):
        expected += functional.conv2d((first - second).square(), heads[f"lin{number}.model.1.weight"]).mean((1, 2, 3))
    with torch.no_grad():
        torch.testing.assert_close(LPIPS.load(file)(one, other), expected, rtol=1e-4, atol=1e-6)


@needs_torchmetrics
def test_lpips_of_another_backbone_is_refused(tmp_path: Path) -> None:
    file, _ = backbone_file(tmp_path, "squeeze")
    with pytest.raises(WeightsError, match=r"lacks .*features\.10\.bias"):
        LPIPS.load(file, backbone="alex")


@needs_torchmetrics
@pytest.mark.skipif(not find_spec("torchvision"), reason="torchvision is not installed: nothing to compare with")
@pytest.mark.parametrize("backbone", BACKBONES)
def test_lpips_is_what_torchmetrics_computes_with_torchvisions_networks(backbone: Backbone, tmp_path: Path) -> None:
    from weights.torchvision_operators import declare_missing_operators

    declare_missing_operators()
    from torchmetrics.functional.image.lpips import _LPIPS
    from torchvision import models

    built: Callable[[], nn.Module] = {"alex": models.alexnet, "squeeze": models.squeezenet1_1, "vgg": models.vgg16}[
        backbone
    ]
    published = built()
    theirs = _LPIPS(pretrained=True, net=backbone, pnet_rand=True)
    backbone_state = {name.partition(".")[2]: value for name, value in published.features.state_dict().items()}
    assert backbone_state
    for (_, mine), value in zip(theirs.net.named_parameters(), published.features.parameters(), strict=True):
        mine.data.copy_(value)
    ours = LPIPS.load(saved(tmp_path / "net.pth", published.state_dict()), backbone=backbone)
    one, other = pictures(height=72, width=101)
    with torch.no_grad():
        torch.testing.assert_close(ours(one, other), theirs(one, other).flatten(), rtol=1e-4, atol=1e-6)
