"""Weights that the config names by path."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import pytest

import weights
from schemas.clip import Clip
from schemas.errors import WeightsError
from schemas.stage import ModelFile, Stage


class Two(Stage):
    weights: ClassVar[tuple[str, ...]] = ("transnetv2",)
    checkpoint: ModelFile = ""
    strength: int = 1

    def process(self, clip: Clip) -> None: ...


def fingerprint(stage: Stage) -> str:
    return stage.own_fingerprint({name: weights.sha256(name) for name in stage.model_files})


def test_content_and_not_the_path_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    one, two = tmp_path / "one.pkl", tmp_path / "two.pkl"
    one.write_bytes(b"a"), two.write_bytes(b"a")
    before = fingerprint(Two(checkpoint=str(one)))
    assert fingerprint(Two(checkpoint=str(two))) == before != fingerprint(Two())
    two.write_bytes(b"b")
    assert fingerprint(Two(checkpoint=str(two))) != before


def test_a_folder_counts_by_the_names_and_content_of_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "deeper").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "deeper" / "weights.bin").write_bytes(b"1")
    before = weights.sha256(str(folder))
    (folder / ".cache").mkdir()
    (folder / ".cache" / "lock").touch()
    assert weights.sha256(str(folder)) == before
    os.rename(folder / "deeper" / "weights.bin", folder / "deeper" / "other.bin")
    assert weights.sha256(str(folder)) != before
    assert weights.path(str(folder)) == folder


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(WeightsError, match=r"no/such\.ckpt"):
        weights.path("no/such.ckpt")
    with pytest.raises(WeightsError, match="no weights called 'nosuch'"):
        weights.path("nosuch")
