"""docs/shards.md: its programs run as they stand, and it names every member."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from schemas.artifacts import ARTIFACTS
from schemas.latents import Latents
from tests.training.build import write_dataset

PAGE = Path(__file__).resolve().parents[2] / "docs/shards.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("program", PROGRAMS, ids=["interact_dataset", "training", "webdataset", "index"])
def test_programs_of_the_page_run(program, tmp_path, monkeypatch, capsys):
    keys = write_dataset(tmp_path / "OUT", [2, 1], test=1)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}

    exec(compile(program, str(PAGE), "exec"), names)

    if "WebDataset(" in program:
        printed = capsys.readouterr().out
        assert [line.split()[0] for line in printed.splitlines()] == keys[:3]
        assert names["agnostic"].shape == (6, 64, 48, 3)
    elif "loader(settings" in program:
        assert names["video"].shape[1:] == (5, 3, 768, 576)
        assert names["resumed"].state_dict()["epoch"] == 1
    elif "InteractDataset" in program:
        assert names["agnostic"].shape[1:] == (6, 3, 256, 192)


def test_the_page_lists_every_member():
    listed = set(re.findall(r"`KEY\.([a-z_.0-9]+)`", PAGE.read_text()))

    packed = {kind.member for kind in ARTIFACTS.values() if kind.shared or kind.sidecar}
    assert listed == packed | {"meta.json"}


def test_the_page_lists_every_array_of_latents():
    table = PAGE.read_text().partition("| array | content |")[2].partition("\n\n")[0]
    listed = [name for line in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[1])]

    assert listed == [field.name for field in dataclasses.fields(Latents)]
