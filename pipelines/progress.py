"""Live progress: rates, kept, dropped by reason, errors, time left. Plain lines where there is no terminal."""

from __future__ import annotations

import time
from datetime import timedelta

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipelines.observer import Load, Observer
from pipelines.tally import Tally


class Progress(Observer):
    """Shows the counts of `tally` while the `with` block lasts."""

    def __init__(self, tally: Tally, *, every_seconds: float = 10.0, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._tally = tally
        self._every = every_seconds
        self._shown = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        self._shown = time.monotonic()
        if self.console.is_terminal:
            self._live = Live(self._panel(), console=self.console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def load(self, load: Load) -> None:
        """Show the counts, if it is time to."""
        if self._live:
            self._live.update(self._panel())
        elif time.monotonic() - self._shown >= self._every:
            self._shown = time.monotonic()
            self.console.print(self._line(), highlight=False, soft_wrap=True)

    def _line(self) -> str:
        tally = self._tally
        left = tally.seconds_left()
        drops = ", ".join(f"{reason} {count}" for reason, count in tally.drops.most_common(4))
        recordings = f"recordings {tally.sources_done}/{tally.total_sources}, " if tally.total_sources else ""
        return (
            f"{clock(tally.seconds)} {recordings}"
            f"clips {tally.seen} ({tally.seen / tally.seconds:.2f}/s): "
            f"kept {tally.kept}, dropped {tally.drops.total()}{f' ({drops})' if drops else ''}, "
            f"failed {tally.failures.total() + tally.source_failures.total()}, "
            f"left {'?' if left is None else clock(left)}"
        )

    def _panel(self) -> Group:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        if pause := self._tally.pause:
            table.add_row(Text(f"  waiting: {pause}", style="bold red"), "")
        for reason, count in self._tally.drops.most_common(8):
            table.add_row(Text(f"  dropped by {reason}", style="yellow"), str(count))
        for reason, count in (self._tally.failures + self._tally.source_failures).most_common(4):
            table.add_row(Text(f"  failed: {reason}", style="red"), str(count))
        return Group(Text(self._line(), style="bold"), table)


def clock(seconds: float) -> str:
    """`seconds` as H:MM:SS."""
    return str(timedelta(seconds=round(seconds)))
