"""HaMeR's published files: read without running them, loaded whole or not at all."""

from __future__ import annotations

import copy
import os
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml

from preprocess.hamer.checkpoint import HamerConfig, load_network, read_config, read_state_dict
from preprocess.hamer.network import Sizes
from schemas.errors import WeightsError
from tests.preprocess.hamer.synthetic import TINY, TINY_CONFIG, tiny_state

CPU = torch.device("cpu")
BLOCK = "backbone.blocks.2."


def written(values: Any, folder: Path, **options: Any) -> Path:
    torch.save(values, folder / "hamer.ckpt", **options)
    return folder / "hamer.ckpt"


def loaded(state: dict[str, Any], folder: Path) -> torch.nn.Module:
    return load_network(written({"state_dict": state}, folder), HamerConfig(**TINY_CONFIG), device=CPU)


@pytest.mark.parametrize("zipped", [True, False])
def test_network_takes_its_own_keys_and_lets_those_of_training_be(tmp_path: Path, *, zipped: bool) -> None:
    state = tiny_state()
    extras = {
        "discriminator.D_conv1.bias": torch.ones(2),
        "mano.faces_tensor": torch.ones(2),
        "initialized": torch.ones(1),
    }
    file = written({"state_dict": state | extras}, tmp_path, _use_new_zipfile_serialization=zipped)
    network = load_network(file, HamerConfig(**TINY_CONFIG), device=CPU, dtype=torch.float16)
    values = network.state_dict()
    assert values.keys() == state.keys()
    torch.testing.assert_close(values["mano_head.decpose.weight"], state["mano_head.decpose.weight"])
    torch.testing.assert_close(values["backbone.pos_embed"], state["backbone.pos_embed"].half())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_missing_extra_and_misshapen_keys_are_named(tmp_path: Path) -> None:
    state = tiny_state()
    del state["backbone.last_norm.bias"]
    state["mano_head.novel"] = torch.zeros(1)
    state["mano_head.deccam.weight"] = torch.zeros(3, 95)
    with pytest.raises(WeightsError) as caught:
        loaded(state, tmp_path)
    for words in (
        "lacks backbone.last_norm.bias",
        "mano_head.novel",
        "mano_head.deccam.weight is (3, 95), not (3, 96)",
    ):
        assert words in str(caught.value)


def test_network_that_lacks_its_last_layer_is_found_out(tmp_path: Path) -> None:
    state = {name: value for name, value in tiny_state().items() if not name.startswith(BLOCK)}
    with pytest.raises(WeightsError, match=r"lacks backbone\.blocks\.2\.attn\.proj\.bias.* and 4 more"):
        loaded(state, tmp_path)


def test_entry_that_is_no_tensor_counts_as_missing(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"lacks mano_head\.deccam\.bias"):
        loaded(tiny_state() | {"mano_head.deccam.bias": "zeros"}, tmp_path)


class Evil:
    """Leaves a file behind when unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_that_is_pickled_beside_the_tensors_runs(tmp_path: Path, *, zipped: bool) -> None:
    yacs = ModuleType("yacs_of_the_test")
    yacs.CfgNode = type("CfgNode", (dict,), {"__module__": yacs.__name__})  # type: ignore[attr-defined]
    sys.modules[yacs.__name__] = yacs
    try:
        config = yacs.CfgNode(A=yacs.CfgNode(B=[1, {2}, Path("x"), torch.float32]))
        values = {
            "hyper_parameters": {"cfg": config, "evil": Evil(tmp_path / "trace"), config.__class__: 1},
            "callbacks": {Path("key"): slice(1, 2)}, "state_dict": tiny_state(),
        }  # fmt: skip
        file = written(values, tmp_path, _use_new_zipfile_serialization=zipped)
    finally:
        del sys.modules[yacs.__name__]
    state = read_state_dict(file)
    assert state.keys() == tiny_state().keys()
    torch.testing.assert_close(state["backbone.pos_embed"], tiny_state()["backbone.pos_embed"])
    assert not (tmp_path / "trace").exists()


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    whole = written({"state_dict": tiny_state()}, tmp_path).read_bytes()
    for content in (b"", b"<html>not found</html>", whole[:5000], pickle.dumps({"a": Evil(tmp_path / "trace")})):
        (tmp_path / "bad.ckpt").write_bytes(content)
        with pytest.raises(WeightsError, match="checkpoint"):
            read_state_dict(tmp_path / "bad.ckpt")
    assert not (tmp_path / "trace").exists()
    for values in ([1, 2], {"weights": {}}, {"state_dict": torch.ones(2)}):
        with pytest.raises(WeightsError, match="no state_dict"):
            read_state_dict(written(values, tmp_path))


def config_of(folder: Path, **model: Any) -> HamerConfig:
    values = copy.deepcopy(TINY_CONFIG)
    for name, value in model.items():
        values["MODEL"][name] = value
    (folder / "model_config.yaml").write_text(yaml.safe_dump(values))
    return read_config(folder / "model_config.yaml")


def test_config_gives_sizes_and_camera(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    assert config.sizes == TINY
    assert config.focal == 5000
    published = config_of(
        tmp_path, BACKBONE={"TYPE": "vit", "NUM_LAYERS": 50}, MANO_HEAD={"TYPE": "transformer_decoder"}
    )
    assert published.sizes == Sizes()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"BACKBONE": {"TYPE": "resnet"}}, r"MODEL\.BACKBONE\.TYPE"),
        ({"BACKBONE": None}, r"MODEL\.BACKBONE"),
        ({"IMAGE_SIZE": 224}, r"MODEL\.IMAGE_SIZE"),
        ({"MANO_HEAD": {"IEF_ITERS": 3}}, r"IEF_ITERS"),
        ({"MANO_HEAD": {"TRANSFORMER_DECODER": {"heads": 0}}}, r"TRANSFORMER_DECODER\.heads"),
        ({"MANO_HEAD": {"TRANSFORMER_DECODER": {"context_dim": 80}}}, r"context_dim"),
    ],
)
def test_config_of_another_network_is_refused(tmp_path: Path, model: dict[str, Any], words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        config_of(tmp_path, **model)


@pytest.mark.parametrize("content", ["", "a: [", "- 1", "!!python/object/apply:os.mkdir ['trace']", "\x00"])
def test_config_that_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "model_config.yaml").write_text(content)
    with pytest.raises(WeightsError, match=r"model_config\.yaml"):
        read_config(tmp_path / "model_config.yaml")
