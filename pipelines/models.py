"""`vvt models`: the files that stages load. Known ones are fetched and verified, a user's own are recognised."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from schemas.errors import WeightsError

if TYPE_CHECKING:
    import weights

_ON_DEMAND = ("full", "metrics")
"""Groups whose files are needed only by who asks for them."""

app = typer.Typer(no_args_is_help=True, help="Weights files: what is known, fetch, verify.")


@app.command("list")
def list_models() -> None:
    """List the files that stages load, and whether they are here."""
    import weights

    name = Column("name", no_wrap=True)  # to be copied whole
    table = Table(name, "group", "MB", "licence", "state", "purpose", box=None, padding=(0, 2, 0, 0))
    for status in weights.verify():
        entry = status.entry
        size = "?" if entry.size is None else f"{entry.size / 1e6:.1f}"
        table.add_row(entry.name, entry.group, size, entry.licence, _state(status), entry.purpose)
    Console(markup=False).print(table)


@app.command()
def pull(
    names: Annotated[list[str] | None, typer.Argument(help="Names or groups; none: the embedded tier.")] = None,
) -> None:
    """Fetch and verify weights files. Safe to interrupt and to run twice."""
    import weights

    for status in weights.pull(names or ["embedded"], progress=lambda words: typer.echo(words, err=True)):
        came = f"from {status.source}" if status.source else "was here"
        typer.echo(f"{status.entry.name}: {_state(status)}, {came}: {status.path}")


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Names, groups or paths; none: all that is known.")] = None,
    config: Annotated[str, typer.Option(help="Also what the stages of this config load.", show_default=False)] = "",
) -> None:
    """Compare the files that are here with the registry.

    Exit status: 1 if one is absent or not the published one; of the full tier and of the metrics, an absent one counts
    if it was asked for. A file that is named by path need only be there: whether it is a published one is told.
    """
    import weights

    asked = [*(names or ()), *(_loaded_by(config) if config else ())]
    well = True
    for path in filter(weights.is_path, asked):
        well &= _tell_own(path)
    known = [name for name in asked if not weights.is_path(name)]
    for status in weights.verify(known) if known or not (names or config) else ():
        typer.echo(f"{status.entry.name}: {_state(status)} {status.path or ''}")
        well &= status.ok or (status.entry.group in _ON_DEMAND and not known and not status.faults)
    if not well:
        raise typer.Exit(1)


def _loaded_by(config: str) -> Iterable[str]:
    """Names and paths that the stages of `config` load, in their order."""
    from pipelines.chain import make_chain
    from pipelines.configure import load_config
    from pipelines.stage_class import import_from_working_directory

    import_from_working_directory()
    return dict.fromkeys(file for stage in make_chain(load_config(config)).stages for file in stage.model_files)


def _state(status: weights.Status) -> str:
    if status.ok and status.entry.sha256 is None:
        import weights

        return f"present, sha256 {weights.sha256(status.entry.name)}, none is published"
    return "ok" if status.ok else "; ".join(status.faults) or "absent"


def _tell_own(path: str) -> bool:
    """Print what the user's own file is. Returns whether it is there."""
    import weights

    try:
        entry = weights.recognise(path)
    except WeightsError:
        typer.echo(f"{path}: absent")
        return False
    words = f"ok, it is {entry.name}" if entry else f"your own, sha256 {weights.sha256(path)}, not a published file"
    typer.echo(f"{path}: {words}")
    return True
