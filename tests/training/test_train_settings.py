"""Training configs: what is refused, and in which words; those that come with the project."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from omegaconf import OmegaConf
from pydantic import BaseModel

from schemas.errors import ConfigError
from training.optimisation import learning_rate
from training.settings_file import read_settings
from training.train_settings import OptimiserSettings, TrainSettings

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("train_*.yaml"))
SMALLEST = "out: run\ndata: {dataset: there}\nmodel: {base: tiny}\n"


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_configs_of_the_project_are_accepted(file):
    settings = read_settings(TrainSettings, file, ["optimiser.lr=1e-3", "data.buckets=[[64,48]]"])

    assert settings.optimiser.lr == 1e-3
    assert settings.data.buckets == ((64, 48),)


@pytest.mark.parametrize(
    ("text", "overrides", "words"),
    [
        ("optimizer: {}", [], "optimizer is unknown, did you mean optimiser?"),
        ("", ["optimiser.learning=1"], "optimiser.learning is unknown, allowed: lr, betas"),
        ("", ["model.garment_attention.layer=[1]"], "model.garment_attention.layer is unknown, did you mean layers?"),
        ("steps: 0", [], "steps: Input should be greater than or equal to 1 (got 0)"),
        ("precision: fp16", [], "precision: Input should be 'float32' or 'bf16' (got 'fp16')"),
        ("data: {frames: 80}", [], "frames is 80, not 4n+1: try 81"),
        ("data: {dataset: null}", [], "data.dataset: Input should be a valid string"),
        ("loss: {garment_attention: 0.5}", [], "loss.garment_attention needs model.garment_attention"),
        ("model: {garment_attention: {}}", [], "model.garment_attention is measured for nothing"),
        ("a: [", [], "this is no YAML"),
        ("", ["steps"], "'steps' is no override. Allowed: dotted.name=value"),
        ("", ["=4"], "'=4' is no override"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, overrides, words):
    file = tmp_path / "config.yaml"
    file.write_text(text if text == "a: [" else merged(text))

    with pytest.raises(ConfigError) as error:
        read_settings(TrainSettings, file, overrides)

    assert words in str(error.value)


def merged(text: str) -> str:
    return OmegaConf.to_yaml(OmegaConf.merge(OmegaConf.create(SMALLEST), OmegaConf.create(text)))


@pytest.mark.parametrize(
    ("text", "words"), [(None, "cannot be read"), ("- 1\n", "this is a list"), ("\xff", "no YAML")]
)
def test_what_is_no_config(tmp_path, text, words):
    file = tmp_path / "config.yaml"
    if text is not None:
        file.write_bytes(text.encode("latin1"))

    with pytest.raises(ConfigError, match=words):
        read_settings(TrainSettings, file)


def test_a_config_without_its_sections_names_them_all(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("steps: 3\n")

    with pytest.raises(ConfigError, match="out is missing; data is missing; model is missing"):
        read_settings(TrainSettings, file)


def test_learning_rate_by_hand():
    settings = OptimiserSettings(lr=1.0, warmup_steps=4, decay="cosine")

    rates = [learning_rate(settings, step=step, steps=12) for step in (0, 1, 3, 4, 8, 11)]

    assert rates == pytest.approx([0.25, 0.5, 1.0, 1.0, 0.5, 0.03806], abs=1e-5)  # (1 + cos(7π/8)) / 2 at the end
    assert learning_rate(OptimiserSettings(lr=0.3), step=7, steps=8) == 0.3


def fields(kind: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted name and default of every setting, nested ones too."""
    for name, field in kind.model_fields.items():
        inner = [each for each in (field.annotation, *get_args(field.annotation)) if hasattr(each, "model_fields")]
        if inner:
            yield from fields(inner[0], f"{prefix}{name}.")
        else:
            yield prefix + name, "required" if field.is_required() else f"`{json.dumps(field.default)}`"


def test_the_page_has_every_setting_with_its_default():
    page = (CONFIGS[0].parents[1] / "docs" / "training.md").read_text()

    listed = re.findall(r"^\| `([\w.]+)` \| (.+?) \|", page, re.MULTILINE)

    assert sorted(listed) == sorted(fields(TrainSettings))
