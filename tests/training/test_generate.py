"""Generated videos of a dataset's samples, from dataset to files, with a tiny model: noise where the mask is."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from media import open_reader
from schemas.errors import ConfigError, DatasetError, WeightsError
from tests.training.build import DatasetBuilder, artifacts, members
from training.checkpoints import Checkpoint, Checkpoints
from training.fit import Fit
from training.garments import from_table, of_others, read_image, read_samples
from training.generate import generate
from training.generation import generation_settings
from training.generation_settings import GenerationSettings
from training.generator import Generator, placed_back, window_seeds
from training.model.itryon import ITryOn
from training.model.settings import ModelSettings
from training.tiny import write_tiny_checkpoint

QUICK = ["buckets=[[32,32]]", "precision=float32", "sampler.steps=1", "sampler.guidance=1"]
FRAMES, SIDE = 3, 32
A, B, C = (f"{letter}-00000000" for letter in "abc")


def stored(key: str, **changed: Any) -> dict[str, Any]:
    """A sample whose video and garment have a grey of their own."""
    return artifacts(**{"frames": FRAMES, "height": SIDE, "width": SIDE, "grey": ord(key[0]), **changed})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "tiny"
    write_tiny_checkpoint(folder)
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two test samples, and one for training."""
    builder = DatasetBuilder(tmp_path_factory.mktemp("dataset"))
    for split, keys in (("test", (A, B)), ("train", (C,))):
        builder.shard({key: members(stored(key), key=key) for key in keys}, split=split)
    return builder.index()


@pytest.fixture(scope="module")
def all_made(base: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The videos of both test samples."""
    out = tmp_path_factory.mktemp("videos")
    run(dataset, out, base=base)
    return out


@pytest.fixture
def made(all_made: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(all_made, tmp_path / "videos"))


def run(dataset: Path, out: Path, *options: object, base: Path) -> None:
    """The command; errors as they are raised."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(generate)
    words = ["--dataset", dataset, "--out", out, "--base", base, "--device", "cpu", *options]
    result = CliRunner().invoke(app, [*QUICK, *map(str, words)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output


def read(file: Path) -> np.ndarray:
    reader = open_reader(str(file))
    return reader.get(range(len(reader))).astype(int)


def record(folder: Path, key: str = A) -> dict[str, Any]:
    return json.loads((folder / f"{key}.json").read_text())


def real() -> tuple[np.ndarray, np.ndarray]:
    """The video of sample A, and its mask."""
    values = stored(A)
    return open_reader(values["video"]).get(range(FRAMES)).astype(int), values["agnostic_mask"]


class TestVideos:
    def test_of_a_split_have_the_clips_frames_size_and_rate(self, all_made: Path) -> None:
        assert sorted(file.name for file in all_made.glob("*.mp4")) == [f"{A}.mp4", f"{B}.mp4"]
        reader = open_reader(str(all_made / f"{A}.mp4"))
        assert (len(reader), reader.height, reader.width, reader.fps) == (FRAMES, SIDE, SIDE, 24)

    def test_are_generated_in_the_mask_and_real_outside(self, all_made: Path) -> None:
        video, mask = real()
        difference = np.abs(read(all_made / f"{A}.mp4") - video).max(-1)
        far = cv2.dilate(mask[0].astype(np.uint8), np.ones((9, 9), np.uint8)) == 0  # the encoder blurs the mask's edge
        assert difference[:, far].max() <= 12, "what is left of two encodings"
        assert difference[mask].mean() > 20

    def test_as_the_model_made_them_without_paste(self, base: Path, dataset: Path, tmp_path: Path) -> None:
        run(dataset, tmp_path, "--key", A, "paste=false", "precision=bf16", base=base)
        video, mask = real()
        assert np.abs(read(tmp_path / f"{A}.mp4") - video).max(-1)[~mask].mean() > 20

    @pytest.mark.parametrize("mode", ["keyframes", "windows"])
    def test_of_clips_longer_than_the_window(self, base: Path, tmp_path: Path, mode: str) -> None:
        builder = DatasetBuilder(tmp_path / "dataset")
        builder.shard({A: members(stored(A, frames=8), key=A)}, split="test")
        run(builder.index(), tmp_path / "out", "long.window=5", "long.overlap=1", f"long.mode={mode}", base=base)
        made = read(tmp_path / "out" / f"{A}.mp4")
        assert made.shape == (8, SIDE, SIDE, 3)
        inside = stored(A, frames=8)["agnostic_mask"]
        changed = np.abs(made - open_reader(stored(A, frames=8)["video"]).get(range(8))).max(-1)
        assert all(changed[frame][inside[frame]].mean() > 20 for frame in range(8)), "every frame is generated"

    def test_of_clips_of_another_size_have_that(self, base: Path, tmp_path: Path) -> None:
        builder = DatasetBuilder(tmp_path / "dataset")
        values = stored(A, height=48, width=96)
        builder.shard({A: members(values, key=A)}, split="test")
        run(builder.index(), tmp_path / "out", base=base)
        made, mask = read(tmp_path / "out" / f"{A}.mp4"), values["agnostic_mask"]
        changed = np.abs(made - open_reader(values["video"]).get(range(FRAMES))).max(-1)
        assert made.shape == (FRAMES, 48, 96, 3)
        assert changed[mask].mean() > 20
        far = cv2.dilate(mask[0].astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
        assert changed[:, far].max() <= 12

    def test_are_the_same_whatever_else_is_generated(
        self, base: Path, dataset: Path, all_made: Path, tmp_path: Path
    ) -> None:
        run(dataset, tmp_path, "--shard", "1/2", base=base)
        assert [file.name for file in tmp_path.glob("*.mp4")] == [f"{B}.mp4"]
        assert (tmp_path / f"{B}.mp4").read_bytes() == (all_made / f"{B}.mp4").read_bytes()


class TestGoingOn:
    @pytest.mark.parametrize("lost", ["mp4", "json"])
    def test_makes_only_what_is_missing(self, base: Path, dataset: Path, made: Path, lost: str) -> None:
        before = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in made.iterdir()}
        (made / f"{B}.mp4").write_bytes(b"half a vid")
        (made / f"{B}.{lost}").unlink()
        run(dataset, made, base=base)
        assert sorted(file.name for file in made.iterdir()) == sorted(before)
        for name, (data, time) in before.items():
            assert (made / name).read_bytes() == data
            assert ((made / name).stat().st_mtime_ns == time) == name.startswith(A)

    def test_videos_made_in_another_way_are_replaced_only_on_demand(
        self, base: Path, dataset: Path, made: Path
    ) -> None:
        before = (made / f"{A}.mp4").read_bytes()
        with pytest.raises(ConfigError, match=rf"{A}\.mp4 was made with another settings.*--overwrite"):
            run(dataset, made, "seed=1", base=base)
        assert (made / f"{A}.mp4").read_bytes() == before
        run(dataset, made, "--key", A, "--overwrite", "seed=1", base=base)
        assert (made / f"{A}.mp4").read_bytes() != before
        assert (record(made)["settings"]["seed"], record(made, B)["settings"]["seed"]) == (1, 0)

    def test_a_clip_that_has_changed_is_another(self, base: Path, made: Path, tmp_path: Path) -> None:
        builder = DatasetBuilder(tmp_path / "rebuilt")
        builder.shard({A: members(stored(A, grey=60), key=A)}, split="test")
        with pytest.raises(ConfigError, match="another clip_digest, garment_digest"):
            run(builder.index(), made, base=base)

    def test_a_record_that_is_none(self, base: Path, dataset: Path, made: Path) -> None:
        (made / f"{A}.json").write_text("{")
        with pytest.raises(ConfigError, match=rf"{A}\.json: this is no JSON"):
            run(dataset, made, base=base)


class TestGarments:
    def test_another_samples_garment(self, base: Path, dataset: Path, all_made: Path, tmp_path: Path) -> None:
        run(dataset, tmp_path, "--key", A, "--unpaired", base=base)
        assert (record(all_made)["garment"], record(tmp_path)["garment"]) == (A, B)
        assert (read(all_made / f"{A}.mp4") != read(tmp_path / f"{A}.mp4"))[real()[1]].any()

    def test_of_a_table_may_be_of_any_split(self, dataset: Path, tmp_path: Path) -> None:
        table, samples = tmp_path / "pairs.csv", read_samples(str(dataset))
        table.write_text("key,garment\na-00000000,c-00000000\nnot-here,either\n")
        garments = from_table(table, [A], samples)
        assert garments.identity(A)["garment"] == C
        assert garments.load(A)[:, 0, 0].tolist() == [ord("c")] * 3

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("", "no column key, garment"),
            ("key;garment\n", "no column key, garment"),
            ("key,garment\nb-00000000,a-00000000\n", "no row of a-00000000"),
            ("key,garment\na-00000000,z\n", "'z' is no sample"),
            ("key,garment\na-00000000\n", "is no sample"),
        ],
    )
    def test_tables_that_are_wrong(self, dataset: Path, tmp_path: Path, content: str, said: str) -> None:
        table, samples = tmp_path / "pairs.csv", read_samples(str(dataset))
        table.write_text(content)
        with pytest.raises(ConfigError, match=said):
            from_table(table, [A], samples)

    def test_a_table_that_is_absent(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"none\.csv"):
            from_table(tmp_path / "none.csv", [], {})

    def test_a_split_without_another_garment_cannot_be_unpaired(self, dataset: Path) -> None:
        with pytest.raises(DatasetError, match=r"no other garment for the part of sample c-00000000"):
            of_others(str(dataset), "train", [C], {}, seed=0)

    def test_an_image_what_is_transparent_becomes_white(self, base: Path, dataset: Path, tmp_path: Path) -> None:
        pixels = np.zeros((30, 20, 4), np.uint8)
        pixels[:15] = (200, 10, 10, 255)
        Image.fromarray(pixels).save(tmp_path / "garment.png")
        garment = read_image(tmp_path / "garment.png")
        assert garment[:, 0, 0].tolist() == [200, 10, 10]
        assert garment[:, 20, 0].tolist() == [255, 255, 255]
        run(dataset, tmp_path / "out", "--key", A, "--garment", tmp_path / "garment.png", base=base)
        assert record(tmp_path / "out")["garment"].endswith("garment.png")

    def test_an_image_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "garment.png").write_text("no image")
        with pytest.raises(ConfigError, match=r"garment\.png"):
            read_image(tmp_path / "garment.png")


class TestWrong:
    @pytest.mark.parametrize(
        ("options", "kind", "said"),
        [
            (["--key", "a-00000001"], DatasetError, "no sample 'a-00000001' in split test; did you mean 'a-00000000'"),
            (["--split", "validation"], DatasetError, "validation"),
            (["--shard", "2/2"], ConfigError, "2/2"),
            (["--shard", "half"], ConfigError, "half"),
            (["--unpaired", "--garment", "g.png"], ConfigError, "several ways"),
            (["sampler.step=3"], ConfigError, "did you mean steps"),
            (["buckets=[[60,48]]"], ConfigError, "60×48 px are not multiples of 16"),
            (["--checkpoint", "nowhere"], WeightsError, "nowhere"),
        ],
    )
    def test_says_what(
        self, base: Path, dataset: Path, tmp_path: Path, options: list[str], kind: type[Exception], said: str
    ) -> None:
        with pytest.raises(kind, match=said):
            run(dataset, tmp_path, *options, base=base)

    def test_a_damaged_sample_is_named(self, base: Path, tmp_path: Path) -> None:
        builder = DatasetBuilder(tmp_path / "dataset")
        content = members(stored(A), key=A)
        del content["agnostic_mask.npz"]
        builder.shard({A: content}, split="test")
        with pytest.raises(DatasetError, match=r"test-000000\.tar, sample a-00000000"):
            run(builder.index(), tmp_path / "out", base=base)
        assert not list((tmp_path / "out").glob("*.mp4"))


class TestModel:
    def test_is_what_was_trained(self, base: Path, dataset: Path, tmp_path: Path) -> None:
        model = ITryOn.load(ModelSettings(base=str(base)))
        model.save(tmp_path / "before")
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.trainable_parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
        model.save(tmp_path / "after")
        for when in ("before", "after"):
            run(dataset, tmp_path / f"of {when}", "--key", A, "--checkpoint", tmp_path / when, base=base)
        before, after = (read(tmp_path / f"of {when}" / f"{A}.mp4") for when in ("before", "after"))
        assert (before != after)[real()[1]].any()

    def test_settings_that_are_not_given_are_those_of_the_run(self, base: Path, tmp_path: Path) -> None:
        settings = {
            "out": str(tmp_path),
            "data": {"dataset": "dataset", "frames": 17, "buckets": [(64, 48), (48, 64)]},
            "model": {"base": str(base)},
            "pose": "everywhere",
            "loss": {"shift": 3},
        }
        state = Checkpoint(step=7, position={}, ema_updates=7, skipped=0, random=[], settings=settings)
        with Checkpoints(tmp_path, keep=1).writing(state) as folder:
            model = ITryOn.load(ModelSettings(base=str(base)))
            model.save(folder / "model")
            model.save(folder / "ema")
        for place in (tmp_path, tmp_path / "checkpoints" / "step-00000007", folder.with_suffix("") / "model"):
            found = generation_settings(place, None, ["long.overlap=5"])
            assert found.buckets == ((64, 48), (48, 64))
            assert (found.pose, found.sampler.shift) == ("everywhere", 3)
            assert (found.long.window, found.long.overlap) == (17, 5)
        assert generation_settings(None, None, []) == GenerationSettings()

        state = folder.with_suffix("") / "checkpoint.json"
        state.write_text(state.read_text().replace('"everywhere"', '"nowhere"'))
        with pytest.raises(WeightsError, match="pose"):
            generation_settings(tmp_path, None, [])

    def test_settings_of_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "generate.yaml").write_text("seed: 3\nsampler: {steps: 7}\n")
        found = generation_settings(None, tmp_path / "generate.yaml", ["seed=4"])
        assert (found.seed, found.sampler.steps) == (4, 7)

    def test_none_is_an_error(self) -> None:
        with pytest.raises(ConfigError, match="--checkpoint"):
            Generator.load(None, settings=GenerationSettings())


def test_windows_have_seeds_of_their_own() -> None:
    def first(seed: int, key: str) -> list[int]:
        seeds = window_seeds(seed, key)
        return [next(seeds) for _ in range(3)]

    assert first(0, "a") == first(0, "a")
    assert len({*first(0, "a"), *first(0, "b"), *first(1, "a")}) == 9


class TestPlacedBack:
    """Of a picture of 8×20 px cut to 8×8 at column 6, or scaled to 8×20 with borders."""

    def test_a_cut_covers_what_it_was_cut_from(self) -> None:
        fit = Fit((8, 20), (8, 8), (8, 20), (0, -6))
        placed = placed_back(np.full((8, 8, 3), 200, np.uint8), np.zeros((8, 20, 3), np.uint8), fit=fit, mask=None)
        assert (placed[:, 6:14] == 200).all()
        assert not placed[:, :6].any()
        assert not placed[:, 14:].any()

    def test_only_the_mask_is_taken(self) -> None:
        fit = Fit((8, 20), (8, 8), (8, 20), (0, -6))
        mask = np.zeros((8, 20), bool)
        mask[2:4, 8:10] = True
        made, shown = np.full((8, 8, 3), 200, np.uint8), np.full((8, 20, 3), 9, np.uint8)
        placed = placed_back(made, shown, fit=fit, mask=mask)
        assert (placed[mask] == 200).all()
        assert (placed[~mask] == 9).all()

    @pytest.mark.parametrize("stored", [(16, 40), (4, 10)])
    def test_a_scaled_picture_with_borders_is_scaled_back(self, stored: tuple[int, int]) -> None:
        fit = Fit.into((16, 20), stored)  # 8×20 px, with 4 rows of border above and below
        made = np.zeros((16, 20, 3), np.uint8)
        made[4:12, :10], made[4:12, 10:] = 50, 200
        placed = placed_back(made, np.zeros((*stored, 3), np.uint8), fit=fit, mask=None)
        width = stored[1]
        assert (placed[:, : width // 2 - 4] == 50).all()
        assert (placed[:, width // 2 + 4 :] == 200).all()


def test_the_page_lists_every_setting_with_its_default() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "generation.md").read_text()
    listed = dict(re.findall(r"^\| `([a-z_.]+)` \| (.*?) \|", page, re.MULTILINE))
    defaults = GenerationSettings().model_dump(mode="json")
    flat = {
        f"{name}.{inner}" if inner else name: value
        for name, section in defaults.items()
        for inner, value in (section.items() if isinstance(section, dict) else [("", section)])
    }
    assert listed == {name: value if isinstance(value, str) else json.dumps(value) for name, value in flat.items()}
