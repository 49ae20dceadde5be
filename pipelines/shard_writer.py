"""Samples into tars: a shard, and beside it those of the sidecars. Equal samples give equal bytes."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

import webdataset

from pipelines import urls
from schemas.artifacts import ARTIFACTS
from schemas.config import ShardsConfig
from schemas.tables import SIDECAR_COPIES, beside

MAIN = "shards"
"""Folder of the shards that sidecars lie beside."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One written tar: its name relative to the output, size in bytes, hash, and how many samples it holds."""

    name: str
    split: str
    size: int
    sha256: str
    samples: int


@dataclass(frozen=True)
class Sample:
    """A sample as it is written: members by name (without the key), artifacts for sidecars, its row of the index."""

    key: str
    members: dict[str, bytes] = field(repr=False)
    sidecars: dict[str, bytes] = field(repr=False)
    row: dict[str, Any] = field(repr=False)


def write_shards(
    samples: Iterator[Sample], *, output: str, split: str, config: ShardsConfig, sidecars: Sequence[str]
) -> Iterator[tuple[dict[str, Shard], list[dict[str, Any]]]]:
    """Write `samples`, all of `split`; each shard and the sidecars' beside it, by folder, and its rows of the index.

    A shard is as large as `config` lets it, whatever goes into the sidecars.
    """
    waiting = next(samples, None)
    number = 0
    while waiting is not None:
        name = f"{MAIN}/{split}-{number:06d}.tar"
        names = {MAIN: name, **{sidecar: beside(name, sidecar) for sidecar in sidecars}}
        rows: list[dict[str, Any]] = []
        with ExitStack() as written_whole:
            tars = {folder: written_whole.enter_context(_tar(urls.join(output, names[folder]))) for folder in names}
            while waiting is not None and _has_room(tars[MAIN], waiting, config):
                rows.append({**waiting.row, "shard": name, **_write(waiting, tars)})
                waiting = next(samples, None)
        yield {folder: tar.described(names[folder], split=split) for folder, tar in tars.items()}, rows
        number += 1


def _write(sample: Sample, tars: Mapping[str, _Tar]) -> dict[str, Any]:
    """Write `sample` where it belongs; the columns of the index that say where."""
    columns: dict[str, Any] = {"offset": tars[MAIN].add(sample.key, sample.members)}
    copies = {name: sample.members[name] for name in SIDECAR_COPIES if name in sample.members}
    for name, data in sample.sidecars.items():
        offset = tars[name].add(sample.key, {**copies, ARTIFACTS[name].member: data})
        columns[name] = {"offset": offset, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return columns


class _Tar:
    """A tar that is being written."""

    def __init__(self, stream: _HashingStream, writer: webdataset.TarWriter) -> None:
        self._stream, self._writer = stream, writer
        self.samples = 0

    @property
    def size(self) -> int:
        """Bytes of all samples so far."""
        return int(self._writer.tarstream.offset)

    def add(self, key: str, members: Mapping[str, bytes]) -> int:
        """Write a sample. Returns the offset that it begins at."""
        offset = self.size
        self._writer.write({"__key__": key, **members})
        self.samples += 1
        return offset

    def described(self, name: str, *, split: str) -> Shard:
        """The tar, when it is closed."""
        return Shard(
            name=name, split=split, size=self._stream.size, sha256=self._stream.hash.hexdigest(), samples=self.samples
        )


@contextmanager
def _tar(url: str) -> Iterator[_Tar]:
    with urls.open_whole(url) as stream:
        hashing = _HashingStream(stream)
        with (
            io.BufferedWriter(hashing, buffer_size=1 << 20) as buffered,  # tarfile writes 10 kB at a time
            # No owner, no clock.
            webdataset.TarWriter(buffered, encoder=False, mtime=0, user="", group="") as writer,
        ):
            yield _Tar(hashing, writer)


class _HashingStream(io.RawIOBase):
    """Passes writes on, hashing and counting them."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.hash = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._stream.write(data)
        self.hash.update(data)
        self.size += len(data)
        return len(data)


def _has_room(tar: _Tar, sample: Sample, config: ShardsConfig) -> bool:
    added = sum(len(data) for data in sample.members.values())
    return tar.samples == 0 or (tar.samples < config.max_samples and tar.size + added <= config.max_mb * 1024**2)
