"""Meshes for tests: spheres, flat pieces, and a glove with about as many faces as MANO's hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from media.draw import Mesh


def placed(vertices: np.ndarray, faces: Sequence[Sequence[int]] | np.ndarray, *, at: Sequence[float]) -> Mesh:
    """A mesh of these vertices, moved by `at`."""
    return Mesh((np.asarray(vertices) + np.asarray(at)).astype(np.float32), np.asarray(faces, dtype=np.int32))


def tube(middles: np.ndarray, radii: np.ndarray, *, sides: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of a closed tube of rings (in planes of constant y) around `middles` (R, 3)."""
    rings = len(middles)
    turn = np.arange(sides) / sides * 2 * np.pi
    circle = np.stack([np.cos(turn), np.zeros(sides), np.sin(turn)], axis=1)
    vertices = (middles[:, None] + radii[:, None, None] * circle).reshape(-1, 3)
    first, last = len(vertices), len(vertices) + 1
    here = np.arange(sides)
    after = (here + 1) % sides
    faces = [np.stack([np.full(sides, first), after, here], axis=1)]
    for ring in range(rings - 1):
        low, high = ring * sides, (ring + 1) * sides
        faces.append(np.stack([low + here, low + after, high + here], axis=1))
        faces.append(np.stack([low + after, high + after, high + here], axis=1))
    top = (rings - 1) * sides
    faces.append(np.stack([np.full(sides, last), top + here, top + after], axis=1))
    return np.concatenate([vertices, middles[:1], middles[-1:]]), np.concatenate(faces)


def ball(radius: float, *, at: Sequence[float], rings: int = 40, sides: int = 60) -> Mesh:
    """A sphere of triangles, all its vertices at `radius`."""
    tilt = np.linspace(0, np.pi, rings + 2)
    middles = np.zeros((rings + 2, 3))
    middles[:, 1] = -np.cos(tilt) * radius
    vertices, faces = tube(middles[1:-1], np.sin(tilt[1:-1]) * radius, sides=sides)
    vertices[-2:] = middles[[0, -1]]
    return placed(vertices, faces, at=at)


def sheet(*, width: float, height: float, at: Sequence[float], turn: float = 0) -> Mesh:
    """A rectangle, turned by so many degrees about the vertical through its middle: right side away."""
    x, z = np.cos(np.radians(turn)) * width / 2, np.sin(np.radians(turn)) * width / 2
    y = height / 2
    return placed(np.array([(-x, -y, -z), (x, -y, z), (x, y, z), (-x, y, -z)]), [(0, 1, 2), (0, 2, 3)], at=at)


def glove(*, at: Sequence[float], size: float = 0.09) -> Mesh:
    """Five bent, tapering fingers on a palm: one mesh of 804 vertices and 1584 faces."""
    parts = []
    along = np.linspace(0, 1, 11)
    for finger in range(5):
        spread = (finger - 2) * 0.22
        middles = np.stack([spread * (1 + along), -along, -0.5 * along**2 * (1 + finger / 4)], axis=1)
        parts.append(tube(middles, 0.11 - 0.05 * along, sides=12))
    palm = np.stack([np.zeros(11), along, 0.1 * along], axis=1)
    parts.append(tube(palm, 0.55 - 0.25 * along, sides=12))
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in parts)])
    faces = [faces + start for (_, faces), start in zip(parts, starts, strict=False)]
    return placed(np.concatenate([vertices for vertices, _ in parts]) @ _TILT * size, np.concatenate(faces), at=at)


_TILT, _ = np.linalg.qr([(1.0, -0.2, 0.3), (0.2, 1.0, -0.4), (-0.3, 0.4, 1.0)])
"""A rotation that leaves none of the glove's faces edge-on."""
