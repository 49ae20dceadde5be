"""`validate` on a small dataset, whole and damaged in every way we could think of."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import json
import shutil
import tarfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset

from pipelines.pack import pack
from pipelines.store import ClipStore
from pipelines.validate import Report, validate
from schemas.annotation import ActionCaption, Annotation
from schemas.artifacts import ARTIFACTS, encode_npz
from schemas.clip import Clip, Source, Span
from schemas.conditions import Hands, Pose
from schemas.config import ShardsConfig
from schemas.errors import DatasetError
from schemas.manifest import Pair
from schemas.tables import META_MEMBER, SCHEMA_VERSION, index_schema
from tests.training.build import full_tier

FRAMES, HEIGHT, WIDTH, FPS = 8, 48, 64, 25
SPLITS = {"train": ["a-00000000", "a-00000100", "b-00000000"], "test": ["c-00000000"]}
FIRST = "shards/train-000000.tar"
"""Holds the first two keys."""
KEY = "a-00000100"
MEMBERS = sorted([META_MEMBER, *(kind.member for kind in ARTIFACTS.values() if kind.shared)])

Samples = dict[str, dict[str, bytes]]
Rows = dict[str, dict[str, Any]]


def video(
    frames: int = FRAMES, *, width: int = WIDTH, height: int = HEIGHT, late: int = 0, codec: str = "libx264"
) -> bytes:
    """An mp4 of noise; frame 3 and those after it are `late` ticks late."""
    noise = np.random.default_rng(0)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, FPS * 100)
        for index in range(frames):
            picture = av.VideoFrame.from_ndarray(noise.integers(0, 256, (height, width, 3), np.uint8), format="rgb24")
            picture.pts, picture.time_base = index * 100 + (late if index >= 3 else 0), Fraction(1, FPS * 100)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def annotation(frames: int = FRAMES) -> Annotation:
    labels = tuple(2 <= index <= 5 for index in range(frames))
    return Annotation(
        global_caption="A person stands.",
        actions=(
            ActionCaption(category="adjusting the hem", caption="She lifts the hem.", start_frame=2, end_frame=5),
        ),
        probabilities=tuple(float(label) for label in labels),
        labels=labels,
        labeller="contact",
    )


def hands(frames: int = FRAMES) -> Hands:
    return Hands(
        scores=np.ones((frames, 2), np.float32),
        joints_2d=np.zeros((frames, 2, 21, 2), np.float32),
        joints_3d=np.zeros((frames, 2, 21, 3), np.float32),
        method="mediapipe",
    )


def clip(key: str) -> Clip:
    pair_id, first = key.rsplit("-", 1)
    source = Source(
        url=f"{pair_id}.mp4", container="mp4", codec="h264", pixel_format="yuv420p", width=WIDTH, height=HEIGHT,
        frame_rate=Fraction(FPS), duration=10.0, size_bytes=1,
    )  # fmt: skip
    span = Span(
        first_frame=int(first), last_frame=int(first) + FRAMES - 1, first_pts=0, last_pts=FRAMES - 1, bytes=1,
        time_base=Fraction(1, FPS), fps=Fraction(FPS), frames=FRAMES, width=WIDTH, height=HEIGHT,
    )  # fmt: skip
    garment = np.full((32, 24, 3), 200, np.uint8)
    mask = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    mask[:, 10:20] = True
    artifacts = {
        "video": video(),
        "garment": garment,
        "garment_mask": garment[..., 0] > 100,
        "pose": Pose(keypoints=np.ones((FRAMES, 133, 2), np.float32), scores=np.ones((FRAMES, 133), np.float16)),
        "hands": hands(),
        **full_tier(frames=FRAMES, height=HEIGHT, width=WIDTH),
        "agnostic_mask": mask,
        "annotation": annotation(),
    }
    pair = Pair(pair_id=pair_id, video=f"{pair_id}.mp4", garment="g.png", part="upper", split_group=f"group {pair_id}")
    return Clip(key=key, pair=pair, source=source, span=span, artifacts=artifacts, metrics={"sharpness": 0.1 + 0.2})


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built")
    store = ClipStore(str(out / "work"))
    for key in itertools.chain(*SPLITS.values()):
        store.put(clip(key))
    packed = pack(
        store, SPLITS, output=str(out), config=ShardsConfig(max_samples=2), members=MEMBERS, stages=[],
        metrics=["sharpness"], as_written=lambda url: url,
    )  # fmt: skip
    described = {
        "schema_version": SCHEMA_VERSION,
        "splits": {"train": {"samples": 3}, "test": {"samples": 1}},
        "members": MEMBERS,
        "shards": [dataclasses.asdict(shard) for shard in packed.shards],
    }
    (out / "dataset.json").write_text(json.dumps(described))
    return out


@pytest.fixture
def out(built: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(built, tmp_path / "out"))


def write_index(out: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa

    pq.write_table(pa.Table.from_pylist(rows, schema=index_schema(["sharpness"])), out / "index.parquet")


def read_index(out: Path) -> list[dict[str, Any]]:
    return pq.read_table(out / "index.parquet").to_pylist()


def change_description(out: Path, change: Callable[[dict[str, Any]], object]) -> None:
    described = json.loads((out / "dataset.json").read_text())
    change(described)
    (out / "dataset.json").write_text(json.dumps(described))


def rewrite(out: Path, change: Callable[[Samples, Rows], object]) -> None:
    """Write the first shard anew with `change` made, and make every hash, size and offset true again."""
    samples: Samples = {}
    with tarfile.open(out / FIRST) as tar:
        for file in tar:
            key, member = file.name.split(".", 1)
            samples.setdefault(key, {})[member] = tar.extractfile(file).read()  # type: ignore[union-attr]
    others = [row for row in read_index(out) if row["shard"] != FIRST]
    rows = {row["key"]: row for row in read_index(out) if row["shard"] == FIRST}
    change(samples, rows)
    with (out / FIRST).open("wb") as stream:
        writer = webdataset.TarWriter(stream, encoder=False, mtime=0, user="", group="")
        for key, members in samples.items():
            if key in rows:
                rows[key]["offset"] = writer.tarstream.offset
                rows[key]["members"] = [
                    {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                    for name, data in sorted(members.items())
                ]
            writer.write({"__key__": key, **members})
        writer.close()
    write_index(out, [*rows.values(), *others])
    rehash(out)


def rehash(out: Path) -> None:
    """Let dataset.json name the first shard as it now is, and the samples that the index now has."""
    data, rows = (out / FIRST).read_bytes(), read_index(out)

    def change(described: dict[str, Any]) -> None:
        shard = next(shard for shard in described["shards"] if shard["name"] == FIRST)
        in_shard = sum(row["shard"] == FIRST for row in rows)
        shard.update(size=len(data), sha256=hashlib.sha256(data).hexdigest(), samples=in_shard)
        for split in described["splits"]:
            described["splits"][split]["samples"] = sum(row["split"] == split for row in rows)

    change_description(out, change)


def flip(file: Path, byte: int) -> None:
    data = bytearray(file.read_bytes())
    data[byte] ^= 0x10
    file.write_bytes(data)


def found(report: Report) -> list[tuple[str, str]]:
    return [(problem.where, problem.what) for problem in report.problems]


def only(report: Report) -> tuple[str, str]:
    """The one problem there is."""
    assert len(report.problems) == 1, found(report)
    return found(report)[0]


def test_a_sound_dataset(built: Path) -> None:
    report = validate(str(built))
    assert found(report) == []
    assert report.ok
    assert (report.shards, report.samples, report.members, report.frames) == (3, 4, 4 * len(MEMBERS), 4 * FRAMES)


def test_on_a_remote_file_system(built: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(built), "/datasets/one", recursive=True)
    assert validate("memory://datasets/one", workers=1).ok
    memory.rm("/datasets/one/shards/test-000000.tar")
    assert only(validate("memory://datasets/one")) == ("shards/test-000000.tar", "is missing")


@pytest.mark.parametrize("member", MEMBERS)
def test_a_flipped_byte_is_named_by_shard_key_and_member(out: Path, member: str) -> None:
    with tarfile.open(out / FIRST) as tar:
        file = tar.getmember(f"{KEY}.{member}")
    flip(out / FIRST, file.offset_data + file.size // 2)
    shard, sample = sorted(found(validate(str(out))))
    assert shard[0] == FIRST
    assert "sha256" in shard[1]
    assert sample == (f"{FIRST}: {KEY}.{member}", "is not the bytes that the index names (sha256 differs)")


def test_a_flipped_byte_in_a_tar_header_hides_no_other_sample(out: Path) -> None:
    with tarfile.open(out / FIRST) as tar:
        file = tar.getmember("a-00000000.annotation.json")  # the second of its sample, which is the first of the shard
    flip(out / FIRST, file.offset + 3)
    problems = found(validate(str(out)))
    assert (FIRST, f"is damaged from byte {file.offset} on") in problems
    assert (f"{FIRST}: a-00000000.annotation.json", "is missing") in problems
    assert not any(KEY in where or KEY in what for where, what in problems)


def test_a_flipped_byte_in_the_padding_is_seen_by_the_hash_of_the_shard(out: Path) -> None:
    flip(out / FIRST, (out / FIRST).stat().st_size - 1)
    assert {where for where, _ in found(validate(str(out)))} == {FIRST}


CUTS = {"nothing left": 0, "in a header": 100, "in a member": 5000, "after a block": 20 * 512}


@pytest.mark.parametrize("size", CUTS.values(), ids=CUTS.keys())
def test_a_truncated_tar(out: Path, size: int) -> None:
    whole = (out / FIRST).read_bytes()
    (out / FIRST).write_bytes(whole[:size])
    problems = found(validate(str(out)))
    assert (FIRST, f"has {size} bytes, not {len(whole)}") in problems
    assert any(KEY in what for _, what in problems)
    assert all(where.startswith(FIRST) for where, _ in problems)


def test_a_tar_without_its_last_byte(out: Path) -> None:
    whole = (out / FIRST).read_bytes()
    (out / FIRST).write_bytes(whole[:-1])
    assert only(validate(str(out))) == (FIRST, f"has {len(whole) - 1} bytes, not {len(whole)}")


def test_a_missing_shard_and_one_that_nobody_names(out: Path) -> None:
    (out / FIRST).rename(out / "shards" / "train-000009.tar")
    assert found(validate(str(out))) == [
        ("shards/train-000009.tar", "is there, but dataset.json does not name it"),
        (FIRST, "is missing"),
    ]


@pytest.mark.parametrize("member", [META_MEMBER, *(kind.member for kind in ARTIFACTS.values() if kind.required)])
def test_a_required_member_is_missing_even_from_the_index(out: Path, member: str) -> None:
    rewrite(out, lambda samples, rows: samples[KEY].pop(member))
    assert only(validate(str(out))) == (f"{FIRST}: {KEY}.{member}", "is missing")


def test_a_member_that_the_index_lists_is_missing(out: Path) -> None:
    def change(samples: Samples, rows: Rows) -> None:
        del samples[KEY]["densepose.npz"]

    listed = next(row["members"] for row in read_index(out) if row["key"] == KEY)
    rewrite(out, change)
    rows = read_index(out)
    next(row for row in rows if row["key"] == KEY)["members"] = listed
    write_index(out, rows)
    assert only(validate(str(out))) == (f"{FIRST}: {KEY}.densepose.npz", "is missing")


def members_of(rows: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    return next(row["members"] for row in rows if row["key"] == key)


def test_a_member_of_another_length_and_one_that_the_index_lacks(out: Path) -> None:
    rows = read_index(out)
    members = members_of(rows, KEY)
    size = members[1]["size"]
    members[1]["size"] += 1
    lacking = members.pop(3)["name"]
    write_index(out, rows)
    assert found(validate(str(out))) == [
        (f"{FIRST}: {KEY}.{lacking}", "is not in the index"),
        (f"{FIRST}: {KEY}.{members[1]['name']}", f"has {size} bytes, not {size + 1}"),
    ]


def test_a_member_twice(out: Path) -> None:
    with tarfile.open(out / FIRST, "a") as tar:
        again = tarfile.TarInfo(f"{KEY}.garment.png")
        tar.addfile(again)
    rehash(out)
    assert (f"{FIRST}: {KEY}.garment.png", "is there twice") in found(validate(str(out)))


SHORT = FRAMES - 1
WRONG_MEMBERS = {
    "video too short": ("video.mp4", lambda: video(SHORT), "decodes to 7 frames"),
    "video of another size": ("video.mp4", lambda: video(width=80), "80×48"),
    "video at a varying rate": ("video.mp4", lambda: video(late=37), "normalised"),
    "video in another codec": ("video.mp4", lambda: video(codec="mpeg4"), "h264"),
    "video cut off": ("video.mp4", lambda: video()[:600], ""),
    "video that is none": ("video.mp4", lambda: b"x" * 4000, ""),
    "video empty": ("video.mp4", lambda: b"", "empty"),
    "annotation too short": ("annotation.json", lambda: ARTIFACTS["annotation"].encode(annotation(SHORT)), "7 frames"),
    "annotation that is no JSON": ("annotation.json", lambda: b"{", "annotation"),
    "labels without an action": (
        "annotation.json",
        lambda: ARTIFACTS["annotation"].encode(annotation()).replace(b'"end_frame":5', b'"end_frame":4'),
        "union",
    ),
    "hands too short": ("hands.npz", lambda: ARTIFACTS["hands"].encode(hands(SHORT)), "7 frames"),
    "hands without joints": ("hands.npz", lambda: encode_npz(scores=np.ones((FRAMES, 2), np.float32)), "lacks"),
    "pose that is no npz": ("pose.npz", lambda: b"PK\x03\x04", "decode"),
    "pose of NaN": (
        "pose.npz",
        lambda: encode_npz(
            keypoints=np.full((FRAMES, 133, 2), np.nan, np.float32), scores=np.ones((FRAMES, 133), np.float16)
        ),
        "NaN",
    ),
    "mask of another size": (
        "agnostic_mask.npz",
        lambda: ARTIFACTS["agnostic_mask"].encode(np.zeros((FRAMES, HEIGHT, WIDTH - 1), bool)),
        "shape",
    ),
    "part that is none": (
        "densepose.npz",
        lambda: ARTIFACTS["densepose"].encode(np.full((FRAMES, HEIGHT, WIDTH), 30, np.uint8)),
        "30",
    ),
    "garment mask of another size": (
        "garment_mask.png",
        lambda: ARTIFACTS["garment_mask"].encode(np.ones((3, 3), bool)),
        "shape",
    ),
    "garment that is no picture": ("garment.png", lambda: b"\x89PNG\r\n", "decode"),
    "a member nobody knows": ("notes.txt", lambda: b"hello", "no member of the schema"),
    "meta of another sample": ("meta.json", None, "of key b-00000000"),
    "meta that is no JSON": ("meta.json", lambda: b"", "schema"),
}


@pytest.mark.parametrize("case", WRONG_MEMBERS)
def test_wrong_content_with_right_hashes(out: Path, case: str) -> None:
    member, content, words = WRONG_MEMBERS[case]

    def change(samples: Samples, rows: Rows) -> None:
        if content is not None:
            samples[KEY][member] = content()
        else:
            samples[KEY][member] = samples[KEY][member].replace(KEY.encode(), b"b-00000000")

    rewrite(out, change)
    where, what = only(validate(str(out)))
    assert where == f"{FIRST}: {KEY}.{member}"
    assert words in what


@pytest.mark.parametrize(
    ("column", "value", "member"),
    [
        ("frames", 7, "meta.json"),
        ("fps", 30.0, "meta.json"),
        ("part", "lower", "meta.json"),
        ("metrics", {"sharpness": 0.3}, "meta.json"),
        ("global_caption", "Another.", "annotation.json"),
        ("categories", [], "annotation.json"),
        ("actions", [], "annotation.json"),
        ("interactive_frames", 0, "annotation.json"),
    ],
)
def test_an_index_that_says_something_else_than_the_sample(out: Path, column: str, value: Any, member: str) -> None:
    rewrite(out, lambda samples, rows: rows[KEY].update({column: value}))
    where, what = only(validate(str(out)))
    assert where == f"{FIRST}: {KEY}.{member}"
    assert column in what


def test_a_sample_that_the_index_lacks(out: Path) -> None:
    rewrite(out, lambda samples, rows: rows.pop(KEY))
    assert only(validate(str(out))) == (FIRST, f"holds sample {KEY}, which the index does not have there")


def test_a_sample_that_the_shard_lacks(out: Path) -> None:
    rewrite(out, lambda samples, rows: samples.pop(KEY))
    problems = found(validate(str(out)))
    assert any(where == FIRST and f"lacks sample {KEY}" in what for where, what in problems)


@pytest.mark.parametrize("move", [512, -512, 7, 10**9])
def test_a_wrong_offset(out: Path, move: int) -> None:
    rows = read_index(out)
    next(row for row in rows if row["key"] == KEY)["offset"] += move
    write_index(out, rows)
    problems = found(validate(str(out)))
    assert problems
    assert any(KEY in where + what for where, what in problems)


def test_a_key_twice_and_on_both_sides(out: Path) -> None:
    rows = read_index(out)
    row = next(row for row in rows if row["key"] == "a-00000000")
    write_index(out, [*rows, {**row, "shard": "shards/test-000000.tar", "split": "test"}])
    rehash(out)
    problems = found(validate(str(out)))
    assert any(where == "index.parquet" and "a-00000000 is there 2 times" in what for where, what in problems)
    assert ("index.parquet", "split group group a is in test and train") in problems
    assert ("index.parquet", "pair a is in test and train") in problems


def test_a_group_or_a_recording_on_both_sides(out: Path) -> None:
    def change(samples: Samples, rows: Rows) -> None:
        for key in samples:
            meta = json.loads(samples[key]["meta.json"])
            meta["pair"] |= {"split_group": "group c", "video": "c.mp4"}
            samples[key]["meta.json"] = json.dumps(meta).encode()
            rows[key]["split_group"] = "group c"

    rewrite(out, change)
    assert sorted(found(validate(str(out)))) == [
        ("index.parquet", "recording c.mp4 is in test and train"),
        ("index.parquet", "split group group c is in test and train"),
    ]


def test_counts_that_do_not_add_up(out: Path) -> None:
    def change(described: dict[str, Any]) -> None:
        described["splits"]["train"]["samples"] = 4
        described["shards"][0]["samples"] += 1

    change_description(out, change)
    assert len(validate(str(out)).problems) == 2


def test_a_shard_named_twice(out: Path) -> None:
    change_description(out, lambda described: described["shards"].append(described["shards"][0]))
    assert ("dataset.json", "names shards/test-000000.tar 2 times") in found(validate(str(out)))


def test_a_sample_of_another_split_than_its_shard(out: Path) -> None:
    rows = read_index(out)
    next(row for row in rows if row["split"] == "test")["split"] = "train"
    write_index(out, rows)
    rehash(out)
    assert only(validate(str(out))) == ("index.parquet", "c-00000000 is of split train, shards/test-000000.tar of test")


def test_a_sample_in_a_shard_that_is_not_named(out: Path) -> None:
    rows = read_index(out)
    write_index(out, [*rows, {**rows[0], "key": "d-00000000", "shard": "shards/train-000007.tar", "split": "train"}])
    rehash(out)
    where, what = found(validate(str(out)))[0]
    assert where == "index.parquet"
    assert "1 sample(s) are said to be in shards/train-000007.tar" in what


def test_a_dataset_built_without_what_every_sample_must_have(out: Path) -> None:
    rewrite(out, lambda samples, rows: samples[KEY].pop("hands.npz"))
    change_description(out, lambda described: described["members"].remove("hands.npz"))
    where, what = only(validate(str(out)))
    assert where == "dataset.json"
    assert "hands.npz" in what


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no dataset"),
        (b"", "describes no dataset"),
        (b"[]", "describes no dataset"),
        (b"{}", "describes no dataset"),
        (b'{"schema_version": 1, "shards": 3}', "describes no dataset"),
        (b'{"schema_version": 99}', "schema version 99"),
    ],
)
def test_a_folder_that_is_no_dataset(out: Path, content: bytes | None, words: str) -> None:
    (out / "dataset.json").unlink()
    if content is not None:
        (out / "dataset.json").write_bytes(content)
    with pytest.raises(DatasetError, match=words):
        validate(str(out))


def test_an_index_that_is_none(out: Path) -> None:
    index = out / "index.parquet"
    table = pq.read_table(index)
    pq.write_table(table.drop_columns(["offset"]), index)
    with pytest.raises(DatasetError, match="offset"):
        validate(str(out))
    index.write_bytes(b"PAR1 and no more")
    with pytest.raises(DatasetError, match="damaged"):
        validate(str(out))
    index.unlink()
    with pytest.raises(DatasetError, match="no index"):
        validate(str(out))
