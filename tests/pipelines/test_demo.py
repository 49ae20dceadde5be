"""`make demo` as a user runs it, in a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import webdataset
from PIL import Image

import weights
from pipelines.validate import validate
from schemas.errors import WeightsError

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_keeps_drops_and_draws(tmp_path: Path) -> None:
    try:
        for entry in weights.entries():
            if entry.group in ("embedded", "demo"):
                weights.path(entry.name)
    except WeightsError as error:
        pytest.skip(str(error))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipelines.demo"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    out = tmp_path / "demo-out" / "dataset"
    described = json.loads((out / "dataset.json").read_text())
    assert described["clips"]["kept"] >= 1
    assert len(described["clips"]["dropped"]) >= 2
    assert validate(str(out)).problems == ()
    assert (out / "report.html").stat().st_size > 10_000
    with Image.open(tmp_path / "demo-out" / "contact_sheet.png") as sheet:
        assert sheet.width > 1000
    shards = sorted(str(shard) for shard in (out / "shards").glob("*.tar"))
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == sorted(sample["__key__"] for sample in samples)
    assert len(samples) == described["clips"]["kept"]
    assert all(set(described["members"]) <= set(sample) for sample in samples)
    assert json.loads(samples[0]["meta.json"])["garment_source"] == "crop"

    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=540)
    assert again.returncode == 0
    assert "Nothing to do" in again.stdout
