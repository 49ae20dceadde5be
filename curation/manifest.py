"""Read a manifest: JSONL, CSV or Parquet, from a path or an fsspec URL. All bad rows are reported at once."""

from __future__ import annotations

import csv
import io
import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache, partial
from typing import Any
from urllib.parse import urlsplit

import fsspec
from fsspec.core import split_protocol, url_to_fs
from pydantic import ValidationError

from media.retrying import retry
from media.sources import is_local, refusal
from schemas.config import SourcesConfig
from schemas.errors import ManifestError, Problem
from schemas.manifest import SEGMENT_PAIR_ID, Kind, Pair

Row = dict[str, Any]

DEFAULT_SOURCES = SourcesConfig()

MAX_BYTES = 4 << 30
"""Size of one manifest: it is read whole."""
MAX_ROWS = 10_000_000
"""Rows of one manifest: a few KB of Parquet can claim billions."""
MAX_PROBLEMS = 10_000
"""Problems after which reading ends: most likely this is no manifest."""
_BATCH = 1000  # rows of Parquet unpacked at a time


@dataclass(frozen=True)
class Manifest:
    """The pairs of a manifest, in its order, and the folder that their relative paths were read against.

    `written` maps absolute paths and URLs back to the relative ones of the manifest, `streams` files that were captured
    to the addresses that they were captured from.
    """

    pairs: tuple[Pair, ...]
    base: str
    written: Mapping[str, str] = field(default_factory=dict, repr=False)
    streams: Mapping[str, str] = field(default_factory=dict, repr=False)

    def as_written(self, url: str | None) -> str | None:
        """`url` relative to the manifest's folder where it lies inside or was so written: no machine's path."""
        if url and url in self.streams:
            return self.streams[url]
        prefix = self.base.rstrip("/") + "/"
        if url and url.startswith(prefix):
            return url[len(prefix) :]
        return self.written.get(url, url) if url else url


def read_manifest(url: str, *, sources: SourcesConfig = DEFAULT_SOURCES) -> Manifest:
    """Read and check every row of the manifest at `url`.

    The format follows the suffix (.jsonl, .csv, .parquet). Relative `video` and `garment` are taken relative to the
    manifest's folder. Rows that `sources` does not let lead where they do are bad rows.

    Raises:
        ManifestError: listing every bad row with its line and field; or the file is absent, empty or unknown.

    """
    readers = {".jsonl": _jsonl_rows, ".ndjson": _jsonl_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}
    suffix = posixpath.splitext(url)[1].lower()
    if suffix not in readers:
        raise ManifestError(url, [Problem(0, "", f"unknown format {suffix!r}; allowed: {', '.join(readers)}")])
    data, base = _read(url)
    problems: list[Problem] = []
    pairs: list[Pair] = []
    first_line: dict[str, int] = {}
    written: dict[str, str] = {}
    for line, row in readers[suffix](data, problems):
        if len(problems) > MAX_PROBLEMS or len(pairs) >= MAX_ROWS:
            words = f"too many rows or problems (allowed: {MAX_ROWS:,} and {MAX_PROBLEMS:,}); nothing after it was read"
            problems.append(Problem(line, "", words))
            break
        pair = _pair(row, line=line, problems=problems)
        if pair is None:
            continue
        if pair.pair_id in first_line:
            problems.append(
                Problem(line, "pair_id", f"{pair.pair_id!r} stands in line {first_line[pair.pair_id]} already")
            )
        first_line.setdefault(pair.pair_id, line)
        places = {name: getattr(pair, name) for name in ("video", "garment") if getattr(pair, name)}
        absolute = {name: _absolute(path, base) for name, path in places.items()}
        problems.extend(
            Problem(line, name, why)
            for name, path in absolute.items()
            if (why := _forbidden(path, base, sources, live=name == "video" and pair.kind is Kind.LIVE))
        )
        written |= {absolute[name]: path for name, path in places.items() if absolute[name] != path}
        pairs.append(pair.model_copy(update=absolute))
    problems.extend(_like_segments(pairs, first_line))
    if not pairs and not problems:
        problems.append(Problem(0, "", "there is no row in it"))
    if problems:
        raise ManifestError(url, sorted(problems, key=lambda problem: problem.line))
    return Manifest(tuple(pairs), base, written)


def _like_segments(pairs: Sequence[Pair], lines: Mapping[str, int]) -> Iterator[Problem]:
    """Rows with a name that a segment of a live row will have."""
    live = {pair.pair_id for pair in pairs if pair.kind is Kind.LIVE}
    for name in lines if live else ():
        match = SEGMENT_PAIR_ID.fullmatch(name)
        if match and match[1] in live:
            yield Problem(lines[name], "pair_id", f"{name!r} is for a segment of the live row {match[1]!r}")


def _read(url: str) -> tuple[bytes, str]:
    """Bytes of the manifest, and the folder it lies in."""
    if why := _unreachable(url):
        raise ManifestError(url, [Problem(0, "", why)])
    fs, path = url_to_fs(url)
    try:
        size = retry(partial(fs.size, path)) or 0
        data: bytes = retry(partial(fs.cat_file, path)) if size <= MAX_BYTES else b""
    except FileNotFoundError as error:
        raise ManifestError(url, [Problem(0, "", "there is no such file")]) from error
    except Exception as error:  # every file system has error types of its own
        raise ManifestError(url, [Problem(0, "", f"cannot be read: {error}")]) from error
    if size > MAX_BYTES:
        raise ManifestError(url, [Problem(0, "", f"has {size:,} bytes (allowed: {MAX_BYTES:,})")])
    return data, _folder_of(url, fs)


def _unreachable(url: str) -> str:
    """Why no file system is known for `url`; "" if there is one."""
    protocol = split_protocol(url)[0]
    return "" if protocol is None else _unknown_protocol(protocol)


@cache
def _unknown_protocol(protocol: str) -> str:
    try:
        fsspec.get_filesystem_class(protocol.partition("::")[0])
    except (ValueError, ImportError) as error:
        return f"{protocol}:// cannot be read here: {error}"
    return ""


def _forbidden(url: str, base: str, sources: SourcesConfig, *, live: bool) -> str:
    """Why a manifest in the folder `base` may not name `url`, or why nobody could read it; "" if all is well."""
    if live:
        return refusal(urlsplit(url)._replace(scheme="http").geturl(), sources)
    if is_local(url) and not is_local(base) and not sources.allow_local_files:
        return "is a file of this machine, which a manifest from elsewhere may not name (`sources.allow_local_files`)"
    return _unreachable(url) or refusal(url, sources)


def _folder_of(url: str, fs: fsspec.AbstractFileSystem) -> str:
    protocol, path = split_protocol(url)
    if protocol in (None, "file", "local"):
        return posixpath.dirname(fs._strip_protocol(url))
    return f"{protocol}://{posixpath.dirname(path)}"


def _absolute(path: str, base: str) -> str:
    if split_protocol(path)[0] is not None or posixpath.isabs(path):
        return path
    protocol, folder = split_protocol(base)
    if protocol is not None:  # object stores know no "..": it has to be worked out here
        root, _, inside = folder.partition("/")
        return f"{protocol}://{root}{posixpath.normpath(posixpath.join('/', inside, path))}"
    return posixpath.normpath(posixpath.join(base, path))


def _pair(row: Row, *, line: int, problems: list[Problem]) -> Pair | None:
    problems.extend(Problem(line, name, _unknown_field(name)) for name in sorted(set(row) - set(Pair.model_fields)))
    try:
        return Pair.model_validate({name: value for name, value in row.items() if name in Pair.model_fields})
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            name = ".".join(str(part) for part in detail["loc"])
            shown = "" if detail["type"] in ("value_error", "missing") else f" (got {detail['input']!r:.80})"
            problems.append(Problem(line, name, detail["msg"].removeprefix("Value error, ") + shown))
        return None


def _unknown_field(name: str) -> str:
    near = get_close_matches(name, Pair.model_fields, n=1)
    return "unknown field; " + (f"did you mean {near[0]}?" if near else f"allowed: {', '.join(Pair.model_fields)}")


def _text(data: bytes, problems: list[Problem]) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        problems.append(Problem(line, "", f"is no UTF-8: {error.reason}; save the file as UTF-8"))
        return ""


def _jsonl_rows(data: bytes, problems: list[Problem]) -> Iterator[tuple[int, Row]]:
    # Not splitlines(): JSON may hold U+2028 and its like as they are.
    for line, text in enumerate(_text(data, problems).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except json.JSONDecodeError as error:
            problems.append(Problem(line, "", f"is no JSON: {error.msg} at column {error.colno}"))
            continue
        except (ValueError, RecursionError) as error:  # a number, or a nesting, beyond what Python reads
            problems.append(Problem(line, "", f"is no JSON: {error}"))
            continue
        if isinstance(row, dict):
            yield line, row
        else:
            problems.append(Problem(line, "", f"is a {type(row).__name__}, not an object"))


def _csv_rows(data: bytes, problems: list[Problem]) -> Iterator[tuple[int, Row]]:
    lines = csv.reader(io.StringIO(_text(data, problems), newline=""), strict=True)
    try:
        header = [name.strip() for name in next(lines, [])]
        if faults := _header_faults(header):
            problems.extend(Problem(lines.line_num, *fault) for fault in faults)
            return
        for values in lines:
            if not values:
                continue
            if len(values) > len(header):
                words = f"has {len(values) - len(header)} value(s) more than the header has fields"
                problems.append(Problem(lines.line_num, "", words))
            elif len(values) < len(header):  # an empty cell says "none"; a missing one is a mistake
                problems.append(Problem(lines.line_num, header[len(values)], "the line ends before this field"))
            else:
                yield lines.line_num, dict(zip(header, map(str.strip, values), strict=True))
    except csv.Error as error:
        problems.append(Problem(lines.line_num, "", f"is no CSV: {error}; nothing after it was read"))


def _parquet_rows(data: bytes, problems: list[Problem]) -> Iterator[tuple[int, Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    line = 1
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        columns = [name for name in file.schema_arrow.names if not name.startswith("__index_level_")]  # pandas'
        if faults := _header_faults(columns):
            problems.extend(Problem(0, *fault) for fault in faults)
            return
        # Without threads: pyarrow 26 may abort when Python ends.
        for batch in file.iter_batches(_BATCH, columns=columns, use_threads=False):
            yield from enumerate(batch.to_pylist(), start=line)
            line += len(batch)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        problems.append(Problem(0, "", f"is no Parquet, or damaged after row {line - 1}: {error}"))


def _header_faults(header: list[str]) -> list[tuple[str, str]]:
    """(field, what is wrong) of the columns of a table: said once, not once a row."""
    if len(header) == 1 and (separator := next((mark for mark in ";\t|" if mark in header[0]), None)):
        return [("", f"the fields are separated by {separator!r}; allowed: commas")]
    faults = [(repr(name), _unknown_field(name)) for name in header if name not in Pair.model_fields]
    faults += [(name, "stands twice in the header") for name in Pair.model_fields if header.count(name) > 1]
    needed = (name for name, field in Pair.model_fields.items() if field.is_required())
    return [*faults, *((name, "this column is missing") for name in needed if header and name not in header)]
