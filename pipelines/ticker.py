"""Something small done every few seconds beside the work."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Ticker:
    """Calls `tick` every `seconds` on a thread of its own until it is closed. `tick` must not raise."""

    def __init__(self, seconds: float, tick: Callable[[], None], *, name: str) -> None:
        self._seconds, self._tick = seconds, tick
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; a `tick` that is under way is waited for."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(self._seconds):
            self._tick()
