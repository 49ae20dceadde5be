"""Fréchet distance of two sets of features, each taken for a sample of a Gaussian (Heusel et al. 2017, FID).

Shape legend: N features, D numbers in each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.errors import VvtError

Floats = NDArray[np.float64]


class FeatureError(VvtError):
    """Features from which no distance can be had: not finite, or too few."""


class Moments:
    """Mean and covariance of features that come one after the other, in float64; at most 2·D rows are held.

    The covariance is kept as a factor, whose rows are the steps of Welford's update: nothing is squared, so that large
    means and singular covariances cost no digits.
    """

    def __init__(self, features: int) -> None:
        self.count = 0
        self.mean: Floats = np.zeros(features)
        self._rows: list[Floats] = []

    def add(self, features: NDArray[np.floating]) -> None:
        """Take (N, D) features.

        Raises:
            FeatureError: some are NaN or infinite; none of these are taken.

        """
        new = np.asarray(features, dtype=np.float64)
        if not np.isfinite(new).all():
            raise FeatureError("features are NaN or infinite", allowed="finite numbers")
        for feature in new:
            apart = feature - self.mean
            if self.count:
                self._rows.append(apart * np.sqrt(self.count / (self.count + 1)))
            self.count += 1
            self.mean = self.mean + apart / self.count
            if len(self._rows) > 2 * len(self.mean):
                self._rows = list(np.linalg.qr(np.stack(self._rows), mode="r"))

    @property
    def factor(self) -> Floats:
        """(R, D), of which AᵀA is the unbiased covariance. Raises `FeatureError` of fewer than two features."""
        if self.count < 2:
            raise FeatureError(f"there are {self.count} features", allowed="2 and more, for a covariance")
        return np.stack(self._rows) / np.sqrt(self.count - 1)

    @property
    def singular(self) -> bool:
        """Whether there are too few features for a covariance of full rank."""
        return self.count <= len(self.mean)


def frechet_distance(one: Moments, other: Moments) -> float:
    """|μ₁ - μ₂|² + tr Σ₁ + tr Σ₂ - 2 tr (Σ₁Σ₂)^½, 0 and above.

    With Σ₁ = AᵀA and Σ₂ = BᵀB the eigenvalues of Σ₁Σ₂ are the squared singular values of ABᵀ, so that the trace of the
    root is their sum: real, and defined for singular covariances as for others.

    Raises:
        FeatureError: either has fewer than two features.
        ValueError: they differ in D.

    """
    if one.mean.shape != other.mean.shape:
        raise ValueError(f"features of {len(one.mean)} and {len(other.mean)} numbers")
    first, second = one.factor, other.factor
    shared = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    apart = one.mean - other.mean
    return max(0.0, float(apart @ apart + np.square(first).sum() + np.square(second).sum() - 2 * shared))
