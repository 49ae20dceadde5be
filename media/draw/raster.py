"""What the renderers in numpy share: pixels of many shapes at once, the nearest surface of each, and its brightness.

Shape legend: N pixels of all shapes together, hidden ones too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.conditions import Bool, UInt8

Float64 = NDArray[np.float64]
Floats = NDArray[np.floating]
Ints = NDArray[np.int64]

AMBIENT = 0.3
"""Brightness of a surface seen edge-on; one that faces the camera has 1."""


def between(low: Floats, high: Floats, length: int) -> tuple[Ints, Ints]:
    """The pixels of a line of `length` with their centres in [low[i], high[i]], for all i together: i (N,), pixel (N,).

    For low (0.5, 7, 2), high (2, 6, 2.1): i (0, 0, 2), pixel (1, 2, 2).
    """
    first = np.ceil(low).clip(0, length).astype(np.int64)
    last = np.floor(high).clip(-1, length - 1).astype(np.int64)
    counts = (last - first + 1).clip(0)
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) + np.repeat(first - counts.cumsum() + counts, counts)


def in_sight(pixel: Ints, nearness: Floats, *, pixels: int) -> Bool:
    """(N,): whether nothing is nearer on the same of `pixels` pixels. `nearness` is above 0, and grows towards us."""
    nearest = np.zeros(pixels, dtype=nearness.dtype)
    np.maximum.at(nearest, pixel, nearness)
    return np.asarray(nearness == nearest[pixel])


def brightness(facing: Floats) -> UInt8:
    """What light at the camera and from around makes of a surface, `facing` the camera from 0 (edge-on) to 1."""
    return (255 * (AMBIENT + (1 - AMBIENT) * facing)).round().astype(np.uint8)
