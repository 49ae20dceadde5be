"""`vvt label`: what labels by a vision-language model would cost, and what would be asked, before anything is."""

from __future__ import annotations

from rich.console import Console

from pipelines import urls
from pipelines.label_estimate import SAMPLE, estimate, first_questions, probe
from pipelines.label_page import page_of
from pipelines.label_survey import Survey
from pipelines.label_view import Rates, print_estimate
from schemas.config import BuildConfig


def label(
    config: BuildConfig,
    *,
    page: str | None = None,
    counted: bool = True,
    sample: int = SAMPLE,
    probed: int = 0,
    rates: Rates = Rates(),
    console: Console,
) -> None:
    """What `vvt label` does: write the first requests to `page`, print the estimate if they are to be `counted`.

    Raises:
        ConfigError: no stage of `config` asks a model.
        VvtError: manifest or config are not right; of a probe, the backend cannot be asked.

    """
    survey = Survey(config)
    if page:
        shown = list(first_questions(survey))
        urls.write_whole(urls.absolute(page), page_of(shown, survey.stage).encode())
        console.print(f"{len(shown)} request(s) are shown in {page}; nothing was asked.", soft_wrap=True)
    if counted:
        found = estimate(survey, sample=sample)
        measured = probe(survey, probed) if probed else None
        print_estimate(found, survey.stage, rates=rates, probe=measured, console=console)
