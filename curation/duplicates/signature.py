"""What a clip's footage is known by: perceptual hashes of how its picture changes, several a second."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from curation.filters.borders import without_bars
from curation.filters.sampling import sample_times, small_luma
from schemas.clip import Clip
from schemas.metrics import Metric
from schemas.stage import Filter

STEP_SECONDS = 0.2
"""Between two hashes. Two cuts of one footage are at most half of it out of step."""

WINDOW_SECONDS = 0.5
"""A hash compares the mean picture of this time with that of the same time after it."""

STILL_LEVELS = 0.8
"""Change in luma levels (root mean square) up to which the coding noise would be hashed, not the footage."""

SIDE = 32
"""Side in px of the square picture whose frequencies are taken."""


def _lowest_frequencies() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(64,) vertical and (64,) horizontal frequencies, lowest first, without the mean of the picture."""
    v, h = np.mgrid[:12, :12].reshape(2, -1)
    order = np.lexsort((v, v + h))[1:65]
    return v[order], h[order]


VERTICAL, HORIZONTAL = _lowest_frequencies()
_BIT = np.uint64(1) << np.arange(63, -1, -1, dtype=np.uint64)

MIRROR = np.bitwise_or.reduce(_BIT[HORIZONTAL % 2 == 1])
"""Bits of a hash that a mirrored picture has inverted."""


class Duplicates(Filter):
    """Footage that is in the dataset more than once: re-runs, re-broadcasts, recordings named twice.

    The stage only takes the clip's signature. What a clip shares with others is known when all are there: the share
    is measured, and its bound decides, whenever a dataset is written.
    """

    metrics: ClassVar[dict[str, Metric]] = {
        "duplicate_share": Metric(
            "share of the clip's footage that better copies in the dataset show too", "share", (0, 1), (None, 0.5)
        ),
    }

    def process(self, clip: Clip) -> None:
        """Set the clip's signature."""
        clip.signature = encode_signature(signature_of(small_luma(clip), sample_times(clip), seconds=clip.span.seconds))


def signature_of(luma: NDArray[np.uint8], times: NDArray[np.float64], *, seconds: float) -> NDArray[np.uint64]:
    """(N,) hashes, one each `STEP_SECONDS`, the first `WINDOW_SECONDS` after the start; 0 where nothing moves.

    A hash is the signs of the 64 lowest frequencies of the difference between the mean pictures before and after a
    moment. What stands still (studio, logo, subtitle, bars) leaves no trace in it, so clips of one scene differ as
    soon as their people move otherwise; brightness and contrast change no sign. Signs of a cosine transform are the
    perceptual hash of Zauner, "Implementation and benchmarking of perceptual image hash functions" (2010); the
    difference over time is the Haar wavelet of video fingerprints such as Oostveen et al., "Feature extraction and a
    database strategy for video fingerprinting" (2002).

    Args:
        luma: (T, H, W) pictures.
        times: (T,) seconds at which they begin to be shown, rising from 0.
        seconds: length of the clip.
    """
    moments = np.arange(WINDOW_SECONDS, seconds - WINDOW_SECONDS + 1e-6, STEP_SECONDS)
    picture = without_bars(luma)
    if not picture.size or not len(moments):  # bars may be all that there is
        return np.zeros(len(moments), np.uint64)
    shown = _Integral(_frequencies(_small_squares(picture)), times, seconds)
    now = shown.until(moments)
    before, after = now - shown.until(moments - WINDOW_SECONDS), shown.until(moments + WINDOW_SECONDS) - now
    change = _apart_from(after - before, after + before) / WINDOW_SECONDS
    hashes = np.maximum(((change > 0) * _BIT).sum(axis=1, dtype=np.uint64), np.uint64(1))
    moves = np.sqrt((change**2).sum(axis=1)) / SIDE >= STILL_LEVELS
    return np.where(moves, hashes, np.uint64(0))


def encode_signature(hashes: NDArray[np.uint64]) -> str:
    """16 hex digits a hash, as a clip's record holds them."""
    return hashes.astype(">u8").tobytes().hex()


def decode_signature(signature: str) -> NDArray[np.uint64]:
    """Inverse of `encode_signature`."""
    return np.frombuffer(bytes.fromhex(signature), ">u8").astype(np.uint64)


class _Integral:
    """Rows summed over time, each as long as its picture is shown."""

    def __init__(self, rows: NDArray[np.float64], times: NDArray[np.float64], seconds: float) -> None:
        self._rows, self._times = rows, times
        shown = np.diff(times, append=max(seconds, times[-1]))[:, None] * rows
        self._sums = np.cumsum(shown, axis=0) - shown

    def until(self, moments: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, F) integral from the start to each of (N,) `moments`."""
        last = np.clip(np.searchsorted(self._times, moments, side="right") - 1, 0, None)
        return np.asarray(self._sums[last] + self._rows[last] * (moments - self._times[last])[:, None])


def _apart_from(change: NDArray[np.float64], picture: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of `change` without what is only the picture becoming brighter or darker, as exposure and fades make it."""
    along = (change * picture).sum(axis=1) / np.maximum((picture**2).sum(axis=1), 1e-9)
    return change - along[:, None] * picture


def _frequencies(pictures: NDArray[np.float32]) -> NDArray[np.float64]:
    """(T, 64) lowest frequencies of (T, `SIDE`, `SIDE`) pictures."""
    from scipy.fft import dctn

    return np.asarray(dctn(pictures, axes=(1, 2), norm="ortho")[:, VERTICAL, HORIZONTAL], np.float64)


def _small_squares(luma: NDArray[np.uint8]) -> NDArray[np.float32]:
    import cv2

    return np.stack([cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for picture in luma]).astype(
        np.float32
    )
