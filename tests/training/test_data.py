"""InteractDataset: every sample once, documented tensors, and errors that name the place."""

from __future__ import annotations

import importlib
import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from schemas.errors import ConfigError, DatasetError
from tests.training.build import DatasetBuilder, artifacts, members, write_dataset
from training.data import InteractDataset, collate, to_unit_range

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores are meant


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Seven train samples in shards of four and three, two test samples; the train keys."""
    out = tmp_path_factory.mktemp("seven")
    return out, write_dataset(out, [4, 3], test=2)[:7]


def keys(dataset: InteractDataset, *, workers: int = 0, **options) -> list[str]:
    return [sample["key"] for sample in DataLoader(dataset, batch_size=None, num_workers=workers, **options)]


def ranks(out: Path, world_size: int, **options) -> list[InteractDataset]:
    return [
        InteractDataset(out, pictures=(), rank=rank, world_size=world_size, **options) for rank in range(world_size)
    ]


# Dealing out


@pytest.mark.parametrize(("world_size", "workers"), list(itertools.product([1, 2, 3], [0, 1, 2, 3])))
def test_each_sample_comes_exactly_once_in_an_epoch(seven, world_size, workers):
    out, expected = seven
    got = [keys(dataset, workers=workers) for dataset in ranks(out, world_size)]

    assert sorted(itertools.chain(*got)) == expected
    assert max(map(len, got)) - min(map(len, got)) <= 1


def test_more_ranks_and_workers_than_samples(tmp_path):
    expected = write_dataset(tmp_path, [2])
    got = [keys(dataset, workers=2) for dataset in ranks(tmp_path, 3)]

    assert sorted(itertools.chain(*got)) == expected


def test_without_shuffle_the_order_is_that_of_the_keys(seven):
    out, expected = seven
    assert keys(InteractDataset(out, pictures=())) == expected
    assert keys(InteractDataset(out, pictures=()), workers=3) == expected


@pytest.mark.parametrize(("even", "each"), [("drop", 2), ("pad", 3)])
def test_even_gives_every_rank_as_many(seven, even, each):
    out, expected = seven
    datasets = ranks(out, 3, even=even, shuffle=True)
    got = [keys(dataset, workers=2) for dataset in datasets]

    assert [len(dataset) for dataset in datasets] == [len(one) for one in got] == [each] * 3
    distinct = set(itertools.chain(*got))
    assert len(distinct) == (6 if even == "drop" else 7)
    assert distinct <= set(expected)


def test_shuffle_follows_seed_and_epoch_and_not_the_workers(seven):
    out, expected = seven

    def order(*, seed: int, epoch: int, workers: int = 0) -> list[str]:
        dataset = InteractDataset(out, pictures=(), shuffle=True, seed=seed)
        dataset.set_epoch(epoch)
        return keys(dataset, workers=workers)

    first = order(seed=1, epoch=0)
    assert sorted(first) == expected
    assert first != expected
    assert order(seed=1, epoch=0) == order(seed=1, epoch=0, workers=2) == first
    assert order(seed=1, epoch=1) != first
    assert order(seed=2, epoch=0) != first


def test_workers_that_stay_see_the_next_epoch(seven):
    out, expected = seven
    dataset = InteractDataset(out, pictures=(), shuffle=True)
    loader = DataLoader(dataset, batch_size=None, num_workers=2, persistent_workers=True)
    orders = []
    for epoch in range(2):
        dataset.set_epoch(epoch)
        orders.append([sample["key"] for sample in loader])

    assert sorted(orders[0]) == sorted(orders[1]) == expected
    assert orders[0] != orders[1]


def test_spawned_workers(seven):
    out, expected = seven
    assert keys(InteractDataset(out, pictures=()), workers=1, multiprocessing_context="spawn") == expected


def test_rank_comes_from_the_variables_of_torchrun(seven, monkeypatch):
    out, expected = seven
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")

    assert keys(InteractDataset(out, pictures=())) == expected[1::2]


def test_splits_do_not_mix(seven):
    out, train = seven
    test = keys(InteractDataset(out, split="test", pictures=()))

    assert len(test) == 2
    assert not set(test) & set(train)


def test_shards_without_index(seven):
    out, expected = seven
    shards = sorted((out / "shards").glob("train-*.tar"))

    assert keys(InteractDataset(shards, pictures=()), workers=3) == expected
    assert keys(InteractDataset([str(shards[1])], pictures=())) == expected[4:]


def test_remote_dataset(seven):
    out, expected = seven
    memory = fsspec.filesystem("memory")
    memory.put(str(out), "/bucket/seven", recursive=True)

    assert keys(InteractDataset("memory://bucket/seven", pictures=())) == expected
    assert keys(InteractDataset(["memory://bucket/seven/shards/train-000000.tar"], pictures=())) == expected[:4]


def test_a_sample_is_read_without_touching_the_others(seven, tmp_path):
    out, expected = seven
    shutil.copytree(out, tmp_path / "copy")
    entry = InteractDataset(out).index[1]
    shard = tmp_path / "copy/shards/train-000000.tar"
    data = bytearray(shard.read_bytes())
    data[: entry.start] = b"\xff" * entry.start
    data[entry.stop :] = b"\xff" * (len(data) - entry.stop)
    shard.write_bytes(data)

    second = InteractDataset(tmp_path / "copy", rank=1, world_size=7)
    assert [sample["key"] for sample in second] == [expected[1]]


# Tensors


def one(tmp_path: Path, values: dict, **options):
    """The only sample of a dataset made of `values`."""
    builder = DatasetBuilder(tmp_path / "one")
    builder.shard({"pair-00000000": members(values, key="pair-00000000")})
    builder.index()
    [sample] = InteractDataset(tmp_path / "one", **options)
    return sample


def test_tensors_are_as_documented(tmp_path):
    values = artifacts(frames=6, height=64, width=48)
    sample = one(tmp_path, values)

    described = {
        name: (tuple(value.shape), value.dtype) for name, value in sample.items() if isinstance(value, torch.Tensor)
    }
    video = ((6, 3, 64, 48), torch.uint8)
    assert described == {
        "video": video,
        "agnostic_video": video,
        "pose": video,
        "hands": video,
        "mask": ((6, 1, 64, 48), torch.bool),
        "garment": ((3, 40, 30), torch.uint8),
        "garment_mask": ((1, 40, 30), torch.bool),
        "labels": ((6,), torch.bool),
        "probabilities": ((6,), torch.float32),
    }
    assert (sample["mask"][:, 0].numpy() == values["agnostic_mask"]).all()
    assert (sample["garment"].permute(1, 2, 0).numpy() == values["garment"]).all()
    assert (sample["garment_mask"][0].numpy() == values["garment_mask"]).all()
    assert sample["labels"].tolist() == list(values["annotation"].labels)
    assert sample["actions"] == list(values["annotation"].actions)
    assert sample["global_caption"] == values["annotation"].global_caption
    assert sample["fps"] == 24
    assert sample["meta"].key == sample["key"] == "pair-00000000"
    assert abs(int(sample["video"][0, 0, 32, 4]) - 200) <= 3  # left half of the video is 200, the right one 90
    assert abs(int(sample["video"][0, 0, 32, 44]) - 90) <= 3
    assert sample["pose"].any()
    assert sample["hands"].any()


def test_agnostic_video_is_the_video_outside_the_mask(tmp_path):
    sample = one(tmp_path, artifacts())
    mask = sample["mask"].expand_as(sample["video"])

    assert (sample["agnostic_video"][mask] == 126).all()
    assert (sample["agnostic_video"][~mask] == sample["video"][~mask]).all()


def test_a_window_of_frames_cuts_everything_at_one_place(tmp_path):
    sample = one(tmp_path, artifacts(frames=6), frames=4)

    for name in ("video", "agnostic_video", "mask", "pose", "hands", "labels", "probabilities"):
        assert len(sample[name]) == 4
    assert [(action.start_frame, action.end_frame) for action in sample["actions"]] == [(2, 3)]
    assert one(tmp_path, artifacts(frames=6), frames=2)["actions"] == []
    assert len(one(tmp_path, artifacts(frames=6), frames=100)["video"]) == 6


@pytest.mark.parametrize("size", [(32, 24), (100, 48), (64, 200), (128, 96)])
def test_resizing_keeps_picture_mask_and_pose_together(tmp_path, size):
    values = artifacts(frames=1, height=64, width=48)
    values["pose"].scores[:] = 0
    values["pose"].scores[:, [5, 6]] = 1  # shoulders, on two corners of the mask
    values["pose"].keypoints[:, 5], values["pose"].keypoints[:, 6] = (12, 16), (23, 31)
    sample = one(tmp_path, values, size=size, garment_size=(20, 20))

    scale = min(size[0] / 64, size[1] / 48)
    top, left = (size[0] - 64 * scale) / 2, (size[1] - 48 * scale) / 2
    assert sample["video"].shape == (1, 3, *size)
    rows, columns = torch.nonzero(sample["mask"][0, 0], as_tuple=True)
    expected = (top + 16 * scale, top + 32 * scale - 1, left + 12 * scale, left + 24 * scale - 1)
    found = (int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max()))
    assert found == pytest.approx(expected, abs=1.01)
    drawn_rows, drawn_columns = torch.nonzero(sample["pose"][0].any(dim=0), as_tuple=True)
    assert (int(drawn_rows.min()) + 4, int(drawn_columns.min()) + 4) == pytest.approx((found[0], found[2]), abs=2.01)
    assert sample["garment"].shape == (3, 20, 20)
    assert (sample["garment"][:, 0, 0] == 255).all()  # white beside a narrow garment


def test_only_asked_for_pictures_are_made(tmp_path):
    sample = one(tmp_path, artifacts(), pictures=("pose",))

    assert "pose" in sample
    assert not {"agnostic_video", "hands", "hands_from", "hands_method", "densepose"} & set(sample)


def test_densepose_where_the_dataset_has_it(tmp_path):
    parts = np.zeros((6, 64, 48), np.uint8)
    parts[:, 20:, :] = 24
    sample = one(tmp_path, {**artifacts(), "densepose": parts}, pictures=("densepose",))

    assert sample["densepose"][0, :, 0, 0].tolist() == [68, 1, 84]
    assert sample["densepose"][0, :, 63, 0].tolist() == [253, 231, 37]


def with_hand_prior(**options) -> dict:
    """A sample whose hands' meshes were rendered: a hand where the agnostic mask is."""
    values = artifacts(**options)
    return {**values, "hand_prior": np.where(values["agnostic_mask"], 200, 0).astype(np.uint8)}


def test_hands_are_the_stored_mesh_where_there_is_one(tmp_path):
    sample = one(tmp_path, with_hand_prior())

    assert (sample["hands_from"], sample["hands_method"]) == ("mesh", "test")
    hand = sample["mask"][:, 0]
    assert (sample["hands"].permute(0, 2, 3, 1)[hand] == torch.tensor([130, 148, 172])).all()  # 200 · HaMeR's colour
    assert not sample["hands"].permute(0, 2, 3, 1)[~hand].any()


def test_hands_are_drawn_from_joints_where_there_is_no_mesh(tmp_path):
    sample = one(tmp_path, artifacts())

    assert (sample["hands_from"], sample["hands_method"]) == ("joints", "test")
    assert sample["hands"].flatten(1).any(dim=1).all()


@pytest.mark.parametrize("size", [(32, 24), (100, 48), (128, 96)])
def test_the_stored_mesh_is_resized_and_cut_with_the_video(tmp_path, size):
    sample = one(tmp_path, with_hand_prior(), size=size, frames=3)

    assert sample["hands"].shape == (3, 3, *size)
    drawn = sample["hands"].amax(dim=1) > 86  # more than half of the hand's blue
    assert (drawn != sample["mask"][:, 0]).float().mean() < 0.01


@pytest.mark.parametrize(
    "shade", [np.zeros((4, 64, 48), np.uint8), np.zeros((6, 64, 40), np.uint8)], ids=["frames", "width"]
)
def test_a_mesh_that_does_not_fit_the_video_is_refused(tmp_path, shade):
    with pytest.raises(DatasetError, match="hand_prior has"):
        one(tmp_path, {**artifacts(), "hand_prior": shade})


def test_batches_of_both_kinds_of_hands_say_which(tmp_path):
    builder = DatasetBuilder(tmp_path)
    kinds = (("a-00000000", artifacts()), ("b-00000000", with_hand_prior()))
    builder.shard({key: members(values, key=key) for key, values in kinds})
    builder.index()
    batch = collate(list(InteractDataset(tmp_path)))

    assert batch["hands_from"] == ["joints", "mesh"]
    assert batch["hands"].shape == (2, 6, 3, 64, 48)


@pytest.mark.parametrize("backend", ["decord", "torchcodec"])
def test_backends_give_the_same_frames(tmp_path, backend):
    try:
        importlib.import_module(backend)
    except (ImportError, RuntimeError, OSError) as cause:  # torchcodec without FFmpeg's libraries
        pytest.skip(f"{backend} cannot be loaded here: {str(cause).splitlines()[0]}")
    values = artifacts(width=64)
    ours = one(tmp_path, values)["video"].to(torch.int16)

    assert (one(tmp_path, values, backend=backend)["video"].to(torch.int16) - ours).abs().max() <= 2


def test_unit_range():
    pixels = torch.tensor([0, 255], dtype=torch.uint8)
    assert to_unit_range(pixels).tolist() == [-1.0, 1.0]


# Batches


def test_batches_pad_shorter_clips(tmp_path):
    builder = DatasetBuilder(tmp_path)
    builder.shard({f"pair-{n:08d}": members(artifacts(frames=n), key=f"pair-{n:08d}") for n in (3, 5)})
    builder.index()
    [batch] = DataLoader(InteractDataset(tmp_path), batch_size=2, collate_fn=collate)

    assert batch["lengths"].tolist() == [3, 5]
    assert batch["video"].shape == batch["pose"].shape == (2, 5, 3, 64, 48)
    assert batch["mask"].shape == (2, 5, 1, 64, 48)
    assert batch["mask"].dtype == torch.bool
    assert batch["video"][0, 2].any()
    assert not batch["video"][0, 3:].any()
    assert not batch["labels"][0, 3:].any()
    assert batch["garment"].shape == (2, 3, 40, 30)
    assert batch["key"] == ["pair-00000003", "pair-00000005"]
    assert [len(actions) for actions in batch["actions"]] == [1, 1]
    assert batch["fps"].tolist() == [24, 24]


def test_batches_of_different_sizes_say_what_to_do(tmp_path):
    builder = DatasetBuilder(tmp_path)
    builder.shard({f"pair-{w:08d}": members(artifacts(width=w), key=f"pair-{w:08d}") for w in (48, 64)})
    builder.index()

    with pytest.raises(ConfigError, match=r"size=\(height, width\)"):
        collate(list(InteractDataset(tmp_path)))
    assert collate(list(InteractDataset(tmp_path, size=(32, 32))))["video"].shape == (2, 6, 3, 32, 32)
    with pytest.raises(ConfigError, match="no samples"):
        collate([])


# Damage


def damaged(tmp_path: Path, name: str, data: bytes | None) -> Path:
    """Three samples; member `name` of the second is `data`, or missing."""
    content = members(artifacts(), key="good-00000000")
    bad = {**content, name: data} if data is not None else {k: v for k, v in content.items() if k != name}
    builder = DatasetBuilder(tmp_path / "damaged")
    builder.shard({"a-00000000": content, "b-00000000": bad, "c-00000000": content})
    return builder.index()


MEMBERS = (
    "video.mp4", "garment.png", "garment_mask.png", "pose.npz", "hands.npz", "agnostic_mask.npz", "annotation.json",
    "meta.json",
)  # fmt: skip


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("data", [None, b"", b"junk"], ids=["missing", "empty", "junk"])
def test_a_bad_member_is_named_with_shard_and_key(tmp_path, name, data):
    with pytest.raises(DatasetError) as raised:
        list(InteractDataset(damaged(tmp_path, name, data)))

    for word in ("train-000000.tar", "b-00000000", name):
        assert word in str(raised.value)


def other_length(values: dict, name: str) -> dict:
    return {**values, name: artifacts(frames=4)[name]}


@pytest.mark.parametrize("name", ["video", "pose", "hands", "agnostic_mask", "annotation"])
def test_members_of_different_length_are_refused(tmp_path, name):
    with pytest.raises(DatasetError, match=r"(has|have) .*[46].*[46]"):
        one(tmp_path, other_length(artifacts(frames=6), name))


def test_a_mask_of_another_size_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="agnostic_mask has shape"):
        one(tmp_path, {**artifacts(), "agnostic_mask": np.zeros((6, 32, 24), bool)})


def test_another_schema_version_is_refused(tmp_path):
    content = members(artifacts(), key="a-00000000")
    builder = DatasetBuilder(tmp_path)
    newer = content["meta.json"].replace(b'"schema_version":1', b'"schema_version":999')
    builder.shard({"a-00000000": {**content, "meta.json": newer}})

    with pytest.raises(DatasetError, match="999"):
        list(InteractDataset(builder.index()))


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_samples_can_be_skipped_and_are_counted(tmp_path, workers, caplog):
    dataset = InteractDataset(damaged(tmp_path, "pose.npz", b"junk"), on_error="skip")

    assert keys(dataset, workers=workers) == ["a-00000000", "c-00000000"]
    assert dataset.skipped == 1


def test_an_error_in_a_worker_keeps_its_type_and_place(tmp_path):
    dataset = InteractDataset(damaged(tmp_path, "pose.npz", b"junk"))

    with pytest.raises(DatasetError, match="b-00000000"):
        keys(dataset, workers=1)


def test_a_truncated_shard_loses_only_what_it_lost(tmp_path):
    write_dataset(tmp_path, [3])
    dataset = InteractDataset(tmp_path, on_error="skip")
    shard = tmp_path / "shards/train-000000.tar"
    shard.write_bytes(shard.read_bytes()[: dataset.index[2].start + 700])

    assert len(keys(dataset)) == 2
    assert dataset.skipped == 1


def test_a_missing_shard_is_named(tmp_path):
    write_dataset(tmp_path, [1, 1])
    (tmp_path / "shards/train-000001.tar").unlink()

    with pytest.raises(DatasetError, match=r"train-000001\.tar.*no such shard"):
        list(InteractDataset(tmp_path))


def test_shards_of_another_build_are_noticed(tmp_path):
    write_dataset(tmp_path / "a", [2])
    builder = DatasetBuilder(tmp_path / "b")
    builder.shard({f"other-{n:08d}": members(artifacts(), key=f"other-{n:08d}") for n in range(2)})
    shutil.copy(tmp_path / "b/shards/train-000000.tar", tmp_path / "a/shards/train-000000.tar")

    with pytest.raises(DatasetError, match=r"other-00000000.*pair000"):
        list(InteractDataset(tmp_path / "a"))


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({}, "there is no index"),
        ({"index.parquet": b"junk"}, "cannot be read"),
        ({"index.parquet": b""}, "cannot be read"),
    ],
)
def test_folders_that_are_no_dataset(tmp_path, contents, message):
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)

    with pytest.raises(DatasetError, match=message):
        InteractDataset(tmp_path)


@pytest.mark.parametrize(
    ("shards", "message"),
    [([], "no sample"), (["none.tar"], "no such shard"), (["text.tar"], "cannot be read"), (["empty.tar"], "read")],
)
def test_lists_of_shards_that_are_none(tmp_path, shards: Sequence[str], message):
    (tmp_path / "text.tar").write_text("not a tar" * 200)
    (tmp_path / "empty.tar").write_bytes(b"")

    with pytest.raises(DatasetError, match=message):
        InteractDataset([tmp_path / shard for shard in shards])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "frames"),
        ({"size": (0, 10)}, "size"),
        ({"garment_size": (10,)}, "garment_size"),
        ({"pictures": ("depth",)}, "depth"),
        ({"even": "some"}, "even"),
        ({"on_error": "ignore"}, "on_error"),
        ({"rank": 2, "world_size": 2}, "rank"),
        ({"rank": 0}, "world_size"),
    ],
)
def test_arguments_that_cannot_be(seven, options, message):
    with pytest.raises(ConfigError, match=message):
        InteractDataset(seven[0], **options)


def test_an_unknown_split_lists_those_there_are(seven):
    with pytest.raises(DatasetError, match="test, train"):
        InteractDataset(seven[0], split="val")


def test_an_unknown_backend_is_not_taken_for_damage(seven):
    with pytest.raises(ConfigError, match="backend"):
        list(InteractDataset(seven[0], backend="ffms2", on_error="skip"))
