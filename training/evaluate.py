"""Scores of generated videos: `python -m training.evaluate isr …`. See docs/evaluation.md."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

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
from training.isr import Estimate, Judged, Kind, Outcome, Positions, Scores, scores
from training.judge import Judge
from training.judging import Judging

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


def read_config(file: Path) -> JudgeConfig:
    """Raises `ConfigError` if the file is absent, no YAML, or has a field that is unknown or wrong."""
    try:
        values: Any = yaml.safe_load(file.read_text("utf-8"))
        return JudgeConfig.model_validate(values)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the judge's config cannot be read: {error}", where=str(file)) from error
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
            rates.add_row(name, _rate(score.isr), _rate(score.lenient))
            counts.add_row(name, str(score.annotated), *(str(score.outcomes[outcome]) for outcome in Outcome))
        console.print(rates, "", counts, "", sep="\n")
        for name, positions in (("verdict", found.verdict_positions), ("category", found.category_positions)):
            console.print(f"Order of the {name}: {_leaning(positions)}", soft_wrap=True)
        console.print()
    for each in report.interactions:
        if why := each.missing or each.unjudged:
            console.print(f"{each.outcome}: {each.key}, interaction {each.number}, {each.video}: {why}", soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _rate(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    if estimate.low is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


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
