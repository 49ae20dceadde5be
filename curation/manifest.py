"""Read a manifest: JSONL, CSV or Parquet, from a path or an fsspec URL. All bad rows are reported at once."""

from __future__ import annotations

import csv
import io
import json
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import fsspec
from fsspec.core import split_protocol, url_to_fs
from pydantic import ValidationError

from schemas.errors import ManifestError, Problem
from schemas.manifest import Pair

Row = dict[str, Any]


@dataclass(frozen=True)
class Manifest:
    """The pairs of a manifest, in its order, and the folder that their relative paths were read against."""

    pairs: tuple[Pair, ...]
    base: str

    def as_written(self, url: str | None) -> str | None:
        """`url` relative to the manifest's folder where it lies inside, so that no dataset holds a machine's paths."""
        prefix = self.base.rstrip("/") + "/"
        return url[len(prefix) :] if url and url.startswith(prefix) else url


def read_manifest(url: str) -> Manifest:
    """Read and check every row of the manifest at `url`.

    The format follows the suffix (.jsonl, .csv, .parquet). Relative `video` and `garment` are taken relative to the
    manifest's folder.

    Raises:
        ManifestError: listing every bad row with its line and field; or the file is absent, empty or unknown.

    """
    readers = {".jsonl": _jsonl_rows, ".ndjson": _jsonl_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}
    suffix = posixpath.splitext(url)[1].lower()
    if suffix not in readers:
        raise ManifestError(url, [Problem(0, "", f"unknown format {suffix!r}; allowed: {', '.join(readers)}")])
    fs, path = url_to_fs(url)
    if not fs.isfile(path):
        raise ManifestError(url, [Problem(0, "", "there is no such file")])
    base = _folder_of(url, fs)
    problems: list[Problem] = []
    pairs: list[Pair] = []
    first_line: dict[str, int] = {}
    with fs.open(path, "rb") as stream:
        for line, row in readers[suffix](stream.read(), problems):
            pair = _pair(row, line=line, base=base, problems=problems)
            if pair is None:
                continue
            if pair.pair_id in first_line:
                problems.append(
                    Problem(line, "pair_id", f"{pair.pair_id!r} stands in line {first_line[pair.pair_id]} already")
                )
            first_line.setdefault(pair.pair_id, line)
            pairs.append(pair)
    if not pairs and not problems:
        problems.append(Problem(0, "", "there is no row in it"))
    if problems:
        raise ManifestError(url, sorted(problems, key=lambda problem: problem.line))
    return Manifest(tuple(pairs), base)


def _folder_of(url: str, fs: fsspec.AbstractFileSystem) -> str:
    protocol, path = split_protocol(url)
    if protocol in (None, "file", "local"):
        return posixpath.dirname(fs._strip_protocol(url))
    return f"{protocol}://{posixpath.dirname(path)}"


def _absolute(path: str, base: str) -> str:
    if split_protocol(path)[0] is not None or posixpath.isabs(path):
        return path
    if split_protocol(base)[0] is not None:
        return f"{base.rstrip('/')}/{path}"
    return posixpath.normpath(posixpath.join(base, path))


def _pair(row: Row, *, line: int, base: str, problems: list[Problem]) -> Pair | None:
    for field in sorted(set(row) - set(Pair.model_fields)):
        near = get_close_matches(field, Pair.model_fields, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; allowed: {', '.join(Pair.model_fields)}"
        problems.append(Problem(line, field, f"unknown field{hint}"))
    try:
        pair = Pair.model_validate({field: value for field, value in row.items() if field in Pair.model_fields})
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            field = ".".join(str(part) for part in detail["loc"])
            shown = "" if detail["type"] in ("value_error", "missing") else f" (got {detail['input']!r:.80})"
            problems.append(Problem(line, field, detail["msg"].removeprefix("Value error, ") + shown))
        return None
    garment = None if pair.garment is None else _absolute(pair.garment, base)
    return pair.model_copy(update={"video": _absolute(pair.video, base), "garment": garment})


def _text(data: bytes, problems: list[Problem]) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.append(Problem(data[: error.start].count(b"\n") + 1, "", f"is no UTF-8: {error.reason}"))
        return ""


def _jsonl_rows(data: bytes, problems: list[Problem]) -> Iterator[tuple[int, Row]]:
    for line, text in enumerate(_text(data, problems).splitlines(), start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except json.JSONDecodeError as error:
            problems.append(Problem(line, "", f"is no JSON: {error.msg} at column {error.colno}"))
            continue
        if isinstance(row, dict):
            yield line, row
        else:
            problems.append(Problem(line, "", f"is a {type(row).__name__}, not an object"))


def _csv_rows(data: bytes, problems: list[Problem]) -> Iterator[tuple[int, Row]]:
    reader = csv.DictReader(io.StringIO(_text(data, problems), newline=""))
    for row in reader:
        if None in row:
            problems.append(
                Problem(reader.line_num, "", f"has {len(row[None])} value(s) more than the header has fields")
            )
            continue
        # A short line leaves None, an empty cell leaves "": the first is a mistake, the second says "none".
        short = [field for field, value in row.items() if value is None]
        if short:
            problems.append(Problem(reader.line_num, short[0], "the line ends before this field"))
            continue
        yield reader.line_num, dict(row)


def _parquet_rows(data: bytes, problems: list[Problem]) -> Iterator[tuple[int, Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(data))
    except pa.ArrowInvalid as error:
        problems.append(Problem(0, "", f"is no Parquet: {error}"))
        return
    yield from enumerate(table.to_pylist(), start=1)
