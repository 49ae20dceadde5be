"""Windows of clips: lengths, resampling by time, odds that meet a share of interactive frames."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.annotation import ActionCaption
from training.windows import Tilt, actions_shown, interactive_shares, offsets, tilt_for


def action(first: int, last: int) -> ActionCaption:
    return ActionCaption(category="other interaction", caption="pulls", start_frame=first, end_frame=last)


@pytest.mark.parametrize(
    ("stored", "expected"), [(1, 1), (2, 1), (4, 1), (5, 5), (8, 5), (9, 9), (80, 77), (81, 81), (500, 81)]
)
def test_a_window_is_the_longest_4n_plus_1_that_fits(stored, expected):
    assert offsets(stored, frames=81).tolist() == list(range(expected))


@pytest.mark.parametrize(
    ("stored", "speed", "expected"),
    [
        (9, 2, [0, 2, 4, 6, 8]),  # twice the rate wanted
        (8, 2, [0]),  # four of them would fit, which is no 4n+1
        (7, 1.25, [0, 1, 3, 4, 5]),  # 30 to 24 frames a second: 0, 1.25, 2.5, 3.75, 5
        (3, 0.5, [0, 1, 1, 2, 2]),  # half the rate: shown twice, halves to the later
    ],
)
def test_other_rates_show_the_frame_nearest_in_time(stored, speed, expected):
    assert offsets(stored, frames=81, speed=speed).tolist() == expected


def test_shares_are_counted_frame_by_frame_at_every_start():
    labels = np.random.default_rng(0).random(40) < 0.3
    window = offsets(40, frames=9, speed=1.7)

    counted = [labels[start + window].mean() for start in range(40 - window[-1])]
    assert interactive_shares(labels, window) == pytest.approx(counted)


@pytest.fixture
def clips() -> list[np.ndarray]:
    """Shares of the windows of 30 clips: of no action, of short and of long ones."""
    draw, shares = np.random.default_rng(1), []
    for number in range(30):
        labels = np.zeros(draw.integers(20, 200), dtype=bool)
        start = draw.integers(len(labels))
        labels[start : start + number] = True
        shares.append(interactive_shares(labels, offsets(len(labels), frames=17)))
    return shares


@pytest.mark.parametrize("target", [0.05, 0.2, 0.4])
def test_the_share_asked_for_is_what_an_epoch_gives(clips, target):
    lengths = [17] * len(clips)
    tilt = tilt_for(target, clips, lengths)
    assert tilt.share == pytest.approx(target, abs=1e-6)

    random = np.random.default_rng(2)
    seen = [shares[tilt.start(shares, random.random())] for _ in range(100) for shares in clips]
    assert np.mean(seen) == pytest.approx(target, abs=0.02)


def test_without_a_target_every_window_is_as_likely(clips):
    tilt = tilt_for(None, clips, [17] * len(clips))

    assert tilt == Tilt(0.0, pytest.approx(np.mean([shares.mean() for shares in clips])))
    starts = [tilt.start(np.zeros(4), quantile) for quantile in np.linspace(0, 0.999, 1000)]
    assert np.bincount(starts).tolist() == [250] * 4


def test_longer_windows_weigh_more():
    shares = [np.array([1.0]), np.array([0.0])]
    assert tilt_for(None, shares, [81, 27]).share == pytest.approx(0.75)


@pytest.mark.parametrize(("target", "best"), [(1.0, max), (0.0, min)])
def test_beyond_reach_only_the_best_windows_are_left(clips, target, best):
    tilt = tilt_for(target, clips, [17] * len(clips))

    assert tilt.share == pytest.approx(np.mean([best(shares) for shares in clips]))
    assert all(shares[tilt.start(shares, 0.5)] == best(shares) for shares in clips)


@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
def test_clips_without_interactions_are_no_obstacle(target):
    tilt = tilt_for(target, [np.zeros(5), np.zeros(1)], [17, 17])
    assert tilt == Tilt(0.0, 0.0)


def test_actions_are_numbered_by_the_frames_of_the_window():
    window = np.array([10, 12, 14, 16, 18])
    shown = actions_shown([action(0, 9), action(11, 14), action(15, 15), action(17, 40)], window)

    assert [(each.start_frame, each.end_frame) for each in shown] == [(1, 2), (4, 4)]
