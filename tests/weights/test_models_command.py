"""`vvt models` as a user runs it, on a models folder of the test's own."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import weights
from pipelines.cli import app
from schemas.errors import WeightsError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty models folder, and a working directory."""
    monkeypatch.setenv("VVT_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # a config's own modules are found in the working directory
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["models", *words])


def lines(result: Result) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in result.output.splitlines())


def test_the_list_names_every_file_with_its_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    shown = run("list").output
    for known in weights.entries():
        (line,) = [line for line in shown.splitlines() if line.startswith(f"{known.name} ")]
        assert known.licence in line
    assert "CC-BY-SA-3.0" in shown


def test_an_absent_file_of_the_full_tier_is_no_fault_unless_asked_for() -> None:
    everything = run("verify")
    told = lines(everything)
    assert told["hamer"] == told["mano_right"] == "absent "
    assert everything.exit_code == 1  # of the embedded tier, it is one
    present = [
        known.name for known in weights.entries() if known.group != "full" and weights.verify([known.name])[0].ok
    ]
    assert run("verify", *present).exit_code == 0
    assert run("verify", *present, "hamer").exit_code == 1
    assert run("verify", "full").exit_code == 1


def test_only_the_full_tier_absent_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    full = weights.Registry(known for known in weights.entries() if known.group == "full")
    monkeypatch.setattr(weights, "verify", full.verify)
    assert run("verify").exit_code == 0
    (weights.folder() / "hamer.ckpt").write_bytes(b"damaged")
    assert run("verify").exit_code == 1


def test_a_file_without_a_published_hash_is_told_with_its_own(folder: Path) -> None:
    (folder / "model_final_0ed407.pkl").write_bytes(b"weights")
    result = run("verify", "densepose_rcnn_R_50_FPN_DL_s1x")
    assert result.exit_code == 0
    assert f"sha256 {hashlib.sha256(b'weights').hexdigest()}, none is published" in result.output


def test_files_of_ones_own_are_told_by_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine.ckpt").write_bytes(b"weights")
    known = weights.Registry([next(known for known in weights.entries() if known.name == "hamer")])
    monkeypatch.setattr(weights, "recognise", lambda path: known.entry("hamer") if Path(path).stem == "same" else None)
    Path("same.ckpt").write_bytes(b"the published bytes")
    result = run("verify", "mine.ckpt", "same.ckpt")
    digest = hashlib.sha256(b"weights").hexdigest()
    assert lines(result) == {
        "mine.ckpt": f"your own, sha256 {digest}, not a published file",
        "same.ckpt": "ok, it is hamer",
    }
    assert result.exit_code == 0
    monkeypatch.undo()
    assert run("verify", str(tmp_path / "none.ckpt")).exit_code == 1


STAGES = """
from typing import ClassVar
from schemas.stage import ModelFile, Stage

class Own(Stage):
    weights: ClassVar[tuple[str, ...]] = ("mano_right",)
    checkpoint: ModelFile = ""
    other: ModelFile = "hamer"

    def process(self, clip): ...
"""


def test_a_config_is_verified_by_what_its_stages_load() -> None:
    Path("my_own_stages.py").write_text(STAGES)
    Path("mine.ckpt").write_bytes(b"weights")
    config = "manifest: m.jsonl\noutput: out\ntier: none\n"
    Path("full.yaml").write_text(config + "stages:\n  own: {use: 'my_own_stages:Own', checkpoint: mine.ckpt}\n")
    result = run("verify", "--config", "full.yaml")
    assert set(lines(result)) == {"mano_right", "hamer", "mine.ckpt"}
    assert result.exit_code == 1
    Path("empty.yaml").write_text(config)
    assert run("verify", "--config", "empty.yaml").output == ""


def test_what_is_not_to_be_fetched_is_not_fetched(folder: Path) -> None:
    result = run("pull", "mano_right", "densepose_rcnn_R_50_FPN_DL_s1x")
    assert isinstance(result.exception, WeightsError)
    assert "Register at https://mano.is.tue.mpg.de" in str(result.exception)
    assert "dl.fbaipublicfiles.com" in str(result.exception)
    assert not [file for file in folder.iterdir() if not file.name.startswith(".")]
