"""The network: which files it takes, and that folding its norms changes nothing."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from preprocess.densepose.heads import DeepLabHead, PlainHead
from preprocess.densepose.model import load, network_of
from schemas.errors import WeightsError
from tests.clips import shared
from tests.preprocess.densepose.networks import FOLDER, VARIANTS, golden_module, random_network, random_values

CPU = {"device": torch.device("cpu"), "dtype": torch.float32}


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_and_shapes_are_those_of_detectron2(variant: str) -> None:
    keys = golden_module("weights").read_keys(shared(f"{FOLDER}/state_dict_{variant}.tsv"))
    ours = random_values(deeplab=variant == "DL_s1x")
    assert {name: tuple(tensor.shape) for name, tensor in ours.items()} == dict(keys)


def test_the_keys_say_which_head_it_is() -> None:
    assert isinstance(random_network().roi_heads.densepose_head, PlainHead)
    assert isinstance(network_of(random_values(deeplab=True), where="").roi_heads.densepose_head, DeepLabHead)


def normed(values: dict[str, torch.Tensor], name: str, x: torch.Tensor, *, stride: int = 1) -> torch.Tensor:
    weight = values[f"{name}.weight"]
    x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
    mean, variance, scale, bias = (
        values[f"{name}.norm.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return F.batch_norm(x, mean, variance, scale, bias, eps=1e-5)


@torch.inference_mode()
def test_backbone_is_the_resnet_of_its_weights_as_they_are_stored() -> None:
    values, root = random_values(), "backbone.bottom_up."
    pictures = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    x = F.max_pool2d(normed(values, f"{root}stem.conv1", pictures, stride=2).relu(), 3, stride=2, padding=1)
    for stage, found in zip(range(2, 6), random_network().backbone.bottom_up(pictures), strict=True):
        for block in range((3, 4, 6, 3)[stage - 2]):
            name, stride = f"{root}res{stage}.{block}.", 2 if block == 0 and stage > 2 else 1
            y = normed(values, f"{name}conv1", x, stride=stride).relu()
            y = normed(values, f"{name}conv3", normed(values, f"{name}conv2", y).relu())
            x = (y + (normed(values, f"{name}shortcut", x, stride=stride) if block == 0 else x)).relu()
        torch.testing.assert_close(found, x, rtol=1e-3, atol=1e-4 * float(x.std()))


@torch.inference_mode()
def test_pictures_of_a_batch_do_not_see_one_another() -> None:
    network, size = random_network(), (90, 120)
    pictures = 50 * torch.randn(3, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    pictures[1] = 0
    together = network.detect(network.features(pictures), size)
    assert len(together) == 3
    for picture, found in zip(pictures, together, strict=True):
        (alone,) = network.detect(network.features(picture[None]), size)
        assert 0 < len(found.boxes) <= 100
        nearest = (found.boxes[:, None] - alone.boxes).abs().amax(-1).amin(1)
        assert (nearest < 1).float().mean() > 0.9  # near ties may be settled otherwise
        assert (found.scores.diff() <= 0).all()
        assert (found.boxes >= 0).all()
        assert (found.boxes <= torch.tensor([120, 90, 120, 90])).all()
    boxes = torch.tensor([[10.0, 10, 60, 80], [30, 5, 110, 90], [0, 0, 120, 90]])
    surfaces = network.surfaces(network.features(pictures), boxes, torch.arange(3))
    alone = network.surfaces(network.features(pictures[2:]), boxes[2:], torch.zeros(1, dtype=torch.int64))
    torch.testing.assert_close(surfaces.fine[2:], alone.fine, atol=1e-3 * float(alone.fine.std()), rtol=1e-2)


def broken(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    values = dict(random_values())
    for name, value in changes.items():
        if value is None:
            del values[name]
        else:
            values[name] = value
    return values


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"roi_heads.decoder.p4.2.bias": None}, "lacks roi_heads.decoder.p4.2.bias"),
        ({"backbone.bottom_up.res3.1.conv2.norm.running_var": None}, "lacks .*res3.1.conv2.norm.running_var"),
        ({"roi_heads.densepose_head.ASPP.convs.0.0.weight": torch.ones(1)}, "lacks .*ASPP.*and .* more"),
        ({"roi_heads.densepose_predictor.sigma_2_lowres.bias": torch.ones(25)}, "besides .*sigma_2_lowres"),
        ({"roi_heads.box_predictor.cls_score.bias": torch.ones(3)}, r"cls_score.bias is \(3,\), not \(2,\)"),
        ({"proposal_generator.rpn_head.conv.weight": torch.ones(256, 256)}, r"conv.weight is \(256, 256\), not"),
    ],
)
def test_wrong_keys_are_named(changes: dict[str, torch.Tensor | None], words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        network_of(broken(**changes), where="model.pkl")


def test_half_a_file_is_none() -> None:
    half = dict(list(random_values().items())[::2])
    with pytest.raises(WeightsError, match="lacks .* more"):
        network_of(half, where="model.pkl")


def test_constants_may_be_there_and_old_files_have_no_statistics() -> None:
    values = {name: value for name, value in random_values().items() if ".running_" not in name}
    values |= {
        "pixel_mean": torch.ones(3, 1, 1),
        "proposal_generator.anchor_generator.cell_anchors.0": torch.ones(3, 4),
    }
    name = "backbone.bottom_up.res2.0.conv1"
    conv = network_of(values, where="").backbone.bottom_up.res2[0].conv1
    scale = values[f"{name}.norm.weight"] / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(conv.weight, values[f"{name}.weight"] * scale[:, None, None, None])
    torch.testing.assert_close(conv.bias, values[f"{name}.norm.bias"])


@pytest.mark.parametrize(
    "content", [{}, [], None, {"model": None}, {"model": [np.zeros(1)]}, {"model": {0: np.zeros(1)}}]
)
def test_other_pickles_are_refused(tmp_path: Path, content: object) -> None:
    (tmp_path / "other.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(WeightsError, match="holds no weights by name"):
        load(tmp_path / "other.pkl", **CPU)
    (tmp_path / "none.pkl").write_bytes(pickle.dumps({"model": {}}))
    with pytest.raises(WeightsError, match="lacks backbone"):
        load(tmp_path / "none.pkl", **CPU)
