"""Smoothing and refinement hold what they promise on simulated labels (`benchmarks/smoothing.py`, made small)."""

from __future__ import annotations

import numpy as np
import pytest

from annotators.smoothing import VLM_SMOOTHING, segments, smooth
from annotators.vlm.windows import Sampling
from benchmarks.smoothing import BURSTS, NOISES, Film, Noise, bursts, labelled, made_film, raw, score, scores

SAMPLING = Sampling(rate=12, window=16, stride=6)


def filmed(*, seconds: float, fps: float = 25) -> Film:
    return made_film(np.random.default_rng(0), fps=fps, seconds=seconds)


@pytest.mark.parametrize("fps", [24, 25, 30000 / 1001, 30])
def test_without_noise_segments_are_exact(fps: float) -> None:
    film = filmed(fps=fps, seconds=600)
    every_frame = Sampling(rate=fps)
    found = smooth(
        labelled(np.random.default_rng(1), film, Noise(hard=True), every_frame), fps=fps, smoothing=VLM_SMOOTHING
    )
    assert found == segments(film.truth)


@pytest.mark.parametrize("rate", [6, 8, 12])
def test_without_noise_smoothing_leaves_the_labels_as_they_are(rate: float) -> None:
    film = filmed(seconds=600)
    probabilities = labelled(np.random.default_rng(1), film, Noise(hard=True), Sampling(rate=rate))
    found = smooth(probabilities, fps=film.fps, smoothing=VLM_SMOOTHING)
    assert found == raw(probabilities)
    assert score(film, found, rate=rate).boundary <= 0.5


@pytest.mark.parametrize("kind", ["15 % in bursts", "15 % flips"])
def test_noise_on_15_percent_of_the_labels_is_smoothed_away(kind: str) -> None:
    before, after, refined = scores(np.random.default_rng(1), filmed(seconds=7200), NOISES[kind], SAMPLING)
    assert before.f1 < 0.7
    assert after.f1 >= 0.95
    assert after.boundary <= 2
    assert refined.f1 > after.f1
    assert refined.boundary < after.boundary


def test_bursts_of_every_frame_labelled_once() -> None:
    film = filmed(seconds=1800)
    single = Sampling(rate=film.fps, window=16, stride=16)
    _, after, _ = scores(np.random.default_rng(1), film, BURSTS, single)
    assert after.f1 >= 0.95
    assert after.boundary <= 2


def test_contact_puts_late_and_early_boundaries_right() -> None:
    _, after, refined = scores(np.random.default_rng(1), filmed(seconds=1200), Noise(lag=2), SAMPLING)
    assert after.boundary > 0.9
    assert refined.boundary == 0
    assert refined.f1 > 0.98


def test_missed_windows_invent_nothing() -> None:
    film = filmed(seconds=1200)
    _, after, _ = scores(
        np.random.default_rng(1), film, Noise(missed=0.3, hard=True), Sampling(rate=8, window=16, stride=16)
    )
    assert after.invented == 0
    assert after.missed > 0


def test_the_simulated_noise_is_as_dense_and_as_long_as_it_says() -> None:
    wrong = bursts(np.random.default_rng(0), 100_000, share=0.15, lengths=(1, 2, 3))
    assert wrong.mean() == pytest.approx(0.15, abs=0.005)
    lengths = np.array([end - start + 1 for start, end in segments(wrong)])
    assert np.bincount(lengths)[1:] / len(lengths) == pytest.approx([1 / 3] * 3, abs=0.02)
    short = [bursts(np.random.default_rng(seed), 16, share=0.15, lengths=(1, 2, 3)) for seed in range(4000)]
    assert np.mean(short, axis=0) == pytest.approx([0.15] * 16, abs=0.025)
