"""Paths and fsspec URLs: absolute, read, and written whole or not at all."""

from __future__ import annotations

import errno
import os
import posixpath
import re
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import IO, TypeVar, cast

import fsspec
import psutil
from fsspec.core import split_protocol, url_to_fs
from fsspec.implementations.local import LocalFileSystem

from media.retrying import RetriedFile, may_pass, retry
from media.sources import BLOCK, stamp
from schemas.errors import ConfigError, OutageError, VvtError

Result = TypeVar("Result")

UNFINISHED = ".part"
DAY = 86_400.0
"""Seconds after which a file that a process on another machine left unfinished counts as left behind."""

_NOT_THERE = (FileNotFoundError, NotADirectoryError)
_FULL = {errno.ENOSPC, errno.EDQUOT}
_DISK_AWAY = {*_FULL, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOLINK, errno.EHOSTDOWN}


def absolute(url: str) -> str:
    """`url` as it is if it has a protocol, else as an absolute path: workers need not share a working directory."""
    return url if split_protocol(url)[0] is not None else os.path.abspath(os.path.expanduser(url))


def join(url: str, *parts: str) -> str:
    """`url` with path segments added."""
    return posixpath.join(url.rstrip("/"), *parts)


@contextmanager
def open_whole(url: str, *, unfinished: str = "") -> Iterator[IO[bytes]]:
    """Open `url` for writing so that no reader ever sees a part of it, whenever this process dies.

    Args:
        url: of the file.
        unfinished: folder on the same disk for what is half-written, "" for the file's own; stores need none.

    Raises:
        OutageError: the disk is full, or the store does not answer.
        ConfigError: a store denies access.

    """
    fs, path = filesystem(url)
    if isinstance(fs, LocalFileSystem):
        with _whole_on_disk(path, filesystem(unfinished)[1] if unfinished else os.path.dirname(path)) as file:
            yield file
        return
    # Not straight to the store: closing a half-written file there would show what it holds. The temporary file has no
    # name, so that nothing is left of it either.
    with _disk_errors(tempfile.gettempdir()), tempfile.TemporaryFile() as stream:
        yield stream
        stream.flush()
        _asked(url, partial(fs.put_file, f"/dev/fd/{stream.fileno()}", path))


@contextmanager
def _whole_on_disk(path: str, folder: str) -> Iterator[IO[bytes]]:
    writer = f"{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
    temporary = os.path.join(folder, f"{os.path.basename(path)}.{writer}{UNFINISHED}")
    try:
        with _disk_errors(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.makedirs(folder, exist_ok=True)
            with open(temporary, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
    except BaseException:  # Ctrl-C too: the half-written file would stay
        with suppress(OSError):
            os.unlink(temporary)
        raise


@contextmanager
def _disk_errors(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_AWAY:
            raise _outage(path, error) from error
        raise


def sweep(folder: str) -> None:
    """Remove what writers that are gone left unfinished in `folder` (not below it). Stores show no unfinished files."""
    fs, path = filesystem(folder)
    if not isinstance(fs, LocalFileSystem) or not os.path.isdir(path):
        return
    for entry in os.scandir(path):
        if entry.name.endswith(UNFINISHED) and _is_left_behind(entry):
            with suppress(FileNotFoundError):
                os.unlink(entry)


def _is_left_behind(entry: os.DirEntry[str]) -> bool:
    writer = re.fullmatch(rf".*\.{re.escape(socket.gethostname())}\.(\d+)\.\w+", entry.name.removesuffix(UNFINISHED))
    if writer:
        return not psutil.pid_exists(int(writer[1]))
    with suppress(FileNotFoundError):
        return time.time() - entry.stat().st_mtime > DAY
    return False


def write_whole(url: str, data: bytes, *, unfinished: str = "") -> None:
    """Write `data` as `open_whole` does."""
    fs, path = filesystem(url)
    if isinstance(fs, LocalFileSystem):
        with open_whole(url, unfinished=unfinished) as stream:
            stream.write(data)
    else:
        _asked(url, partial(fs.pipe_file, path, data))


def create(url: str, data: bytes) -> bool:
    """Write `data` into a new file; False where there is one. Atomic on disk, S3, GCS; others may look, then write."""
    fs, path = filesystem(url)
    try:
        if isinstance(fs, LocalFileSystem):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "xb") as stream:
                stream.write(data)
        else:
            _asked(url, partial(fs.pipe_file, path, data, mode="create"))
    except FileExistsError:
        return False
    return True


def read(url: str) -> bytes | None:
    """Bytes at `url`, or None where there is nothing. Raises as `open_whole`."""
    fs, path = filesystem(url)
    return _found(url, partial(fs.cat_file, path))


def open_read(url: str) -> IO[bytes]:
    """The file at `url`, seekable, a few MB read ahead. Raises `FileNotFoundError`, and as `open_whole`."""
    fs, path = filesystem(url)
    if isinstance(fs, LocalFileSystem):
        return open(path, "rb")
    file = _asked(url, partial(fs.open, path, "rb", block_size=BLOCK, cache_type="readahead"))
    return cast(IO[bytes], RetriedFile(file))


def size(url: str) -> int | None:
    """Size in bytes of the file at `url`, or None where there is none."""
    fs, path = filesystem(url)
    info = _found(url, partial(fs.info, path))
    return info.get("size") if info else None


def delete(url: str) -> None:
    """Remove the file at `url`, if it is there."""
    fs, path = filesystem(url)
    _found(url, partial(fs.rm_file, path))


def files_in(folder: str) -> dict[str, str]:
    """Names of the files in `folder`, with what tells one content from the next (`media.sources.stamp`), as of now.

    None where there is no folder.
    """
    fs, path = filesystem(folder)
    found = _found(folder, partial(fs.ls, path, detail=True)) or ()
    return {info["name"].rpartition("/")[2]: stamp(info) for info in found if info["type"] == "file"}


def read_heads(files: Sequence[str], size: int) -> list[bytes | None]:
    """The first `size` bytes of each file, or None where there is none; all at once where the store can."""
    if not files:
        return []
    fs, _ = filesystem(files[0])
    paths = [filesystem(url)[1] for url in files]

    def read_all() -> list[bytes | None]:
        heads: list[bytes | None] = []
        for data in fs.cat_ranges(paths, [0] * len(paths), [size] * len(paths), on_error="return"):
            if isinstance(data, BaseException) and not isinstance(data, _NOT_THERE):
                raise data
            heads.append(None if isinstance(data, BaseException) else data)
        return heads

    return _asked(files[0], read_all)


def filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of `url`, and the path in it. Raises `ConfigError` where none is known for its protocol.

    It remembers no listings: other processes write to the same folders.
    """
    try:
        fs, path = url_to_fs(url, use_listings_cache=False)
    except (ValueError, ImportError) as error:
        raise ConfigError(f"no file system can be had: {error}", where=url) from error
    return fs, path


def _found(url: str, action: Callable[[], Result]) -> Result | None:
    try:
        return _asked(url, action)
    except _NOT_THERE:
        return None


def _asked(url: str, action: Callable[[], Result]) -> Result:
    """What `action` returns, tried again while it fails for a reason that may pass."""
    try:
        return retry(action)
    except PermissionError as error:
        raise ConfigError(
            f"access is denied: {error}", where=url, remedy="Check the rights and the credentials (docs/storage.md)"
        ) from error
    except Exception as error:  # every store has error types of its own
        if may_pass(error):
            raise _outage(url, error) from error
        raise


def _outage(url: str, error: BaseException) -> OutageError:
    full = getattr(error, "errno", None) in _FULL
    what = "the disk is full" if full else "the storage does not answer"
    remedy = "Make room" if full else "Check that it is up, and its address"
    return OutageError(f"{what}: {type(error).__name__}: {error}", where=url, remedy=remedy)


def check_writable(url: str) -> None:
    """Raise `ConfigError` unless files can be written into the folder `url`, before hours are spent on them."""
    if split_protocol(url)[0] == "memory":
        raise ConfigError("each worker has a memory:// of its own", where=url, allowed="a folder that all nodes share")
    probe = join(url, f".writable-{uuid.uuid4().hex[:8]}")
    try:
        write_whole(probe, b"")
        delete(probe)
    except VvtError:
        raise
    except Exception as error:  # every store has error types of its own
        raise ConfigError(
            f"nothing can be written here: {error}",
            where=url,
            remedy="Check that the disk or bucket exists, the rights and the credentials (docs/storage.md)",
        ) from error
