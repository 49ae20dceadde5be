"""One driver at a time: a small file in a folder names who works there, and shows that it is alive.

The file is made by an atomic create where the store has one, and elsewhere by a write that is read back. Its holder
renews it every few seconds. A lock is left behind when, on the same machine, its process is gone, or when another
machine's has not been renewed for six beats and is not renewed while somebody watches.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shlex
import socket
import sys
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import psutil
from fsspec.implementations.local import LocalFileSystem
from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines import urls
from pipelines.ticker import Ticker
from schemas.errors import ConfigError, LockedError

LOCK = "driver.lock"
BEAT_SECONDS = 10.0
STALE_BEATS = 6  # missed beats after which another machine's lock counts as left behind
SETTLE_SECONDS = 1.0  # between a write that was not atomic and reading back whose it is

_log = logging.getLogger(__name__)


class Holder(BaseModel):
    """Who holds a lock. Times are seconds of the Unix clock; `machine` changes with a reboot or another container."""

    model_config = ConfigDict(frozen=True)

    host: str
    machine: str
    pid: int
    command: str
    started: float
    beat: float
    token: str

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.started, UTC).isoformat(" ", "seconds").removesuffix("+00:00")
        return f"process {self.pid} on {self.host}, since {since} UTC: {self.command}"

    def is_alive(self, *, beat_seconds: float = BEAT_SECONDS) -> bool:
        """Whether this driver still runs, as far as can be told from here, now."""
        if self.machine == _machine():
            return _began_before(self.pid, self.beat)
        return time.time() - self.beat <= STALE_BEATS * beat_seconds


class DriverLock:
    """Holds `folders` (paths or fsspec URLs) while its `with` block lasts.

    Attributes:
        taken_over: in words, the locks that were left behind there.

    Raises:
        LockedError: another driver holds one of them; it is named.

    """

    def __init__(self, *folders: str | os.PathLike[str], beat_seconds: float = BEAT_SECONDS) -> None:
        now = time.time()
        self._me = Holder(
            host=socket.gethostname(), machine=_machine(), pid=os.getpid(), command=_command(), started=now, beat=now,
            token=uuid.uuid4().hex,
        )  # fmt: skip
        self._urls = [urls.join(folder, LOCK) for folder in sorted({os.fspath(folder) for folder in folders})]
        self._beat_seconds = beat_seconds
        self._held: list[str] = []
        self._lost: LockedError | None = None
        self.taken_over: list[str] = []
        self._ticker: Ticker | None = None

    def __enter__(self) -> DriverLock:
        try:
            for url in self._urls:
                self._take(url)
        except BaseException:  # Ctrl-C too: a lock that nobody holds would keep the next driver out
            self._release()
            raise
        self._ticker = Ticker(self._beat_seconds, self._beat, name="driver lock")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._ticker:
            self._ticker.close()
        self._release()

    @property
    def holder(self) -> Holder:
        """What the lock says of this driver."""
        return self._me

    def check(self) -> None:
        """Raise `LockedError` if another driver has taken over since, as it may after this one was suspended."""
        if self._lost:
            raise self._lost

    def _take(self, url: str) -> None:
        try:
            created = urls.create(url, self._data())
        except (OSError, ConfigError) as error:
            if isinstance(error, OSError) and error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            self._refuse_the_living(url)  # a clip store that can only be read, for a replay
            return
        if not created:
            self._refuse_the_living(url)
            urls.write_whole(url, self._data())
        self._held.append(url)
        if not (created and _is_local(url)):
            time.sleep(SETTLE_SECONDS)
            holder = read_holder(url)
            if holder and holder.token != self._me.token:
                raise self._locked(url, holder)
        urls.sweep(url.removesuffix(f"/{LOCK}"))

    def _refuse_the_living(self, url: str) -> None:
        holder = read_holder(url)
        if holder is None:  # it may be about to be written
            time.sleep(SETTLE_SECONDS)
            holder = read_holder(url)
        if holder is None or holder.token == self._me.token:  # ours: its creation was tried twice, over a bad line
            return
        if holder.is_alive(beat_seconds=self._beat_seconds):
            raise self._locked(url, holder)
        if holder.machine != self._me.machine:  # its clock may be slow: watch whether the file is renewed
            time.sleep(1.5 * self._beat_seconds)
            seen = read_holder(url)
            if seen and seen != holder:
                raise self._locked(url, seen)
        self.taken_over.append(f"{url}: taken over from a driver that is gone ({holder})")
        _log.warning("%s", self.taken_over[-1])

    def _locked(self, url: str, holder: Holder) -> LockedError:
        elsewhere = holder.machine != self._me.machine
        stale = f" If that machine is dead, try again in {STALE_BEATS * self._beat_seconds:.0f} s" if elsewhere else ""
        return LockedError(
            f"another driver is at work here: {holder}",
            where=url.removesuffix(f"/{LOCK}"),
            remedy=f"`vvt status` on its output shows it. Wait until it ends, or end it with Ctrl-C or SIGTERM.{stale}",
        )

    def _beat(self) -> None:
        self._me = self._me.model_copy(update={"beat": time.time()})
        for url in self._held:
            try:
                holder = read_holder(url)
                if holder and holder.token != self._me.token:
                    self._lost = self._locked(url, holder)
                else:
                    urls.write_whole(url, self._data())
            except Exception as error:  # noqa: BLE001 - every store has error types of its own; it is tried again
                _log.warning("%s: the lock was not renewed: %s", url, error)

    def _release(self) -> None:
        for url in self._held:
            with suppress(Exception):  # whatever the store's error: left behind, the file is recognised as such
                holder = read_holder(url)
                if holder and holder.token == self._me.token:
                    urls.delete(url)
        self._held = []

    def _data(self) -> bytes:
        return self._me.model_dump_json(indent=2).encode()


def read_holder(url: str) -> Holder | None:
    """Who holds the lock file at `url`; None where there is none, or none that can be read."""
    try:
        return Holder.model_validate_json(urls.read(url) or b"")
    except ValidationError:
        return None


def _is_local(url: str) -> bool:
    return isinstance(urls.filesystem(url)[0], LocalFileSystem)


def _began_before(pid: int, when: float) -> bool:
    """Whether process `pid` runs and began before `when`: a later one only bears the number of one that is gone."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= when
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # another user's, then: it is there
        return True


def _machine() -> str:
    """What a process id is unique in: a host name alone is shared by containers, and survives a reboot."""
    parts = [socket.gethostname()]
    with suppress(OSError):  # Linux only
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _command() -> str:
    words = shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
    return re.sub(r"//[^/@\s]+@", "//…@", words)  # an address may carry a password
