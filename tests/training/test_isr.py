"""The interaction success rate and its interval: against what is known of shares, and of samples that hang together."""

from __future__ import annotations

import numpy as np
import pytest

from annotators.vlm.answers import Verdict
from schemas.annotation import DEFAULT_CATEGORIES
from training.isr import Answer, Judged, Outcome, score, scores

HEM = DEFAULT_CATEGORIES[1]
PERFORMED, PARTLY, NOT = Verdict


def interaction(key: str, *verdicts: Verdict, number: int = 0, category: str = HEM) -> Judged:
    answers = tuple(Answer(category=HEM, verdict=each, category_place=0, verdict_place=0) for each in verdicts)
    return Judged(key=key, number=number, video="generated", category=category, answers=answers)


def both(key: str, verdict: Verdict, number: int = 0) -> Judged:
    return interaction(key, verdict, verdict, number=number)


def test_an_interaction_on_which_the_askings_differ_counts_half() -> None:
    found = score([interaction("a", PERFORMED, NOT), interaction("b", PARTLY, PERFORMED), both("c", PARTLY)], seed=0)
    assert found.isr
    assert found.lenient
    assert found.isr.value == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert found.lenient.value == pytest.approx((0.5 + 0.75 + 0.5) / 3)
    assert (found.outcomes[Outcome.SPLIT], found.outcomes[Outcome.PARTLY]) == (2, 1)


@pytest.mark.parametrize("each", [1, 5])
def test_the_interval_is_that_of_the_binomial_however_many_interactions_a_sample_has(each: int) -> None:
    """Interactions that stand and fall with their sample add nothing to what is known."""
    judged = [both(f"s{row}", PERFORMED if row < 240 else NOT, number) for row in range(400) for number in range(each)]
    isr = score(judged, seed=0).isr
    assert isr
    assert isr.low is not None
    assert isr.high is not None
    spread = 1.96 * np.sqrt(0.6 * 0.4 / 400)
    assert isr.value == pytest.approx(0.6)
    assert (isr.low, isr.high) == pytest.approx((0.6 - spread, 0.6 + spread), abs=0.006)
    assert isr == score(judged, seed=0).isr


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(60):
        chance = np.random.default_rng(seed)
        judged = []
        for row in range(60):
            share = chance.beta(2, 3)  # samples differ, so that interactions within one are alike
            verdicts = np.where(chance.random(chance.integers(1, 4)) < share, PERFORMED, NOT)
            judged += [both(f"s{row}", Verdict(verdict), number) for number, verdict in enumerate(verdicts)]
        isr = score(judged, seed=seed).isr
        assert isr
        assert isr.low is not None
        assert isr.high is not None
        covered += isr.low <= 0.4 <= isr.high
    assert 52 <= covered <= 60


def test_one_sample_has_no_interval_and_nothing_judged_no_rate() -> None:
    one = score([both("a", PERFORMED), both("a", NOT, number=1)], seed=0).isr
    assert one
    assert (one.value, one.low, one.high) == (0.5, None, None)
    nothing = scores([interaction("a").model_copy(update={"unjudged": "silence"})], categories=7, seed=0)
    assert nothing.overall.isr is None
    assert (nothing.verdict_positions.changed, nothing.verdict_positions.chosen) == (None, ())
