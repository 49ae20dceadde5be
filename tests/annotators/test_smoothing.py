"""Probabilities to segments: exact on clean input, whatever the frame rate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from annotators.smoothing import (
    VLM_SMOOTHING,
    Smoothing,
    as_labels,
    closed,
    hysteresis,
    opened,
    running_mean,
    segments,
    smooth,
)

runs = st.lists(st.booleans(), max_size=60).map(lambda values: np.array(values, bool))


def by_runs(active: np.ndarray) -> list[tuple[bool, int]]:
    found: list[tuple[bool, int]] = []
    for value in active.tolist():
        if found and found[-1][0] == value:
            found[-1] = (value, found[-1][1] + 1)
        else:
            found.append((value, 1))
    return found


@settings(deadline=None)
@given(runs, st.integers(0, 9))
def test_closed_fills_exactly_the_short_gaps_between_runs(active: np.ndarray, longest: int) -> None:
    lengths = by_runs(active)
    expected: list[bool] = []
    for i, (value, length) in enumerate(lengths):
        expected += [value or (0 < i < len(lengths) - 1 and length <= longest)] * length
    assert closed(active, longest=longest).tolist() == expected


@settings(deadline=None)
@given(runs, st.integers(0, 9))
def test_opened_removes_exactly_the_short_runs(active: np.ndarray, shortest: int) -> None:
    expected = [kept for value, length in by_runs(active) for kept in [value and length >= shortest] * length]
    assert opened(active, shortest=shortest).tolist() == expected


@settings(deadline=None)
@given(runs)
def test_labels_and_segments_say_the_same(active: np.ndarray) -> None:
    assert as_labels(segments(active), len(active)) == tuple(active.tolist())


def test_hysteresis_keeps_what_reaches_high_and_follows_it_down_to_low() -> None:
    values = [0.5, 0.1, 0.4, 0.7, 0.4, 0.2, 0.5, 0.5, 0.0, 0.9]
    assert segments(hysteresis(values, low=0.4, high=0.6)) == [(2, 4), (9, 9)]


@pytest.mark.parametrize("fps", [10, 24, 25, 30, 60])
def test_clean_runs_come_out_as_they_are_at_any_frame_rate(fps: int) -> None:
    seconds = [(0.0, 1.0), (2.0, 2.6), (4.0, 5.0)]
    probabilities = np.zeros(5 * fps)
    frames = [(round(start * fps), round(end * fps) - 1) for start, end in seconds]
    for start, end in frames:
        probabilities[start : end + 1] = 1
    assert smooth(probabilities, fps=fps, smoothing=Smoothing()) == frames


@pytest.mark.parametrize("fps", [24, 30, 60])
def test_flicker_is_closed_and_a_spike_is_no_segment(fps: int) -> None:
    times = np.arange(4 * fps) / fps
    held = (times >= 1) & (times < 2) & ~((times >= 1.4) & (times < 1.5))
    spike = (times >= 3) & (times < 3.2)
    [(start, end)] = smooth(held | spike, fps=fps, smoothing=Smoothing())
    assert (start, end) == (fps, 2 * fps - 1)


def test_spikes_in_a_row_do_not_add_up_to_a_segment() -> None:
    probabilities = np.zeros(60)
    probabilities[::5] = 1
    assert smooth(probabilities, fps=30, smoothing=Smoothing()) == []


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_clips_of_hardly_any_frames(frames: int) -> None:
    assert smooth(np.ones(frames), fps=25, smoothing=Smoothing()) == []
    instant = Smoothing(shortest=0, spike=0)
    assert smooth(np.ones(frames), fps=25, smoothing=instant) == ([(0, frames - 1)] if frames else [])


def test_low_above_high_is_refused() -> None:
    with pytest.raises(ValidationError, match="low .* above high"):
        Smoothing(low=0.7, high=0.5)


@settings(deadline=None)
@given(st.integers(10, 60), st.data())
def test_what_is_chosen_for_labels_of_models_is_exact_on_clean_input(fps: int, data: st.DataObject) -> None:
    gap, run = st.integers(int(0.4 * fps) + 2, 2 * fps), st.integers(int(0.5 * fps) + 1, 2 * fps)
    lengths = data.draw(st.lists(st.tuples(gap, run), max_size=4))
    ends_quiet = data.draw(st.booleans())
    clean = [value for quiet, active in lengths for value in [False] * quiet + [True] * active]
    clean += [False] * (fps if ends_quiet else 0)
    assert smooth(clean, fps=fps, smoothing=VLM_SMOOTHING) == segments(np.array(clean, bool))


def test_averages_are_over_what_is_known_and_the_ends_last() -> None:
    values = [1.0, 0.0, np.nan, 0.5, 0.5, 0.2]
    expected = [2 / 3, 0.5, np.nan, 0.5, 0.4, 0.3]
    assert running_mean(values, frames=3) == pytest.approx(expected, nan_ok=True)
    assert running_mean(values, frames=2) == pytest.approx(expected, nan_ok=True)
    assert running_mean(values, frames=1) == pytest.approx(values, nan_ok=True)
    assert running_mean([], frames=3).shape == (0,)


@pytest.mark.parametrize("smoothing", [Smoothing(), VLM_SMOOTHING])
def test_what_is_unknown_is_interactive_only_within_a_short_gap_between_sure_sides(smoothing: Smoothing) -> None:
    fps = 20
    short, long = round(smoothing.gap * fps), round(smoothing.gap * fps) + 1
    probabilities = np.zeros(200)
    probabilities[20:60] = 1
    probabilities[40 : 40 + short] = np.nan
    probabilities[100:160] = 1
    probabilities[120 : 120 + long] = np.nan
    probabilities[160:180] = np.nan
    assert smooth(probabilities, fps=fps, smoothing=smoothing) == [(20, 59), (100, 119), (120 + long, 159)]
    assert smooth(np.full(200, np.nan), fps=fps, smoothing=smoothing) == []
