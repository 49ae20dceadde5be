"""Published checkpoints: whole, or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from schemas.errors import WeightsError
from tests.training.model.build import model
from training.model.backbone import base_folder, load_backbone
from training.model.itryon import ITryOn
from training.model.settings import ModelSettings

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
NAME = "vace_blocks.1.proj_out.bias"


def edit(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        values = load_file(folder / WEIGHTS)
        change(values)
        save_file(values, folder / WEIGHTS, metadata={"format": "pt"})

    return damage


def rename(folder: Path) -> None:
    file = folder / "transformer/config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "_class_name": "WanTransformer3DModel"}))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "lacking": (edit(lambda values: values.pop(NAME)), rf"lacks {NAME}"),
    "foreign": (edit(lambda values: values.update(other=torch.zeros(1))), "has besides other"),
    "misshapen": (edit(lambda values: values.update({NAME: torch.zeros(3)})), "cannot be loaded"),
    "cut": (lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-9]), "cannot be loaded"),
    "pickle": (lambda folder: (folder / WEIGHTS).rename(folder / "transformer/model.bin"), "cannot be loaded"),
    "no JSON": (lambda folder: (folder / "transformer/config.json").write_text("{"), "cannot be loaded"),
    "another model": (rename, "this is a WanTransformer3DModel.*Allowed: WanVACETransformer3DModel"),
    "no transformer": (lambda folder: shutil.rmtree(folder / "transformer"), "there is no config.json"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_checkpoints_are_refused(base: Path, tmp_path: Path, damage: Callable[[Path], object], words: str):
    folder = tmp_path / "checkpoint"
    shutil.copytree(base / "transformer", folder / "transformer")
    damage(folder)
    with pytest.raises(WeightsError, match=words):
        load_backbone(folder, dtype=torch.float32)


def test_a_base_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(WeightsError, match="not there"):
        ITryOn.load(ModelSettings(base=str(tmp_path / "nothing")))
    with pytest.raises(WeightsError, match="no weights called 'huge'"):
        ITryOn.load(ModelSettings(base="huge"))


def test_tiny_is_the_tiny_checkpoint(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VVT_MODELS", str(tmp_path))
    tiny = ITryOn.load(ModelSettings(base="tiny", text_length=12))

    assert base_folder("tiny").is_relative_to(tmp_path)
    expected = model(base).state_dict()
    assert tiny.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in tiny.state_dict().items())
