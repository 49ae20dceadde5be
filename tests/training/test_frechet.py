"""The Fréchet distance: against closed forms, against torchmetrics' formula, and where covariances are singular."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training.frechet import FeatureError, Moments, frechet_distance
from weights.torchvision_operators import declare_missing_operators

CHANCE = np.random.default_rng(0)


def moments(features: NDArray[np.floating], *, pieces: int = 1) -> Moments:
    found = Moments(features.shape[1])
    for piece in np.array_split(features, pieces):
        found.add(piece)
    return found


def whitened(count: int, width: int) -> NDArray[np.float64]:
    """Features of mean 0 and covariance 1, exactly."""
    drawn = CHANCE.normal(size=(count, width))
    drawn -= drawn.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(drawn, rowvar=False))
    return drawn @ vectors / np.sqrt(values) @ vectors.T


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_that_are_no_numbers_are_refused_and_leave_no_trace(bad: float) -> None:
    features = CHANCE.normal(size=(6, 3))
    found = moments(features)
    with pytest.raises(FeatureError, match="NaN or infinite"):
        found.add(np.array([[0.0, bad, 0.0]]))
    assert frechet_distance(found, moments(features)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_features_have_no_distance(count: int) -> None:
    few, many = moments(np.zeros((count, 3))), moments(CHANCE.normal(size=(6, 3)))
    for one, other in ((few, many), (many, few)):
        with pytest.raises(FeatureError, match=f"there are {count} features"):
            frechet_distance(one, other)


def test_features_of_other_widths_are_not_compared() -> None:
    with pytest.raises(ValueError, match="3 and 4 numbers"):
        frechet_distance(moments(np.zeros((2, 3))), moments(np.zeros((2, 4))))


def test_it_is_the_closed_form_of_gaussians_that_share_their_axes() -> None:
    """|μ₁ - μ₂|² + Σ (σ₁ - σ₂)²."""
    features, rotation = whitened(50, 4), np.linalg.qr(CHANCE.normal(size=(4, 4)))[0]
    first, second, apart = np.array([1, 2, 3, 0.5]), np.array([2, 0.1, 3, 4]), np.array([1, -2, 0, 5])
    one, other = features * first @ rotation, features * second @ rotation + apart
    expected = (apart**2).sum() + ((first - second) ** 2).sum()
    assert frechet_distance(moments(one), moments(other)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("width", [1, 8, 20])
def test_it_is_what_torchmetrics_computes(width: int) -> None:
    declare_missing_operators()
    pytest.importorskip("torchmetrics", reason="the extra train is not installed")
    from torchmetrics.image.fid import _compute_fid

    one = CHANCE.normal(size=(60, width)) @ CHANCE.normal(size=(width, width)) + 3
    other = CHANCE.normal(size=(70, width)) @ CHANCE.normal(size=(width, width))
    given = [
        torch.from_numpy(value)
        for features in (one, other)
        for value in (features.mean(axis=0), np.cov(features, rowvar=False).reshape(width, width))
    ]
    assert frechet_distance(moments(one), moments(other)) == pytest.approx(float(_compute_fid(*given)), rel=1e-9)


def test_singular_covariances_need_no_offset_and_are_told() -> None:
    """Of 5 features in 40 dimensions: all that differs lies in the directions that they span."""
    spread, scale = whitened(5, 4), np.array([1, 2, 3, 4.0])
    basis = np.linalg.qr(CHANCE.normal(size=(40, 4)))[0].T
    one, other = moments(spread @ basis), moments(spread * scale @ basis + 1)
    assert one.singular
    assert not moments(CHANCE.normal(size=(41, 40))).singular
    assert frechet_distance(one, other) == pytest.approx(40 + ((scale - 1) ** 2).sum(), rel=1e-6)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)


def test_pieces_give_the_moments_of_the_whole_also_far_from_zero() -> None:
    features = CHANCE.normal(size=(53, 5)) + 1e6  # many times the rows that are held
    found = moments(features, pieces=9)
    found.add(np.zeros((0, 5)))
    assert found.count == 53
    np.testing.assert_allclose(found.mean, features.mean(axis=0), rtol=1e-12)
    covariance = found.factor.T @ found.factor
    np.testing.assert_allclose(covariance, np.cov(features, rowvar=False), rtol=1e-6, atol=1e-9)
