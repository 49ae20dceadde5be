"""Sidecars of latents, and the stage that makes them, in builds on a real Ray cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.build import replay
from pipelines.store import ClipStore
from pipelines.validate import validate
from schemas.errors import WeightsError
from tests.pipelines.conftest import Job
from training.clips import loader
from training.data_settings import DataSettings
from training.latents import WanLatents

GIVEN = {
    "conditions": {"use": "tests.pipelines.stages:GivesConditions"},
    "brightness": {"use": "tests.pipelines.stages:Brightness"},
}


def noise(seed: int = 0) -> dict[str, Any]:
    return {**GIVEN, "latents": {"use": "tests.pipelines.stages:GivesLatents", "seed": seed}}


def wan(checkpoint: Path) -> dict[str, Any]:
    fields = {"frames": 5, "buckets": [[32, 32]], "precision": "float32", "device": "cpu", "seed": 3}
    return {**GIVEN, "latents": {"use": "training.latents:WanLatents", "checkpoint": str(checkpoint), **fields}}


def sidecars(job: Job) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (job.folder / "out/latents").iterdir()}


def test_latents_come_and_go_and_shards_stay(job: Job) -> None:
    for name, brightness in (("a", 120), ("b", 90)):
        job.record(name, brightness=brightness, seconds=1.0)
    job.build(stages=GIVEN)
    shards, index = job.shards(), pq.read_table(job.folder / "out/index.parquet")

    job.build(stages=noise())
    assert job.shards() == shards
    assert validate(str(job.folder / "out")).problems == ()
    card = (job.folder / "out/README.md").read_text()
    assert "`latents/*.tar` hold the same samples as `shards/*.tar` of the same names" in card

    first = sidecars(job)
    assert job.build(stages=noise()).unchanged
    assert not job.build(stages=noise(seed=1)).unchanged
    second = sidecars(job)
    assert second != first
    next((job.folder / "out/latents").iterdir()).unlink()
    assert not job.build(stages=noise(seed=1)).unchanged
    assert sidecars(job) == second

    bright = {**GIVEN["brightness"], "bounds": {"brightness": [105, None]}}
    assert replay(job.config(stages={**noise(seed=1), "brightness": bright})).kept.total() == 1
    report = validate(str(job.folder / "out"))
    assert (report.problems, report.samples) == ((), 1)

    job.build(stages=GIVEN)
    assert not sidecars(job)
    assert job.shards() == shards
    assert pq.read_table(job.folder / "out/index.parquet").equals(index)


def test_a_built_dataset_is_read_as_latents(job: Job, tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    from training.tiny import write_tiny_checkpoint

    write_tiny_checkpoint(tmp_path / "checkpoint")
    job.record("a", seconds=1.0)
    job.build(stages=wan(tmp_path / "checkpoint"), run={"workers": 1})

    assert validate(str(job.folder / "out")).problems == ()
    settings = {"frames": 5, "buckets": ((32, 32),), "pose_dropout": 0, "workers": 0}
    (batch,) = loader(DataSettings(dataset=str(job.folder / "out"), latents=True, **settings))
    assert batch["key"] == ["a-00000000"]
    assert batch["latents"][0].video.shape == (16, 2, 4, 4)

    stored = ClipStore(str(job.folder / "out/work")).get("a-00000000")
    assert stored is not None
    before = stored.artifacts.encoded("latents")
    fields = {name: value for name, value in wan(tmp_path / "checkpoint")["latents"].items() if name != "use"}
    stage = WanLatents(**fields)
    stage.setup()
    stage.process(stored)
    assert stored.artifacts.encoded("latents") == before


def test_a_checkpoint_that_is_not_there_is_told_before_anything_runs(job: Job) -> None:
    job.record("a", seconds=1.0)
    with pytest.raises(WeightsError, match="nowhere"):
        job.build(stages=wan(job.folder / "nowhere"))
