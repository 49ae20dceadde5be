"""Which frames of a clip are asked about, and together with which others. Pure functions.

Shapes: T frames of the clip, N of them labelled, P of these shown to the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from annotators.vlm.backend import Picture

Frames = NDArray[np.int64]
_STILL_SIDE = 128
_STILL_BLOCK = 8
"""Stillness is judged on grey pictures of this longer side, in blocks of this many pixels."""
_ROUNDING = 1e-6
"""Seconds below which two times are one: frame times are quotients, and rounded."""


class Sampling(BaseModel):
    """How often, how large and how densely a clip is shown to the model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rate: float = Field(
        default=12.0, gt=0, le=1000, description="Labels a second; the clip's own rate labels every frame."
    )
    window: int = Field(default=16, ge=1, description="Frames shown together, in one request.")
    stride: int = Field(
        default=6, ge=1, description="Frames from one window to the next; half of `window` shows each frame twice."
    )
    max_side: int = Field(default=448, ge=28, description="Longer side of the pictures shown, in pixels, at most.")
    still: float = Field(
        default=2.0,
        ge=0,
        description="A frame repeats an earlier one while no part of the picture differs from it by more, in grey "
        "levels of 0..255 (mean over a block of 1/16 of the longer side). 0: only where nothing differs.",
    )
    longest_still: float = Field(
        default=1.0, ge=0, description="Seconds after which a still picture is asked about again; 0: at each label."
    )

    @model_validator(mode="after")
    def _windows_leave_no_gap(self) -> Sampling:
        if self.stride > self.window:
            raise ValueError(f"stride ({self.stride}) is above window ({self.window}): frames between would go unseen")
        return self


@dataclass(frozen=True)
class Window:
    """Pictures that are shown together.

    Attributes:
        runs: indices into `Plan.pictures`, one range for each place of the clip that has these same pictures; the
            first is shown, its answer holds for all.

    """

    runs: tuple[range, ...]

    @property
    def shown(self) -> range:
        """Indices of the pictures that are shown."""
        return self.runs[0]


@dataclass(frozen=True, eq=False)
class Plan:
    """What of a clip is shown to the model.

    Attributes:
        frames: (N,) int64, rising: which frames of the clip get a label.
        times: (N,) float64: their times, in seconds.
        picture: (N,) int64: index into `pictures` of the one whose label each takes.
        pictures: P pictures, in order of time.
        windows: no two with the same pictures.

    """

    frames: Frames
    times: NDArray[np.float64]
    picture: Frames
    pictures: tuple[Picture, ...]
    windows: tuple[Window, ...]


def plan(images: NDArray[np.uint8], times: ArrayLike, sampling: Sampling) -> Plan:
    """Which of (T, H, W, 3) uint8 RGB `images`, shown at (T,) `times` in rising seconds, are asked about, and how.

    Raises:
        ValueError: images and times are not of one length, there are none, or the times do not rise.

    """
    seconds = np.asarray(times, np.float64)
    if len(images) != len(seconds):
        raise ValueError(f"{len(images)} images but {len(seconds)} times")
    frames = labelling_frames(seconds, rate=sampling.rate)
    source = repeated([images[frame] for frame in frames], seconds[frames], sampling)
    shown, picture = np.unique(source, return_inverse=True)
    pictures = tuple(
        Picture(scaled(images[frame], max_side=sampling.max_side), float(seconds[frame])) for frame in frames[shown]
    )
    return Plan(frames, seconds[frames], picture.astype(np.int64), pictures, _windows(pictures, sampling))


def labelling_frames(times: ArrayLike, *, rate: float) -> Frames:
    """(N,) int64, rising: of frames shown at (T,) `times`, those nearest to each 1/`rate` of a second, and the last.

    Neighbours are 1/`rate` apart, rounded to whole frames. A `rate` of the frames' own, or above it, gives all.

    Raises:
        ValueError: there are no times, or they do not rise.

    """
    seconds = np.asarray(times, np.float64)
    if seconds.ndim != 1 or not len(seconds) or not np.isfinite(seconds).all() or not (np.diff(seconds) > 0).all():
        raise ValueError("times have to be a row of at least one finite number, and rise")
    wanted = seconds[0] + np.arange(int((seconds[-1] - seconds[0]) * rate) + 1) / rate
    return np.unique(np.append(nearest(seconds, wanted), len(seconds) - 1))


def nearest(times: NDArray[np.float64], wanted: NDArray[np.float64]) -> Frames:
    """(W,) int64: index of the one of (T,) rising `times` nearest to each of (W,) `wanted`; of two, the first."""
    after = np.searchsorted(times, wanted).clip(0, len(times) - 1)
    before = (after - 1).clip(0)
    return np.where(np.abs(wanted - times[before]) <= np.abs(times[after] - wanted), before, after).astype(np.int64)


def repeated(images: Sequence[NDArray[np.uint8]], times: NDArray[np.float64], sampling: Sampling) -> Frames:
    """(N,) int64: index of the image that each of N (H, W, 3) uint8 RGB `images` at (N,) s `times` repeats, or its own.

    An image repeats the last one that repeats none, for `longest_still` seconds at most, while no block of the two
    differs by more than `still`. Not the mean over the picture: a hand that moves alone hardly changes that.
    """
    source = np.arange(len(images))
    kept = 0
    pictures = [_grey(image) for image in images]
    for index in range(1, len(images)):
        recent = times[index] - times[kept] <= sampling.longest_still + _ROUNDING
        if recent and _difference(pictures[kept], pictures[index]) <= sampling.still:
            source[index] = kept
        else:
            kept = index
    return source.astype(np.int64)


def _grey(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    import cv2

    return cv2.cvtColor(scaled(image, max_side=_STILL_SIDE), cv2.COLOR_RGB2GRAY).astype(np.float32)


def _difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Mean absolute difference of the block that differs most, in grey levels."""
    import cv2

    height, width = one.shape
    blocks = (max(1, width // _STILL_BLOCK), max(1, height // _STILL_BLOCK))
    return float(cv2.resize(np.abs(one - other), blocks, interpolation=cv2.INTER_AREA).max())


def scaled(image: NDArray[np.uint8], *, max_side: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 `image`, its longer side brought down to `max_side` px; as it is where that is no less."""
    import cv2

    height, width = image.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _windows(pictures: Sequence[Picture], sampling: Sampling) -> tuple[Window, ...]:
    """Windows over all pictures, those with the same ones put together."""
    alike: dict[tuple[str, ...], list[range]] = {}
    for run in window_runs(len(pictures), size=sampling.window, stride=sampling.stride):
        alike.setdefault(tuple(pictures[index].digest for index in run), []).append(run)
    return tuple(Window(tuple(runs)) for runs in alike.values())


def window_runs(count: int, *, size: int, stride: int) -> list[range]:
    """Runs of `size` of the indices 0..`count`-1, `stride` apart; the last ends at the end. Fewer than `size`: one."""
    if count <= size:
        return [range(count)]
    starts = [*range(0, count - size, stride), count - size]
    return [range(start, start + size) for start in starts]


def spread(first: int, last: int, *, count: int) -> list[int]:
    """At most `count` frames from `first` to `last`, both inclusive, evenly spread; the middle one where it is one."""
    length = last - first + 1
    if count >= length:
        return list(range(first, last + 1))
    return [first + (2 * index + 1) * length // (2 * count) for index in range(count)]
