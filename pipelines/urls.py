"""Paths and fsspec URLs: absolute, read, and written whole or not at all."""

from __future__ import annotations

import os
import posixpath
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

import fsspec
from fsspec.core import split_protocol, url_to_fs
from fsspec.implementations.local import LocalFileSystem

from schemas.errors import ConfigError


def absolute(url: str) -> str:
    """`url` as it is if it has a protocol, else as an absolute path: workers need not share a working directory."""
    return url if split_protocol(url)[0] is not None else os.path.abspath(os.path.expanduser(url))


def join(url: str, *parts: str) -> str:
    """`url` with path segments added."""
    return posixpath.join(url.rstrip("/"), *parts)


@contextmanager
def open_whole(url: str) -> Iterator[IO[bytes]]:
    """Open `url` for writing so that no reader ever sees a part of it, whenever this process dies."""
    fs, path = filesystem(url)
    if not isinstance(fs, LocalFileSystem):
        # Not straight to the store: closing a half-written file there would show what it holds.
        with tempfile.NamedTemporaryFile() as stream:
            yield stream
            stream.flush()
            fs.put_file(stream.name, path)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{uuid.uuid4().hex[:8]}.part"
    try:
        with open(temporary, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def write_whole(url: str, data: bytes) -> None:
    """Write `data` as `open_whole` does."""
    with open_whole(url) as stream:
        stream.write(data)


def read(url: str) -> bytes | None:
    """Bytes at `url`, or None where there is nothing."""
    fs, path = filesystem(url)
    try:
        data: bytes = fs.cat_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return data


def size(url: str) -> int | None:
    """Size in bytes of the file at `url`, or None where there is none."""
    fs, path = filesystem(url)
    try:
        found: int | None = fs.info(path).get("size")
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found


def identity(url: str) -> str | None:
    """What tells one content of `url` from the next without reading it: size and modification time or ETag."""
    fs, path = filesystem(url)
    try:
        info = fs.info(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _identity(info)


def files_in(folder: str) -> dict[str, str]:
    """Names of the files in `folder`, with their `identity`, as they are now; none where there is no folder."""
    fs, path = filesystem(folder)
    fs.invalidate_cache(path)
    try:
        found = fs.ls(path, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {info["name"].rpartition("/")[2]: _identity(info) for info in found if info["type"] == "file"}


def read_heads(files: Sequence[str], size: int) -> list[bytes | None]:
    """The first `size` bytes of each file, or None where there is none; all at once where the store can."""
    if not files:
        return []
    fs, _ = filesystem(files[0])
    paths = [filesystem(url)[1] for url in files]
    heads: list[bytes | None] = []
    for data in fs.cat_ranges(paths, [0] * len(paths), [size] * len(paths), on_error="return"):
        if isinstance(data, FileNotFoundError | NotADirectoryError):
            heads.append(None)
        elif isinstance(data, BaseException):
            raise data
        else:
            heads.append(data)
    return heads


def _identity(info: Mapping[str, Any]) -> str:
    stamp = next(
        (info[field] for field in ("ETag", "etag", "mtime", "LastModified", "last_modified") if info.get(field)),
        "",
    )
    return f"{info.get('size')}:{stamp}"


def filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of `url`, and the path in it. Raises `ConfigError` where none is known for its protocol."""
    try:
        fs, path = url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise ConfigError(f"no file system can be had: {error}", where=url) from error
    return fs, path


def check_writable(url: str) -> None:
    """Raise `ConfigError` unless files can be written into the folder `url`, before hours are spent on them."""
    if split_protocol(url)[0] == "memory":
        raise ConfigError("each worker has a memory:// of its own", where=url, allowed="a folder that all nodes share")
    probe = join(url, f".writable-{uuid.uuid4().hex[:8]}")
    try:
        write_whole(probe, b"")
        fs, path = filesystem(probe)
        fs.rm_file(path)
    except OSError as error:
        raise ConfigError(f"nothing can be written here: {error}", where=url) from error
