"""Triangles rendered by OpenGL (moderngl) without a window: EGL on a GPU's driver, or on Mesa's software renderer."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from media.draw.raster import AMBIENT
from schemas.conditions import UInt8
from schemas.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    import moderngl

_VERTEX = """
#version 330
in vec4 position;
in vec3 normal;
out vec3 turned;
void main() {
    gl_Position = position;
    turned = normal;
}
"""
_FRAGMENT = """
#version 330
uniform float ambient;
in vec3 turned;
out float shade;
void main() {
    shade = mix(ambient, 1.0, abs(turned.z) / max(length(turned), 1e-30));
}
"""


def render(
    vertices: NDArray[np.float64],
    normals: NDArray[np.float64],
    faces: NDArray[np.int64],
    *,
    height: int,
    width: int,
    focal: float,
) -> UInt8:
    """Brightness (height, width) uint8; arguments as of `mesh_cpu.render`.

    Raises:
        MissingExtraError: moderngl is not installed.
        ConfigError: no context can be made here.

    """
    points = np.concatenate([_clip_space(vertices, height, width, focal), normals], axis=1).astype(np.float32)
    return _canvas().draw(points, faces.astype(np.int32), height=height, width=width)


def driver() -> str:
    """Who renders, e.g. "llvmpipe (LLVM 15.0.6, 256 bits)". Raises as `render` does."""
    return str(_canvas().context.info["GL_RENDERER"])


def _clip_space(vertices: NDArray[np.float64], height: int, width: int, focal: float) -> NDArray[np.float64]:
    """(V, 3) metres → (V, 4). y stays down, since OpenGL's first row is the lowest; its pixel centres are at halves."""
    x, y, z = vertices.T
    near, far = 0.999 * z.min(), 1.001 * z.max()
    depth = ((far + near) * z - 2 * far * near) / (far - near)
    return np.stack([(2 * focal * x + z) / width, (2 * focal * y + z) / height, depth, z], axis=1)


class _Canvas:
    """A context and what it draws on; belongs to the thread that made it."""

    def __init__(self) -> None:
        self.context = _new_context()
        self.program = self.context.program(vertex_shader=_VERTEX, fragment_shader=_FRAGMENT)
        self.program["ambient"] = AMBIENT
        self.target: moderngl.Framebuffer | None = None

    def draw(self, points: NDArray[np.float32], faces: NDArray[np.int32], *, height: int, width: int) -> UInt8:
        """`points` are (V, 7): position in clip space, normal."""
        context = self.context
        with context:
            target = self._target((width, height))
            target.use()
            target.clear()
            context.enable_only(context.DEPTH_TEST)
            vertices, indices = context.buffer(points), context.buffer(faces)
            triangles = context.vertex_array(
                self.program, [(vertices, "4f 3f", "position", "normal")], index_buffer=indices
            )
            triangles.render()
            picture = np.empty((height, width), dtype=np.uint8)
            target.read_into(picture, components=1, alignment=1)
            for used in (triangles, indices, vertices):
                used.release()
        return picture

    def _target(self, size: tuple[int, int]) -> moderngl.Framebuffer:
        if self.target is not None and self.target.size == size:
            return self.target
        if self.target is not None:
            for used in (*self.target.color_attachments, self.target.depth_attachment, self.target):
                used.release()
        self.target = self.context.framebuffer(
            self.context.renderbuffer(size, components=1), self.context.depth_renderbuffer(size)
        )
        return self.target


class _Canvases(threading.local):
    """The canvas of each thread."""

    mine: _Canvas | None = None


_canvases = _Canvases()
_process: int | None = None
"""The process that made contexts: they do not survive a fork, after which to make new ones would hang
(https://github.com/moderngl/moderngl/issues/414)."""

_problem = ""
"""Why no context could be made in this process; asking again would take milliseconds a picture."""


def _canvas() -> _Canvas:
    global _process
    if _process not in (None, os.getpid()):
        raise _unavailable("this process was forked from one that had used it")
    if _canvases.mine is None:
        _canvases.mine = _Canvas()
        _process = os.getpid()
    return _canvases.mine


def _new_context() -> moderngl.Context:
    global _problem
    if _problem:
        raise _unavailable(_problem)
    try:
        import moderngl
    except ImportError as error:
        raise MissingExtraError("moderngl", "conditions", purpose="Rendering meshes by OpenGL") from error
    try:
        return moderngl.create_context(standalone=True, require=330, backend="egl")  # type: ignore[arg-type]  # its stubs err
    except Exception as error:  # whatever EGL, its loader and the driver answer
        _problem = str(error)
        raise _unavailable(_problem) from error


def _unavailable(reason: str) -> ConfigError:
    return ConfigError(
        f"OpenGL cannot be had here: {reason}",
        allowed="renderer: cpu, which needs no driver",
        remedy="Or install a driver: on Debian and Ubuntu, packages libegl1, libgl1 and libgl1-mesa-dri",
    )
