"""How alike two cuts of a garment are, by colour and by pattern.

Shape legend: N px sampled of a cut; Lab is CIE L*a*b* (D65).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from preprocess.pair_check.cuts import Cut, Float32

COLOUR_SIDE, PATTERN_SIDE = 48, 128
"""Size in px (root of the area) at which colours and patterns are looked at."""
SAMPLES = 128
"""Pixels a cut that its colours are taken from."""
SCALES = (1, 2, 4, 8)
"""Standard deviations in px at `PATTERN_SIDE` at which edges are looked for: prints, stripes and checks."""
FLOOR = np.tile(np.array([3.0, 1.5], np.float32), 2 * len(SCALES))
"""Added to each number of `pattern_energy`: folds and noise of a plain garment, in lightness and in colour."""


def colours(cut: Cut) -> Float32:
    """(N, 3) float32 Lab: colours of the garment, evenly sampled over its area."""
    image, mask = cut.scaled(COLOUR_SIDE)
    pixels = _lab(image)[mask]
    return pixels[np.linspace(0, len(pixels) - 1, SAMPLES).round().astype(int)]


def colour_match(one: Float32, other: Float32, *, tolerance: float) -> float:
    """Likeness of two samples of colours, 0..1; 1 where they are the same colours in the same shares.

    1 minus the earth mover's distance (Rubner et al., IJCV 2000; between samples of equal size it is an assignment),
    where moving a pixel by the colour difference d costs 1 - exp(-d / tolerance). d is CIE94 with the factors of
    textiles (CIE 116-1995), in which light counts half.
    """
    from scipy.optimize import linear_sum_assignment

    cost = 1 - np.exp(-_cie94(one, other) / tolerance)
    return float(1 - cost[linear_sum_assignment(cost)].mean())


def _cie94(one: Float32, other: Float32) -> NDArray[np.float32]:
    """(N, N) differences of Lab colours, symmetric: the chroma in the weights is the mean of both."""
    light, green, blue = np.moveaxis(one[:, None] - other[None], -1, 0)
    chroma_one, chroma_other = np.hypot(one[:, 1], one[:, 2])[:, None], np.hypot(other[:, 1], other[:, 2])[None]
    mean, chroma = np.sqrt(chroma_one * chroma_other), chroma_one - chroma_other
    hue_squared = np.maximum(green**2 + blue**2 - chroma**2, 0)
    return np.sqrt((light / 2) ** 2 + (chroma / (1 + 0.048 * mean)) ** 2 + hue_squared / (1 + 0.014 * mean) ** 2)


def pattern_match(one: Cut, other: Cut) -> float:
    """Likeness of the patterns of two cuts, 0..1: shared edge energy over all of it, scale by scale (Ruzicka's index).

    Both are looked at in the coarser one's resolution.
    """
    side = min(PATTERN_SIDE, one.side, other.side)
    first, second = (_pattern_energy(cut, side) + FLOOR for cut in (one, other))
    return float(np.minimum(first, second).sum() / np.maximum(first, second).sum())


def _pattern_energy(cut: Cut, side: float) -> Float32:
    """(4·scales,) float32: root mean square of the gradient along x and y, of lightness and of colour, at each scale.

    In units of Lab over the scale's standard deviation.
    """
    import cv2

    image, mask = cut.scaled(side)
    lab, weight = _lab(image), mask.astype(np.float32)
    energies = []
    for sigma in (scale * side / PATTERN_SIDE for scale in SCALES):
        # Only the garment's own pixels take part (normalised convolution, Knutsson & Westin 1993).
        share = np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-3)
        smooth = cv2.GaussianBlur(lab * weight[..., None], (0, 0), sigma) / share[..., None]
        for along in ((1, 0), (0, 1)):
            slope = sigma * cv2.Sobel(smooth, cv2.CV_32F, *along, scale=1 / 8)[mask]
            energies += [np.sqrt((slope[:, 0] ** 2).mean()), np.sqrt((slope[:, 1:] ** 2).sum(1).mean())]
    return np.array(energies, np.float32)


def _lab(image: Float32) -> Float32:
    import cv2

    return np.asarray(cv2.cvtColor(image / 255, cv2.COLOR_RGB2LAB), np.float32)
