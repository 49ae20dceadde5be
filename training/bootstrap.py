"""Intervals of means and ratios by resampling samples: what hangs together within a sample adds nothing to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

RESAMPLES = 5000
"""Of the bootstrap: the ends of a 95 % interval then vary by about a fiftieth of its width."""
_RESAMPLED_AT_ONCE = 2**20


class Estimate(BaseModel):
    """A value with its 95 % interval; None where there is but one sample to resample."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float
    low: float | None
    high: float | None


def ratios(sums: NDArray[np.float64], *, seed: int) -> list[Estimate]:
    """Ratios of the columns of (N, K) `sums` over N samples to the last one, with percentile bootstrap intervals."""
    values = sums[:, :-1].sum(axis=0) / sums[:, -1].sum()
    if len(sums) < 2:
        return [Estimate(value=float(value), low=None, high=None) for value in values]
    low, high = np.quantile(_resampled(sums, seed=seed), [0.025, 0.975], axis=0)
    return [
        Estimate(value=float(value), low=float(least), high=float(most))
        for value, least, most in zip(values, low, high, strict=True)
    ]


def mean(values: NDArray[np.float64], *, seed: int) -> Estimate:
    """Mean of (N,) values of samples, which all count the same."""
    return ratios(np.stack([values, np.ones_like(values)], axis=1), seed=seed)[0]


def _resampled(sums: NDArray[np.float64], *, seed: int) -> NDArray[np.float64]:
    """(RESAMPLES, K - 1) ratios, each of N of the N rows of (N, K) `sums`, drawn with replacement."""
    chance, count = np.random.default_rng(seed), len(sums)
    step = max(1, _RESAMPLED_AT_ONCE // count)
    drawn_ratios = []
    for start in range(0, RESAMPLES, step):
        drawn = sums[chance.integers(count, size=(min(step, RESAMPLES - start), count))].sum(axis=1)
        drawn_ratios.append(drawn[:, :-1] / drawn[:, -1:])
    return np.concatenate(drawn_ratios)
