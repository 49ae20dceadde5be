"""Triangle meshes as shaded pictures: the hand meshes of HaMeR, on the clip's own pixels.

In the manner of HaMeR's demo renderer (https://github.com/geopavlakos/hamer): light from around and from the camera,
smooth shading. Both renderers here, `mesh_gl` and `mesh_cpu`, sample every pixel at its centre, interpolate 1/z for a
perspective-correct z-buffer, and light each pixel by its own interpolated normal. They agree but for the last bits:
a silhouette may differ by single pixels, brightness by one or two levels.

Shape legend: V vertices, F faces, H×W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from media.draw import mesh_cpu, mesh_gl
from schemas.conditions import Float32, UInt8, check_array
from schemas.errors import ArtifactError, ConfigError, MissingExtraError

Renderer = Literal["auto", "cpu", "gl"]
"""`cpu`: numpy; the same bytes on every machine, and as fast as OpenGL without a GPU but for close-ups. `gl`: OpenGL
through EGL, whose last bits differ between drivers. `auto`: `gl` where it can be had, else `cpu`."""

NEAREST = 0.01
"""Metres from the camera; faces with a vertex nearer than this, or behind the camera, are left out."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles in camera axes: x right, y down, z away from the camera.

    Both sides of a face are drawn, so it does not matter which way round its vertices run.

    Attributes:
        vertices: (V, 3) float32, metres.
        faces: (F, 3) int32, rows of `vertices`.

    Raises:
        ArtifactError: an array is of another shape or dtype, holds NaN, or a face names no vertex.

    """

    vertices: Float32
    faces: NDArray[np.int32]

    def __post_init__(self) -> None:
        check_array(self.vertices, name="mesh.vertices", shape=(None, 3), dtype=np.float32)
        check_array(self.faces, name="mesh.faces", shape=(None, 3), dtype=np.int32)
        if self.faces.size and not 0 <= int(self.faces.min()) <= int(self.faces.max()) < len(self.vertices):
            raise ArtifactError(
                f"mesh.faces names vertices {int(self.faces.min())} to {int(self.faces.max())}",
                allowed=f"0..{len(self.vertices) - 1}",
            )


def render_meshes(
    meshes: Sequence[Mesh], *, height: int, width: int, focal: float, renderer: Renderer = "auto"
) -> UInt8:
    """Brightness of the meshes as a pinhole camera at the origin sees them, nearer ones in front.

    A point (x, y, z) falls on the pixel (focal · x / z + width / 2, focal · y / z + height / 2), pixel centres at
    integers: the camera that HaMeR gives for a whole picture, so that meshes lie on the keypoints of the same hands.
    What is outside of the picture, or nearer than `NEAREST`, is left out.

    Args:
        meshes: any number; none gives a black picture.
        height: of the picture, px.
        width: of the picture, px.
        focal: focal length, px.
        renderer: see `Renderer`.

    Returns:
        (height, width) uint8: 255 · (0.3 + 0.7 · |n_z|) of the unit normal n, rounded; 0 where there is no mesh.

    Raises:
        ConfigError: a size or the focal length is not above 0; there is no such renderer; or `gl` was asked for and
            no context can be made here.
        MissingExtraError: `gl` was asked for and moderngl is not installed.

    """
    if height < 1 or width < 1 or not 0 < focal < np.inf:
        raise ConfigError(f"a picture of {height} x {width} with a focal length of {focal}", allowed="above 0, in px")
    draw = mesh_cpu.render if renderer_name(renderer) == "cpu" else mesh_gl.render
    vertices, normals, faces = _scene(meshes)
    if len(faces) == 0:
        return np.zeros((height, width), dtype=np.uint8)
    return draw(vertices, normals, faces, height=height, width=width, focal=focal)


def renderer_name(renderer: Renderer = "auto") -> str:
    """What `renderer` comes to in this process and thread: "cpu", or the name of the OpenGL driver.

    Raises:
        ConfigError: there is no such renderer; or `gl` was asked for and no context can be made here.
        MissingExtraError: `gl` was asked for and moderngl is not installed.

    """
    if renderer not in get_args(Renderer):
        raise ConfigError(f"there is no renderer {renderer!r}", allowed=", ".join(get_args(Renderer)))
    if renderer == "cpu":
        return "cpu"
    try:
        return mesh_gl.driver()
    except (ConfigError, MissingExtraError):
        if renderer == "gl":
            raise
        return "cpu"


def _scene(meshes: Sequence[Mesh]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """All meshes as one: vertices (V, 3) and their normals (V, 3), faces (F, 3), of what is in front of the camera."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    vertices = np.concatenate([np.zeros((0, 3)), *(mesh.vertices for mesh in meshes)]).astype(np.float64)
    faces = np.concatenate(
        [np.zeros((0, 3), dtype=np.int64), *(mesh.faces + start for mesh, start in zip(meshes, starts, strict=False))]
    )
    normals = _vertex_normals(vertices, faces)
    in_front = vertices[:, 2] >= NEAREST
    if not in_front.all():
        used, faces = np.unique(faces[in_front[faces].all(axis=1)], return_inverse=True)
        vertices, normals, faces = vertices[used], normals[used], faces.reshape(-1, 3)
    return vertices, normals, faces


def _vertex_normals(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """(V, 3) of unit length: the sum over the faces of a vertex, each by its area; zeros for a vertex of none."""
    first, second, third = (vertices[faces[:, corner]] for corner in range(3))
    across = np.repeat(np.cross(second - first, third - first), 3, axis=0)
    corners = faces.ravel()
    sums = np.stack([np.bincount(corners, weights=axis, minlength=len(vertices)) for axis in across.T], axis=1)
    return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), np.finfo(np.float64).tiny))
