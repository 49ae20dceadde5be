"""Triangles rendered by numpy: no drivers, and the same bytes on every machine.

Shape legend: V vertices, F faces, R rows of pixels of the faces, N pixels of the faces, hidden ones too.
"""

from __future__ import annotations

import numpy as np

from media.draw.raster import Float64, Ints, between, brightness, in_sight
from schemas.conditions import UInt8

_SLACK = 1e-6
"""Px by which faces are widened, so that rounding leaves no gap between neighbours."""


def render(vertices: Float64, normals: Float64, faces: Ints, *, height: int, width: int, focal: float) -> UInt8:
    """Brightness (height, width) uint8, see `media.draw.mesh.render_meshes`.

    Args:
        vertices: (V, 3) metres, all in front of the camera.
        normals: (V, 3), of unit length.
        faces: (F, 3) rows of `vertices`.
        height: of the picture, px.
        width: of the picture, px.
        focal: px.

    """
    inverse = 1 / vertices[:, 2]
    points = vertices[:, :2] * (focal * inverse[:, None]) + (width / 2, height / 2)
    shares = _shares(points[faces])
    keep = np.isfinite(shares).all(axis=(0, 1))  # a face seen edge-on covers nothing
    faces, shares = faces[keep], shares[:, :, keep]
    face, x, y = _covered(points[faces], shares, height=height, width=width)
    pixel = y * width + x

    nearness = _value(_plane(inverse, faces, shares), face, x, y)  # 1/z, which is linear across the picture
    seen = in_sight(pixel, nearness, pixels=height * width)
    face, x, y, pixel = face[seen], x[seen], y[seen], pixel[seen]

    turned = [_value(_plane(axis * inverse, faces, shares), face, x, y) for axis in normals.T]  # up to its length
    length = np.sqrt(turned[0] ** 2 + turned[1] ** 2 + turned[2] ** 2)
    picture = np.zeros(height * width, dtype=np.uint8)
    picture[pixel] = brightness(np.abs(turned[2]) / np.maximum(length, np.finfo(np.float64).tiny))
    return picture.reshape(height, width)


def _shares(corners: Float64) -> Float64:
    """(F, 3, 2) px → (3, 3, F): a, b, c of every corner, whose share at (x, y) is a x + b y + c. No area: infinite."""
    x, y = corners.transpose(2, 1, 0)
    after, last = [1, 2, 0], [2, 0, 1]
    shares = np.stack([y[after] - y[last], x[last] - x[after], x[after] * y[last] - x[last] * y[after]])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(shares / shares[2].sum(axis=0))  # twice the area


def _plane(values: Float64, faces: Ints, shares: Float64) -> Float64:
    """Values (V,) at the vertices → a, b, c (3, F): a x + b y + c is what they come to within a face."""
    first, second, third = values[faces.T]
    return np.asarray(shares[:, 0] * first + shares[:, 1] * second + shares[:, 2] * third)


def _value(plane: Float64, face: Ints, x: Ints, y: Ints) -> Float64:
    return np.asarray(plane[0][face] * x + plane[1][face] * y + plane[2][face])


def _covered(corners: Float64, shares: Float64, *, height: int, width: int) -> tuple[Ints, Ints, Ints]:
    """Face, x and y (N,) of all pixels whose centre lies in a face: row by row, where no share is below 0."""
    first, second, third = corners[:, :, 1].T
    top, bottom = np.minimum(np.minimum(first, second), third), np.maximum(np.maximum(first, second), third)
    face, y = between(top - _SLACK, bottom + _SLACK, height)
    left, right = np.full(len(face), -np.inf), np.full(len(face), np.inf)
    for slope, by_row, constant in shares.transpose(1, 0, 2):
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing = -(by_row[face] * y + constant[face]) / slope[face]
        np.maximum(left, crossing, out=left, where=slope[face] > 0)
        np.minimum(right, crossing, out=right, where=slope[face] < 0)
    row, x = between(left - _SLACK, right + _SLACK, width)
    return face[row], x, y[row]
