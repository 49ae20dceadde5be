"""Stored latents: the stage that makes them, their shards, and training from them, beside training from pictures."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError

pytest.importorskip("diffusers")

from pipelines.pack import pack
from pipelines.store import ClipStore
from pipelines.validate import validate
from schemas.annotation import ActionCaption
from schemas.artifacts import ARTIFACTS, check, decode_npz
from schemas.clip import Clip
from schemas.config import ShardsConfig
from schemas.errors import ArtifactError, ConfigError, DatasetError
from schemas.latents import Latents
from schemas.tables import META_MEMBER, SCHEMA_VERSION
from tests.training.build import artifacts, meta, mp4
from training.clips import loader
from training.conditioning import Conditioner
from training.data_settings import DataSettings
from training.latents import WanLatents
from training.model.itryon import ITryOn
from training.model.settings import ModelSettings
from training.sample import Batch
from training.settings_file import read_settings
from training.step import training_step
from training.stored_latents import LatentConditioner
from training.train_settings import LossSettings, TrainSettings
from training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

FRAMES, SIZE = 13, (64, 48)
KEYS = {"train": ["a-00000000", "b-00000000", "c-00000000"], "test": ["d-00000000"]}
FIRST = "latents/train-000000.tar"
"""Holds the first two keys."""
MEMBERS = [*(kind.member for kind in ARTIFACTS.values() if kind.shared and kind.required), META_MEMBER]
TINY = Path(__file__).resolve().parents[2] / "configs" / "train_tiny.yaml"


def clip(key: str, *, frames: int = FRAMES) -> Clip:
    """A clip of noise that moves, with two actions."""
    values = artifacts(frames=frames, height=SIZE[0], width=SIZE[1])
    noise = np.random.default_rng(ord(key[0])).integers(0, 256, (frames, SIZE[0] // 8, SIZE[1] // 8, 3), np.uint8)
    actions = [("pulls the hem", 2, 6), ("zips it up", 9, 11)]
    annotation = values["annotation"].model_copy(
        update={
            "global_caption": f"Person {key[0]} stands.",
            "actions": tuple(
                ActionCaption(category="adjusting the hem", caption=words, start_frame=first, end_frame=last)
                for words, first, last in actions
            ),
            "labels": tuple(any(first <= t <= last for _, first, last in actions) for t in range(frames)),
        }
    )
    values |= {"video": mp4(np.kron(noise, np.ones((1, 8, 8, 1), np.uint8))), "annotation": annotation}
    about = meta(values, key=key)
    pair = about.pair.model_copy(update={"video": f"{key}.mp4"})
    return Clip(key=key, pair=pair, source=about.source, span=about.span, artifacts=values)


@pytest.fixture(scope="module")
def stage(checkpoint: Path) -> Callable[..., WanLatents]:
    def made(**fields: Any) -> WanLatents:
        small = {"frames": FRAMES, "buckets": (SIZE,), "pose_dropout": 0, "precision": "float32", "device": "cpu"}
        found = WanLatents(checkpoint=str(checkpoint), **{**small, **fields})
        found.setup()
        return found

    return made


def encoded_by(stage: WanLatents, one: Clip) -> Latents:
    stage.process(one)
    check("latents", one.artifacts["latents"], one)
    return one.artifacts["latents"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, stage: Callable[..., WanLatents]) -> Path:
    """Windows as long as their clips, so that there is one of each."""
    out = tmp_path_factory.mktemp("built")
    store, made = ClipStore(str(out / "work")), stage()
    for key in [*KEYS["train"], *KEYS["test"]]:
        one = clip(key)
        made.process(one)
        store.put(one)
    packed = pack(
        store, KEYS, output=str(out), config=ShardsConfig(max_samples=2), members=MEMBERS, stages=[],
        metrics=[], as_written=lambda url: url, sidecars=["latents"],
    )  # fmt: skip
    described = {
        "schema_version": SCHEMA_VERSION,
        "splits": {split: {"samples": len(keys)} for split, keys in KEYS.items()},
        "members": MEMBERS,
        "shards": [dataclasses.asdict(shard) for shard in packed.shards],
        "sidecars": {name: [dataclasses.asdict(shard) for shard in shards] for name, shards in packed.sidecars.items()},
    }
    (out / "dataset.json").write_text(json.dumps(described))
    return out


@pytest.fixture
def out(built: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(built, tmp_path / "out", ignore=shutil.ignore_patterns("work")))


def settings(dataset: Path, **options: Any) -> DataSettings:
    small: dict[str, Any] = {"frames": FRAMES, "buckets": (SIZE,), "batch": 3, "workers": 0, "pose_dropout": 0}
    return DataSettings(dataset=str(dataset), **{**small, **options})


def batches(dataset: Path, **options: Any) -> list[Batch]:
    return list(loader(settings(dataset, latents=True, **options)))


def stored_conditioner(**options: Any) -> LatentConditioner:
    return LatentConditioner(torch.device("cpu"), **{"dtype": torch.float32, "pose": "masked", **options})


# Training from them


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> ITryOn:
    torch.manual_seed(0)
    network = ITryOn.load(ModelSettings(base=str(checkpoint)), dtype=torch.float32)
    for parameter in network.trainable_parameters():  # else nothing of the conditions would come through
        torch.nn.init.normal_(parameter, std=0.1)
    return network


def test_a_batch_is_what_it_is_of_pictures(built: Path, checkpoint: Path, model: ITryOn) -> None:
    options = {"caption_dropout": 0.4, "action_dropout": 0.4, "seed": 2}
    (pictured,), (stored,) = list(loader(settings(built, **options))), batches(built, **options)
    assert [caption == "" for caption in pictured["global_caption"]].count(True) == 1
    conditioner = Conditioner.load(checkpoint)
    wanted, found = conditioner(pictured), stored_conditioner()(stored)

    assert {"video", "mask", "pose", "garment"}.isdisjoint(stored)
    for name in ("key", "window", "garment_key", "global_caption", "actions"):
        assert stored[name] == pictured[name]  # type: ignore[literal-required]
    for name in ("seed", "fps", "labels", "lengths", "paired"):
        assert torch.equal(stored[name], pictured[name])  # type: ignore[literal-required]
    assert torch.equal(found.interactive, wanted.interactive)
    assert found.interactive.any()
    assert torch.equal(found.repaint, wanted.repaint)
    assert torch.equal(found.conditions.context[:, 32:], wanted.conditions.context[:, 32:])
    assert found.conditions.context[:, 32:].any()
    for part in ("captions", "segments"):
        for field in dataclasses.fields(getattr(wanted.conditions, part)):
            mine, theirs = (getattr(getattr(each.conditions, part), field.name) for each in (found, wanted))
            assert mine.dtype == theirs.dtype
            torch.testing.assert_close(mine, theirs, rtol=2**-11, atol=2**-24)
    for mine, theirs in (
        (found.latents, wanted.latents),
        (found.conditions.context, wanted.conditions.context),
        (found.conditions.hands, wanted.conditions.hands),
    ):
        assert mine.dtype == torch.float32
        assert theirs.flatten(1).std(1).min() > 0.01
        torch.testing.assert_close(mine, theirs, rtol=2**-11, atol=2**-24)

    with torch.no_grad():
        before = training_step(model, conditioner, pictured, LossSettings())
        after = training_step(model, stored_conditioner(), stored, LossSettings())
    assert float(before.action) > 0
    torch.testing.assert_close(after.total, before.total, rtol=1e-4, atol=0)


def test_runs_need_no_vae_and_no_text_encoder_and_go_on(
    built: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base"
    shutil.copytree(checkpoint / "transformer", base / "transformer")

    def run(name: str, *more: str) -> dict[int, float]:
        overrides = [
            f"out={tmp_path / name}", f"model.base={base}", f"data.dataset={built}", f"data.frames={FRAMES}",
            "data.buckets=[[64,48]]", "data.latents=true", "data.pose_dropout=0", "validation.every=2",
            "validation.split=test", "validation.videos=0", "logging.trackers=[]",
        ]  # fmt: skip
        assert Trainer(read_settings(TrainSettings, TINY, [*overrides, *more])).run() == 0
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        return {line["step"]: line["loss"] for line in lines if "loss" in line}

    whole = run("whole", "steps=5", "data.workers=1")
    run("broken", "steps=2", "data.workers=0")
    assert run("broken", "steps=5", "data.workers=0") == pytest.approx(whole, rel=1e-5)
    assert "goes on from step 2" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="validation.videos are made of pictures"):
        run("videos", "validation.videos=1")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"frames": 9}, "13 frames from 0 to 12, 64×48 px.*9 frames over 9"),
        ({"fps": 12}, "13 frames.*5 frames over 9"),
        ({"buckets": ((32, 32),)}, "32×32 px"),
    ],
)
def test_windows_other_than_those_asked_for_are_told(built: Path, wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"latents/train-00000[01].tar, sample .*{words}"):
        batches(built, on_error="skip", **wrong)


def test_a_pose_picture_that_shows_elsewhere_is_told(built: Path) -> None:
    (batch,) = batches(built)
    with pytest.raises(ConfigError, match="everywhere: the latents of .* have the pose picture otherwise"):
        stored_conditioner(pose="everywhere")(batch)


@pytest.mark.parametrize("wrong", [{"pose_dropout": 0.05}, {"unpaired_share": 0.5}, {"interactive_share": 0.0}])
def test_what_was_drawn_before_cannot_be_drawn_again(wrong: dict[str, Any]) -> None:
    DataSettings(dataset="x", **wrong)
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        DataSettings(dataset="x", latents=True, **{"pose_dropout": 0, **wrong})


# The stage


def test_windows_differ_and_each_is_encoded_alone(stage: Callable[..., WanLatents]) -> None:
    found = encoded_by(stage(windows=2, frames=9, pose_dropout=0.5), clip("a-00000000", frames=30))

    starts = found.frames[:, 0].tolist()
    assert len({*starts}) == 2
    assert np.array_equal(found.frames - found.frames[:, :1], np.tile(np.arange(9), (2, 1)))
    assert not np.array_equal(found.reactive[0], found.reactive[1])
    for number, start in enumerate(starts):
        alone = encoded_by(stage(frames=9, seed=_seed_of(start)), clip("a-00000000", frames=30))
        assert alone.frames[0, 0] == start
        for name in ("video", "inactive", "hands", "mask"):
            assert np.array_equal(getattr(alone, name)[0], getattr(found, name)[number])


def _seed_of(start: int) -> int:
    """A seed by which the only window of clip a starts there, of the 22 places where one of 30 frames can."""
    key = zlib.crc32(b"a-00000000")
    return next(seed for seed in range(1000) if int(np.random.default_rng((seed, key)).random() * 22) == start)


def test_the_same_clip_gives_the_same_bytes(stage: Callable[..., WanLatents]) -> None:
    def member(**fields: Any) -> bytes:
        one = clip("a-00000000", frames=30)
        return ARTIFACTS["latents"].encode(encoded_by(stage(windows=2, frames=9, pose_dropout=0.3, **fields), one))

    first = member()
    assert member() == first
    assert member(seed=1) != first


def test_windows_are_taken_where_the_interactions_are(stage: Callable[..., WanLatents]) -> None:
    def share(wanted: float) -> float:
        one = clip("a-00000000", frames=30)
        found = encoded_by(stage(windows=5, frames=1, interactive_share=wanted), one)
        return float(np.array(one.artifacts["annotation"].labels)[found.frames].mean())

    assert share(1.0) == 1
    assert share(0.0) == 0


def test_a_clip_of_one_frame_is_one_latent_frame(stage: Callable[..., WanLatents]) -> None:
    values = artifacts(frames=1)
    about = meta(values, key="a-00000000")
    one = Clip(key="a-00000000", pair=about.pair, source=about.source, span=about.span, artifacts=values)
    assert encoded_by(stage(windows=3), one).video.shape == (1, 16, 1, 8, 6)


def test_the_whole_pose_picture_can_be_seen(stage: Callable[..., WanLatents]) -> None:
    masked, everywhere = (encoded_by(stage(pose=pose), clip("a-00000000")) for pose in ("masked", "everywhere"))
    assert bool(everywhere.pose_everywhere) > bool(masked.pose_everywhere)
    assert not np.array_equal(everywhere.reactive, masked.reactive)
    assert np.array_equal(everywhere.inactive, masked.inactive)


@pytest.mark.parametrize("wrong", [{"frames": 10}, {"buckets": ((60, 48),)}, {"windows": 0}, {"precision": "half"}])
def test_settings_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        WanLatents(checkpoint="tiny", **wrong)


def test_weights_are_part_of_what_latents_are_of(checkpoint: Path) -> None:
    named = WanLatents(checkpoint=str(checkpoint))
    assert named.model_files == (str(checkpoint),)
    assert named.own_fingerprint({str(checkpoint): "a"}) != named.own_fingerprint({str(checkpoint): "b"})
    assert WanLatents(checkpoint="tiny").model_files == ()
    assert WanLatents(checkpoint="tiny").identity()["fields"]["checkpoint"] == "tiny"


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("video", lambda value: np.where(np.arange(6) == 3, np.float16("nan"), value).astype(np.float16), "NaN"),
        ("video", lambda value: value[:, :, :-1], r"latents\.inactive has shape|latents\.video has shape"),
        ("frames", lambda value: value + 1, "show frame 13 of 13"),
        ("frames", lambda value: value[:, ::-1], "rising"),
        ("mask", lambda value: value[..., 1:], r"latents\.mask has shape"),
        ("lengths", lambda value: value[:-1], "add up"),
        ("tokens", lambda value: value.astype(np.float32), "float32"),
    ],
)
def test_latents_that_do_not_fit_are_refused(built: Path, name: str, change: Callable[[Any], Any], words: str) -> None:
    one = ClipStore(str(built / "work")).get("a-00000000")
    assert one is not None
    whole = one.artifacts["latents"]
    with pytest.raises(ArtifactError, match=words):
        check("latents", dataclasses.replace(whole, **{name: change(getattr(whole, name))}), one)


# Their shards


def test_the_sidecar_leaves_shards_as_they_are(built: Path, tmp_path: Path) -> None:
    pack(
        ClipStore(str(built / "work")), KEYS, output=str(tmp_path), config=ShardsConfig(max_samples=2), members=MEMBERS,
        stages=[], metrics=[], as_written=lambda url: url,
    )  # fmt: skip
    names = sorted(path.name for path in (built / "shards").iterdir())
    assert names == sorted(path.name for path in (built / "latents").iterdir())
    assert len(names) == 3
    for name in names:
        assert (tmp_path / "shards" / name).read_bytes() == (built / "shards" / name).read_bytes()
    columns = pq.read_schema(tmp_path / "index.parquet").names
    assert [name for name in pq.read_schema(built / "index.parquet").names if name not in columns] == ["latents"]
    assert validate(str(built)).problems == ()


def test_floats_are_not_compressed_and_all_can_read_them(built: Path) -> None:
    one = ClipStore(str(built / "work")).members("a-00000000")
    assert one is not None
    arrays = decode_npz(one["latents.npz"])
    assert list(arrays) == [field.name for field in dataclasses.fields(Latents)]
    with zipfile.ZipFile(io.BytesIO(one["latents.npz"])) as archive:
        stored = {member.filename for member in archive.infolist() if member.compress_type == zipfile.ZIP_STORED}
    assert stored == {f"{name}.npy" for name, array in arrays.items() if array.dtype == np.float16}


def rewritten(file: Path, change: Callable[[bytearray], object]) -> None:
    data = bytearray(file.read_bytes())
    change(data)
    file.write_bytes(data)


def spoil(data: bytearray, key: str) -> None:
    """One bit in the middle of the latents of `key`."""
    at = data.index(f"{key}.latents.npz".encode()) + 3000
    data[at] ^= 1


def test_damage_names_shard_and_key(out: Path) -> None:
    rewritten(out / FIRST, lambda data: spoil(data, "b-00000000"))
    with pytest.raises(DatasetError, match=r"latents/train-000000\.tar, sample b-00000000: member latents\.npz"):
        batches(out)
    reading = loader(settings(out, latents=True, on_error="skip"))
    (batch,) = reading
    assert set(batch["key"]) <= {"a-00000000", "c-00000000"}
    assert reading.clips.skipped >= 1
    problems = [(problem.where, problem.what) for problem in validate(str(out)).problems]
    assert [where for where, _ in problems] == [f"{FIRST}: b-00000000.latents.npz", FIRST]


def test_other_latents_are_another_version_for_the_cache(out: Path) -> None:
    def versions() -> list[str]:
        both = (settings(out, latents=latents) for latents in (False, True))
        return [loader(each).clips.survey.version for each in both]

    before, table = versions(), pq.read_table(out / "index.parquet")
    rows = table.to_pylist()
    next(row for row in rows if row["key"] == "a-00000000")["latents"]["sha256"] = "0" * 64
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), out / "index.parquet")
    assert [one == other for one, other in zip(before, versions(), strict=True)] == [True, False]


def test_a_shard_that_is_gone_is_named(out: Path) -> None:
    (out / FIRST).unlink()
    with pytest.raises(DatasetError, match=r"latents/train-000000\.tar, sample .*: there is no such shard"):
        batches(out)
    assert [(problem.where, problem.what) for problem in validate(str(out)).problems] == [(FIRST, "is missing")]


def test_a_dataset_without_latents_says_what_makes_them(out: Path) -> None:
    table = pq.read_table(out / "index.parquet")
    pq.write_table(table.drop_columns(["latents"]), out / "index.parquet")
    with pytest.raises(DatasetError, match=r"no column latents\. Build it with a stage that gives latents"):
        batches(out)


def test_a_sample_without_latents_is_named(out: Path) -> None:
    table = pq.read_table(out / "index.parquet")
    rows = table.to_pylist()
    next(row for row in rows if row["key"] == "c-00000000")["latents"] = None
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), out / "index.parquet")
    with pytest.raises(DatasetError, match="sample c-00000000 has no latents"):
        batches(out)
    where = [problem.where for problem in validate(str(out)).problems]
    assert "latents/train-000001.tar" in where


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda shards: shards.pop(), "sidecar latents has not the samples of the shards"),
        (lambda shards: shards[0].update(samples=5), "sidecar latents has not the samples of the shards"),
        (lambda shards: shards[0].update(sha256="0" * 64), "has sha256"),
    ],
)
def test_a_description_that_is_not_true_is_told(out: Path, change: Callable[[Any], Any], wanted: str) -> None:
    described = json.loads((out / "dataset.json").read_text())
    change(described["sidecars"]["latents"])
    (out / "dataset.json").write_text(json.dumps(described))
    assert any(wanted in problem.what for problem in validate(str(out)).problems)


def test_names_of_sidecars_stay_in_the_dataset(out: Path) -> None:
    described = json.loads((out / "dataset.json").read_text())
    described["sidecars"]["latents"][0]["name"] = "../elsewhere.tar"
    (out / "dataset.json").write_text(json.dumps(described))
    with pytest.raises(DatasetError, match="describes no dataset"):
        validate(str(out))


def test_latents_of_another_annotation_are_refused(out: Path, built: Path) -> None:
    """As if the sidecar were of an earlier build."""
    one = ClipStore(str(built / "work")).get("a-00000000")
    assert one is not None
    annotation = one.artifacts["annotation"]
    one.artifacts["annotation"] = annotation.model_copy(update={"actions": annotation.actions[:1]})
    with pytest.raises(ArtifactError, match="4 captions, the annotation 3"):
        check("latents", one.artifacts["latents"], one)
