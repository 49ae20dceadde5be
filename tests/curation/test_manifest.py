"""Manifests as people really write them: every fault is said, with its place, and nothing is read as something else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.manifest import Manifest, read_manifest
from schemas.errors import ManifestError

HEAD = "pair_id,video,garment,part\n"
ROW: dict[str, Any] = {"pair_id": "a", "video": "v.mp4", "garment": None, "part": "upper"}

Read = Callable[..., Manifest]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(content: str | bytes, suffix: str = ".csv") -> Manifest:
        path = tmp_path / f"manifest{suffix}"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_manifest(str(path))

    return read


def faults(read: Read, content: str | bytes, suffix: str = ".csv") -> list[str]:
    with pytest.raises(ManifestError) as caught:
        read(content, suffix)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "there is no row in it"),
        (HEAD, "there is no row in it"),
        ((HEAD + "a,v.mp4,,upper\n").encode("utf-16"), "line 1: is no UTF-8"),
        ((HEAD + "a,vé.mp4,,upper\n").encode("latin-1"), "line 2: is no UTF-8"),
        ((HEAD + "a,v.mp4,,upper\n").replace(",", ";"), "line 1: the fields are separated by ';'"),
        ("pair_id,video,part\na,v,upper\nb,v,upper\n", "line 1: garment: this column is missing"),
        ("pair_id,video,garment,part,part\na,v,,upper,lower\n", "line 1: part: stands twice"),
        ("pair_id,vido,garment,part\na,v,,upper\n", "line 1: 'vido': unknown field; did you mean video?"),
        (HEAD + 'a,"v.mp4,,upper\nb,v.mp4,,upper\n', "line 3: is no CSV: unexpected end of data"),
        (HEAD + f"a,{'v' * 200_000},,upper\n", "line 2: is no CSV: field larger"),
        (HEAD + 'a,"v\n.mp4",,upper\n', "line 3: video: 'v\\n.mp4' holds a line break"),
        (HEAD + "a,v\x00.mp4,,upper\n", "line 2: video: 'v\\x00.mp4' holds a line break"),
        (HEAD + "a,bogus://v.mp4,,upper\n", "line 2: video: bogus:// cannot be read here"),
        ("pair_id,video,garment,part,start\na,v,,upper,1:99:99\n", "line 2: start: '1:99:99' is no time"),
        ("pair_id,video,garment,part,end\na,v,,upper,inf\n", "line 2: end: Input should be a finite number"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_once_with_its_line(read: Read, content: str | bytes, said: str) -> None:
    found = faults(read, content)
    assert any(fault.startswith(said) for fault in found), found
    assert len(found) <= 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[" * 100_000, "line 1: is no JSON"),
        (json.dumps(ROW)[:-1] + ', "start": ' + "9" * 5000 + "}", "line 1: is no JSON"),
        ("[1]", "line 1: is a list, not an object"),
    ],
)
def test_json_beyond_what_python_reads_is_a_fault_of_its_line(read: Read, line: str, said: str) -> None:
    assert faults(read, line, ".jsonl")[0].startswith(said)


def test_a_line_separator_inside_json_ends_no_line(read: Read) -> None:
    rows = [{**ROW, "caption": "one\u2028two\x85three"}, {**ROW, "pair_id": "b"}]
    manifest = read("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), ".jsonl")
    assert [pair.pair_id for pair in manifest.pairs] == ["a", "b"]


def test_blanks_of_pandas_are_blanks(tmp_path: Path) -> None:
    table = pandas.DataFrame(
        {
            "pair_id": [1, 2],
            "video": ["a.mp4", "b.mp4"],
            "garment": ["g.png", float("nan")],
            "part": ["upper", "lower"],
            "start": [1.5, float("nan")],
            "split_group": [3, float("nan")],
        }
    )
    path = str(tmp_path / "manifest.parquet")
    table.to_parquet(path)
    first, second = read_manifest(path).pairs
    assert (first.pair_id, first.split_group, first.start) == ("1", "3", 1.5)
    assert (second.garment, second.split_group, second.start) == (None, None, None)
    nan = pa.array([float("nan")])
    columns = {"pair_id": ["a"], "video": ["v"], "part": ["upper"], "garment": nan, "start": nan, "split_group": nan}
    pq.write_table(pa.table(columns), path)
    (pair,) = read_manifest(path).pairs
    assert (pair.garment, pair.start, pair.split_group) == (None, None, None)


def test_spaces_around_cells_and_a_byte_order_mark_are_harmless(read: Read) -> None:
    (pair,) = read(b"\xef\xbb\xbfpair_id, video, garment, part\r\na, my film.mp4, , upper\r\n").pairs
    assert pair.pair_id == "a"
    assert pair.video.endswith("/my film.mp4")
    assert (pair.garment, pair.part) == (None, "upper")


def test_paths_beside_the_manifests_folder_are_found_and_written_as_they_stood(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    path = tmp_path / "lists/m.jsonl"
    path.write_text(json.dumps({**ROW, "video": "../videos/ü #1 50%.mp4", "garment": "g.png"}))
    manifest = read_manifest(str(path))
    (pair,) = manifest.pairs
    assert pair.video == str(tmp_path / "videos/ü #1 50%.mp4")
    assert manifest.as_written(pair.video) == "../videos/ü #1 50%.mp4"
    assert manifest.as_written(pair.garment) == "g.png"


def test_urls_have_no_dots_left_in_them() -> None:
    row = {**ROW, "video": "../videos/v.mp4"}
    fsspec.filesystem("memory").pipe("/bucket/lists/m.jsonl", json.dumps(row).encode())
    manifest = read_manifest("memory://bucket/lists/m.jsonl")
    assert manifest.pairs[0].video == "memory://bucket/videos/v.mp4"
    assert manifest.as_written(manifest.pairs[0].video) == "../videos/v.mp4"


def test_a_manifest_of_an_unknown_protocol_is_a_sentence() -> None:
    with pytest.raises(ManifestError, match="bogus:// cannot be read here"):
        read_manifest("bogus://bucket/m.csv")


def test_a_manifest_that_claims_too_much_is_not_read(read: Read, tmp_path: Path) -> None:
    with (tmp_path / "huge.jsonl").open("wb") as file:
        file.truncate(5 << 30)  # takes no room
    with pytest.raises(ManifestError, match="has 5,368,709,120 bytes"):
        read_manifest(str(tmp_path / "huge.jsonl"))
    assert faults(read, HEAD + f"a,{'v' * 20_000},,upper\n") == [
        f"line 2: video: String should have at most 10000 characters (got '{'v' * 79})"
    ]


def test_parquet_of_one_repeated_row_ends_soon(tmp_path: Path) -> None:
    """Two million rows in a few KB: what repeats is stored once."""
    repeated = {
        name: pa.DictionaryArray.from_arrays(np.zeros(2_000_000, np.int8), ["upper"])
        for name in HEAD.strip().split(",")
    }
    pq.write_table(pa.table(repeated), tmp_path / "bomb.parquet")
    assert (tmp_path / "bomb.parquet").stat().st_size < 50_000
    with pytest.raises(ManifestError) as caught:
        read_manifest(str(tmp_path / "bomb.parquet"))
    assert "nothing after it was read" in str(caught.value.problems[-1])
    assert len(caught.value.problems) < 12_000


def test_parquet_text_that_is_no_utf8_is_a_sentence(tmp_path: Path) -> None:
    text = pa.array([b"\xff\xfe"]).view(pa.string())
    pq.write_table(
        pa.table({**{name: ["v"] for name in ("video", "garment", "part")}, "pair_id": text}), tmp_path / "m.parquet"
    )
    with pytest.raises(ManifestError, match="damaged after row 0"):
        read_manifest(str(tmp_path / "m.parquet"))
