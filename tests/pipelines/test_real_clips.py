"""The whole embedded chain over the shared real clips, as its users run it, held to their labels and masks."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

import weights
from pipelines.build import Summary, build
from pipelines.configure import merge_config
from pipelines.validate import validate
from schemas.annotation import Annotation
from schemas.artifacts import ARTIFACTS
from schemas.errors import WeightsError
from tests.clips import shared, truth
from tests.pipelines.conftest import shard_digests

PAIRS = {
    "lower1": ("vivid/videos/lower1.mp4", "vivid/cloth/051985_1.jpg", "lower"),
    "upper1": ("vivid/videos/upper1.mp4", "vivid/cloth/00057_00.jpg", "upper"),
    "dance_man": ("dance_man.mp4", "vivid/cloth/00126_00.jpg", "upper"),
    "dance_woman": ("dance_woman.mp4", "vivid/cloth/051990_1.jpg", "lower"),
    "open_hand": ("open_hand.mp4", "vivid/cloth/00126_00.jpg", "upper"),
}

NONE_WEARS_THE_GARMENT = {"pair_match": {"bounds": {"garment_colour_match": None}}}


SPANS = {"dance_man": {"start": 5.0, "end": 10.5}, "dance_woman": {"end": 8.2}, "open_hand": {"end": 4.0}}
"""Seconds of the longer ones that are built: the suite is to stay short."""


class Built:
    """A build of the five clips: one dataset as it is by default, one of all clips that have labels and masks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rows = [
            {
                "pair_id": name,
                "video": str(shared(f"clips/{video}")),
                "garment": str(shared(f"clips/{garment}")),
                "part": part,
                **SPANS.get(name, {}),
            }
            for name, (video, garment, part) in PAIRS.items()
        ]
        (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.summary = self.build("default")
        # Clips without interaction, and the one with subtitles, for their labels and masks.
        self.build(
            "loose",
            interaction={"bounds": {"interactive_share": None}},
            text={"bounds": {"text_share": None}},
        )

    def build(self, out: str, **stages: Any) -> Summary:
        stages = NONE_WEARS_THE_GARMENT | stages
        values = {
            "manifest": str(self.folder / "manifest.jsonl"), "output": str(self.folder / out),
            "work": str(self.folder / "work"), "stages": stages,
        }  # fmt: skip
        return build(merge_config(values, (), where="test"))

    def decisions(self) -> dict[str, dict[str, Any]]:
        return {row["key"]: row for row in pq.read_table(self.folder / "default/decisions.parquet").to_pylist()}

    def member(self, key: str, artifact: str) -> Any:
        name = f"{key}.{ARTIFACTS[artifact].member}"
        for shard in (self.folder / "loose/shards").glob("*.tar"):
            with tarfile.open(shard) as tar:
                if name in tar.getnames():
                    data = tar.extractfile(name)
                    assert data is not None
                    return ARTIFACTS[artifact].decode(data.read())
        raise AssertionError(f"{name} is in no shard")

    def labels(self, pair_id: str) -> np.ndarray:
        """Labels of a whole recording, its clips one after the other; none on frames that no clip shows."""
        keys = sorted(
            row["key"]
            for row in pq.read_table(self.folder / "loose/index.parquet").to_pylist()
            if row["pair_id"] == pair_id
        )
        labels = np.zeros(2000, bool)
        for key in keys:
            annotation: Annotation = self.member(key, "annotation")
            first = int(key.rpartition("-")[2])
            labels[first : first + len(annotation.labels)] = annotation.labels
        return labels


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, cluster: None) -> Built:
    try:
        for entry in weights.entries():
            if entry.group == "embedded":
                weights.path(entry.name)
    except WeightsError as error:
        pytest.skip(str(error))
    return Built(tmp_path_factory.mktemp("built"))


def frames_in(ranges: list[list[int]]) -> np.ndarray:
    return np.concatenate([np.arange(first, last + 1) for first, last in ranges])


def test_the_dataset_is_valid(built: Built) -> None:
    assert validate(str(built.folder / "default")).problems == ()
    assert validate(str(built.folder / "loose")).problems == ()


def test_verdicts_under_the_default_bounds(built: Built) -> None:
    reasons = {key: (row["verdict"], row["metric"]) for key, row in built.decisions().items()}
    assert reasons.pop("lower1-00000000") == ("kept", None)
    assert reasons.pop("upper1-00000000") == ("dropped", "interactive_share")
    assert {reason for key, reason in reasons.items() if key.startswith("dance_woman")} == {("dropped", "text_share")}
    assert {reason for key, reason in reasons.items() if key.startswith("dance_man")} == {
        ("dropped", "interactive_share")
    }
    assert {verdict for key, (verdict, _) in reasons.items() if key.startswith("open_hand")} == {"dropped"}


def test_labels_agree_with_the_truth(built: Built) -> None:
    clips = truth()["clips"]
    lower, labels = clips["vivid/videos/lower1.mp4"], built.labels("lower1")
    touch, apart = frames_in(lower["touch"]), frames_in(lower["apart"])
    right = labels[touch].sum() + (~labels[apart]).sum()
    assert right / (len(touch) + len(apart)) >= 0.9
    assert not built.labels("upper1").any()
    crossing = frames_in(clips["dance_man.mp4"]["crossing"][1:])
    assert built.labels("dance_man")[crossing].mean() <= 0.05
    woman, labels = clips["dance_woman.mp4"], built.labels("dance_woman")
    assert labels[frames_in(woman["touch"])].mean() >= 0.9
    assert labels[frames_in(woman["apart"][:1])].mean() <= 0.1


@pytest.mark.parametrize("name", ["lower1", "upper1"])
def test_agnostic_masks_agree_with_the_truth(built: Built, name: str) -> None:
    mask = built.member(f"{name}-00000000", "agnostic_mask")
    found = 0
    for file in sorted(shared("clips/truth").glob(f"{name}_*_garment.png")):
        frame = int(file.stem.split("_")[1])
        garment = cv2.imread(str(file), 0) > 127
        hand = cv2.imread(str(file).replace("garment", "hand"), 0) > 127
        found += 1
        assert mask[frame][garment].mean() >= 0.99, frame
        assert mask[frame][hand].mean() <= 0.03, frame
        assert mask[frame].sum() <= 1.8 * garment.sum(), frame
    assert found
    with av.open(str(shared(f"clips/vivid/agnostic_mask/{name}.mp4"))) as container:
        reference = np.stack([frame.to_ndarray(format="gray") > 127 for frame in container.decode(video=0)])
    overlap = (mask & reference).sum() / (mask | reference).sum()
    assert overlap >= 0.65


def test_one_and_two_workers_write_the_same_bytes(built: Built, tmp_path: Path) -> None:
    short = [
        line for line in (built.folder / "manifest.jsonl").read_text().splitlines(keepends=True) if "1.mp4" in line
    ]
    (tmp_path / "manifest.jsonl").write_text("".join(short))
    shards = []
    for workers in (1, 2):
        values = {
            "manifest": str(tmp_path / "manifest.jsonl"),
            "output": str(tmp_path / f"out{workers}"),
            "stages": NONE_WEARS_THE_GARMENT | {"interaction": {"bounds": {"interactive_share": None}}},
            "run": {"workers": workers},
        }
        assert build(merge_config(values, (), where="test")).kept.total() == len(short) == 2
        shards.append(shard_digests(tmp_path / f"out{workers}"))
    assert shards[0] == shards[1]
