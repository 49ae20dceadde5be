"""Hands over time: short gaps filled, trembling taken away, fast motion left as it is.

A One-Euro filter (Casiez, Roussel, Vogel, CHI 2012), whose cutoff rises with speed, run forward and backward and
averaged, so that nothing lags. Two things are ours, both since the whole clip is at hand: speed is measured without
lag, over a tenth of a second around each frame, and the cutoff rises with its square, which tells a fast swing from
trembling more clearly. Shape legend: T frames, N of them in a row, sides left (0) and right (1).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from schemas.conditions import LEFT, RIGHT, Bool, Float32

_REACH = 0.1  # metres from a joint to what it moves: turns rotations and growth into the way of a fingertip
_SPEED_SIGMA, _AROUND_SIGMA = 0.06, 0.1  # seconds: of the derivative, and of the mean of its square

Values = NDArray[np.float64]


class Smoothing(BaseModel):
    """How hands are made steady over time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gap: float = Field(default=0.15, ge=0, description="Longest gap between two sightings that is filled, in seconds.")
    cutoff: float = Field(
        default=1.0, ge=0, description="Cutoff of the filter for a hand at rest, in Hz; 0 leaves everything as seen."
    )
    slow: float = Field(
        default=0.07, gt=0, description="Speed at which the cutoff has doubled, in metres a second at the fingertips."
    )


@dataclass(frozen=True, eq=False)
class HandTrack:
    """Both hands through a clip, in the model of a right hand; everything is zero where a hand is absent.

    Attributes:
        scores: (T, 2) float32 in 0..1; 0 means absent.
        rotations: (T, 2, 16, 3, 3) float32: the whole hand's, then each joint's against its parent.
        betas: (T, 2, 10) float32.
        translation: (T, 2, 3) float32 in metres, x right, y down, z away from the camera; z is above 0.

    """

    scores: Float32
    rotations: Float32
    betas: Float32
    translation: Float32

    @property
    def present(self) -> Bool:
        """(T, 2): whether the hand is there."""
        return self.scores > 0


def steady(track: HandTrack, *, fps: float, smoothing: Smoothing) -> HandTrack:
    """`track` with short gaps filled, the shape of each hand the same through the clip, and motion smoothed."""
    return _smoothed(_one_shape(_filled(track, round(smoothing.gap * fps))), fps=fps, smoothing=smoothing)


def _filled(track: HandTrack, longest: int) -> HandTrack:
    """Fill gaps of up to `longest` frames: places in the picture linearly, rotations by slerp, scores by half."""
    from scipy.spatial.transform import Rotation

    scores, rotations, translation = track.scores.copy(), track.rotations.copy(), track.translation.copy()
    betas = track.betas.copy()
    for side in (LEFT, RIGHT):
        for before, after in itertools.pairwise(np.flatnonzero(track.present[:, side])):
            if not 1 < after - before <= longest + 1:
                continue
            ends = _in_picture(track.translation[[before, after], side])
            start, end = (Rotation.from_matrix(track.rotations[frame, side]) for frame in (before, after))
            turn = (start.inv() * end).as_rotvec()
            for frame in range(before + 1, after):
                share = (frame - before) / (after - before)
                scores[frame, side] = min(track.scores[before, side], track.scores[after, side]) / 2
                rotations[frame, side] = (start * Rotation.from_rotvec(share * turn)).as_matrix()
                translation[frame, side] = _in_space((1 - share) * ends[0] + share * ends[1])
                betas[frame, side] = track.betas[before, side]
    return HandTrack(scores=scores, rotations=rotations, betas=betas, translation=translation)


def _one_shape(track: HandTrack) -> HandTrack:
    """A hand does not change its shape: the median of the clip, per side."""
    betas = np.zeros_like(track.betas)
    for side in (LEFT, RIGHT):
        if (seen := track.present[:, side]).any():
            betas[seen, side] = np.median(track.betas[seen, side], axis=0)
    return replace(track, betas=betas)


def _smoothed(track: HandTrack, *, fps: float, smoothing: Smoothing) -> HandTrack:
    from scipy.spatial.transform import Rotation

    if not smoothing.cutoff:
        return track
    rotations, translation = track.rotations.copy(), track.translation.copy()
    for side, run in _runs(track.present):
        seen = _in_picture(translation[run, side])
        # Steady where the picture shows it: x and y do not tremble with the depth that one picture tells badly.
        metres = np.array([np.exp(np.median(seen[:, 2]))] * 2 + [_REACH])
        place = _low_passed((seen * metres)[:, None], fps=fps, smoothing=smoothing)[:, 0] / metres
        translation[run, side] = _in_space(place)
        turns = _quaternions(rotations[run, side])
        turns = _low_passed(turns, fps=fps, smoothing=smoothing, metres=2 * _REACH)  # a quaternion turns by half
        matrices = Rotation.from_quat(turns.reshape(-1, 4)).as_matrix()  # normalised there
        rotations[run, side] = matrices.reshape(rotations[run, side].shape)
    return replace(track, rotations=rotations, translation=translation)


def _runs(present: Bool) -> Iterator[tuple[int, slice]]:
    """Side and frames of every stretch through which a hand is there without a break."""
    for side in (LEFT, RIGHT):
        edges = np.flatnonzero(np.diff(present[:, side].astype(np.int8), prepend=0, append=0))
        for start, stop in edges.reshape(-1, 2):
            yield side, slice(int(start), int(stop))


def _low_passed(values: Values, *, fps: float, smoothing: Smoothing, metres: float = 1.0) -> Values:
    """One-Euro, both ways, over axis 0 of (N, G, C); the C channels of each of G things share their speed.

    `metres` a unit of `values`, for the speed.
    """
    from scipy.ndimage import gaussian_filter1d

    narrow, wide = (max(1.0, seconds * fps) for seconds in (_SPEED_SIGMA, _AROUND_SIGMA))
    velocity = gaussian_filter1d(values, narrow, axis=0, order=1, mode="nearest") * (fps * metres)
    squared = gaussian_filter1d((velocity**2).sum(-1), wide, axis=0, mode="nearest")
    cutoff = smoothing.cutoff * (1 + squared / smoothing.slow**2)
    share = (1 / (1 + fps / (2 * np.pi * cutoff)))[..., None]
    return (_one_way(values, share) + _one_way(values[::-1], share[::-1])[::-1]) / 2


def _one_way(values: Values, share: Values) -> Values:
    """Each value drawn by `share` from what came before towards itself."""
    passed = values.copy()
    for index in range(1, len(values)):
        passed[index] = passed[index - 1] + share[index] * (values[index] - passed[index - 1])
    return passed


def _quaternions(rotations: Float32) -> Values:
    """(N, 16, 3, 3) to (N, 16, 4), of the two signs that one which continues the frame before."""
    from scipy.spatial.transform import Rotation

    turns = Rotation.from_matrix(rotations.reshape(-1, 3, 3)).as_quat().reshape(*rotations.shape[:2], 4)
    against = (turns[1:] * turns[:-1]).sum(-1) < 0
    turns[1:] *= np.where(np.logical_xor.accumulate(against, axis=0), -1, 1)[..., None]
    return turns


def _in_picture(translation: Float32) -> Values:
    """(..., 3) x y z in metres as x/z, y/z, log z: where it is seen, and how large."""
    place = translation.astype(np.float64)
    return np.concatenate([place[..., :2] / place[..., 2:], np.log(place[..., 2:])], axis=-1)


def _in_space(seen: Values) -> Values:
    """Inverse of `_in_picture`."""
    depth = np.exp(seen[..., 2:])
    return np.concatenate([seen[..., :2] * depth, depth], axis=-1)
