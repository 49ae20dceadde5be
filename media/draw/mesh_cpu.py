"""Triangles rendered by numpy: no drivers, and the same bytes on every machine.

Shape legend: V vertices, F faces, R rows of faces, N fragments (pixels of faces, hidden ones too), H×W pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.conditions import UInt8

Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]

_SLACK = 1e-6
"""Px by which faces are widened, so that rounding leaves no gap between neighbours."""


def render(
    vertices: Float64, normals: Float64, faces: Ints, *, height: int, width: int, focal: float, ambient: float
) -> UInt8:
    """Brightness (height, width) uint8, see `media.draw.mesh.render_meshes`.

    Args:
        vertices: (V, 3) metres, all in front of the camera.
        normals: (V, 3), of any length.
        faces: (F, 3) rows of `vertices`.
        height: of the picture, px.
        width: of the picture, px.
        focal: px.
        ambient: brightness of a surface seen edge-on.

    """
    inverse = 1 / vertices[:, 2]
    points = vertices[:, :2] * (focal * inverse[:, None]) + (width / 2, height / 2)
    corners = points[faces]
    shares = _shares(corners)
    keep = np.isfinite(shares).all(axis=(1, 2))  # faces seen edge-on cover nothing
    corners, shares, faces = corners[keep], shares[keep], faces[keep]
    # 1/z and normal/z are linear across the picture
    values = np.concatenate([inverse[:, None], normals * inverse[:, None]], axis=1)
    planes = values[faces].transpose(0, 2, 1) @ shares  # (F, 4, 3): the value at (x, y) is plane @ (x, y, 1)

    face, x, y = _fragments(corners, shares, height=height, width=width)
    pixel = y * width + x
    nearness = planes[face, 0, 0] * x + planes[face, 0, 1] * y + planes[face, 0, 2]
    nearest = np.zeros(height * width)
    np.maximum.at(nearest, pixel, nearness)
    seen = nearness == nearest[pixel]
    face, x, y = face[seen], x[seen], y[seen]
    normal = np.einsum("nij,jn->in", planes[face, 1:], np.stack([x, y, np.ones_like(x)]))
    facing = np.abs(normal[2]) / np.maximum(np.sqrt((normal**2).sum(axis=0)), np.finfo(np.float64).tiny)
    picture = np.zeros(height * width, dtype=np.uint8)
    picture[pixel[seen]] = (255 * (ambient + (1 - ambient) * facing)).round().astype(np.uint8)
    return picture.reshape(height, width)


def _shares(corners: Float64) -> Float64:
    """(F, 3, 2) px → (F, 3, 3): the share of corner i at (x, y) is row i @ (x, y, 1); infinite where F has no area."""
    following, last = np.roll(corners, -1, axis=1), np.roll(corners, -2, axis=1)
    shares = np.stack(
        [
            following[..., 1] - last[..., 1],
            last[..., 0] - following[..., 0],
            following[..., 0] * last[..., 1] - last[..., 0] * following[..., 1],
        ],
        axis=-1,
    )
    double_area = shares[:, :, 2].sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return shares / double_area[:, None, None]


def _fragments(corners: Float64, shares: Float64, *, height: int, width: int) -> tuple[Ints, Ints, Ints]:
    """Face, x and y (N,) of every pixel of every face, found row by row: a face's row is where all shares are ≥ 0."""
    top = _first_pixel(corners[..., 1].min(axis=1), height)
    bottom = _last_pixel(corners[..., 1].max(axis=1), height)
    face, down = _count_up(bottom - top + 1)
    y = top[face] + down
    slope = shares[face, :, 0]
    offset = shares[face, :, 1] * y[:, None] + shares[face, :, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = -offset / slope  # (R, 3): where each share is 0
    left = _first_pixel(np.where(slope > 0, crossing, -np.inf).max(axis=1), width)
    right = _last_pixel(np.where(slope < 0, crossing, np.inf).min(axis=1), width)
    row, across = _count_up(right - left + 1)
    return face[row], left[row] + across, y[row]


def _first_pixel(edge: Float64, length: int) -> Ints:
    return np.ceil(edge - _SLACK).clip(0, length).astype(np.int64)


def _last_pixel(edge: Float64, length: int) -> Ints:
    return np.floor(edge + _SLACK).clip(-1, length - 1).astype(np.int64)


def _count_up(counts: Ints) -> tuple[Ints, Ints]:
    """For counts (2, 0, 3): owners (0, 0, 2, 2, 2) and positions (0, 1, 0, 1, 2); counts below 0 are 0."""
    counts = counts.clip(0)
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - np.repeat(counts.cumsum() - counts, counts)
