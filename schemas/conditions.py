"""Values that the condition stages produce.

Shape legend: T frames of the normalised clip, H×W its pixels. Coordinates are in pixels of the normalised clip, x to
the right, y down, pixel centres at integers. "Left" and "right" are the person's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ArtifactError

Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]
UInt8 = NDArray[np.uint8]


def check_array(value: object, *, name: str, shape: tuple[int | None, ...], dtype: type) -> None:
    """Raise `ArtifactError` unless `value` is an array of `dtype` and `shape` (None: any length)."""
    if not isinstance(value, np.ndarray):
        raise ArtifactError(f"{name} is a {type(value).__name__}, not an array")
    if value.dtype != dtype:
        raise ArtifactError(f"{name} has dtype {value.dtype}", allowed=np.dtype(dtype).name)
    if value.ndim != len(shape) or any(
        want is not None and want != got for want, got in zip(shape, value.shape, strict=True)
    ):
        raise ArtifactError(f"{name} has shape {value.shape}", allowed=str(shape).replace("None", "any"))
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise ArtifactError(f"{name} holds NaN or infinity")


@dataclass(frozen=True, eq=False)
class PersonTrack:
    """The presenter through the clip.

    Attributes:
        boxes: (T, 4) float32, x0 y0 x1 y1 in px; zeros where nobody is found.
        scores: (T,) float32 in 0..1; 0 where nobody is found.
        counts: (T,) uint8, people seen in the frame.

    """

    boxes: Float32
    scores: Float32
    counts: UInt8

    def __post_init__(self) -> None:
        check_array(self.boxes, name="person.boxes", shape=(None, 4), dtype=np.float32)
        check_array(self.scores, name="person.scores", shape=(len(self.boxes),), dtype=np.float32)
        check_array(self.counts, name="person.counts", shape=(len(self.boxes),), dtype=np.uint8)


POSE_POINTS = 133
"""COCO-WholeBody: body 0-16, feet 17-22, face 23-90, left hand 91-111, right hand 112-132."""


@dataclass(frozen=True, eq=False)
class Pose:
    """Whole-body pose, layout COCO-WholeBody.

    Attributes:
        keypoints: (T, 133, 2) float32, x y in px. May lie outside the frame.
        scores: (T, 133) float16 in 0..1; 0 means absent.

    """

    keypoints: Float32
    scores: NDArray[np.float16]

    def __post_init__(self) -> None:
        check_array(self.keypoints, name="pose.keypoints", shape=(None, POSE_POINTS, 2), dtype=np.float32)
        check_array(self.scores, name="pose.scores", shape=(len(self.keypoints), POSE_POINTS), dtype=np.float16)


HAND_POINTS = 21
"""Wrist, then thumb, index, middle, ring, little finger with four joints each, from palm to tip."""
LEFT, RIGHT = 0, 1


@dataclass(frozen=True, eq=False)
class Hands:
    """Both hands; axis 1 is the person's own side, 0 left and 1 right.

    Attributes:
        scores: (T, 2) float32 in 0..1; 0 means absent.
        joints_2d: (T, 2, 21, 2) float32, x y in px.
        joints_3d: (T, 2, 21, 3) float32 in metres, camera axes (x right, y down, z away), origin at the hand's
            centre.
        method: who made them, e.g. "mediapipe" or "hamer".

    """

    scores: Float32
    joints_2d: Float32
    joints_3d: Float32
    method: str

    def __post_init__(self) -> None:
        frames = len(self.scores)
        check_array(self.scores, name="hands.scores", shape=(None, 2), dtype=np.float32)
        check_array(self.joints_2d, name="hands.joints_2d", shape=(frames, 2, HAND_POINTS, 2), dtype=np.float32)
        check_array(self.joints_3d, name="hands.joints_3d", shape=(frames, 2, HAND_POINTS, 3), dtype=np.float32)

    @property
    def present(self) -> Bool:
        """(T, 2): whether the hand is seen in the frame."""
        return self.scores > 0


@dataclass(frozen=True, eq=False)
class HandMesh:
    """Parameters of both hands in the MANO model; axis 1 is the person's own side, 0 left and 1 right.

    MANO (Romero et al., 2017), as HaMeR (Pavlakos et al., 2024) gives it: always of a right hand. A left hand is its
    mirror image: negate x of what the model makes of these.

    Attributes:
        present: (T, 2) bool; everything else is zero where it is false.
        global_orient: (T, 2, 3, 3) float32, rotation of the hand.
        hand_pose: (T, 2, 15, 3, 3) float32, rotation of each joint against its parent.
        betas: (T, 2, 10) float32, shape.
        translation: (T, 2, 3) float32 in metres, where the model's origin is: camera axes, x right, y down, z away.
        focal: () float32, focal length in px of the clip of the camera that stands at the picture's centre.

    """

    present: Bool
    global_orient: Float32
    hand_pose: Float32
    betas: Float32
    translation: Float32
    focal: NDArray[np.float32]

    def __post_init__(self) -> None:
        frames = len(self.present)
        check_array(self.present, name="hand_mesh.present", shape=(None, 2), dtype=np.bool_)
        check_array(self.focal, name="hand_mesh.focal", shape=(), dtype=np.float32)
        for name, shape in (
            ("global_orient", (3, 3)),
            ("hand_pose", (15, 3, 3)),
            ("betas", (10,)),
            ("translation", (3,)),
        ):
            check_array(getattr(self, name), name=f"hand_mesh.{name}", shape=(frames, 2, *shape), dtype=np.float32)


class Label(IntEnum):
    """Label space of parsing: LIP 0 to 19 as it is, then what LIP lacks."""

    BACKGROUND = 0
    HAT = 1
    HAIR = 2
    GLOVE = 3
    SUNGLASSES = 4
    UPPER_CLOTHES = 5
    DRESS = 6
    COAT = 7
    SOCKS = 8
    PANTS = 9
    JUMPSUITS = 10
    SCARF = 11
    SKIRT = 12
    FACE = 13
    LEFT_ARM = 14
    RIGHT_ARM = 15
    LEFT_LEG = 16
    RIGHT_LEG = 17
    LEFT_SHOE = 18
    RIGHT_SHOE = 19
    BAG = 20
    BELT = 21
    TORSO_SKIN = 22
    OTHER = 23


@dataclass(frozen=True, eq=False)
class Contact:
    """Evidence that a hand handles the garment of the pair.

    Attributes:
        probability: (T, 2) float32 in 0..1, per side, left first.
        place: (T, 2, 2) float32, where on the garment the hand works, in the garment's own frame: x from 0 (the
            wearer's right edge) to 1 (left edge), y from 0 (top edge) to 1 (bottom edge); may exceed 0..1. Zeros
            where probability is 0.

    """

    probability: Float32
    place: Float32

    def __post_init__(self) -> None:
        check_array(self.probability, name="contact.probability", shape=(None, 2), dtype=np.float32)
        check_array(self.place, name="contact.place", shape=(len(self.probability), 2, 2), dtype=np.float32)
