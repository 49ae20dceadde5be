"""MANO: the hand as a mesh that a shape and the rotations of its joints bend.

Romero, Tzionas, Black: Embodied Hands, SIGGRAPH Asia 2017. Written from the paper: smplx, the usual implementation, is
for non-commercial research only, as is the model itself, which the user brings as `MANO_RIGHT.pkl`. Shape legend:
N hands, V = 778 vertices, J = 16 joints, F faces.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_TIPS = (744, 320, 443, 554, 671)  # vertices: thumb, index, middle, ring, little finger
_ORDER = (0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20)
"""Of joints and tips: wrist, then thumb to little finger, each from palm to tip."""


class Mano(nn.Module):
    """The model of a right hand."""

    v_template: Tensor
    shapedirs: Tensor
    posedirs: Tensor
    J_regressor: Tensor
    weights: Tensor
    faces: Tensor

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take the arrays that `mano_file.read_mano` returns."""
        super().__init__()
        self.parents = arrays["parents"].tolist()
        self.register_buffer("faces", torch.as_tensor(arrays["f"]))
        for name in ("v_template", "shapedirs", "posedirs", "J_regressor", "weights"):
            self.register_buffer(name, torch.as_tensor(arrays[name], dtype=torch.float32))

    def forward(self, global_orient: Tensor, hand_pose: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
        """Vertices and joints in metres.

        Args:
            global_orient: (N, 3, 3).
            hand_pose: (N, 15, 3, 3).
            betas: (N, 10).

        Returns:
            (N, 778, 3) and (N, 21, 3), joints as `schemas.conditions.Hands` orders them.

        """
        shaped = self.v_template + torch.einsum("vck,nk->nvc", self.shapedirs, betas)
        resting = self.J_regressor @ shaped
        bend = (hand_pose - torch.eye(3, device=betas.device)).flatten(1)
        posed = shaped + torch.einsum("vck,nk->nvc", self.posedirs, bend)
        rotations, joints = self._chain(torch.cat([global_orient[:, None], hand_pose], dim=1), resting)
        shifts = joints - (rotations @ resting[..., None])[..., 0]  # of the rotations about joints
        turned = torch.einsum("vj,njab->nvab", self.weights, rotations) @ posed[..., None]
        vertices = turned[..., 0] + self.weights @ shifts
        return vertices, torch.cat([joints, vertices[:, _TIPS]], dim=1)[:, _ORDER]

    def _chain(self, local: Tensor, resting: Tensor) -> tuple[Tensor, Tensor]:
        """Each joint's rotation (N, J, 3, 3) and place (N, J, 3) in the hand, parents before children."""
        rotations, places = [local[:, 0]], [resting[:, 0]]
        for joint in range(1, len(self.parents)):
            parent = self.parents[joint]
            bone = (resting[:, joint] - resting[:, parent])[..., None]
            places.append(places[parent] + (rotations[parent] @ bone)[..., 0])
            rotations.append(rotations[parent] @ local[:, joint])
        return torch.stack(rotations, dim=1), torch.stack(places, dim=1)
