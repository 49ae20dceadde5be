"""Where each sample lies in the shards, and its bytes: random access by byte offset.

A sample is read on its own, by one ranged read, so that samples can be dealt to readers one by one.
(`webdataset` deals whole shards, which starves readers when there are fewer shards than readers.)
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from media.retrying import retry
from schemas.errors import DatasetError
from schemas.tables import SHARD_NAME, beside

INDEX = "index.parquet"
_AS_IT_IS_NOW = {"use_listings_cache": False}  # stores list a folder once a process, and never see what comes later
_DAMAGE = (tarfile.TarError, OSError, ValueError, RecursionError)  # what a tar of any bytes may raise


@dataclass(frozen=True)
class Entry:
    """Where one sample lies: bytes `start` up to `stop` (None: the end) of the tar at URL `shard`."""

    key: str
    shard: str
    start: int
    stop: int | None

    def __str__(self) -> str:
        return f"{self.shard}, sample {self.key}"


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """Entries in the order of shards and offsets.

    They are kept as Arrow columns, not as Python objects: a million of them take some 50 MB, which worker
    processes share instead of copying it page by page as reference counts change.
    """

    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, row: int) -> Entry:
        return Entry(**{name: self.table[name][row].as_py() for name in ("key", "shard", "start", "stop")})

    def __iter__(self) -> Iterator[Entry]:
        return (self[row] for row in range(len(self)))

    def keys(self) -> list[str]:
        """Every key, in order."""
        return self.table["key"].to_pylist()


def _read_rows(url: str, columns: Sequence[str]) -> pa.Table:
    with fsspec.open(url, "rb", **_AS_IT_IS_NOW) as file:
        # Without threads: pyarrow 26 may abort when Python ends.
        return pq.ParquetFile(file).read(columns=list(columns), use_threads=False)


def read_index(
    dataset: str, *, split: str | None = None, columns: Sequence[str] = (), sidecar: str | None = None
) -> ShardIndex:
    """Entries of a built dataset, from `index.parquet` in its folder.

    Args:
        dataset: folder that `vvt build` wrote: path or fsspec URL.
        split: "train" or "test"; None: both.
        columns: further ones of the index, see `schemas.tables.index_schema`, for `table` alone.
        sidecar: of which the entries shall be, e.g. "latents", in place of the shards that it lies beside.

    Raises:
        DatasetError: there is no such dataset, its index is damaged or lacks a column, the split is empty, or a sample
            is not in the sidecar.

    """
    root = dataset.rstrip("/")
    url = f"{root}/{INDEX}"
    wanted = ("key", "shard", "offset", "split", *columns, *([sidecar] if sidecar else []))
    try:
        table = retry(partial(_read_rows, url, wanted))
    except FileNotFoundError:
        raise DatasetError(
            "there is no index", where=url, allowed="a folder that `vvt build` wrote, or a list of shards"
        ) from None
    except (pa.ArrowInvalid, OSError) as cause:
        raise DatasetError(f"the index cannot be read ({cause})", where=url, remedy="Run `vvt validate`") from cause
    if absent := [name for name in wanted if name not in table.column_names]:
        remedy = f"Build it with a stage that gives {sidecar}" if absent == [sidecar] else "Build the dataset anew"
        raise DatasetError(f"it has no column {', '.join(absent)}", where=url, remedy=remedy)
    if sidecar:
        table = _in_sidecar(table, sidecar, where=url)
    entries = _with_stops(table)
    chosen = entries if split is None else entries.filter(pc.field("split") == split)
    if not chosen.num_rows:
        known = ", ".join(sorted(set(table["split"].to_pylist()))) or "none: the dataset is empty"
        raise DatasetError(f"there is no sample in split {split or 'any'!r}", where=url, allowed=known)
    if strange := [name for name in pc.unique(chosen["shard"]).to_pylist() if not re.fullmatch(SHARD_NAME, name or "")]:
        raise DatasetError(f"it names a shard {strange[0]!r}", where=url, allowed="shards/NAME.tar, in the dataset")
    names = [beside(name, sidecar) if sidecar else name for name in chosen["shard"].to_pylist()]
    whole = pa.array([f"{root}/{name}" for name in names], pa.string()).dictionary_encode()
    return ShardIndex(chosen.set_column(chosen.column_names.index("shard"), "shard", whole))


def _in_sidecar(table: pa.Table, sidecar: str, *, where: str) -> pa.Table:
    """Rows whose offsets are those in the sidecar's shards."""
    offsets = pc.struct_field(table[sidecar], "offset")
    if offsets.null_count:
        key = table.filter(pc.is_null(offsets))["key"][0].as_py()
        raise DatasetError(f"sample {key} has no {sidecar}", where=where, remedy="Build the dataset anew")
    return table.set_column(table.column_names.index("offset"), "offset", offsets)


def scan_shards(shards: Sequence[str]) -> ShardIndex:
    """Entries of tars without an index, found by reading their headers.

    Raises:
        DatasetError: a shard is absent or no tar, or none holds a sample.

    """
    rows: dict[str, list[Any]] = {"key": [], "shard": [], "offset": []}
    for shard in shards:
        try:
            with (
                fsspec.open(shard, "rb", **_AS_IT_IS_NOW) as file,
                tarfile.open(fileobj=file, mode="r:", errors="replace") as tar,
            ):
                firsts = {
                    _split_name(member.name)[0]: member.offset for member in reversed(list(tar)) if member.isfile()
                }
        except FileNotFoundError:
            raise DatasetError("there is no such shard", where=shard) from None
        except _DAMAGE as cause:
            raise DatasetError(f"the shard cannot be read ({cause})", where=shard) from cause
        rows["key"] += firsts
        rows["shard"] += [shard] * len(firsts)
        rows["offset"] += firsts.values()
    if not rows["key"]:
        raise DatasetError("there is no sample in these shards", where=", ".join(shards) or "an empty list")
    return ShardIndex(_with_stops(pa.table(rows)))


def read_bytes(entry: Entry) -> bytes:
    """The stretch of its shard that holds one sample, by one ranged read."""
    filesystem, path = fsspec.core.url_to_fs(entry.shard, **_AS_IT_IS_NOW)
    return retry(partial(filesystem.cat_file, path, start=entry.start, end=entry.stop))


def read_members(entry: Entry, *, fetch: Callable[[Entry], bytes] = read_bytes) -> dict[str, bytes]:
    """Members of one sample by their name after the key, e.g. "pose.npz"; `fetch` is asked for its bytes.

    Raises:
        DatasetError: the shard is absent, damaged there, or holds another sample at that offset.

    """
    try:
        data = fetch(entry)
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:", errors="replace") as tar:
            found = {member.name: _content(tar, member) for member in tar if member.isfile()}
    except FileNotFoundError:
        raise DatasetError("there is no such shard", where=str(entry)) from None
    except _DAMAGE as cause:
        raise DatasetError(
            f"the shard cannot be read ({cause})",
            where=str(entry),
            remedy="Run `vvt validate` on the dataset",
        ) from cause
    members = {}
    for name, content in found.items():
        key, member = _split_name(name)
        if key != entry.key:
            raise DatasetError(
                f"the shard holds sample {key!r} where the index says {entry.key!r}",
                where=str(entry),
                remedy="The index is of other shards: build or copy the dataset anew",
            )
        members[member] = content
    return members


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return file.read() if file is not None else b""


def _split_name(name: str) -> tuple[str, str]:
    """`KEY.video.mp4` → key and member, at the first dot of the file name, as WebDataset does."""
    folder, slash, file = name.rpartition("/")
    key, _, member = file.partition(".")
    return folder + slash + key, member


def _with_stops(rows: pa.Table) -> pa.Table:
    """Rows of key, shard and offset in reading order, each stopping where the next of its shard starts."""
    ordered = rows.sort_by([("shard", "ascending"), ("offset", "ascending")])
    shards, offsets = ordered["shard"].to_pylist(), ordered["offset"].to_pylist()
    stops = [
        after if shard == shard_after else None
        for shard, shard_after, after in zip(shards, [*shards[1:], None], [*offsets[1:], None], strict=True)
    ]
    return ordered.append_column("stop", pa.array(stops, pa.int64())).rename_columns({"offset": "start"})
