"""Keyframes of a long video by how far the body has moved (RealVVT, Algorithm 1 and section 3.5).

As printed, the algorithm takes a frame whose DensePose is *nearer* than d_pose to the last keyframe, or whose stride is
*below* s_max: nearly every frame. The form that serves its purpose is the opposite, and is what stands here (inferred).

Shape legend: T frames, H×W pixels.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from schemas.conditions import UInt8
from schemas.errors import ConfigError
from training.sample import Sample

_LIMB = 12
"""Shorter side of the picture ÷ width of a limb, of a person who fills it."""
_NOBODY = (68, 1, 84)
"""What `media.draw.densepose_picture` paints where there is no body."""


def pose_distance(first: UInt8, second: UInt8) -> float:
    """How little two pictures of a body on black have in common: ‖p − q‖₂ / √(‖p‖₂² + ‖q‖₂²), in 0..1.

    RealVVT takes ‖p − q‖₂ as it is, which grows with resolution and with the person's size in the picture; divided like
    this it does not (our choice). 0: the same; 1: no pixel of colour is shared. Two black pictures are the same.

    Args:
        first: (H, W, 3) uint8 RGB.
        second: the same.

    """
    both = math.hypot(cv2.norm(first), cv2.norm(second))
    return cv2.norm(first, second) / both if both else 0.0


def keyframes(pictures: UInt8, *, distance: float, stride: int) -> list[int]:
    """Frames that a video is generated from: the first, each that is far from the keyframe before it, and the last.

    Far is a `pose_distance` of `distance` or more, or `stride` frames. The last frame is one, though the algorithm does
    not say so: what lies between two keyframes is held at both ends, what lies after the last one drifts.

    Args:
        pictures: (T, H, W, 3) uint8 RGB, the body on black, see `body_pictures`.
        distance: d_pose, in 0..1.
        stride: s_max, frames.

    Returns:
        Frame numbers, ascending, from 0 to T - 1.

    Raises:
        ConfigError: there is no frame, or `stride` is below 1.

    """
    if not len(pictures) or stride < 1:
        raise ConfigError(f"keyframes of {len(pictures)} frame(s) at a stride of {stride}", allowed="1 and above")
    chosen = [0]
    for frame in range(1, len(pictures)):
        last = chosen[-1]
        if frame - last >= stride or pose_distance(pictures[last], pictures[frame]) >= distance:
            chosen.append(frame)
    return chosen if chosen[-1] == len(pictures) - 1 else [*chosen, len(pictures) - 1]


def body_pictures(sample: Sample) -> UInt8:
    """(T, H, W, 3) uint8 RGB: DensePose on black; where a sample has none, its pose, limbs drawn as wide as they are.

    A pose is drawn by thin lines, which share nothing after the slightest move: widened to about a limb (a twelfth of
    the picture's shorter side) they overlap as DensePose does.

    Raises:
        ConfigError: the sample was decoded without either picture.

    """
    if "densepose" in sample:
        parts = sample["densepose"].permute(0, 2, 3, 1).numpy().copy()
        parts[(parts == _NOBODY).all(-1)] = 0
        return parts
    if "pose" in sample:
        lines = sample["pose"].permute(0, 2, 3, 1).numpy()
        limb = np.ones((max(1, min(lines.shape[1:3]) // _LIMB),) * 2, np.uint8)
        return np.stack([cv2.dilate(np.ascontiguousarray(frame), limb) for frame in lines])
    raise ConfigError(
        f"sample {sample['key']} has no picture of the body", allowed="decoded with `pictures` densepose or pose"
    )
