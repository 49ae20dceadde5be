"""SIGINT and SIGTERM ask a run to save and end; a second SIGINT ends it at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class StopRequest:
    """Whether somebody asked this process to end: the number of the signal, or 0."""

    signum: int = 0


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Take the signals while the block lasts. In the main thread only.

    SIGTERM may come more than once: torchrun hands on to its processes what the whole group has got already.

    Raises:
        KeyboardInterrupt: inside the block, at the second SIGINT.

    """
    request = StopRequest()

    def ask(signum: int, _: FrameType | None) -> None:
        if signum == request.signum == signal.SIGINT:
            raise KeyboardInterrupt
        request.signum = signum

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def outlive_signals(_: int) -> None:
    """For a worker of the data loader: its parent ends it. A signal to the whole group would else end it too early."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
