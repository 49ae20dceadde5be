"""Live progress: rates, kept, dropped by reason, errors, time left. Plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from datetime import timedelta

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipelines.observer import Observer
from pipelines.worker import Outcome, Pulled
from schemas.clip import Failure


class Progress(Observer):
    """Counts what the engine reports, and shows it while the `with` block lasts."""

    def __init__(
        self, *, sources: int, clips: int, every_seconds: float = 10.0, console: Console | None = None
    ) -> None:
        self.console = console or Console(stderr=True)
        self.sources, self.clips = sources, clips
        self.kept = self.failed = self.sources_done = 0
        self.drops: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.stage_seconds: defaultdict[str, float] = defaultdict(float)
        self.source_failures: Counter[str] = Counter()
        self._open: dict[str, tuple[float, float | None]] = {}
        self._read_seconds = 0.0
        self._started = self._shown = time.monotonic()
        self._every = every_seconds
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        self._started = self._shown = time.monotonic()
        if self.console.is_terminal:
            self._live = Live(self._panel(), console=self.console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    # ---- what the engine reports

    def read(self, pulled: Pulled) -> None:
        """A recording was read on."""
        last, _ = self._open.get(pulled.pair_id, (0.0, None))
        self._read_seconds += max(0.0, pulled.position_seconds - last) if last else 0.0
        self._open[pulled.pair_id] = (max(last, pulled.position_seconds), pulled.duration_seconds)
        self.stage_seconds["ingest"] += pulled.seconds

    def source_done(self, pair_id: str, failure: Failure | None) -> None:
        """A recording was read to its end, and all its clips are stored."""
        self._open.pop(pair_id, None)
        self.sources_done += 1
        if failure:
            self.source_failures[failure.code] += 1

    def ran(self, outcome: Outcome) -> None:
        """Stages took their time on a clip."""
        for stage, amount in outcome.seconds.items():
            self.stage_seconds[stage] += amount

    def finished(self, outcome: Outcome) -> None:
        """A clip was stored for good."""
        if outcome.verdict == "kept":
            self.kept += 1
        elif outcome.verdict == "dropped":
            self.drops[outcome.reason] += 1
        else:
            self.failed += 1
            self.failures[outcome.reason] += 1

    def rejected(self, pair_id: str, key: str, reason: str) -> None:
        """A stretch of a recording made no clip."""
        self.drops[reason] += 1

    # ---- what the user sees

    def refresh(self) -> None:
        """Show the counts, if it is time to."""
        if self._live:
            self._live.update(self._panel())
        elif time.monotonic() - self._shown >= self._every:
            self._shown = time.monotonic()
            self.console.print(self._line(), highlight=False, soft_wrap=True)

    @property
    def seen(self) -> int:
        """Clips that have a verdict."""
        return self.kept + self.failed + self.drops.total()

    def seconds_left(self) -> float | None:
        """Estimate from the share of the recordings read; None before there is one."""
        shares = [min(1.0, position / duration) for position, duration in self._open.values() if duration]
        done = self.sources_done + sum(shares) if self.sources else self.seen
        total = self.sources or self.clips
        return None if not done or not total else (time.monotonic() - self._started) * max(0.0, total / done - 1)

    def _line(self) -> str:
        elapsed = max(time.monotonic() - self._started, 1e-9)
        left = self.seconds_left()
        reasons = ", ".join(f"{reason} {count}" for reason, count in self.drops.most_common(4))
        return (
            f"{_clock(elapsed)} recordings {self.sources_done}/{self.sources}, "
            f"clips {self.seen} ({self.seen / elapsed:.2f}/s): "
            f"kept {self.kept}, dropped {self.drops.total()}{f' ({reasons})' if reasons else ''}, "
            f"failed {self.failed + self.source_failures.total()}, left {'?' if left is None else _clock(left)}"
        )

    def _panel(self) -> Group:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for reason, count in self.drops.most_common(8):
            table.add_row(Text(f"  dropped by {reason}", style="yellow"), str(count))
        for reason, count in (self.failures + self.source_failures).most_common(4):
            table.add_row(Text(f"  failed: {reason}", style="red"), str(count))
        return Group(Text(self._line(), style="bold"), table)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
