"""Scores of generated videos: `python -m training.evaluate isr …`. See docs/evaluation.md."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console
from rich.table import Table

from annotators.vlm import prompts
from annotators.vlm.asking import Asker
from annotators.vlm.backends import BackendSettings, open_backend
from annotators.vlm.cache import Cache
from schemas.errors import ConfigError, VvtError
from training.annotated import read_samples
from training.isr import Judged, Kind, Outcome, Positions, Scores, scores
from training.judge import Judge
from training.judging import Judging
from training.quality_report import InteractionScores, QualityReport, columns, estimate, notes, rows
from training.quality_settings import QualitySettings

Settings = TypeVar("Settings", bound=BaseModel)

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


class JudgeConfig(BaseModel):
    """judge.yaml: who judges, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: BackendSettings = Field(description="The model, as in the labelling stage.")
    cache: str = Field(
        default="", description="Folder or fsspec URL in which answers are kept; empty: beside the report."
    )
    judging: Judging = Judging()


class IsrReport(BaseModel):
    """What `isr` writes.

    Attributes:
        judge: identity of the model: all that its answers depend on beside the question.
        prompts: name of each prompt used → fingerprint.
        scores: of the generated videos; of the real ones where these were judged: the most that can be hoped for.
        interactions: every one, with its answers.

    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    dataset: str
    split: str
    generated: str
    samples: int
    judge: dict[str, str]
    judging: Judging
    prompts: dict[str, str]
    scores: dict[Kind, Scores]
    interactions: tuple[Judged, ...]


@app.callback()
def _group() -> None:
    """Scores of generated videos."""


@app.command()
def isr(
    dataset: Annotated[str, typer.Option(help="Folder or URL that `vvt build` wrote.", show_default=False)],
    generated: Annotated[str, typer.Option(help="Folder or URL of the videos, KEY.mp4.", show_default=False)],
    judge: Annotated[Path, typer.Option(help="YAML: `backend`, `cache`, `judging`.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Report, as JSON.")] = Path("isr.json"),
    split: Annotated[str, typer.Option(help="Split whose samples are judged.")] = "test",
    reference: Annotated[bool, typer.Option(help="Judge the real videos too: the ceiling.")] = False,
    allow_missing: Annotated[
        bool, typer.Option(help="Videos that are absent, broken or too short count as not performed.")
    ] = False,
) -> None:
    """Interaction success rate: does a vision-language model see the annotated interactions performed?

    Run again after an interruption, it asks only what is not answered yet. Exit status: 0, or 2 if there is no score.
    """
    config = read_config(judge)
    out.parent.mkdir(parents=True, exist_ok=True)
    report = evaluate(
        dataset,
        generated,
        config=config.model_copy(update={"cache": config.cache or str(out.with_suffix(".answers"))}),
        split=split,
        reference=reference,
        allow_missing=allow_missing,
    )
    out.write_text(report.model_dump_json(indent=2) + "\n", "utf-8")
    print_report(report, Console(markup=False, highlight=False))
    typer.echo(f"Report: {out}")


def evaluate(
    dataset: str,
    generated: str,
    *,
    config: JudgeConfig,
    split: str = "test",
    reference: bool = False,
    allow_missing: bool = False,
) -> IsrReport:
    """Judge the videos `generated`/KEY.mp4 of `split`. Raises as `Judge`, `read_samples` and `open_backend`."""
    judging = config.judging
    samples = read_samples(dataset, judging, split=split)
    asker = Asker(open_backend(config.backend), Cache(config.cache), language=judging.language)
    try:
        judge = Judge(asker=asker, judging=judging, allow_missing=allow_missing)
        judged = judge(samples, generated, reference=reference)
    finally:
        asker.close()
    kinds: tuple[Kind, ...] = ("generated", "reference") if reference else ("generated",)
    names: tuple[prompts.Name, ...] = ("system", "judge", "repair")
    return IsrReport(
        dataset=dataset,
        split=split,
        generated=generated,
        samples=len(samples),
        judge=dict(config.backend.identity),
        judging=judging,
        prompts={name: prompts.fingerprint(name, language=judging.language) for name in names},
        scores={
            kind: scores(
                [each for each in judged if each.video == kind], categories=len(judging.options), seed=judging.seed
            )
            for kind in kinds
        },
        interactions=tuple(judged),
    )


@app.command()
def quality(
    dataset: Annotated[str, typer.Option(help="Folder or URL that `vvt build` wrote.", show_default=False)],
    generated: Annotated[str, typer.Option(help="Folder or URL of the videos, KEY.mp4.", show_default=False)],
    config: Annotated[Path | None, typer.Option(help="YAML of settings.", show_default="their defaults")] = None,
    out: Annotated[Path, typer.Option(help="Report, as JSON.")] = Path("quality.json"),
    split: Annotated[str, typer.Option(help="Split whose samples are measured.")] = "test",
    unpaired: Annotated[bool, typer.Option(help="The garments are not those worn: only VFID and FVD.")] = False,
    isr: Annotated[Path | None, typer.Option(help="Report of `isr`, to take up.", show_default=False)] = None,
    page: Annotated[Path | None, typer.Option(help="Folder for a page of the videos.", show_default=False)] = None,
) -> None:
    """SSIM, LPIPS, VFID and FVD, over all frames and over interactive ones.

    Exit status: 0, or 2 if there is no score.
    """
    from training.comparison_page import write_page
    from training.quality import measure

    settings = read_yaml(config, QualitySettings) if config else QualitySettings()
    interactions = read_interactions(isr, split=split, generated=generated) if isr else None
    out.parent.mkdir(parents=True, exist_ok=True)
    report = measure(dataset, generated, settings=settings, split=split, paired=not unpaired)
    report = report.model_copy(update={"interactions": interactions})
    out.write_text(report.model_dump_json(indent=2) + "\n", "utf-8")
    print_quality(report, Console(markup=False, highlight=False))
    typer.echo(f"Report: {out}")
    if page:
        typer.echo(f"Page: {write_page(report, page)}")


def read_interactions(file: Path, *, split: str, generated: str) -> InteractionScores:
    """From a report of `isr` on the same videos. Raises `ConfigError` if it is no report, or one of others."""
    try:
        report = IsrReport.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise ConfigError(f"this is no report of `isr`: {error}", where=str(file)) from error
    told = ((report.split, split), (report.generated.rstrip("/"), generated.rstrip("/")))
    if any(theirs != ours for theirs, ours in told):
        raise ConfigError(
            f"it is of split {report.split!r} in {report.generated}, not {split!r} in {generated}",
            where=str(file),
            remedy="Run `isr` on the same videos, and name them in the same way",
        )
    return InteractionScores(judge=report.judge, scores={kind: found.overall for kind, found in report.scores.items()})


def read_config(file: Path) -> JudgeConfig:
    """As `read_yaml`, of judge.yaml."""
    return read_yaml(file, JudgeConfig)


def read_yaml(file: Path, kind: type[Settings]) -> Settings:
    """Raises `ConfigError` if the file is absent, no YAML, or has a field that is unknown or wrong."""
    try:
        values: Any = yaml.safe_load(file.read_text("utf-8"))
        return kind.model_validate(values)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the config cannot be read: {error}", where=str(file)) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"this is no YAML: {error}", where=str(file)) from error
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        told = [f"{'.'.join(map(str, problem['loc'])) or 'config'}: {problem['msg']}" for problem in problems]
        raise ConfigError("; ".join(told), where=str(file), remedy="See docs/evaluation.md") from error


# ---- what is printed


def print_report(report: IsrReport, console: Console) -> None:
    """Tables of the scores, and what is to be known of the judge."""
    for kind, found in report.scores.items():
        rows = {**found.categories, "all": found.overall}
        rates = _table(f"{kind.capitalize()} videos, with 95 % intervals over samples", "ISR", "partly as half")
        counts = _table("Interactions", "annotated", *Outcome)
        for name, score in rows.items():
            rates.add_row(name, estimate(score.isr), estimate(score.lenient))
            counts.add_row(name, str(score.annotated), *(str(score.outcomes[outcome]) for outcome in Outcome))
        console.print(rates, "", counts, "", sep="\n")
        for name, positions in (("verdict", found.verdict_positions), ("category", found.category_positions)):
            console.print(f"Order of the {name}: {_leaning(positions)}", soft_wrap=True)
        console.print()
    for each in report.interactions:
        if why := each.missing or each.unjudged:
            console.print(f"{each.outcome}: {each.key}, interaction {each.number}, {each.video}: {why}", soft_wrap=True)


def print_quality(report: QualityReport, console: Console) -> None:
    """The table, and what is to be known of its distances."""
    samples = f"{len(report.samples)} samples" if len(report.samples) != 1 else "1 sample"
    title = f"{'Paired' if report.paired else 'Unpaired'}, {samples}, with 95 % intervals over samples"
    table = _table(title, *columns(report))
    for name, cells in rows(report).items():
        table.add_row(name, *cells)
    console.print(table, "")
    for note in notes(report):
        console.print(note, soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _leaning(positions: Positions) -> str:
    if positions.changed is None:
        return "nothing was answered in both orders."
    places = ", ".join(f"{share:.0%}" for share in positions.chosen)
    return f"{positions.changed:.1%} of answers change as it is reversed; chosen by place: {places}."


def main() -> None:
    """Run the command line. An error that the user can cause is printed as a sentence."""
    try:
        app()
    except VvtError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
