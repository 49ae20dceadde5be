"""Hands over time: gaps, trembling, swings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from preprocess.hamer.smoothing import HandTrack, Smoothing, steady
from schemas.conditions import LEFT, RIGHT

FPS = 25.0
DEPTH = 30.0


def track_of(place: np.ndarray, angle: np.ndarray | float = 0.0) -> HandTrack:
    """Both hands at `place` (T, 3), every joint turned by `angle` (T,) about a slanted axis."""
    count = len(place)
    axis = np.array([0.6, 0.0, 0.8])
    turns = Rotation.from_rotvec(np.broadcast_to(angle, count)[:, None] * axis).as_matrix()
    return HandTrack(
        scores=np.full((count, 2), 0.8, np.float32),
        rotations=np.broadcast_to(turns[:, None, None], (count, 2, 16, 3, 3)).astype(np.float32),
        betas=np.random.default_rng(0).normal(0, 1, (count, 2, 10)).astype(np.float32),
        translation=np.repeat(place[:, None], 2, axis=1).astype(np.float32),
    )


def still(count: int = 100) -> np.ndarray:
    return np.tile([0.3, -0.2, DEPTH], (count, 1))


def without(track: HandTrack, frames: slice, side: int) -> HandTrack:
    kept = [getattr(track, name).copy() for name in ("scores", "rotations", "betas", "translation")]
    for values in kept:
        values[frames, side] = 0
    return HandTrack(*kept)


def angles(track: HandTrack) -> np.ndarray:
    """(T, 2, 16): how far each joint is turned; zero where a hand is absent."""
    matrices = np.where(track.present[..., None, None, None], track.rotations, np.eye(3, dtype=np.float32))
    turns = Rotation.from_matrix(matrices.reshape(-1, 3, 3)).as_rotvec().reshape(*matrices.shape[:3], 3)
    return turns @ np.array([0.6, 0.0, 0.8])


def run(track: HandTrack, fps: float = FPS, **options: float) -> HandTrack:
    return steady(track, fps=fps, smoothing=Smoothing(**options))


@pytest.mark.parametrize(("fps", "left"), [(12.0, 0.6), (25.0, 0.5), (60.0, 0.35)])
@pytest.mark.parametrize("angle", [0.3, 4.49])  # around the second, quaternions of matrices change their sign
def test_trembling_of_a_still_hand_is_halved(fps: float, left: float, angle: float) -> None:
    random = np.random.default_rng(1)
    noise = random.normal(0, 1, (200, 4))
    place = still(200) + noise[:, :3] * [0.005, 0.005, 0.02 * DEPTH]
    track = track_of(place, angle + 0.03 * noise[:, 3])
    smoothed = run(track, fps)
    before, after = (one.translation[10:-10, 0] for one in (track, smoothed))
    assert (after.std(0) < left * before.std(0)).all()
    assert angles(smoothed)[10:-10].std(0).max() < left * angles(track)[10:-10].std(0).min()
    np.testing.assert_allclose(smoothed.translation[:, 0].mean(0), place.mean(0), rtol=0.01)


@pytest.mark.parametrize("hertz", [0.5, 1.0, 2.0, 3.0, 4.0])
def test_fast_swing_keeps_its_width_and_does_not_lag(hertz: float) -> None:
    count, width = 100, 0.4 if hertz < 3 else 0.2
    wave = np.sin(2 * np.pi * hertz * np.arange(count) / FPS)
    place = still(count) + wave[:, None] * [width / 2, 0, 0]
    track = track_of(place, 0.8 * wave)
    smoothed = run(track)
    for before, after in (
        (track.translation[:, 0, 0], smoothed.translation[:, 0, 0]),
        (angles(track)[:, 0, 3], angles(smoothed)[:, 0, 3]),
    ):
        inner = slice(13, -13)
        before, after = before - before[inner].mean(), after - after[inner].mean()
        assert np.ptp(after[inner]) > 0.95 * np.ptp(before[inner])
        ahead, behind = (np.abs(np.roll(before, shift) - after)[inner].mean() for shift in (-1, 1))
        assert np.abs(before - after)[inner].mean() < 0.2 * min(ahead, behind)
        assert ahead == pytest.approx(behind, rel=0.1)  # neither early nor late


def test_sudden_swing_out_of_rest_keeps_its_width() -> None:
    angle = np.zeros(80)
    angle[40:50] = np.sin(np.pi * np.arange(10) / 10)  # out and back within 0.4 s
    smoothed = angles(run(track_of(still(80) + angle[:, None] * [0.2, 0, 0], angle)))
    assert smoothed.max() > 0.95
    assert np.abs(smoothed[:35]).max() < 0.02


def test_rotations_stay_rotations_beyond_half_a_turn() -> None:
    """Quaternions of such a turn change sign on the way."""
    track = track_of(still(120), np.linspace(-4, 7, 120) + 0.02 * np.random.default_rng(0).normal(size=120))
    smoothed = run(track).rotations
    np.testing.assert_allclose(
        smoothed @ smoothed.swapaxes(-1, -2), np.broadcast_to(np.eye(3), smoothed.shape), atol=1e-5
    )
    np.testing.assert_allclose(np.linalg.det(smoothed), 1, atol=1e-5)
    relative = smoothed.reshape(-1, 3, 3).swapaxes(-1, -2) @ track.rotations.reshape(-1, 3, 3)
    assert Rotation.from_matrix(relative).magnitude().max() < 0.12  # radians


def test_short_gap_is_filled_between_its_ends_at_half_the_score_and_a_long_one_is_left() -> None:
    count = np.arange(40)
    track = track_of(still(40) + count[:, None] * [0.01, 0, 0], 0.05 * count)
    track.scores[13, LEFT] = 0.6
    broken = without(without(track, slice(10, 13), LEFT), slice(20, 30), RIGHT)
    filled = run(broken, cutoff=0)
    assert filled.present[10:13, LEFT].all()
    assert filled.present[10:13, RIGHT].all()
    np.testing.assert_allclose(filled.scores[10:13, LEFT], 0.3)
    np.testing.assert_allclose(filled.translation[10:13, LEFT], track.translation[10:13, LEFT], atol=1e-5)
    np.testing.assert_allclose(angles(filled)[10:13, LEFT], angles(track)[10:13, LEFT], atol=1e-5)
    assert not filled.present[20:30, RIGHT].any()
    assert not filled.rotations[20:30, RIGHT].any()
    smoothed = run(broken)
    assert not smoothed.translation[20:30, RIGHT].any()
    assert not smoothed.betas[20:30, RIGHT].any()


def test_sides_do_not_touch_each_other() -> None:
    random = np.random.default_rng(2)
    one, other = (track_of(still(30) + random.normal(0, 0.1, (30, 3)), random.normal(0, 0.2, 30)) for _ in range(2))
    mixed = HandTrack(*(
        np.stack([getattr(one, name)[:, LEFT], getattr(other, name)[:, RIGHT]], axis=1)
        for name in ("scores", "rotations", "betas", "translation")
    ))  # fmt: skip
    np.testing.assert_array_equal(run(mixed).translation[:, LEFT], run(one).translation[:, LEFT])
    np.testing.assert_array_equal(run(mixed).rotations[:, RIGHT], run(other).rotations[:, RIGHT])


def test_hand_has_one_shape_through_the_clip_that_single_frames_do_not_bend() -> None:
    track = track_of(still(41))
    betas = track.betas.copy()
    betas[3, LEFT] = 100
    found = run(replace(track, betas=betas)).betas
    assert (found == found[:1]).all()
    np.testing.assert_array_equal(found[0, LEFT], np.median(betas[:, LEFT], axis=0))
    assert np.abs(found).max() < 3


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_tiny_tracks_and_empty_ones(count: int) -> None:
    track = run(track_of(still(count)))
    assert track.present.shape == (count, 2)
    np.testing.assert_allclose(track.translation, track_of(still(count)).translation, rtol=1e-5)
    nobody = run(without(without(track, slice(None), LEFT), slice(None), RIGHT))
    assert not nobody.present.any()
    assert not nobody.rotations.any()
