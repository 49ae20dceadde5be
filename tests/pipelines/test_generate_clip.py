"""`vvt generate --video`: a recording's conditions are made by the real chain, then its videos by a tiny model."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

import weights
from media import open_reader
from pipelines.chain import make_chain
from pipelines.generate_clip import build_config, generate
from schemas.errors import ConfigError, DatasetError, WeightsError
from schemas.stage import Filter
from tests.clips import SAME_BYTES, shared
from tests.pipelines.conftest import write_video
from training.tiny import write_tiny_checkpoint

QUICK = ["buckets=[[32,32]]", "precision=float32", "sampler.steps=1", "sampler.guidance=1"]


@pytest.fixture(scope="module")
def embedded(cluster: None) -> None:
    try:
        for entry in weights.entries():
            if entry.group == "embedded":
                weights.path(entry.name)
    except WeightsError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "tiny"
    write_tiny_checkpoint(folder)
    return folder


@pytest.fixture(scope="module")
def garment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("garment") / "skirt.png"
    Image.new("RGB", (40, 60), (180, 30, 90)).save(file)
    return file


def run(*options: object) -> str:
    """The command; what it printed. Errors as they are raised."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(generate)
    result = CliRunner().invoke(app, [*QUICK, "--device", "cpu", *map(str, options)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def two_shots(file: Path) -> Path:
    """25 frames of one recording, then as many of another."""
    with av.open(str(file), "w") as target:
        stream = target.add_stream("libx264", rate=Fraction(24), options={"crf": "18", **SAME_BYTES})
        stream.width, stream.height, stream.pix_fmt = 624, 832, "yuv420p"
        for name, frames in (("lower1", range(24)), ("upper1", range(20, 48))):
            for image in open_reader(shared(f"clips/vivid/videos/{name}.mp4")).get(frames):
                target.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        target.mux(stream.encode())
    return file


def test_each_shot_of_a_recording_gets_a_video_in_the_garment(
    embedded: None, base: Path, garment: Path, tmp_path: Path
) -> None:
    recording = two_shots(tmp_path / "my film (1).mp4")
    command = ["--video", recording, "--garment", garment, "--part", "lower", "--base", base, "--out", tmp_path / "out"]
    printed = run(*command)
    assert "2 shots" in printed
    videos = sorted((tmp_path / "out").glob("*.mp4"))
    assert [video.name for video in videos] == ["my-film-1-00000000.mp4", "my-film-1-00000024.mp4"]
    original = open_reader(str(recording))
    for video, first in zip(videos, (0, 24), strict=True):
        made = open_reader(str(video))
        assert (made.height, made.width, made.fps) == (832, 624, 24)
        real = original.get(range(first, first + len(made)))
        change = np.abs(made.get(range(len(made))).astype(int) - real).mean((0, 3))
        assert change.max() > 40, "something is generated"
        assert np.median(change) < 4, "most of the picture is the recording's"
    assert json.loads(videos[0].with_suffix(".json").read_text())["garment"] == str(garment)
    assert "0 of 2 video(s) are to be made" in run(*command), "nothing is done twice"


def test_a_recording_of_nobody_is_an_error_that_says_so(
    embedded: None, base: Path, garment: Path, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "pattern.mp4", seconds=1.5)
    with pytest.raises(DatasetError, match=r"pattern\.mp4: 0\.0 to 1\.\d s: person_presence 0 is below"):
        run("--video", video, "--garment", garment, "--base", base, "--out", tmp_path / "out")


class TestConditions:
    def test_nothing_is_dropped_but_for_want_of_a_person_or_garment(self, tmp_path: Path) -> None:
        config = build_config(None, manifest=tmp_path / "m.jsonl", output=tmp_path / "out")
        stages = make_chain(config).stages
        bounds = {
            metric: stage.bounds[metric]
            for stage in stages
            if isinstance(stage, Filter)
            for metric in type(stage).metrics
        }
        closed = {metric: bound for metric, bound in bounds.items() if bound != (None, None)}
        assert closed == {"person_presence": (0.01, None), "crop_short_side": (1, None)}
        assert {"agnostic_mask", "labels", "body", "garment_crop"} <= {stage.name for stage in stages}
        assert not {"blur", "duplicates", "interaction"} & {stage.name for stage in stages}

    def test_are_made_by_the_stages_of_a_config(self, tmp_path: Path) -> None:
        config = tmp_path / "build.yaml"
        config.write_text(
            "ingest: {max_seconds: 30}\n"
            "stages:\n"
            "  garment_crop: {candidates: 7, bounds: {crop_short_side: [200, null]}}\n"
        )
        found = build_config(str(config), manifest=tmp_path / "m.jsonl", output=tmp_path / "out")
        assert found.ingest == {"max_seconds": 30}
        assert found.stages["garment_crop"] == {"candidates": 7, "bounds": {"crop_short_side": (1, None)}}
        assert (found.manifest, found.split.test_share) == (str(tmp_path / "m.jsonl"), 0)


class TestWrong:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ([], "one of --dataset and --video"),
            (["--dataset", "d", "--video", "v.mp4"], "one of --dataset and --video"),
            (["--video", "v.mp4"], "a recording gets one garment"),
            (["--video", "v.mp4", "--garment", "g.png", "--unpaired"], "a recording gets one garment"),
            (["--video", "v.mp4", "--garment", "g.png", "--key", "a"], "a recording gets one garment"),
            (["--dataset", "d", "--config", "build.yaml"], "--config with --video"),
        ],
    )
    def test_says_what(self, tmp_path: Path, options: list[Any], said: str) -> None:
        with pytest.raises(ConfigError, match=said):
            run("--out", tmp_path, "--base", "tiny", *options)
