"""From parameters to hands before the camera: meshes and joints. Shape legend: T frames, V = 778, N hands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from preprocess.hamer.camera import projected
from preprocess.hamer.mano import Mano
from schemas.conditions import HAND_POINTS, RIGHT, Float32, HandMesh, Hands, UInt8

if TYPE_CHECKING:
    from media.draw.mesh import Mesh, Renderer

_AT_ONCE = 256
"""Hands bent at once; a mesh takes 50 kB on its way."""


class PosedHands:
    """Both hands of a clip, bent, unmirrored and put before the camera of the whole picture.

    Args:
        mesh: their parameters.
        mano: on its device.
        height: of the clip, px.
        width: of the clip, px.

    """

    def __init__(self, mesh: HandMesh, mano: Mano, *, height: int, width: int) -> None:
        self._mesh, self._height, self._width = mesh, height, width
        self._faces = mano.faces.cpu().numpy().astype(np.int32)
        self._frames, self._sides = np.nonzero(mesh.present)
        self._place = mesh.translation[mesh.present][:, None]
        vertices, joints = self._bent(mano)
        for points in (vertices, joints):
            points[self._sides != RIGHT, :, 0] *= -1
        self._joints, self._vertices = joints, vertices + self._place

    @torch.inference_mode()
    def _bent(self, mano: Mano) -> tuple[Float32, Float32]:
        """Vertices (N, V, 3) and joints (N, 21, 3) as of right hands, at the model's origin."""
        mesh, device = self._mesh, mano.v_template.device
        parts = [
            torch.from_numpy(getattr(mesh, name)[mesh.present]) for name in ("global_orient", "hand_pose", "betas")
        ]
        bent = [
            mano(*(part.to(device) for part in some)) for some in zip(*(p.split(_AT_ONCE) for p in parts), strict=True)
        ]
        vertices, joints = (torch.cat(part).cpu().numpy() for part in zip(*bent, strict=True))
        return vertices, joints

    def hands(self, scores: Float32) -> Hands:
        """Joints as the `hands` artifact holds them; `scores` (T, 2) are above 0 where a hand is there."""
        shape = (*self._mesh.present.shape, HAND_POINTS)
        flat, solid = np.zeros((*shape, 2), np.float32), np.zeros((*shape, 3), np.float32)
        seen = projected(
            torch.from_numpy(self._joints + self._place),
            focal=float(self._mesh.focal),
            width=self._width,
            height=self._height,
        )
        flat[self._mesh.present] = seen.numpy()
        solid[self._mesh.present] = self._joints - self._joints.mean(1, keepdims=True)
        return Hands(scores=scores, joints_2d=flat, joints_3d=solid, method="hamer")

    def meshes(self, frame: int) -> list[Mesh]:
        """Hands of one frame, vertices in metres before the camera; a left hand's faces run the other way round."""
        from media.draw.mesh import Mesh

        return [
            Mesh(vertices=self._vertices[hand], faces=self._faces_of(int(self._sides[hand])))
            for hand in np.flatnonzero(self._frames == frame)
        ]

    def _faces_of(self, side: int) -> NDArray[np.int32]:
        return self._faces if side == RIGHT else np.ascontiguousarray(self._faces[:, ::-1])

    def prior(self, *, renderer: Renderer = "auto") -> UInt8:
        """(T, H, W) uint8: brightness of the meshes, 0 where there is no hand."""
        from media.draw.mesh import render_meshes

        shade = np.zeros((len(self._mesh.present), self._height, self._width), np.uint8)
        for frame in np.flatnonzero(self._mesh.present.any(1)):
            shade[frame] = render_meshes(
                self.meshes(int(frame)), height=self._height, width=self._width, focal=float(self._mesh.focal),
                renderer=renderer,
            )  # fmt: skip
        return shade
