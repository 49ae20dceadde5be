"""The command line, `vvt`."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipelines import models
from pipelines.export import export
from pipelines.generate_clip import generate
from pipelines.interruption import Interrupted
from schemas.errors import VvtError
from training.train import train

if TYPE_CHECKING:
    from types import FrameType

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(models.app, name="models")

NOTHING_KEPT = 3  # exit status of a run that ended well but kept no clip

ConfigArg = Annotated[str, typer.Argument(help="YAML config; see docs/config.md.", show_default=False)]
OverridesArg = Annotated[
    list[str] | None,
    typer.Argument(help="Dotted overrides, e.g. stages.blur.bounds.blur='\\[null,0.5]' run.workers=4."),
]
OutArg = Annotated[str, typer.Argument(help="Folder or URL of a built dataset.")]


@app.command()
def build(
    config: ConfigArg,
    overrides: OverridesArg = None,
    profile: Annotated[bool, typer.Option(help="Tell where time went.")] = False,
    plan: Annotated[bool, typer.Option(help="Tell what would run and why; run and write nothing.")] = False,
) -> None:
    """Build a dataset: recordings and garment images in, shards out. Running it again goes on where it stopped.

    Exit status: 0 if clips were kept, 2 if the config, the manifest or the models are not right, 3 if nothing was kept,
    130 if interrupted (143 by SIGTERM).
    """
    from pipelines.build import build as run
    from pipelines.build import plan_build
    from pipelines.configure import load_config
    from pipelines.explain import print_plan
    from pipelines.profile import print_profile
    from pipelines.stage_class import import_from_working_directory
    from pipelines.summary import print_summary

    import_from_working_directory()
    console = Console(markup=False)  # paths may hold brackets
    loaded = load_config(config, overrides or ())
    if plan:
        print_plan(*plan_build(loaded), console)
        return
    with _interruptible():
        summary = run(loaded)
    print_summary(summary, console)
    if profile and summary.profile:
        print_profile(summary.profile, console)
    if not summary.kept:
        raise typer.Exit(NOTHING_KEPT)


@app.command()
def label(
    config: ConfigArg,
    overrides: OverridesArg = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Print what labelling would cost (the default).")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write the first requests as a page to --out.")] = False,
    out: Annotated[str, typer.Option(help="The page of --dry-run.")] = "requests.html",
    sample: Annotated[int, typer.Option(min=1, help="Clips that are decoded for the estimate, at most.")] = 200,
    probe: Annotated[int, typer.Option(min=0, help="Really ask so many requests, to measure how fast it goes.")] = 0,
    requests_per_second: Annotated[float | None, typer.Option(min=1e-6, help="Of all workers, if it is known.")] = None,
    price_in: Annotated[float | None, typer.Option(min=0, help="Of a million tokens of prompts.")] = None,
    price_out: Annotated[float | None, typer.Option(min=0, help="Of a million tokens of answers.")] = None,
) -> None:
    """Tell what labels by a vision-language model would cost, and show what would be asked. `vvt build` labels.

    Asks nothing but what --probe says, and changes nothing but the cache of answers.
    """
    from pipelines.configure import load_config
    from pipelines.label import label as run
    from pipelines.label_view import Rates
    from pipelines.stage_class import import_from_working_directory

    import_from_working_directory()
    run(
        load_config(config, overrides or ()),
        page=out if dry_run else None,
        counted=estimate or not dry_run,
        sample=sample,
        probed=probe,
        rates=Rates(requests_per_second=requests_per_second, price_in=price_in, price_out=price_out),
        console=Console(markup=False, highlight=False),
    )


@app.command()
def replay(
    out: OutArg,
    overrides: OverridesArg = None,
    to: Annotated[str, typer.Option(help="Where the new dataset goes.", show_default=False)] = "",
) -> None:
    """Decide a built dataset anew under other bounds, without touching a video, and write what stays to --to.

    Exit status: as of `vvt build`.
    """
    from pipelines.build import replay as run
    from pipelines.build import stored_config
    from pipelines.configure import merge_config
    from pipelines.stage_class import import_from_working_directory
    from pipelines.summary import print_summary

    import_from_working_directory()
    if not to:
        raise typer.BadParameter("say where the new dataset goes: --to NEW (it may be OUT itself)")
    config = {**stored_config(out), "output": to}
    merged = merge_config(config, overrides or (), where=out)
    with _interruptible():
        summary = run(merged)
    print_summary(summary, Console(markup=False))
    if not summary.kept:
        raise typer.Exit(NOTHING_KEPT)


@app.command()
def status(
    out: OutArg, as_json: Annotated[bool, typer.Option("--json", help="The status file itself, and `dead`.")] = False
) -> None:
    """Show what a build is doing, or how it ended, from another shell.

    Exit status: 0 if it runs or has finished, 1 if it failed, was interrupted or is dead, 2 if nothing was ever run.
    """
    from pipelines.status import is_dead, read_status
    from pipelines.status_view import print_status

    found = read_status(out)
    dead = is_dead(out, found)
    if as_json:
        typer.echo(json.dumps({**found.model_dump(mode="json"), "dead": dead}, indent=2))
    else:
        print_status(found, Console(markup=False, highlight=False), dead=dead)
    if dead or found.state in ("failed", "interrupted"):
        raise typer.Exit(1)


@app.command()
def validate(out: OutArg) -> None:
    """Check every member of every sample of a dataset: hashes, schema, shapes, decodability.

    Exit status: 0 if all is well, 1 if there are problems, 2 if there is no dataset.
    """
    from pipelines.validate import validate as run

    report = run(out)
    for problem in report.problems:
        typer.echo(f"{problem.where}: {problem.what}", err=True)
    typer.echo(f"{report.samples} sample(s) in {report.shards} shard(s): {len(report.problems)} problem(s)")
    if report.problems:
        raise typer.Exit(1)


@app.command()
def review(
    out: OutArg,
    below: Annotated[float, typer.Option(help="Highest score of agreement that is listed.", min=0, max=1)] = 0.5,
) -> None:
    """List labels that somebody should look at, the worst first, in OUT/review.csv."""
    from pipelines.review import review as find
    from pipelines.review import write_review
    from pipelines.stage_class import import_from_working_directory

    import_from_working_directory()
    rows = find(out, below=below)
    for row in rows[:20]:
        score = "doubt" if row.score is None else f"{row.score:.2f}"
        typer.echo(f"{score:>5}  {row.key} frames {row.start_frame} to {row.end_frame}: {row.why}")
    typer.echo(f"{len(rows)} stretch(es) to look at: {write_review(out, rows)}")


@app.command()
def probe(videos: Annotated[list[str], typer.Argument(help="Paths or URLs of recordings.")]) -> None:
    """Show what recordings are, and whether they can be used. Exit status: 1 if one cannot."""
    import media

    broken = False
    for video in videos:
        table = Table(title=video, box=None, show_header=False, title_justify="left", padding=(0, 2, 0, 0))
        try:
            for field, value in media.describe(media.probe(video)):
                table.add_row(field, str(value))
        except VvtError as error:
            broken = True
            table.add_row("unusable", str(error))
        Console(markup=False).print(table)
    if broken:
        raise typer.Exit(1)


app.command()(train)
app.command()(generate)
app.command()(export)


def _interrupt(signum: int, _: FrameType | None) -> None:
    raise Interrupted(signum)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Say what Ctrl-C or SIGTERM leaves behind."""
    signal.signal(signal.SIGTERM, _interrupt)  # while the engine works, it takes both
    try:
        yield
    except KeyboardInterrupt as error:
        typer.echo("Interrupted. What is stored stays; the same command goes on from here.", err=True)
        raise typer.Exit(128 + getattr(error, "signum", signal.SIGINT)) from None


def main() -> None:
    """Run `vvt`. An error that the user can cause is printed as a sentence, not as a traceback."""
    try:
        app()
    except VvtError as error:
        Console(stderr=True).print(f"[bold red]{type(error).__name__}[/]", end=": ", soft_wrap=True)
        typer.echo(str(error), err=True)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
