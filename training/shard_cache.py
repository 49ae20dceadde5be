"""Bytes of samples from a store, kept on the local disk up to a bound.

(`fsspec`'s file caches have no bound, and `diskcache` unpickles what it finds.)
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from schemas.errors import ConfigError

_log = logging.getLogger(__name__)
_DIGEST = hashlib.sha256().digest_size
_ROOM = 0.1
"""Share of the bound that is cleared at once, and that a process may write before it looks at the folder again."""


class ShardCache:
    """A folder of files, one a sample, for any number of processes at once. The least recently read go first.

    Files are written whole or not at all, and what does not match its own checksum is fetched again. While processes
    write, the folder may pass its bound by a tenth for each of them. A folder that cannot be written costs speed, not
    the run: it is told once.

    Args:
        folder: made where it is missing. Only files that the cache itself wrote are ever removed.
        max_bytes: bound of their sizes together.

    Raises:
        ConfigError: the bound is not positive, or the folder cannot be made.

    """

    def __init__(self, folder: str | os.PathLike[str], *, max_bytes: int) -> None:
        if max_bytes < 1:
            raise ConfigError(f"the cache may hold {max_bytes} bytes", allowed="1 and above")
        self.folder, self.max_bytes = Path(folder), max_bytes
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as cause:
            raise ConfigError(f"the cache's folder cannot be made ({cause})", where=str(folder)) from cause
        self._unchecked = max_bytes  # bytes written since the folder was looked at: at first by whoever was here before
        self._told = False

    def read(self, name: str, fetch: Callable[[], bytes]) -> bytes:
        """What was stored as `name`, else what `fetch` returns, which is stored. `name` says which bytes these are."""
        file = self.folder / f"{hashlib.sha256(name.encode()).hexdigest()}.sample"
        if (stored := _content(file)) is not None:
            return stored
        data = fetch()
        try:
            self._store(file, data)
        except OSError as error:
            if not self._told:
                _log.warning("the cache of shards in %s does not take more: %s", self.folder, error)
                self._told = True
        return data

    def _store(self, file: Path, data: bytes) -> None:
        if len(data) > self.max_bytes:
            return
        self._unchecked += len(data)
        if self._unchecked > _ROOM * self.max_bytes:
            self._make_room(len(data))
        handle, name = tempfile.mkstemp(suffix=".sample", dir=self.folder)
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(hashlib.sha256(data).digest())
                out.write(data)
            os.replace(name, file)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise

    def _make_room(self, size: int) -> None:
        """Remove what was read longest ago, until `size` bytes and some more fit."""
        files = []
        for file in self.folder.glob("*.sample"):
            try:
                found = file.stat()
            except FileNotFoundError:  # another process made room too
                continue
            files.append((found.st_mtime_ns, found.st_size, file))
        total = sum(bytes_ for _, bytes_, _ in files) + size
        target = self.max_bytes * (1 - _ROOM)
        for _, bytes_, file in sorted(files):
            if total <= target:
                break
            file.unlink(missing_ok=True)
            total -= bytes_
        self._unchecked = size


def _content(file: Path) -> bytes | None:
    """What is stored, and that it was just read; None: nothing, or something damaged."""
    try:
        stored = file.read_bytes()
        os.utime(file)
    except OSError:
        return None
    data = stored[_DIGEST:]
    return data if hashlib.sha256(data).digest() == stored[:_DIGEST] else None
