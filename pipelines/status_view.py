"""`vvt status` for people: a run's status as a few lines and a table."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from pipelines.progress import clock
from pipelines.status import ENDED, RunStatus

SHOWN = 8  # recordings, busy workers and reasons, at most


def print_status(status: RunStatus, console: Console, *, dead: bool) -> None:
    """Print `status`; `dead` says that its driver is gone without having written an end."""
    console.print(headline(status, dead=dead), soft_wrap=True)
    left = "" if status.seconds_left is None or dead else f", about {clock(status.seconds_left)} left"
    read = f"{status.recordings_done} of {status.recordings} recording(s) read, {len(status.reading)} being read; "
    console.print(
        f"{read if status.recordings else ''}{status.seen} clip(s) at {status.clips_per_second:.2f}/s{left}",
        soft_wrap=True,
    )
    console.print(_verdicts(status))
    if status.stages:
        console.print(_stages(status))
    if not dead and status.state not in ENDED:
        _print_work(status, console)


def headline(status: RunStatus, *, dead: bool) -> str:
    """State, who, since when, and what to do about it, in a sentence or two."""
    who = f"process {status.driver.pid} on {status.driver.host}"
    since = _stamp(status.started)
    if dead:
        return (
            f"DEAD: {who}, started {since}, was last heard of {_stamp(status.updated)} ({status.state}) and is gone. "
            "What is stored stays; the same command goes on from there."
        )
    cause = f": {status.cause}" if status.cause else ""
    if status.state in ENDED:
        return f"{status.state}{cause} ({who}, {since} to {_stamp(status.updated)})"
    age = max(0.0, time.time() - status.updated)
    return f"{status.state}{cause} ({who}, started {since}, {age:.0f} s ago as shown)"


def _verdicts(status: RunStatus) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("kept", str(status.kept))
    for reason, count in sorted(status.drops.items(), key=lambda item: -item[1])[:SHOWN]:
        table.add_row("dropped", str(count), f"by {reason}")
    for reason, count in sorted(status.failures.items(), key=lambda item: -item[1])[:SHOWN]:
        table.add_row("failed", str(count), reason)
    for code, count in status.source_failures.items():
        table.add_row("recordings failed", str(count), code)
    return table


def _stages(status: RunStatus) -> Table:
    table = Table("stage", box=None, padding=(0, 2, 0, 0))
    for column in ("clips", "seconds", "mean s", "waiting", "retries"):
        table.add_column(column, justify="right")
    for name, stage in status.stages.items():
        mean = f"{stage.seconds / stage.clips:.3f}" if stage.clips else ""
        waiting, retries = str(stage.waiting or ""), str(stage.retries or "")
        table.add_row(name, str(stage.clips), f"{stage.seconds:.1f}", mean, waiting, retries)
    return table


def _print_work(status: RunStatus, console: Console) -> None:
    workers = ", ".join(f"{count} in pool `{pool}`" for pool, count in status.workers.items())
    console.print(f"workers: {workers or 'none yet'}; {status.bytes_in_flight / 1e6:.1f} MB of clips in flight")
    longest = sorted(status.working, key=lambda call: -call.seconds)
    for call in longest[:SHOWN]:
        console.print(f"  {call.stage}: {call.key}, for {call.seconds:.0f} s", soft_wrap=True)
    if len(longest) > SHOWN:
        console.print(f"  and {len(longest) - SHOWN} more")


def _stamp(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
