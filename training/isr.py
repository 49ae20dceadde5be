"""The interaction success rate (ISR) of judged videos, with intervals, and how far the judge is to be trusted.

ISR = interactions performed / interactions annotated (iTryOn, table of VVT-Interact). Pure functions and data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from annotators.vlm.answers import Verdict
from schemas.errors import VvtError
from training.bootstrap import Estimate, ratios

Kind = Literal["generated", "reference"]
_CREDIT = {Verdict.PERFORMED: (1.0, 1.0), Verdict.PARTLY: (0.0, 0.5), Verdict.NOT: (0.0, 0.0)}
"""Verdict → what it counts for ISR, and for lenient ISR."""


class EvaluationError(VvtError):
    """There can be no honest score: videos are missing, or the judge left too much unjudged."""


class Outcome(StrEnum):
    """What became of an interaction, over both askings."""

    PERFORMED = "performed"
    PARTLY = "partly"
    NOT = "not"
    SPLIT = "split"
    MISSING = "missing"
    UNJUDGED = "unjudged"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(_Record):
    """What the judge said at one asking.

    Attributes:
        category: that it sees in the hands.
        verdict: on the annotated interaction.
        category_place, verdict_place: where what it chose stood in the list shown, from 0.

    """

    category: str
    verdict: Verdict
    category_place: int
    verdict_place: int


class Judged(_Record):
    """One annotated interaction in one video.

    Attributes:
        key, number: of the sample, and of the interaction in it.
        video: the generated one, or the real one.
        category: as annotated.
        answers: with the options in one order, then in the reverse; none where it is missing or unjudged.
        missing: why the video does not show this part of the clip; empty where it does.
        unjudged: why there is no usable answer; empty where there is.

    """

    key: str
    number: int
    video: Kind
    category: str
    answers: tuple[Answer, ...] = ()
    missing: str = ""
    unjudged: str = ""

    @property
    def outcome(self) -> Outcome:
        """The verdict, where both askings agree on it."""
        if self.missing:
            return Outcome.MISSING
        if not self.answers:
            return Outcome.UNJUDGED
        verdicts = {answer.verdict for answer in self.answers}
        return Outcome(verdicts.pop()) if len(verdicts) == 1 else Outcome.SPLIT

    @property
    def credit(self) -> tuple[float, float]:
        """What it counts for ISR and for lenient ISR, 0..1: the mean over both askings; missing counts nothing."""
        earned = [_CREDIT[answer.verdict] for answer in self.answers] or [(0.0, 0.0)]
        strict, lenient = np.mean(earned, axis=0)
        return float(strict), float(lenient)


class Score(_Record):
    """Counts of interactions by outcome, which add up to `annotated`, and the rates over all but `unjudged`.

    `isr` counts "performed" alone, `lenient` also half of each "partly"; both are None where nothing was judged. Of an
    interaction whose two askings differ ("split") each counts half.
    """

    annotated: int
    outcomes: dict[Outcome, int]
    isr: Estimate | None
    lenient: Estimate | None


class Positions(_Record):
    """How the order in which options are shown moves the answers.

    Attributes:
        questions: asked in both orders, and answered both times.
        changed: share of them whose answer changes as the order is reversed.
        chosen: share of answers at each place of the list. Each option stands at place i in one asking and at place
            i from the end in the other: without a leaning, a place and its mirror image are chosen equally often.

    """

    questions: int
    changed: float | None
    chosen: tuple[float, ...]


class Scores(_Record):
    """All about the videos of one kind. `confusion` counts answers (two a question): annotated → seen category."""

    overall: Score
    categories: dict[str, Score]
    confusion: dict[str, dict[str, int]]
    verdict_positions: Positions
    category_positions: Positions


def scores(judged: Sequence[Judged], *, categories: int, seed: int) -> Scores:
    """Scores of interactions of one kind of video, `categories` of which were shown with each question."""
    named = sorted({each.category for each in judged})
    by_category = {name: [each for each in judged if each.category == name] for name in named}
    return Scores(
        overall=score(judged, seed=seed),
        categories={name: score(members, seed=seed) for name, members in by_category.items()},
        confusion={
            name: dict(Counter(answer.category for each in members for answer in each.answers).most_common())
            for name, members in by_category.items()
        },
        verdict_positions=_positions(
            [[(answer.verdict, answer.verdict_place) for answer in each.answers] for each in judged], len(Verdict)
        ),
        category_positions=_positions(
            [[(answer.category, answer.category_place) for answer in each.answers] for each in judged], categories
        ),
    )


def score(judged: Sequence[Judged], *, seed: int) -> Score:
    """Counts and rates. The interval is over samples: interactions of one sample stand or fall together."""
    outcomes = Counter(each.outcome for each in judged)
    counted = [each for each in judged if each.outcome != Outcome.UNJUDGED]
    rates: list[Estimate] = []
    if counted:
        samples = {key: row for row, key in enumerate(dict.fromkeys(each.key for each in counted))}
        sums = np.zeros((len(samples), 3))  # of each sample: strict and lenient credit, interactions
        for each in counted:
            sums[samples[each.key]] += (*each.credit, 1.0)
        rates = ratios(sums, seed=seed)
    strict, lenient = rates or (None, None)
    return Score(
        annotated=len(judged),
        outcomes={outcome: outcomes[outcome] for outcome in Outcome},
        isr=strict,
        lenient=lenient,
    )


def _positions(questions: Sequence[Sequence[tuple[str, int]]], places: int) -> Positions:
    """Of the answers to each question, in both orders: what was chosen, and at which of `places` it stood."""
    both = [answers for answers in questions if len(answers) == 2]
    changed = [first[0] != second[0] for first, second in both]
    chosen = Counter(place for answers in both for _, place in answers)
    return Positions(
        questions=len(both),
        changed=float(np.mean(changed)) if both else None,
        chosen=tuple(chosen[place] / (2 * len(both)) for place in range(places)) if both else (),
    )
