"""The cutter divides any stream of scores into runs that keep its promises."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.shots.base import FrameScore
from curation.shots.cutter import MARGIN_FRAMES, Cutter, Kind, Run

FPS = 10
SHOT = FrameScore(cut=False, transition=False, score=0.0)
CUT = FrameScore(cut=True, transition=False, score=0.9)
GRADUAL = FrameScore(cut=False, transition=True, score=0.1)


def cut(
    scores: Iterable[FrameScore], *, min_seconds: float = 1.0, max_seconds: float = 4.0, trim: bool = True
) -> list[Run]:
    cutter = Cutter(min_seconds=min_seconds, max_seconds=max_seconds, frame_seconds=1 / FPS, trim=trim)
    runs = [run for index, score in enumerate(scores) for run in cutter.push(index / FPS, score)]
    return [*runs, *cutter.flush()]


def stretches(runs: list[Run]) -> list[tuple[Kind, int, int]]:
    """Kind, first and last frame of each finished stretch."""
    found, first, position = [], 0, 0
    for run in runs:
        position += run.frames
        if run.ends:
            found.append((run.kind, first, position - 1))
            first = position
    assert first == position, "the last run does not end"
    return found


def test_no_frames_give_no_runs() -> None:
    assert cut([]) == []


def test_settings_that_could_not_divide_a_long_shot_are_refused() -> None:
    with pytest.raises(ValueError, match="max_seconds"):
        Cutter(min_seconds=2, max_seconds=3.9, frame_seconds=1 / 30)


def test_hard_cut_divides_after_its_frame() -> None:
    assert stretches(cut([SHOT] * 14 + [CUT] + [SHOT] * 20)) == [(Kind.CLIP, 0, 14), (Kind.CLIP, 15, 34)]


def test_a_cut_that_lasts_two_frames_loses_the_second() -> None:
    assert stretches(cut([SHOT] * 14 + [CUT, CUT] + [SHOT] * 20)) == [
        (Kind.CLIP, 0, 14), (Kind.TRANSITION, 15, 15), (Kind.CLIP, 16, 35),
    ]  # fmt: skip


@pytest.mark.parametrize("frames", [1, 2])
def test_a_flash_stays_in_its_shot(frames: int) -> None:
    assert stretches(cut([SHOT] * 12 + [GRADUAL] * frames + [SHOT] * 12)) == [(Kind.CLIP, 0, 23 + frames)]


def test_a_gradual_transition_is_trimmed_with_its_margins() -> None:
    scores = [SHOT] * 20 + [GRADUAL] * 3 + [CUT] + [GRADUAL] * 3 + [SHOT] * 20
    assert stretches(cut(scores)) == [
        (Kind.CLIP, 0, 19 - MARGIN_FRAMES),
        (Kind.TRANSITION, 20 - MARGIN_FRAMES, 26 + MARGIN_FRAMES),
        (Kind.CLIP, 27 + MARGIN_FRAMES, 46),
    ]


def test_untrimmed_transitions_stay_and_are_divided_at_the_first_cut_frame() -> None:
    scores = [SHOT] * 20 + [GRADUAL] * 3 + [CUT] * 4 + [GRADUAL] * 3 + [SHOT] * 20
    assert stretches(cut(scores, trim=False)) == [(Kind.CLIP, 0, 23), (Kind.CLIP, 24, 49)]


def test_a_dip_inside_a_fade_leaves_no_sliver() -> None:
    scores = [SHOT] * 20 + [GRADUAL] * 5 + [SHOT] * MARGIN_FRAMES + [GRADUAL] * 5 + [SHOT] * 20
    assert [kind for kind, _, _ in stretches(cut(scores))] == [Kind.CLIP, Kind.TRANSITION, Kind.CLIP]


def test_a_recording_that_ends_in_a_fade() -> None:
    assert stretches(cut([SHOT] * 20 + [GRADUAL] * 30)) == [(Kind.CLIP, 0, 17), (Kind.TRANSITION, 18, 49)]


def test_a_recording_of_nothing_but_black() -> None:
    assert stretches(cut([GRADUAL] * 1000)) == [(Kind.TRANSITION, 0, 999)]


def test_short_shots_say_so_and_are_never_begun_as_clips() -> None:
    runs = cut([SHOT] * 8 + [CUT] + [SHOT] * 10)
    assert stretches(runs) == [(Kind.SHORT, 0, 8), (Kind.CLIP, 9, 18)]
    assert runs[0] == Run(Kind.SHORT, 9, True, 0.0)


@pytest.mark.parametrize(
    ("frames", "pieces"),
    [(40, [40]), (41, [30, 11]), (49, [30, 19]), (80, [40, 40]), (82, [40, 30, 12]), (130, [40, 40, 30, 20])],
)
def test_long_shots_are_divided_without_a_short_tail(frames: int, pieces: list[int]) -> None:
    assert [last - first + 1 for _, first, last in stretches(cut([SHOT] * frames))] == pieces


def test_the_score_of_a_clip_leaves_out_the_cut_that_ends_it() -> None:
    nearly = FrameScore(cut=False, transition=False, score=0.3)
    runs = cut([SHOT] * 10 + [nearly] + [SHOT] * 10 + [CUT] + [SHOT] * 15)
    ends = [index for index, run in enumerate(runs) if run.ends]
    assert max(run.score for run in runs[: ends[0] + 1]) == 0.3
    assert max(run.score for run in runs[ends[0] + 1 :]) == 0.0


def test_a_gap_in_the_timestamps_ends_a_clip_that_would_be_too_long() -> None:
    cutter = Cutter(min_seconds=1, max_seconds=4, frame_seconds=0.1)
    times = [index / 10 for index in range(20)] + [30 + index / 10 for index in range(20)]
    runs = [run for seconds in times for run in cutter.push(seconds, SHOT)] + list(cutter.flush())
    assert stretches(runs) == [(Kind.CLIP, 0, 19), (Kind.CLIP, 20, 39)]


@settings(max_examples=300, deadline=None)
@given(
    blocks=st.lists(st.tuples(st.sampled_from([SHOT, SHOT, CUT, GRADUAL]), st.integers(1, 70)), max_size=12),
    steps=st.sampled_from([(0.1,), (0.05, 0.15), (0.1, 0.7)]),
)
def test_any_stream_is_divided_whole_in_order_and_within_bounds(
    blocks: list[tuple[FrameScore, int]], steps: tuple[float, ...]
) -> None:
    scores = [score for score, frames in blocks for _ in range(frames)]
    seconds = [0.0]
    for index in range(len(scores)):
        seconds.append(seconds[-1] + steps[index % len(steps)])
    cutter = Cutter(min_seconds=1, max_seconds=4, frame_seconds=0.1)
    runs, delay = [], 0
    for index, score in enumerate(scores):
        runs += cutter.push(seconds[index], score)
        delay = max(delay, index + 1 - sum(run.frames for run in runs))
    runs += cutter.flush()

    found = stretches(runs)
    assert sum(run.frames for run in runs) == len(scores)
    assert delay <= 2 * 10 + 2 * MARGIN_FRAMES + 20  # frames may come twice as close as `frame_seconds` says
    for kind, first, last in found:
        length = seconds[last] + 0.1 - seconds[first]
        boundary = [score.boundary for score in scores[first : last + 1]]
        if kind is Kind.CLIP:
            assert length <= 4 + 1e-6
            assert not any(all(boundary[at : at + 3]) for at in range(len(boundary) - 2))
            if steps == (0.1,):
                assert length >= 1 - 1e-6
        elif kind is Kind.SHORT:
            assert length < 1
