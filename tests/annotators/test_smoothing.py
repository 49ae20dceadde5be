"""Probabilities to segments: exact on clean input, whatever the frame rate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from annotators.smoothing import Smoothing, as_labels, closed, hysteresis, opened, segments, smooth

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
