"""Hands as shaded solids, drawn from 21 joints: stands in for the picture of HaMeR's hand mesh, in its style.

Method: the hand is a union of cones with round ends (spheres swept along the bones), the palm a fan of them. Each is
cut exactly by the ray of every pixel, seen from straight ahead, so that the solid lies on the joints as they are
seen; the nearest surface counts. The light is that of `media.draw.mesh`.

Shape legend: S hands, P points of a hand (joints and points between them), N pixels of all its parts.
"""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from media.draw.raster import Ints, between, brightness, in_sight
from schemas.conditions import HAND_POINTS, Float32, UInt8
from schemas.errors import ArtifactError

MESH_COLOUR = (0.651, 0.741, 0.859)
"""RGB, of 1, that HaMeR's renderer (https://github.com/geopavlakos/hamer) gives to hands."""

# Radius of a hand at each joint, as a share of the length wrist to middle knuckle (about 9 cm in an adult).
_FINGER_RADII = (0.16, 0.11, 0.095, 0.08)
_THUMB_RADII = (0.18, 0.14, 0.11, 0.09)
_RADII = np.array((0.24, *_THUMB_RADII, *_FINGER_RADII * 4), dtype=np.float32)
_WRIST, _MIDDLE_KNUCKLE = 0, 9
_KNUCKLES = (1, 5, 9, 13, 17)
_BETWEEN = [(pair, share) for pair in pairwise(_KNUCKLES[1:]) for share in (1 / 3, 2 / 3)]
"""Further knuckles between those of the fingers, so that the palm is smooth."""
_BONES = np.array(
    [
        *((_WRIST, knuckle) for knuckle in (*_KNUCKLES, *range(HAND_POINTS, HAND_POINTS + len(_BETWEEN)))),
        *((joint - 1, joint) for joint in range(2, HAND_POINTS) if joint % 4 != 1),  # along each finger
        *pairwise(_KNUCKLES),
        (2, 5),  # the web of the thumb
    ]
)

_WEIGHTS = np.eye(HAND_POINTS + len(_BETWEEN), HAND_POINTS, dtype=np.float32)
"""Of the joints (columns) in each point (rows)."""
for _row, ((_first, _second), _share) in enumerate(_BETWEEN, start=HAND_POINTS):
    _WEIGHTS[_row, [_first, _second]] = 1 - _share, _share


def hand_picture(
    joints_2d: NDArray[np.floating],
    joints_3d: NDArray[np.floating],
    scores: NDArray[np.floating],
    *,
    height: int,
    width: int,
) -> UInt8:
    """`hand_shade` as (height, width, 3) uint8 RGB, in `MESH_COLOUR` on black."""
    return hand_colours(hand_shade(joints_2d, joints_3d, scores, height=height, width=width))


def hand_shade(
    joints_2d: NDArray[np.floating],
    joints_3d: NDArray[np.floating],
    scores: NDArray[np.floating],
    *,
    height: int,
    width: int,
) -> UInt8:
    """Brightness of both hands, the nearer one (larger in px a metre) in front.

    Args:
        joints_2d: (2, 21, 2), x y in px; left hand, then right.
        joints_3d: (2, 21, 3) in metres, z away from the camera.
        scores: (2,); a hand with 0 is absent and not drawn.
        height: of the picture, px.
        width: of the picture, px.

    Returns:
        (height, width) uint8, 0 where there is no hand.

    Raises:
        ArtifactError: the arrays are not of these shapes.

    """
    expected = ((2, HAND_POINTS, 2), (2, HAND_POINTS, 3), (2,))
    shapes = (joints_2d.shape, joints_3d.shape, scores.shape)
    if shapes != expected:
        raise ArtifactError(f"hand arrays have shapes {shapes}", allowed=str(expected))
    shade = np.zeros(height * width, dtype=np.uint8)
    hands = [(_pixels_per_metre(joints_2d[side], joints_3d[side]), side) for side in (0, 1) if scores[side] > 0]
    for scale, side in sorted(hands):
        palm = float(np.linalg.norm(joints_3d[side, _MIDDLE_KNUCKLE] - joints_3d[side, _WRIST])) * scale
        if palm < min(height, width):  # else the camera would touch it
            joints = np.column_stack([joints_2d[side], joints_3d[side, :, 2] * scale]).astype(np.float32)
            pixel, light = _lit(joints, np.maximum(_RADII * palm, 1, dtype=np.float32), height=height, width=width)
            shade[pixel] = light
    return shade.reshape(height, width)


def hand_colours(shade: UInt8) -> UInt8:
    """Brightness (..., H, W) uint8 → (..., H, W, 3) uint8 RGB in `MESH_COLOUR`, black where it is 0."""
    if shade.size == 0:
        return np.zeros((*shade.shape, 3), dtype=np.uint8)
    table = (np.arange(256)[:, None, None] * np.array(MESH_COLOUR)).round().astype(np.uint8)
    rows = cv2.applyColorMap(shade.reshape(-1, shade.shape[-1]), table)  # 10 times as fast as indexing
    return np.asarray(rows, dtype=np.uint8).reshape(*shade.shape, 3)


def _pixels_per_metre(joints_2d: NDArray[np.floating], joints_3d: NDArray[np.floating]) -> float:
    """Least-squares scale between the joints as seen and as measured; 0 for a hand that is one point."""
    seen = joints_2d - joints_2d.mean(axis=0, dtype=np.float64)
    measured = joints_3d[:, :2] - joints_3d[:, :2].mean(axis=0, dtype=np.float64)
    spread = float((measured**2).sum())
    return float(np.sqrt((seen**2).sum() / spread)) if spread > 0 else 0.0


def _lit(joints: Float32, radii: Float32, *, height: int, width: int) -> tuple[Ints, UInt8]:
    """Pixels (N,) that a hand covers, and their brightness; joints are (21, 3), x, y and depth, radii (21,), in px."""
    points, radius = _WEIGHTS @ joints, _WEIGHTS @ radii
    spheres = _spheres(joints, radii, height, width)
    cones = _cones(points[_BONES], radius[_BONES], height, width)
    pixel, depth, facing = (np.concatenate([spheres[part], cones[part]]) for part in range(3))
    seen = in_sight(pixel, depth.max(initial=0) + 1 - depth, pixels=height * width)
    return pixel[seen], brightness(facing[seen])


def _spheres(centres: Float32, radii: Float32, height: int, width: int) -> tuple[Ints, Float32, Float32]:
    """Pixel, depth and how far it faces the camera (N,), of spheres at (P, 3) of radii (P,)."""
    sphere, y = between(centres[:, 1] - radii, centres[:, 1] + radii, height)
    square = radii[sphere] ** 2 - (y - centres[sphere, 1]) ** 2
    half = np.sqrt(square.clip(0))
    row, x = between(centres[sphere, 0] - half, centres[sphere, 0] + half, width)
    sphere = sphere[row]
    rise = np.sqrt((square[row] - (x - centres[sphere, 0]) ** 2).clip(0)).astype(np.float32)
    return y[row] * width + x, centres[sphere, 2] - rise, rise / radii[sphere]


def _cones(ends: Float32, radii: Float32, height: int, width: int) -> tuple[Ints, Float32, Float32]:
    """The same of what spheres sweep that go from end to end, (P, 2, 3), as their radii go, (P, 2); without its ends.

    Its surface at the share t of the way has |q - t b|² = (r + t g)², q measured from the first end, b the way to
    the second, r the radius there and g what it gains, and has to be where that does not change with t. Both
    together are a quadratic equation in the depth of q, with a root of a x² + 2 h x + c in its solution.
    """
    ahead = ends[:, 1] - ends[:, 0]
    keep = np.hypot(ahead[:, 0], ahead[:, 1]) > np.abs(radii[:, 1] - radii[:, 0])  # else one end covers the other
    ends, radii, ahead = ends[keep], radii[keep], ahead[keep]
    cone, y = between((ends[..., 1] - radii).min(axis=1), (ends[..., 1] + radii).max(axis=1), height)
    start_x, start_y, start_z = ends[cone, 0].T
    ahead_x, ahead_y, ahead_z = ahead[cone].T
    radius, gain = radii[cone, 0], radii[cone, 1] - radii[cone, 0]
    flat = ahead_x**2 + ahead_y**2 - gain**2
    whole = flat + ahead_z**2
    along = (y - start_y) * ahead_y + radius * gain
    a, h, c = gain**2 - ahead_y**2, along * ahead_x, along**2 - flat * ((y - start_y) ** 2 - radius**2)

    left, right = (ends[..., 0] - radii).min(axis=1)[cone], (ends[..., 0] + radii).max(axis=1)[cone]
    half = np.sqrt((h**2 - a * c).clip(0))
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(a < 0, np.maximum(left, start_x + (half - h) / a), left)
        right = np.where(a < 0, np.minimum(right, start_x - (half + h) / a), right)
    row, pixel_x = between(left, right, width)

    def each(of_rows: NDArray[np.floating]) -> Float32:
        return of_rows.astype(np.float32)[row]

    x = (pixel_x - start_x[row]).astype(np.float32)
    scale = whole / flat**2
    with np.errstate(invalid="ignore"):  # a ray that misses the cone gives NaN, which is no share
        root = np.sqrt((each(scale * a) * x + each(2 * scale * h)) * x + each(scale * c))
    depth = each(along * ahead_z / flat) + each(ahead_x * ahead_z / flat) * x - root
    share = each(along / whole) + each(ahead_x / whole) * x + each(ahead_z / whole) * depth
    body = (share >= 0) & (share <= 1)
    row, pixel_x, depth, share = row[body], pixel_x[body], depth[body], share[body]
    facing = (share * ahead_z[row] - depth) / (radius[row] + share * gain[row])
    return y[row] * width + pixel_x, start_z[row] + depth, facing
