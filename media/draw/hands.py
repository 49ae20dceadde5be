"""Hands as shaded solids, drawn from 21 joints: stands in for the picture of HaMeR's hand mesh.

Method: every bone is a capsule that tapers to the tip, the palm a fan of them; each pixel keeps the nearest
surface (a z-buffer over spheres swept along the bones) and is lit from the camera. The colour is that of
HaMeR's renderer (https://github.com/geopavlakos/hamer).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from media.draw.mesh import MESH_COLOUR
from schemas.conditions import HAND_POINTS, Float32, UInt8
from schemas.errors import ArtifactError

# Radius of a hand at each joint, as a share of the length wrist to middle knuckle (about 9 cm in an adult).
_FINGER_RADII = (0.16, 0.11, 0.095, 0.08)
_THUMB_RADII = (0.18, 0.14, 0.11, 0.09)
_RADII = np.array((0.24, *_THUMB_RADII, *_FINGER_RADII * 4), dtype=np.float32)
_MIDDLE_KNUCKLE = 9
_BONES = (
    *((0, knuckle) for knuckle in (1, 5, 9, 13, 17)),
    (1, 5), (5, 9), (9, 13), (13, 17), (1, 9), (2, 5),
    *((joint - 1, joint) for joint in range(2, 21) if joint % 4 != 1),  # along each finger
)  # fmt: skip
_LIGHT = np.array((-0.35, -0.55, -0.76), dtype=np.float32)  # from above, left of and behind the camera
_AMBIENT = 0.35


def hand_picture(
    joints_2d: NDArray[np.floating],
    joints_3d: NDArray[np.floating],
    scores: NDArray[np.floating],
    *,
    height: int,
    width: int,
) -> UInt8:
    """Both hands on black, the nearer one (larger in px a metre) in front.

    Args:
        joints_2d: (2, 21, 2), x y in px; left hand, then right.
        joints_3d: (2, 21, 3) in metres, z away from the camera.
        scores: (2,); a hand with 0 is absent and not drawn.
        height: of the picture, px.
        width: of the picture, px.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        ArtifactError: the arrays are not of these shapes.

    """
    expected = ((2, HAND_POINTS, 2), (2, HAND_POINTS, 3), (2,))
    shapes = (joints_2d.shape, joints_3d.shape, scores.shape)
    if shapes != expected:
        raise ArtifactError(f"hand arrays have shapes {shapes}", allowed=str(expected))
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    seen = [side for side in (0, 1) if scores[side] > 0]
    scale = {side: _pixels_per_metre(joints_2d[side], joints_3d[side]) for side in seen}
    for side in sorted(seen, key=lambda side: scale[side]):
        joints = np.column_stack([joints_2d[side], joints_3d[side, :, 2] * scale[side]]).astype(np.float32)
        palm = float(np.linalg.norm(joints_3d[side, _MIDDLE_KNUCKLE] - joints_3d[side, 0])) * scale[side]
        _draw_hand(picture, joints, np.maximum(_RADII * palm, 1))
    return picture


def _pixels_per_metre(joints_2d: NDArray[np.floating], joints_3d: NDArray[np.floating]) -> float:
    """Least-squares scale between the joints as seen and as measured; 0 for a hand that is one point."""
    seen = joints_2d - joints_2d.mean(axis=0)
    measured = joints_3d[:, :2] - joints_3d[:, :2].mean(axis=0)
    spread = float((measured**2).sum())
    return float(np.sqrt((seen**2).sum() / spread)) if spread > 0 else 0.0


def _draw_hand(picture: UInt8, joints: Float32, radii: Float32) -> None:
    """Joints are (21, 3), x, y and depth, and radii (21,), all in px."""
    rows, columns = _extent(joints, radii, picture.shape)
    window = picture[rows, columns]
    nearest = np.full(window.shape[:2], np.inf, dtype=np.float32)
    light = np.zeros(window.shape[:2], dtype=np.float32)
    moved = joints - np.array((columns.start, rows.start, 0), dtype=np.float32)
    for bone in _BONES:
        _draw_capsule(nearest, light, moved[list(bone)], radii[list(bone)])
    drawn = np.isfinite(nearest)
    colour = np.array(MESH_COLOUR, dtype=np.float32) * 255
    window[drawn] = (light[drawn, None] * colour).round().astype(np.uint8)


def _draw_capsule(nearest: Float32, light: Float32, ends: Float32, radii: Float32) -> None:
    """Depth-test one swept sphere into `nearest` and its shade into `light`, in place."""
    rows, columns = _extent(ends, radii, nearest.shape)
    y, x = np.mgrid[rows, columns].astype(np.float32)
    start, along = ends[0], ends[1] - ends[0]
    share = ((x - start[0]) * along[0] + (y - start[1]) * along[1]) / max(float(along[:2] @ along[:2]), 1e-6)
    share = share.clip(0, 1)  # 0 at the first joint, 1 at the second
    radius = radii[0] + share * (radii[1] - radii[0])
    normal_x = (x - start[0] - share * along[0]) / radius
    normal_y = (y - start[1] - share * along[1]) / radius
    inside = 1 - normal_x**2 - normal_y**2
    bulge = np.sqrt(inside.clip(0))
    depth = start[2] + share * along[2] - radius * bulge
    wins = (inside > 0) & (depth < nearest[rows, columns])
    facing = (normal_x * _LIGHT[0] + normal_y * _LIGHT[1] - bulge * _LIGHT[2]).clip(0)
    nearest[rows, columns][wins] = depth[wins]
    light[rows, columns][wins] = (_AMBIENT + (1 - _AMBIENT) * facing)[wins].clip(0, 1)


def _extent(joints: Float32, radii: Float32, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of a picture of `shape` that discs around `joints` reach; empty outside of it."""
    height, width = shape[:2]
    low = np.floor((joints[:, :2] - radii[:, None]).min(axis=0)).clip(0, (width, height)).astype(int)
    high = np.ceil((joints[:, :2] + radii[:, None]).max(axis=0) + 1).clip(0, (width, height)).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])
