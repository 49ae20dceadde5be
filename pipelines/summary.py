"""What a run tells its user when it ends."""

from __future__ import annotations

from datetime import timedelta

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from pipelines.build import Summary
from pipelines.tables import DECISIONS


def print_summary(summary: Summary, console: Console) -> None:
    """Print counts, reasons and where things lie; loudly if nothing was kept."""
    if summary.unchanged and summary.kept:
        console.print(
            f"Nothing to do: the dataset in {summary.output} is up to date ({summary.kept.total()} samples).",
            soft_wrap=True,
        )
        return
    if not summary.kept:
        console.print(Panel(_nothing_kept(summary), title="NOTHING WAS KEPT", style="bold red"))
    table = Table(title=None, box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("recordings", str(summary.recordings), f"{summary.recordings_read} read in this run")
    table.add_row("clips seen", str(summary.seen), "")
    table.add_row(
        "kept",
        str(summary.kept.total()),
        ", ".join(f"{split} {count}" for split, count in sorted(summary.kept.items())),
    )
    for reason, count in summary.drops.most_common():
        table.add_row("dropped", str(count), f"by {reason}")
    for reason, count in summary.failures.most_common():
        table.add_row("failed", str(count), reason)
    for stage, count in summary.waiting.items():
        table.add_row(
            "unfinished", str(count), f"`{stage}`, as it is set now, has not run on them: `vvt build` runs it"
        )
    console.print(table)
    words = f"{summary.shards} shard(s) in {summary.output}, {timedelta(seconds=round(summary.seconds))}"
    console.print(words, soft_wrap=True)
    console.print(f"Why each clip was kept or dropped: {summary.output}/{DECISIONS}", soft_wrap=True)


def _nothing_kept(summary: Summary) -> str:
    if not summary.seen:
        return "No recording gave a single clip."
    reasons = [f"{count} dropped by {reason}" for reason, count in summary.drops.most_common(5)]
    reasons += [f"{count} failed: {reason}" for reason, count in summary.failures.most_common(5)]
    reasons += [f"{count} unfinished: {stage} has not run" for stage, count in summary.waiting.items()]
    return (
        f"Of {summary.seen} clips: " + "; ".join(reasons) + ".\n"
        f"Look into {summary.output}/{DECISIONS}; loosen a bound in the config (stages.NAME.bounds.METRIC) and replay, "
        "or mend the recordings."
    )
