"""The body as bones: pose without gaps, and which bone each pixel is nearest to.

Stands in for DensePose on the embedded tier: parts of the body are taken to be capsules about the bones, as wide as
limbs usually are for the length of the torso.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from schemas.body import Joint
from schemas.conditions import Pose

NECK, CROTCH = len(Joint), len(Joint) + 1
"""Points added to the joints: midway between the shoulders, and between the hips."""


class Bone(IntEnum):
    """Parts of the body, in the order of `BONES`."""

    TORSO = 0
    HEAD = 1
    L_UPPER_ARM = 2
    R_UPPER_ARM = 3
    L_FOREARM = 4
    R_FOREARM = 5
    L_HAND = 6
    R_HAND = 7
    L_THIGH = 8
    R_THIGH = 9
    L_SHIN = 10
    R_SHIN = 11
    L_FOOT = 12
    R_FOOT = 13


UPPER_ARMS = (Bone.L_UPPER_ARM, Bone.R_UPPER_ARM)
FOREARMS = (Bone.L_FOREARM, Bone.R_FOREARM)
HANDS = (Bone.L_HAND, Bone.R_HAND)
THIGHS = (Bone.L_THIGH, Bone.R_THIGH)
SHINS = (Bone.L_SHIN, Bone.R_SHIN)
FEET = (Bone.L_FOOT, Bone.R_FOOT)
ARMS = UPPER_ARMS + FOREARMS + HANDS
TRUNK = (Bone.TORSO, Bone.HEAD, *THIGHS, *SHINS, *FEET)
LEFT_SIDE = tuple(bone for bone in Bone if bone.name.startswith("L_"))

_ENDS: dict[Bone, tuple[int, int]] = {
    Bone.TORSO: (NECK, CROTCH), Bone.HEAD: (NECK, Joint.NOSE),
    Bone.L_UPPER_ARM: (Joint.LEFT_SHOULDER, Joint.LEFT_ELBOW),
    Bone.R_UPPER_ARM: (Joint.RIGHT_SHOULDER, Joint.RIGHT_ELBOW),
    Bone.L_FOREARM: (Joint.LEFT_ELBOW, Joint.LEFT_WRIST), Bone.R_FOREARM: (Joint.RIGHT_ELBOW, Joint.RIGHT_WRIST),
    Bone.L_THIGH: (Joint.LEFT_HIP, Joint.LEFT_KNEE), Bone.R_THIGH: (Joint.RIGHT_HIP, Joint.RIGHT_KNEE),
    Bone.L_SHIN: (Joint.LEFT_KNEE, Joint.LEFT_ANKLE), Bone.R_SHIN: (Joint.RIGHT_KNEE, Joint.RIGHT_ANKLE),
    Bone.L_FOOT: (Joint.LEFT_ANKLE, Joint.LEFT_BIG_TOE), Bone.R_FOOT: (Joint.RIGHT_ANKLE, Joint.RIGHT_BIG_TOE),
}  # fmt: skip
_HALF_WIDTH = {
    Bone.TORSO: 0.30, Bone.HEAD: 0.22, Bone.L_UPPER_ARM: 0.12, Bone.R_UPPER_ARM: 0.12, Bone.L_FOREARM: 0.09,
    Bone.R_FOREARM: 0.09, Bone.L_HAND: 0.10, Bone.R_HAND: 0.10, Bone.L_THIGH: 0.19, Bone.R_THIGH: 0.19,
    Bone.L_SHIN: 0.12, Bone.R_SHIN: 0.12, Bone.L_FOOT: 0.10, Bone.R_FOOT: 0.10,
}  # fmt: skip
"""Half the width of a part over the length of the torso, of an adult of usual build."""
FIT_STEP = 16
"""Every so many pixels are asked whether the pose fits them."""
_HAND_LENGTH = 0.35
"""From wrist to finger tips, over the length of the torso."""


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Bones of one person through a clip, gaps filled.

    Attributes:
        ends: (T, 14, 2, 2) float32, both ends of each `Bone`, x y in px; NaN for bones never seen in the clip.
        torso: (T,) float32, length of the torso in px: the scale of the body.

    """

    ends: NDArray[np.float32]
    torso: NDArray[np.float32]

    def half_width(self, bone: Bone) -> NDArray[np.float32]:
        """(T,) float32: half the usual width of `bone`, in px."""
        return _HALF_WIDTH[bone] * self.torso

    def resized(self, scale: float) -> Skeleton:
        """The same in pixels of a picture `scale` times as large."""
        return Skeleton(ends=self.ends * np.float32(scale), torso=self.torso * np.float32(scale))


@dataclass(frozen=True, eq=False)
class NearestBone:
    """Which bone each pixel is nearest to, in widths of that bone.

    Attributes:
        bone: (H, W) uint8, index into `Bone`.
        along: (H, W) float32, where along the bone: 0 at its first end, 1 at its second; beyond either outside 0..1.
        distance: (H, W) float32 from the bone's line, in its own half widths.

    """

    bone: NDArray[np.uint8]
    along: NDArray[np.float32]
    distance: NDArray[np.float32]


def skeleton(pose: Pose, trusted: NDArray[np.bool_] | None = None) -> Skeleton | None:
    """Bones of `pose`, each joint interpolated over the frames that lack it.

    Frames that are not `trusted` ((T,) bool) count as lacking all joints. None where no torso is ever seen.
    """
    joints = np.full((len(pose.keypoints), len(Joint) + 2, 2), np.nan, np.float32)
    for point in Joint:
        seen = pose.scores[:, point] > 0
        joints[:, point] = _over_gaps(pose.keypoints[:, point], seen if trusted is None else seen & trusted)
    joints[:, NECK] = joints[:, [Joint.LEFT_SHOULDER, Joint.RIGHT_SHOULDER]].mean(1)
    joints[:, CROTCH] = joints[:, [Joint.LEFT_HIP, Joint.RIGHT_HIP]].mean(1)
    torso = np.linalg.norm(joints[:, NECK] - joints[:, CROTCH], axis=1)
    if not len(torso) or np.isnan(torso).any():
        return None
    # Bending forward shortens the torso in the picture, though not the limbs: no shorter than most of the clip's.
    torso = np.maximum(torso, np.float32(0.7) * np.median(torso)).clip(1)
    ends = np.full((len(torso), len(Bone), 2, 2), np.nan, np.float32)
    for bone, points in _ENDS.items():
        ends[:, bone] = joints[:, points]
    for hand, forearm in zip(HANDS, FOREARMS, strict=True):
        elbow, wrist = ends[:, forearm, 0], ends[:, forearm, 1]
        direction = (wrist - elbow) / np.maximum(np.linalg.norm(wrist - elbow, axis=1, keepdims=True), 1e-3)
        ends[:, hand, 0], ends[:, hand, 1] = wrist, wrist + direction * torso[:, None] * _HAND_LENGTH
    return Skeleton(ends=ends, torso=torso.astype(np.float32))


def _over_gaps(points: NDArray[np.float32], seen: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(T, 2) points, linear in time between the seen ones, held before the first and after the last."""
    if not seen.any():
        return np.full_like(points, np.nan)
    frames = np.arange(len(points))
    return np.stack([np.interp(frames, frames[seen], points[seen, axis]) for axis in (0, 1)], axis=1).astype(np.float32)


def nearest_bone(
    body: Skeleton, frame: int, height: int, width: int, *, among: Sequence[Bone] = tuple(Bone)
) -> NearestBone:
    """Nearest of some bones for each pixel of a (height, width) picture, in whose pixels `body` is too."""
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    bone = np.zeros((height, width), np.uint8)
    along = np.zeros((height, width), np.float32)
    best = np.full((height, width), np.inf, np.float32)
    for index in among:
        start, end = body.ends[frame, index]
        if np.isnan([start, end]).any():
            continue
        (dx, dy), half_width = end - start, body.half_width(index)[frame]
        right, down, length = x - start[0], y - start[1], np.maximum(dx * dx + dy * dy, np.float32(1e-3))
        place = right * (dx / length) + down * (dy / length)
        inside = place.clip(0, 1)
        across = (right - inside * dx) / half_width
        inside *= -dy
        inside += down
        inside /= half_width
        distance = across * across + inside * inside  # squared: the root is taken once, at the end
        better = distance < best
        np.copyto(bone, np.uint8(index), where=better)
        np.copyto(along, place, where=better)
        np.minimum(best, distance, out=best)
    return NearestBone(bone=bone, along=along, distance=np.sqrt(best))


def body_picture(body: Skeleton, frame: int, bones: Sequence[Bone], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """(ceil(H / 4), ceil(W / 4)) bool for a picture of `shape` (H, W): bones as wide as limbs usually are.

    The torso is the polygon of shoulders and hips.
    """
    import cv2

    canvas = np.zeros((-(-shape[0] // 4), -(-shape[1] // 4)), np.uint8)
    small = (body.ends[frame] / 4).clip(-(2**14), 2**14)
    for bone in bones:
        if np.isnan(small[bone]).any():
            continue
        if bone is Bone.TORSO:
            corners = small[[Bone.L_UPPER_ARM, Bone.R_UPPER_ARM, Bone.R_THIGH, Bone.L_THIGH], 0]
            if not np.isnan(corners).any():
                cv2.fillConvexPoly(canvas, cv2.convexHull(np.round(corners).astype(np.int32)), 1)
            continue
        start, end = np.round(small[bone]).astype(np.int32).tolist()
        cv2.line(canvas, start, end, 1, max(1, round(2 * float(body.half_width(bone)[frame]) / 4)))
    return canvas.view(np.bool_)


@dataclass(frozen=True, eq=False)
class BodyMap:
    """Nearest bone of each pixel: of head, torso and legs (`trunk`), of the `arms`, and of `all`."""

    trunk: NearestBone
    arms: NearestBone

    @property
    def all(self) -> NearestBone:
        """Nearest of all bones."""
        swap = self.arms.distance < self.trunk.distance
        return NearestBone(
            bone=np.where(swap, self.arms.bone, self.trunk.bone),
            along=np.where(swap, self.arms.along, self.trunk.along),
            distance=np.where(swap, self.arms.distance, self.trunk.distance),
        )


def body_map(body: Skeleton, frame: int, height: int, width: int) -> BodyMap:
    """Nearest bones for each pixel of a (height, width) picture, in whose pixels `body` is too."""
    return BodyMap(
        trunk=nearest_bone(body, frame, height, width, among=TRUNK),
        arms=nearest_bone(body, frame, height, width, among=ARMS),
    )


def fitting_skeleton(pose: Pose, maps: NDArray[np.uint8], *, nobody: Sequence[int]) -> Skeleton | None:
    """`skeleton`, without the frames whose bones lie elsewhere than the person does.

    `maps` (T, H, W) are classes or labels; those but `nobody` show a person's body and clothes. A pose that slipped
    (onto the legs of a person whose head is cut off, say) leaves much of them far from any bone.
    """
    body = skeleton(pose)
    if body is None:
        return None
    people = ~np.isin(maps[:, FIT_STEP // 2 :: FIT_STEP, FIT_STEP // 2 :: FIT_STEP], nobody)
    small = body.resized(1 / FIT_STEP)
    apart = np.full(len(people), np.nan)
    for frame, person in enumerate(people):
        if person.any():
            near = nearest_bone(small, frame, *person.shape)
            apart[frame] = near.distance[person].clip(0, 3).mean()
    usual = np.nanquantile(apart, 0.25) if np.isfinite(apart).any() else np.nan
    misfit = apart > max(1.0, 1.5 * usual)
    return skeleton(pose, ~misfit) if misfit.any() else body
