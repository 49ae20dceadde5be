"""`vvt export --format vivid`: read back as ViViD's and CatV2TON's own loaders do, interrupted, damaged, refused.

The readers below are written from what those loaders do (docs/other_trainers.md): same walk through the folders, same
pairing by name, same transforms.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from media.draw import densepose_picture
from pipelines.export import export
from pipelines.export_samples import Exported, export_vivid
from schemas.errors import ConfigError, DatasetError
from tests.clips import shared
from tests.training.build import DatasetBuilder, artifacts, members, mp4

SIZE = (96, 72)
FRAMES = 50


def sample(*, frames: int = FRAMES, height: int = SIZE[0], width: int = SIZE[1], grey: int = 90) -> dict[str, Any]:
    """A ball that moves over a gradient: masked, body part 2 above and 15 below its middle; a red square on white."""
    values = artifacts(frames=frames, height=height, width=width, grey=grey)
    y, x = np.mgrid[:height, :width]
    centre = np.linspace(width * 0.3, width * 0.7, frames)[:, None, None]
    ball = (x - centre) ** 2 + (y - height / 2) ** 2 < (width / 4) ** 2
    images = np.broadcast_to((grey + x)[None, ..., None], (frames, height, width, 3)).astype(np.uint8).copy()
    images[ball] = (200, 60, 40)
    garment = np.full((64, 40, 3), 255, np.uint8)
    garment[16:48, 10:30] = (180, 20, 60)
    return {
        **values,
        "video": mp4(images),
        "agnostic_mask": ball,
        "densepose": np.where(ball, np.where(y < height / 2, 2, 15), 0).astype(np.uint8),
        "garment": garment,
        "garment_mask": garment[..., 1] < 128,
    }


def write(
    out: Path,
    samples: list[dict[str, Any]],
    *,
    parts: tuple[str, ...] = ("upper",),
    split: str = "train",
    **columns: Any,
) -> list[str]:
    """A dataset of these samples in shards of one; the parts in turn. The keys."""
    builder = DatasetBuilder(out)
    keys = [f"cloth_videos{number}-00000000" for number in range(len(samples))]
    for number, (key, values) in enumerate(zip(keys, samples, strict=True)):
        annotation = values["annotation"]
        builder.shard(
            {key: {**members(values, key=key), **columns}},
            split=split,
            pair_id=key.partition("-")[0],
            part=parts[number % len(parts)],
            frames=len(annotation.labels),
            global_caption=annotation.global_caption,
            actions=[action.model_dump() for action in annotation.actions],
            licence="CC0",
        )
    builder.index()
    return keys


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def frames_of(path: str | Path) -> np.ndarray:
    """(T, H, W, 3) uint8 RGB by PyAV, as ViViD's `read_frames` and torchvision's `read_video` read it."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_rgb().to_ndarray() for frame in container.decode(video=0)])


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


# As ViViD's vivid.py and its pipeline


class ViViD:
    """One garment on one video: paths by replacement, every picture stretched to `size`, masks binarised."""

    def __init__(self, video: str, cloth: str, *, size: tuple[int, int]) -> None:
        height, width = size

        def resized(path: str) -> np.ndarray:
            pictures = [Image.fromarray(frame) for frame in frames_of(path)]
            return np.stack([np.asarray(p.resize((width, height), Image.Resampling.LANCZOS)) for p in pictures])

        def image(path: str) -> np.ndarray:
            return np.asarray(Image.open(path).convert("RGB").resize((width, height), Image.Resampling.LANCZOS))

        self.video = resized(video)
        self.agnostic = resized(video.replace("videos", "agnostic"))
        self.mask = self.binarised(resized(video.replace("videos", "agnostic_mask")))
        self.densepose = resized(video.replace("videos", "densepose"))
        self.cloth = image(cloth)
        self.cloth_mask = self.binarised(image(cloth.replace("cloth", "cloth_mask")))

    @staticmethod
    def binarised(mask: np.ndarray) -> np.ndarray:
        """Normalised to -1..1 by `preprocess`, once more by the pipeline, white from 0.5 on; the first channel."""
        return (2 * (2 * (mask[..., 0] / 255) - 1) - 1) >= 0.5


# As CatV2TON's data/video_dataset.py and eval_video_try_on.py


def image_video_dataset(root: Path, *, frames: int = 24, stride: int = 2) -> list[dict[str, Any]]:
    """Its `ImageVideoDataset`: every name without a dot is a category. The last start that it may draw must be one."""
    items = []
    for subdir in sorted(os.listdir(root)):
        if "." not in subdir:
            for line in (root / subdir / "train_data.jsonl").read_text().splitlines():
                item = json.loads(line)
                spans = [span for span in item["front_seqs"] if span[1] - span[0] >= frames]
                starts = [range(first, end - frames * stride + 1) for first, end in spans]
                assert all(starts)
                assert item["type"] == "video"
                items.append(
                    {
                        "pixels": frames_of(root / subdir / "videos" / item["video"]),
                        "pose": frames_of(root / subdir / "densepose" / item["video"]),
                        "mask": frames_of(root / subdir / "agnostic_mask_smoothed" / item["video"]) / 255,
                        "garment": np.asarray(Image.open(root / subdir / "images" / item["image"]).convert("RGB")),
                        "subdir": subdir,
                    }
                )
    return items


def smoothed(mask: np.ndarray) -> np.ndarray:
    """Its `mask_avg_pooling` of 15×15 (zeros beyond the border), and the threshold after it."""
    pooled = [cv2.blur(frame, (15, 15), borderType=cv2.BORDER_CONSTANT) for frame in mask[..., 0]]
    return np.stack(pooled) > 0.5


def test_dataset_rows(root: Path, name: str) -> list[dict[str, Any]]:
    """Its `ViViDTestDataset`: a flat pair of frames, the end exclusive, and nothing resized."""
    rows = []
    for line in (root / name).read_text().splitlines():
        item = json.loads(line)
        first, end = item["front_seqs"]
        folder = root / item["subdir"]
        rows.append(
            {
                "video": frames_of(folder / "videos" / item["video"])[first:end],
                "mask": frames_of(folder / "agnostic_mask_smoothed" / item["video"])[first:end] / 255,
                "densepose": frames_of(folder / "densepose" / item["video"])[first:end],
                "image": np.asarray(Image.open(folder / "images" / item["image"])),
                "name": item["image"],
            }
        )
    return rows


test_dataset_rows.__test__ = False  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train samples of an upper, a lower and a dress, the last in a size of its own."""
    out = tmp_path_factory.mktemp("three")
    write(out, [sample(), sample(grey=60), sample(height=128, width=64)], parts=("outer", "lower", "dress"))
    return out


@pytest.fixture(scope="module")
def exported(three: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("exported")
    assert export_vivid(str(three), str(to), size=SIZE) == Exported(written=3, before=0, skipped=0)
    return to


def test_vivid_reads_what_the_sample_holds(exported, monkeypatch):
    monkeypatch.chdir(exported)  # it replaces words anywhere in a path
    read = ViViD("upper_body/videos/0000001_detail.mp4", "upper_body/cloth/0000001_in_xl.jpg", size=SIZE)
    values = sample()
    mask, video = values["agnostic_mask"], read.video.astype(int)
    inside = np.stack([cv2.erode(frame.astype(np.uint8), np.ones((9, 9))) > 0 for frame in mask])

    assert (read.video == np.asarray(frames_of("upper_body/videos/0000001_detail.mp4"))).all()
    assert iou(read.mask, mask) == 1
    assert np.abs(read.agnostic[inside].astype(int) - 126).max() <= 8
    assert read.agnostic[inside].mean() == pytest.approx(126, abs=2)
    assert np.abs(read.agnostic[~mask] - video[~mask]).mean() < 2
    colours = densepose_picture(np.arange(25, dtype=np.uint8)).astype(int)
    parts = np.abs(read.densepose[..., None, :].astype(int) - colours).sum(-1).argmin(-1)
    assert (parts == values["densepose"]).mean() > 0.97
    assert (parts[:, 2:20, 2:20] == 0).all()
    assert tuple(read.cloth[48, 36]) == pytest.approx((180, 20, 60), abs=4)
    assert tuple(read.cloth[2, 36]) == pytest.approx((255, 255, 255), abs=2)
    assert tuple(read.cloth[48, 2]) == (255, 255, 255)  # beside it
    assert read.cloth_mask[48, 36]
    assert not read.cloth_mask[8, 36]


def test_vivid_garments_have_its_size(exported):
    for kind in ("cloth", "cloth_mask"):
        with Image.open(exported / "dresses" / kind / "0000003_in_xl.jpg") as image:
            assert image.size == (768, 1024)


def test_clips_of_the_right_size_are_not_encoded_again(exported):
    assert (exported / "lower_body/videos/0000002_detail.mp4").read_bytes() == sample(grey=60)["video"]


def test_catv2ton_trains_on_it(exported):
    items = image_video_dataset(exported)

    assert [item["subdir"] for item in items] == ["dresses", "lower_body", "upper_body"]
    for item in items:
        assert item["pixels"].shape == item["mask"].shape == item["pose"].shape == (FRAMES, *SIZE, 3)
        assert item["garment"].shape == (*SIZE, 3)
    upper = items[2]
    assert iou(upper["mask"][..., 0] >= 0.5, sample()["agnostic_mask"]) == 1
    assert iou(smoothed(upper["mask"]), smoothed(np.repeat(sample()["agnostic_mask"][..., None], 3, -1) * 1.0)) == 1


def test_other_sizes_are_fitted_in_whole(exported):
    """128×64 in 96×72: 96×48, twelve columns of black on either side, in every picture alike."""
    item = image_video_dataset(exported)[0]
    ball = np.stack(
        [
            cv2.resize(frame.astype(np.uint8), (48, 96), interpolation=cv2.INTER_NEAREST_EXACT) > 0
            for frame in sample(height=128, width=64)["agnostic_mask"]
        ]
    )
    red = (item["pixels"][..., 0] > 150) & (item["pixels"][..., 2] < 90)

    assert item["pixels"][:, :, :10].max() < 20
    assert item["pixels"][:, :, 16:56].min() > 20
    assert iou(item["mask"][:, :, 12:60, 0] >= 0.5, ball) > 0.99
    assert iou(red, item["mask"][..., 0] >= 0.5) > 0.9  # colours have half the resolution


def test_catv2ton_finds_paths_and_numbers_in_the_list_of_the_root(exported):
    lines = [json.loads(line) for line in (exported / "train_data.jsonl").read_text().splitlines()]

    assert [(line["category"], line["total_frames"]) for line in lines] == [
        ("upper", FRAMES), ("lower", FRAMES), ("overall", FRAMES)
    ]  # fmt: skip
    for line in lines:
        assert all((exported / line[field]).is_file() for field in ("video", "image", "densepose", "masks"))
    for subdir, number in (("upper_body", 1), ("lower_body", 2), ("dresses", 3)):
        pairs = (exported / subdir / "train_pairs.txt").read_text()
        assert pairs.split() == [f"{number:07d}_detail.mp4", f"{number:07d}_in_xl.jpg"]


def test_names_hold_no_word_that_vivid_replaces_and_lead_back_to_the_keys(exported):
    described = [json.loads(line) for line in (exported / "train_samples.jsonl").read_text().splitlines()]

    assert [row["key"] for row in described] == [f"cloth_videos{number}-00000000" for number in range(3)]
    assert described[0]["actions"][0]["start_frame"] == 2
    assert described[0]["licence"] == "CC0"
    names = [path.name for path in exported.glob("*/*/*")]
    assert len(names) == 3 * 7 + 3  # and the masks once more, under CatV2TON's name
    assert not any("cloth" in name or "videos" in name for name in names)


def test_catv2ton_is_evaluated_on_it_paired_and_not(tmp_path):
    write(tmp_path / "out", [sample(frames=n, grey=g) for n, g in ((5, 60), (6, 90), (7, 120))], split="test")
    export_vivid(str(tmp_path / "out"), str(tmp_path / "to"), split="test", size=SIZE)
    paired = test_dataset_rows(tmp_path / "to", "test_data_180.jsonl")
    unpaired = test_dataset_rows(tmp_path / "to", "test_data_180_unpaired.jsonl")

    assert [len(row["video"]) for row in paired] == [5, 6, 7]
    assert all(row["image"].shape == row["video"].shape[1:] == row["densepose"].shape[1:] for row in paired)
    assert iou(paired[1]["mask"][..., 0] >= 0.5, sample(frames=6)["agnostic_mask"]) == 1
    assert [row["name"][:7] for row in paired] == ["0000001", "0000002", "0000003"]
    assert [row["name"][:7] for row in unpaired] == ["0000002", "0000003", "0000001"]


def test_a_folder_of_one_garment_has_no_unpaired_row(tmp_path):
    write(tmp_path / "out", [sample(frames=2), sample(frames=2)], parts=("upper", "lower"), split="test")
    export_vivid(str(tmp_path / "out"), str(tmp_path / "to"), split="test", size=SIZE)

    assert (tmp_path / "to/test_data_180_unpaired.jsonl").read_text() == ""


@pytest.mark.parametrize("name", ["lower1", "upper1"])
def test_masks_of_vivid_itself_survive(tmp_path, name):
    mask = frames_of(shared(f"clips/vivid/agnostic_mask/{name}.mp4"))[:8, ..., 0] > 127
    values = artifacts(frames=len(mask), height=832, width=624)
    write(tmp_path / "out", [{**values, "agnostic_mask": mask}])
    export_vivid(str(tmp_path / "out"), str(tmp_path / "to"), densepose=False)
    back = frames_of(tmp_path / "to/upper_body/agnostic_mask/0000001_detail.mp4")[..., 0]

    assert iou(back > 127, mask) == 1
    assert iou(back >= 224, mask) > 0.9999


def test_one_frame(tmp_path):
    write(tmp_path / "out", [sample(frames=1)])
    export_vivid(str(tmp_path / "out"), str(tmp_path / "to"), size=SIZE)

    assert len(frames_of(tmp_path / "to/upper_body/agnostic/0000001_detail.mp4")) == 1


# Going on


def test_what_is_there_is_not_written_again(three, exported, tmp_path):
    to = tmp_path / "to"
    export_vivid(str(three), str(to), size=SIZE)
    before = contents(to)
    assert before == contents(exported)
    kept, lost = to / "upper_body/videos/0000001_detail.mp4", to / "lower_body/agnostic/0000002_detail.mp4"
    stamp = kept.stat().st_mtime_ns
    lost.unlink()

    assert export_vivid(str(three), str(to), size=SIZE) == Exported(written=1, before=2, skipped=0)
    assert contents(to) == before
    assert kept.stat().st_mtime_ns == stamp


def test_killed_and_run_again(three, exported, tmp_path):
    to = tmp_path / "to"
    command = (
        f"from pipelines.export_samples import export_vivid; export_vivid({str(three)!r}, {str(to)!r}, size={SIZE})"
    )
    process = subprocess.Popen([sys.executable, "-c", command])
    deadline = time.monotonic() + 60
    while not list(to.glob("*/videos/*")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    half = contents(to)
    whole = contents(exported)
    finished = {name: data for name, data in half.items() if not name.startswith(".unfinished/")}
    assert finished.items() <= whole.items()  # never a part of a file
    assert len(finished) < len(whole)

    export_vivid(str(three), str(to), size=SIZE)
    assert contents(to) == whole


def test_a_disk_that_breaks_off_leaves_no_part_of_a_file(three, exported, tmp_path):
    whole, to = contents(exported), tmp_path / "to"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(map(len, whole.values())) - 1, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            export_vivid(str(three), str(to), size=SIZE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert contents(to).items() < whole.items()
    export_vivid(str(three), str(to), size=SIZE)
    assert contents(to) == whole


def test_workers_write_the_same_bytes(three, exported, tmp_path):
    done = export_vivid(str(three), str(tmp_path / "to"), size=SIZE, workers=2)

    assert done == Exported(written=3, before=0, skipped=0)
    assert contents(tmp_path / "to") == contents(exported)


# What is not right


def damaged(out: Path, member: str, data: bytes) -> None:
    """Three samples; a member of the second is `data`."""
    good = {"frames": 3, "height": SIZE[0], "width": SIZE[1]}
    values = [sample(**good) for _ in range(3)]
    write(out, values)
    key = "cloth_videos1-00000000"
    builder = DatasetBuilder(out / "again")
    path = builder.shard({key: {**members(values[1], key=key), member: data}})
    path.replace(out / "shards/train-000001.tar")


@pytest.mark.parametrize(
    "member", ["video.mp4", "densepose.npz", "agnostic_mask.npz", "garment.png", "annotation.json"]
)
def test_a_damaged_sample_is_named(tmp_path, member):
    damaged(tmp_path / "out", member, b"\0" * 100)

    with pytest.raises(DatasetError, match=r"train-000001.tar, sample cloth_videos1-00000000.*does not decode"):
        export_vivid(str(tmp_path / "out"), str(tmp_path / "to"), size=SIZE)
    assert not (tmp_path / "to/train_data.jsonl").exists()


def test_masks_of_another_length_are_damage(tmp_path):
    short = members(sample(frames=2), key="pair-0")["agnostic_mask.npz"]
    write(tmp_path / "short", [sample(frames=3)], **{"agnostic_mask.npz": short})

    with pytest.raises(DatasetError, match="agnostic_mask has shape"):
        export_vivid(str(tmp_path / "short"), str(tmp_path / "to"), size=SIZE)


@pytest.mark.parametrize("workers", [1, 2])
def test_damaged_samples_are_left_out_and_counted(tmp_path, workers):
    damaged(tmp_path / "out", "video.mp4", b"")
    arguments = {"size": SIZE, "on_error": "skip", "workers": workers}
    done = export_vivid(str(tmp_path / "out"), str(tmp_path / "to"), **arguments)

    assert done == Exported(written=2, before=0, skipped=1)
    lines = (tmp_path / "to/upper_body/train_pairs.txt").read_text().splitlines()
    assert [line[:7] for line in lines] == ["0000001", "0000003"]
    assert not list((tmp_path / "to").glob("*/*/0000002*"))


def test_every_sample_damaged_is_an_error(tmp_path):
    write(tmp_path / "out", [sample(frames=2)], **{"video.mp4": b""})

    with pytest.raises(DatasetError, match="every sample of the train split is damaged"):
        export_vivid(str(tmp_path / "out"), str(tmp_path / "to"), size=SIZE, on_error="skip")


def test_a_folder_of_something_else_is_left_alone(three, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")

    with pytest.raises(ConfigError, match="not empty"):
        export_vivid(str(three), str(tmp_path), size=SIZE)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_export_of_other_data_or_size_is_not_mixed_in(three, exported, tmp_path):
    write(tmp_path / "other", [sample(frames=2)])
    for dataset, size in ((tmp_path / "other", SIZE), (three, (64, 48))):
        with pytest.raises(ConfigError, match="holds another export"):
            export_vivid(str(dataset), str(exported), size=size)


def test_without_densepose(tmp_path):
    write(tmp_path / "out", [artifacts(frames=2)])

    with pytest.raises(ConfigError, match=r"no DensePose.*--no-densepose"):
        export_vivid(str(tmp_path / "out"), str(tmp_path / "to"), size=SIZE, on_error="skip")
    export_vivid(str(tmp_path / "out"), str(tmp_path / "without"), size=SIZE, densepose=False)
    assert not (tmp_path / "without/upper_body/densepose").exists()


@pytest.mark.parametrize(
    ("to", "size", "words"), [("s3://bucket/x", SIZE, "no local folder"), ("to", (95, 72), "even numbers")]
)
def test_places_and_sizes_that_cannot_be(three, tmp_path, monkeypatch, to, size, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=words):
        export_vivid(str(three), to, size=size)
    assert not list(tmp_path.iterdir())


def test_no_dataset_and_no_split(three, tmp_path):
    with pytest.raises(DatasetError, match="no index"):
        export_vivid(str(tmp_path / "nowhere"), str(tmp_path / "to"))
    with pytest.raises(DatasetError, match="no sample in split 'test'"):
        export_vivid(str(three), str(tmp_path / "to"), split="test")
    builder = DatasetBuilder(tmp_path / "poor")
    builder.shard({"pair-0": members(sample(frames=2), key="pair-0")})
    builder.rows = [{name: row[name] for name in ("key", "shard", "offset", "split")} for row in builder.rows]
    builder.index()
    with pytest.raises(DatasetError, match="the index lacks actions, frames, .*, part"):
        export_vivid(str(tmp_path / "poor"), str(tmp_path / "to"))
    assert not (tmp_path / "to").exists()


def test_command(tmp_path):
    damaged(tmp_path / "out", "video.mp4", b"")
    app = typer.Typer()
    app.command()(export)
    given = [str(tmp_path / "out"), "--format", "vivid", "--to", str(tmp_path / "to"), "--on-error", "skip"]
    done = CliRunner().invoke(app, [*given, "--height", "96", "--width", "72"])

    assert done.exit_code == 0, done.output
    assert "2 sample(s) written, 0 there before, 1 skipped as damaged" in done.output
    assert CliRunner().invoke(app, [*given, "--format", "coco"]).exit_code == 2
