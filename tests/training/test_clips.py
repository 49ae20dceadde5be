"""Clips for training: windows, buckets, conditions and random choices of batches, whatever reads them."""

from __future__ import annotations

import gc
import importlib
import logging
import os
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from media import draw as drawing
from schemas.errors import DatasetError
from tests.training.build import DatasetBuilder, artifacts, members, mp4
from training.clips import TrainingClips, loader
from training.data_settings import DataSettings
from training.fit import Fit
from training.plan import Bucket, Draw
from training.shards import read_members

TALL, WIDE = (96, 64), (64, 96)  # decord fails on narrower pictures
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores are meant


def numbered(*, frames: int, size: tuple[int, int] = TALL, grey: int = 90) -> dict[str, Any]:
    """A sample whose frame t has the grey 8 t."""
    values = artifacts(frames=frames, height=size[0], width=size[1], grey=grey)
    images = np.broadcast_to((8 * np.arange(frames, dtype=np.uint8))[:, None, None, None], (frames, *size, 3))
    return {**values, "video": mp4(images)}


def frame_numbers(video: torch.Tensor) -> list[int]:
    """Of (T, 3, H, W), by its centre."""
    return (video[:, 0, video.shape[2] // 2, video.shape[3] // 2].float() / 8).round().int().tolist()


def write(out: Path, samples: dict[str, dict[str, Any]]) -> DatasetBuilder:
    builder = DatasetBuilder(out)
    builder.shard({key: members(values, key=key) for key, values in samples.items()})
    builder.index()
    return builder


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five tall clips of 30 frames, two wide ones, and a tall one of 7 frames; every garment another grey."""
    out = tmp_path_factory.mktemp("mixed")
    clips = [numbered(frames=30, grey=40 + 10 * n) for n in range(5)]
    clips += [numbered(frames=30, size=WIDE, grey=150), numbered(frames=30, size=WIDE, grey=160)]
    clips += [numbered(frames=7, grey=170)]
    write(out, {f"clip{n}-00000000": values for n, values in enumerate(clips)})
    return out


def settings(dataset: Path | str, **options: Any) -> DataSettings:
    small: dict[str, Any] = {"frames": 9, "buckets": (TALL, WIDE), "batch": 2, "workers": 0}
    return DataSettings(dataset=str(dataset), **{**small, **options})


def epoch(dataset: Path | str, **options: Any) -> list[Any]:
    return list(loader(settings(dataset, **options)))


def same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[name], second[name]) for name in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


# Batches


def test_batches_are_as_documented(mixed):
    batches = epoch(mixed, pictures=("pose", "hands", "agnostic"))
    found = sorted((tuple(batch["video"].shape), batch["repeated"].sum().item()) for batch in batches)

    assert found == [((2, 5, 3, *TALL), 1), ((2, 9, 3, *WIDE), 0), *[((2, 9, 3, *TALL), n) for n in (0, 0, 1)]]
    for batch in batches:
        size = batch["video"].shape
        described = {name: (tuple(v.shape), v.dtype) for name, v in batch.items() if isinstance(v, torch.Tensor)}
        pictures = {name: (tuple(size), torch.uint8) for name in ("video", "pose", "hands", "agnostic_video")}
        assert described == {
            **pictures,
            "lengths": ((2,), torch.int64),
            "mask": ((2, size[1], 1, *size[3:]), torch.bool),
            "garment": ((2, 3, *size[3:]), torch.uint8),
            "garment_mask": ((2, 1, *size[3:]), torch.bool),
            "labels": ((2, size[1]), torch.bool),
            "probabilities": ((2, size[1]), torch.float32),
            "fps": ((2,), torch.float32),
            "paired": ((2,), torch.bool),
            "repeated": ((2,), torch.bool),
            "seed": ((2,), torch.int64),
        }
        assert batch["lengths"].tolist() == [size[1]] * 2
        assert batch["pose"].flatten(1).any(dim=1).all()
        assert batch["hands"].flatten(1).any(dim=1).all()


def test_a_batch_is_the_same_made_by_any_number_of_workers(mixed):
    alone = epoch(mixed, unpaired_share=0.5, interactive_share=0.3)
    for workers in (1, 3):
        assert same(epoch(mixed, unpaired_share=0.5, interactive_share=0.3, workers=workers), alone)
    assert not same(epoch(mixed, unpaired_share=0.5, interactive_share=0.3, seed=1), alone)


def test_a_batch_is_its_samples_side_by_side(mixed):
    reading = loader(settings(mixed))
    for draws in reading.plan:
        batch = reading.clips.__getitems__(draws)
        for place, draw in enumerate(draws):
            sample = reading.clips[draw]
            for name in ("video", "mask", "pose", "hands", "garment", "labels"):
                assert torch.equal(batch[name][place], sample[name])


def test_two_ranks_read_what_one_reads_with_the_doubled_batch(mixed):
    whole = loader(settings(mixed, batch=4))
    ranks = [loader(settings(mixed), rank=rank, world_size=2) for rank in range(2)]

    for batch, *halves in zip(whole, *ranks, strict=True):
        assert batch["key"] == halves[0]["key"] + halves[1]["key"]
        assert torch.equal(batch["video"], torch.cat([half["video"] for half in halves]))


@pytest.mark.parametrize("workers", [0, 2])
def test_it_goes_on_in_mid_epoch_whatever_was_read_ahead(mixed, workers):
    uninterrupted = [batch for reading in [loader(settings(mixed))] for _ in range(2) for batch in reading]
    first = loader(settings(mixed, workers=workers))
    begun = iter(first)
    for _ in range(3):
        next(begun)
    second = loader(settings(mixed, workers=2 - workers))
    second.load_state_dict(first.state_dict())

    assert same([*second, *second], uninterrupted[3:])
    assert same(list(first), uninterrupted[3 : len(first)])  # the same loader, iterated anew
    assert second.state_dict() == {**first.state_dict(), "epoch": 2, "step": 0}


def test_reading_leaves_the_trainers_random_numbers_alone(mixed):
    before = torch.get_rng_state()
    epoch(mixed, workers=1)
    assert torch.equal(torch.get_rng_state(), before)


# Windows


@pytest.mark.parametrize("backend", ["pyav", "decord", "torchcodec"])
@pytest.mark.parametrize(("fps", "step"), [(None, 1), (12.0, 2), (48.0, 0.5)])
def test_every_backend_shows_exactly_the_frames_of_the_window(mixed, backend, fps, step):
    if backend != "pyav":
        try:
            importlib.import_module(backend)
        except (ImportError, RuntimeError, OSError) as cause:  # torchcodec without FFmpeg's libraries
            pytest.skip(f"{backend} cannot be loaded here: {str(cause).splitlines()[0]}")
    for batch in epoch(mixed, backend=backend, fps=fps, pictures=()):
        for video, (first, last), rate in zip(batch["video"], batch["window"], batch["fps"], strict=True):
            shown = first + np.floor(np.arange(len(video)) * step + 0.5).astype(int)
            assert frame_numbers(video) == shown.tolist()
            assert last == shown[-1]
            assert rate == (fps or 24)


def test_labels_and_actions_go_with_the_frames(mixed):
    for batch in epoch(mixed, interactive_share=0.3, caption_dropout=0):
        for number, (first, last) in enumerate(batch["window"]):
            expected = [2 <= frame <= 4 for frame in range(first, last + 1)]
            assert batch["labels"][number].tolist() == expected
            covered = [False] * len(expected)
            for action in batch["actions"][number]:
                covered[action.start_frame : action.end_frame + 1] = [True] * (
                    action.end_frame + 1 - action.start_frame
                )
            assert covered == expected


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_interactive_frames_are_seen_as_often_as_asked(mixed, share):
    reading = loader(settings(mixed, interactive_share=share, buckets=(TALL,), pictures=(), batch=1))
    labels = [batch["labels"] for _ in range(10) for batch in reading]

    assert torch.cat([each.flatten() for each in labels]).float().mean() == pytest.approx(share, abs=0.04)


def test_a_share_out_of_reach_is_told_with_what_is_reached(mixed, caplog):
    clips = TrainingClips(settings(mixed, interactive_share=0.9))

    assert clips.survey.tilt.share == pytest.approx((7 * 3 + 3) / (7 * 9 + 5))  # all of each action, but for rounding
    assert "0.900" in caplog.text
    assert f"{clips.survey.tilt.share:.3f} at best" in caplog.text


def test_short_clips_are_left_out_and_counted(mixed, caplog):
    assert len(TrainingClips(settings(mixed, min_frames=9))) == 7
    assert "1 of 8 clips are left out" in caplog.text
    with pytest.raises(DatasetError, match="no clip"):
        TrainingClips(settings(mixed, frames=81, min_frames=81))


# Pictures


def test_a_clip_goes_to_the_nearest_aspect(tmp_path):
    sizes = {"a": (64, 48), "b": (60, 60), "c": (40, 64), "d": (64, 24)}
    write(tmp_path, {f"{key}-00000000": artifacts(height=h, width=w) for key, (h, w) in sizes.items()})
    batches = epoch(tmp_path, buckets=((64, 48), (64, 64), (48, 64)), batch=1, frames=5)

    found = {batch["key"][0][0]: tuple(batch["video"].shape[-2:]) for batch in batches}
    assert found == {"a": (64, 48), "b": (64, 64), "c": (48, 64), "d": (64, 48)}


@pytest.mark.parametrize("left", [2, 20, 60])
def test_a_wide_picture_is_cut_about_the_person_and_everything_with_it(tmp_path, left):
    values = artifacts(frames=5, height=64, width=96)
    images = np.full((5, 64, 96, 3), 30, np.uint8)
    images[:, 20:50, left : left + 30] = 200
    mask = (images[..., 0] == 200).copy()
    values["pose"].scores[:] = 0
    values["pose"].scores[:, [5, 6]] = 1  # shoulders, on two corners of the mask
    values["pose"].keypoints[:, 5], values["pose"].keypoints[:, 6] = (left, 20), (left + 29, 49)
    values |= {"video": mp4(images), "agnostic_mask": mask, "hand_prior": mask * np.uint8(255)}
    values |= {"densepose": mask * np.uint8(24)}
    write(tmp_path, {"clip-00000000": values})
    [batch] = epoch(
        tmp_path, buckets=((64, 48),), frames=5, batch=1, pose_dropout=0, pictures=("pose", "hands", "densepose")
    )

    person = batch["video"][0, :, 0] > 115
    assert (person != batch["mask"][0, :, 0]).float().mean() < 0.03
    assert batch["mask"].sum() == 5 * 30 * 30  # all of it, as large as it was: cut, not shrunk
    assert torch.equal(batch["hands"][0].any(dim=1), batch["mask"][0, :, 0])
    assert torch.equal(batch["densepose"][0, :, 0] > 200, batch["mask"][0, :, 0])
    rows, columns = torch.nonzero(batch["mask"][0, 0, 0], as_tuple=True)
    drawn_rows, drawn_columns = torch.nonzero(batch["pose"][0, 0].any(dim=0), as_tuple=True)
    assert int(drawn_rows.min()) + 4 == pytest.approx(int(rows.min()), abs=1)
    assert int(drawn_columns.max()) - 4 == pytest.approx(int(columns.max()), abs=1)


@pytest.mark.parametrize("seed", range(20))
def test_nothing_of_the_person_is_cut_off(seed):
    random = np.random.default_rng(seed)
    source, target = (tuple(random.integers(20, 200, 2).tolist()) for _ in range(2))
    x = np.sort(random.uniform(0, source[1], 2))
    y = np.sort(random.uniform(0, source[0], 2))
    fit = Fit.around((x[0], y[0], x[1], y[1]), target, source)

    corners = fit.points(np.array([(x[0], y[0]), (x[1], y[1])], np.float32) - 0.5) + 0.5  # edges, not centres
    assert (corners >= -1).all()
    assert (corners <= np.array(target[::-1]) + 1).all()
    ratio = (fit.inner[0] / source[0]) / (fit.inner[1] / source[1])
    assert ratio == pytest.approx(1, abs=0.06)  # aspect kept, as whole px allow
    if fit.inner[0] < target[0] and fit.inner[1] < target[1]:
        pytest.fail("a border on every side")


def test_a_picture_of_the_buckets_shape_fills_it():
    assert Fit.around((0, 0, 10, 10), (768, 576), (832, 624)) == Fit((832, 624), (768, 576), (768, 576), (0, 0))


def test_pictures_are_those_that_media_draws(mixed):
    sample = TrainingClips(settings(mixed, pose_dropout=0))[Draw(0, Bucket(9, *TALL), 0, 5, False)]
    values = numbered(frames=30)
    pose, hands, size = values["pose"], values["hands"], {"height": TALL[0], "width": TALL[1]}
    first = sample["window"][0]

    skeleton = drawing.skeleton(pose.keypoints[first], pose.scores[first], **size)
    solids = drawing.hand_picture(hands.joints_2d[first], hands.joints_3d[first], hands.scores[first], **size)
    assert np.array_equal(sample["pose"][0].permute(1, 2, 0).numpy(), skeleton)
    assert np.array_equal(sample["hands"][0].permute(1, 2, 0).numpy(), solids)


# Random choices


def test_unpaired_garments_are_other_ones_and_told(mixed):
    for batch in epoch(mixed, unpaired_share=1):
        assert not batch["paired"].any()
        for key, other in zip(batch["key"], batch["garment_key"], strict=True):
            assert key != other
    greys = {key: grey for batch in epoch(mixed) for key, grey in zip(batch["key"], _greys(batch), strict=True)}
    for batch in epoch(mixed, unpaired_share=1, seed=7):
        assert _greys(batch) == [greys[key] for key in batch["garment_key"]]


def _greys(batch: dict[str, Any]) -> list[int]:
    return batch["garment"][:, 0, batch["garment"].shape[2] // 2, batch["garment"].shape[3] // 2].tolist()


def test_the_share_of_unpaired_garments(mixed):
    reading = loader(settings(mixed, unpaired_share=0.3, pictures=(), batch=1))
    paired = torch.cat([batch["paired"] for _ in range(10) for batch in reading])

    assert (~paired).float().mean() == pytest.approx(0.3, abs=0.1)


def test_a_garment_without_another_for_its_part_stays_and_is_told(tmp_path, caplog):
    same_garment = artifacts()
    write(tmp_path, {"a-00000000": same_garment, "b-00000000": same_garment})
    [batch] = epoch(tmp_path, unpaired_share=1, frames=5)

    assert batch["paired"].all()
    assert "2 of 2 clips stay paired" in caplog.text


def test_captions_are_dropped_together_or_those_of_actions_alone(mixed):
    def captions(**options: Any) -> tuple[set[str], set[str]]:
        batches = epoch(mixed, interactive_share=0.3, **options)
        actions = {action.caption for batch in batches for each in batch["actions"] for action in each}
        return {caption for batch in batches for caption in batch["global_caption"]}, actions

    words, actions = {"A person stands and adjusts the hem."}, {"adjusts the hem with the left hand"}
    assert captions(caption_dropout=0) == (words, actions)
    assert captions(caption_dropout=1) == ({""}, {""})
    assert captions(caption_dropout=0, action_dropout=1) == (words, {""})


def test_pose_points_are_dropped_before_drawing(mixed):
    drawn = {}
    for dropout in (0, 0.3, 1):
        batches = epoch(mixed, pose_dropout=dropout)
        drawn[dropout] = sum(int(batch["pose"].any(dim=2).sum()) for batch in batches)

    assert drawn[0] > drawn[0.3] > drawn[1] == 0


# Damage


def damaged(tmp_path: Path, member: str, data: bytes | None) -> Path:
    """Three samples of one content, but for the second: its pose is another one, and a member of it is bad."""
    values = numbered(frames=30)
    good = members(values, key="a-00000000")
    values["pose"].keypoints[:, 5:13] = values["pose"].keypoints[:, 5:13, ::-1]
    other = members(values, key="b-00000000")
    bad = {name: value for name, value in {**other, member: data}.items() if value is not None}
    builder = DatasetBuilder(tmp_path / "damaged")
    builder.shard({"a-00000000": good, "b-00000000": bad, "c-00000000": good})
    builder.rows[1] |= {name: builder.rows[0][name] for name in ("frames", "fps", "width", "height", "part", "actions")}
    return builder.index()


@pytest.mark.parametrize(
    ("member", "data", "workers"), [("pose.npz", b"junk", 1), ("video.mp4", None, 0), ("meta.json", b"{}", 0)]
)
def test_a_damaged_sample_is_named_with_shard_and_key(tmp_path, member, data, workers):
    with pytest.raises(DatasetError) as raised:
        epoch(damaged(tmp_path, member, data), workers=workers)
    for word in ("train-000000.tar", "b-00000000", member):
        assert word in str(raised.value)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("member", ["pose.npz", "video.mp4", "garment.png"])
def test_damaged_samples_are_replaced_from_their_bucket_and_counted(tmp_path, member, workers, caplog):
    out = damaged(tmp_path, member, _spoilt() if member == "video.mp4" else b"junk")
    reading = loader(settings(out, on_error="skip", workers=workers, batch=3, pose_dropout=0))
    [batch] = reading

    assert set(batch["key"]) <= {"a-00000000", "c-00000000"}
    assert reading.clips.skipped >= 1
    again = loader(settings(out, on_error="skip", batch=3, pose_dropout=0))
    assert same([batch], list(again))
    assert (batch["pose"] == batch["pose"][0, 0]).all()  # nothing is left of the other pose, drawn when it failed
    for place, draw in enumerate(next(iter(loader(settings(out, batch=3)).plan))):
        window = batch["window"][place]
        assert frame_numbers(batch["video"][place]) == list(range(window[0], window[1] + 1))
        assert batch["seed"][place] == draw.seed


class Loud:
    """Garbage that tells which process collects it."""

    def __init__(self, told: Path) -> None:
        self.told, self.itself = told, self

    def __del__(self) -> None:
        self.told.with_suffix(f".{os.getpid()}").touch()


def test_workers_leave_the_garbage_of_the_trainers_process_alone(tmp_path):
    """A video decoder in it would wait for threads that a fork does not take along."""
    reading = loader(settings(write(tmp_path, {"a-00000000": artifacts()}).index(), workers=1, frames=5))
    reading.worker_init_fn = lambda _: gc.collect()
    Loud(tmp_path / "collected")
    assert len(list(reading)) == 1

    gc.collect()
    assert [file.suffix for file in tmp_path.glob("collected*")] == [f".{os.getpid()}"]


def _spoilt() -> bytes:
    """A video whose container is whole and whose pictures are not: it fails when others are drawn already."""
    video = members(numbered(frames=30), key="a-00000000")["video.mp4"]
    first, last = video.index(b"mdat") + 4, video.index(b"moov") - 4
    return video[:first] + b"\xff" * (last - first) + video[last:]


def test_where_nothing_is_whole_the_damage_is_told(tmp_path):
    builder = DatasetBuilder(tmp_path)
    bad = {**members(artifacts(), key="a-00000000"), "pose.npz": b"junk"}
    builder.shard({"a-00000000": bad})

    with pytest.raises(DatasetError, match=r"a-00000000.*pose\.npz"):
        epoch(builder.index(), on_error="skip", frames=5)


def test_an_index_that_promises_other_frames_is_noticed(tmp_path):
    builder = write(tmp_path, {"a-00000000": artifacts(frames=6)})
    builder.rows[0]["frames"] = 30
    with pytest.raises(DatasetError, match="gives 5 frames where the index promises 9"):
        epoch(builder.index())


def test_an_index_without_what_training_needs_is_told(tmp_path):
    builder = write(tmp_path, {"a-00000000": artifacts()})
    del builder.rows[0]["fps"]
    with pytest.raises(DatasetError, match="no column fps"):
        epoch(builder.index())


def test_members_can_come_from_elsewhere(mixed):
    asked = []

    def read(entry: Any) -> dict[str, bytes]:
        asked.append(entry.key)
        return read_members(entry)

    clips = TrainingClips(settings(mixed), read_members=read)
    assert clips[Draw(0, Bucket(9, *TALL), 0, 5, False)]["key"] == "clip0-00000000"
    assert asked == ["clip0-00000000"]


def test_remote_samples_are_kept_in_the_cache(mixed, tmp_path):
    memory = fsspec.filesystem("memory")
    memory.put(str(mixed), "/bucket/clips", recursive=True)
    remote, expected = "memory://bucket/clips", epoch(mixed)

    assert same(epoch(remote, cache=str(tmp_path / "cache")), expected)
    memory.rm("/bucket/clips/shards", recursive=True)
    assert same(epoch(remote, cache=str(tmp_path / "cache")), expected)  # there is nothing else to read them from
    with pytest.raises(DatasetError, match="no such shard"):
        epoch(remote, cache=str(tmp_path / "other"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 80}, "try 81"),
        ({"frames": 9, "min_frames": 10}, "min_frames"),
        ({"buckets": ((100, 96),)}, "multiples of 16"),
        ({"buckets": ()}, "buckets"),
        ({"pictures": ("depth",)}, "pictures"),
        ({"fps": 0}, "fps"),
        ({"unpaired_share": 1.5}, "unpaired_share"),
        ({"batches": 2}, "batches"),
    ],
)
def test_settings_that_cannot_be(options, message):
    with pytest.raises(ValidationError, match=message):
        DataSettings(**{"dataset": "x", **options})


def test_what_is_read_is_logged(mixed, caplog):
    with caplog.at_level(logging.INFO):
        TrainingClips(settings(mixed))
    assert "9×96×64: 5; 9×64×96: 2; 5×96×64: 1" in caplog.text
