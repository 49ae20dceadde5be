"""What a worker was doing when it died: written so that it outlives the worker, read by the driver.

One small file a worker, beside Ray's own logs of that worker, so that it goes when the Ray session goes. The first
line names stage and clip; Python's `faulthandler` adds the traceback of a crash, or of a stage that took too long.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

LINE_BYTES = 256
TRACEBACK_BYTES = 16_000
TIMEOUT_WORDS = "Timeout ("  # how faulthandler begins a dump of a time limit
CRASH_WORDS = "Fatal Python error"


@dataclass(frozen=True)
class LastWords:
    """What a black box says: the stage and key at work ("" between two), and the traceback of what ended it, if any."""

    stage: str = ""
    key: str = ""
    traceback: str = ""

    @property
    def timed_out(self) -> bool:
        """Whether it ended because a stage took too long."""
        return TIMEOUT_WORDS in self.traceback

    @property
    def crashed(self) -> bool:
        """Whether it ended by a signal such as SIGSEGV or SIGABRT."""
        return CRASH_WORDS in self.traceback


class BlackBox:
    """The writing side, one a worker process."""

    def __init__(self) -> None:
        self.path = os.path.join(_log_folder(), f"vvt-black-box-{os.getpid()}.txt")
        self._file = open(self.path, "wb+", buffering=0)  # noqa: SIM115 - open as long as the process lives
        self._note("", "")
        self._file.seek(LINE_BYTES)
        faulthandler.enable(self._file, all_threads=False)

    @contextlib.contextmanager
    def recording(self, stage: str, key: str, *, seconds: float) -> Iterator[None]:
        """Name what is at work, and end this process if it takes longer than `seconds`.

        The clock is a thread of C, so that it also ends code that never lets go of the interpreter.
        """
        self._note(stage, key)
        faulthandler.dump_traceback_later(seconds, exit=True, file=self._file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            self._note("", "")

    def _note(self, stage: str, key: str) -> None:
        line = f"{stage}\t{key}".encode()[: LINE_BYTES - 1]
        os.pwrite(self._file.fileno(), line.ljust(LINE_BYTES - 1) + b"\n", 0)


def read_last_words(path: str) -> LastWords:
    """What the black box at `path` says; nothing where it cannot be read. Removes it: its worker is dead."""
    try:
        with open(path, "rb") as file:
            line = file.read(LINE_BYTES).decode(errors="replace")
            traceback = file.read(TRACEBACK_BYTES).decode(errors="replace")
        os.unlink(path)
    except OSError:
        return LastWords()
    stage, _, key = line.strip("\n ").partition("\t")
    return LastWords(stage.strip(), key.strip(), traceback)


def _log_folder() -> str:
    """Where Ray sends this worker's stderr; outside a worker, the system's temporary folder."""
    with contextlib.suppress(OSError):
        target = os.readlink("/proc/self/fd/2")
        if os.path.isfile(target):
            return os.path.dirname(target)
    return tempfile.gettempdir()
