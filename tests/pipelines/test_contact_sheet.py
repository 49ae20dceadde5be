"""The contact sheet: what is on it, and how frames are chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.contact_sheet import REPAINT, contact_sheet, frames_to_show
from schemas.errors import DatasetError
from tests.training.build import DatasetBuilder, artifacts, members, write_dataset


def pixels(sheet: Path) -> np.ndarray:
    with Image.open(sheet) as image:
        return np.asarray(image.convert("RGB"))


def dataset_of(out: Path, *samples: dict) -> Path:
    builder = DatasetBuilder(out)
    builder.shard({f"pair-{n:08d}": members(values, key=f"pair-{n:08d}") for n, values in enumerate(samples)})
    return builder.index()


def test_a_row_for_each_sample_with_conditions_drawn(tmp_path):
    write_dataset(tmp_path / "data", [2], test=1)
    one = pixels(contact_sheet(tmp_path / "data", out=tmp_path / "new/one.png", samples=1))
    three = pixels(contact_sheet(tmp_path / "data", out=tmp_path / "three.png"))

    row = (len(three) - len(one)) / 2
    assert row > 300
    assert one.shape[1] == three.shape[1]
    for top in (76, 76 + row, 76 + 2 * row):
        part = three[int(top) : int(top + row)].astype(int)
        assert (np.abs(part - REPAINT).sum(axis=2) < 60).sum() > 200  # outline of the mask


def test_chosen_keys_in_the_order_asked_for(tmp_path):
    red, blue = artifacts(), artifacts()
    red["garment"][:], blue["garment"][:] = (255, 0, 0), (0, 0, 255)
    data = dataset_of(tmp_path / "data", red, blue)
    sheet = pixels(contact_sheet(data, out=tmp_path / "sheet.png", samples=["pair-00000001", "pair-00000000"]))

    blue_rows = np.flatnonzero((sheet == (0, 0, 255)).all(axis=2).any(axis=1))
    red_rows = np.flatnonzero((sheet[:, :300] == (255, 0, 0)).all(axis=2).sum(axis=1) > 10)
    assert blue_rows.mean() < red_rows.mean()


@pytest.mark.parametrize(
    "values",
    [
        artifacts(frames=1),
        artifacts(frames=2),
        artifacts(height=36, width=128),
        artifacts(height=160, width=32),
        {**artifacts(), "agnostic_mask": np.zeros((6, 64, 48), bool)},
        {**artifacts(), "garment": np.zeros((2, 900, 3), np.uint8), "garment_mask": np.ones((2, 900), bool)},
    ],
    ids=["one frame", "two frames", "wide", "narrow", "empty mask", "flat garment"],
)
def test_unusual_samples_are_drawn(tmp_path, values):
    sheet = pixels(contact_sheet(dataset_of(tmp_path / "data", values), out=tmp_path / "sheet.png"))

    assert sheet.std() > 5


def test_a_key_that_is_not_there_is_named(tmp_path):
    write_dataset(tmp_path, [1])

    with pytest.raises(DatasetError, match="nobody-1"):
        contact_sheet(tmp_path, out=tmp_path / "sheet.png", samples=["nobody-1"])


def test_a_damaged_sample_is_named(tmp_path):
    builder = DatasetBuilder(tmp_path)
    builder.shard({"pair-00000000": {**members(artifacts(), key="pair-00000000"), "hands.npz": b"junk"}})

    with pytest.raises(DatasetError, match=r"pair-00000000.*hands\.npz"):
        contact_sheet(builder.index(), out=tmp_path / "sheet.png")


def test_frames_are_spread_and_lean_to_interactions():
    labels = [100 <= t < 110 for t in range(200)]
    shown = frames_to_show(labels, 6)

    assert shown == sorted(set(shown))
    assert len(shown) == 6
    assert 2 <= sum(labels[t] for t in shown) <= 4
    assert min(shown) < 60
    assert max(shown) > 140


@pytest.mark.parametrize(
    "labels", [[False] * 50, [True] * 50, [t == 7 for t in range(50)], [t != 7 for t in range(50)]]
)
def test_frames_are_distinct_whatever_the_labels(labels):
    shown = frames_to_show(labels, 6)

    assert len(set(shown)) == 6
    assert all(0 <= t < 50 for t in shown)


def test_one_interactive_frame_is_shown():
    assert 7 in frames_to_show([t == 7 for t in range(50)], 6)


@pytest.mark.parametrize("frames", [0, 1, 5])
def test_short_clips_show_every_frame(frames):
    assert frames_to_show([False] * frames, 6) == list(range(frames))
