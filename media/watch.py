"""A file under FFmpeg's hands that gives up where much is read, or long, and nothing comes of it."""

from __future__ import annotations

import errno
import io
import time
from typing import Any

from schemas.errors import MediaError
from schemas.limits import Limits


class Watch:
    """Hands on what FFmpeg reads, until the limits on data and time without progress are passed.

    A demuxer that looks for a sign of life in terabytes of garbage cannot be stopped from outside, and FFmpeg does
    not ask its interrupt callback about files that Python opened: but all that it reads passes here.

    Args:
        file: open binary file.
        url: of it, for errors.
        limits: what may pass between two calls of `progress`.

    """

    def __init__(self, file: Any, *, url: str, limits: Limits) -> None:
        self._file, self.name, self._limits = file, url, limits
        self.seekable = file.seekable
        self.close = file.close
        self.tell = file.tell
        self._given_up = False
        self.progress()

    def progress(self) -> None:
        """Start counting anew: a packet came, or reading goes on after a pause."""
        self._bytes = 0
        self._since = time.monotonic()

    def readable(self) -> bool:
        """Always: PyAV asks."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """The new position; -EINVAL, as FFmpeg wants it, where there is no such place: damaged tables lead anywhere."""
        try:
            position: int = self._file.seek(offset, whence)
        except ValueError:
            return -errno.EINVAL
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return -errno.EINVAL
        return position

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none after an error, so that FFmpeg comes back soon and PyAV can raise it.

        Raises:
            MediaError: stalled.

        """
        if self._given_up:
            return b""
        try:
            data = self._read(size)
        except BaseException:  # Ctrl-C too: FFmpeg, which called, would swallow it and read on
            self._given_up = True
            raise
        self._bytes += len(data)
        return data

    def _read(self, size: int) -> bytes:
        if self._bytes > self._limits.max_stalled_mb << 20:
            raise self.stalled(f"{self._limits.max_stalled_mb} MB were read", "max_stalled_mb")
        if time.monotonic() - self._since > self._limits.max_stalled_seconds:
            raise self.stalled(f"{self._limits.max_stalled_seconds:g} s went by", "max_stalled_seconds")
        data: bytes = self._file.read(size)
        if len(data) > size:  # PyAV would copy all of it, past the end of its buffer
            raise OSError(f"the storage gave {len(data)} bytes where {size} were asked for")
        return data

    def stalled(self, what: str, limit: str) -> MediaError:
        """The error that `limit` was passed."""
        return MediaError(
            f"{what} and no video came of it: most of this is damaged, or no recording",
            code="stalled",
            where=self.name,
            remedy=f"If it is sound, raise `ingest.limits.{limit}`",
        )
