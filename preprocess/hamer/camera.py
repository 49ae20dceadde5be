"""HaMeR's cameras: from the crop's weak perspective to the whole picture.

Demo of HaMeR (Pavlakos et al., CVPR 2024). Camera axes: x right, y down, z away; the camera stands at the picture's
centre. Shape legend: N hands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from preprocess.hamer.crop import CROP

if TYPE_CHECKING:
    from torch import Tensor

_NEARLY_NOTHING = 1e-9


def crop_translation(camera: Tensor, *, focal: float) -> Tensor:
    """Where a hand stands before the camera of its crop, (N, 3) in metres.

    Args:
        camera: (N, 3), scale and shift, as the network gives them.
        focal: focal length in px of the crop.

    """
    import torch

    depth = 2 * focal / (CROP * camera[:, 0] + _NEARLY_NOTHING)
    return torch.stack([camera[:, 1], camera[:, 2], depth], dim=-1)


def full_focal(width: int, height: int, *, focal: float) -> float:
    """Focal length in px of the whole picture, where `focal` is that of the crop in px of the crop."""
    return focal / CROP * max(width, height)


def full_translation(
    camera: Tensor, *, centers: Tensor, sizes: Tensor, right: Tensor, width: int, height: int, focal: float
) -> Tensor:
    """Where a hand stands before the camera of the whole picture, (N, 3) in metres.

    Args:
        camera: (N, 3), scale and shift, as the network gives them, of mirrored left hands.
        centers: (N, 2), x y of the crops' centres in px of the picture.
        sizes: (N,), sides of the crops in px of the picture.
        right: (N,) bool, whether it is a right hand.
        width: of the picture, px.
        height: of the picture, px.
        focal: `full_focal`.

    """
    import torch

    mirror = torch.where(right, 1.0, -1.0)
    scale = sizes * camera[:, 0] + _NEARLY_NOTHING
    x = 2 * (centers[:, 0] - width / 2) / scale + mirror * camera[:, 1]
    y = 2 * (centers[:, 1] - height / 2) / scale + camera[:, 2]
    return torch.stack([x, y, 2 * focal / scale], dim=-1)


def projected(points: Tensor, *, focal: float, width: int = 0, height: int = 0) -> Tensor:
    """(..., 3) points in metres before the camera as (..., 2) px from the top left; sizes 0: from the centre."""
    flat = points[..., :2] / points[..., 2:] * focal
    return flat + flat.new_tensor([width / 2, height / 2])
