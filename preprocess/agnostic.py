"""The agnostic mask: what a try-on model repaints, hands never among it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from preprocess.body import FOREARMS, SHINS, THIGHS, UPPER_ARMS, Bone, Skeleton, fitting_skeleton
from preprocess.hand_region import HandRegion
from schemas.clip import Clip
from schemas.conditions import Label
from schemas.manifest import Part
from schemas.outfit import GARMENT_LABELS
from schemas.stage import Stage

Mask = NDArray[np.bool_]

ACCESSORIES = (
    Label.HAT, Label.GLOVE, Label.SUNGLASSES, Label.BAG, Label.LEFT_SHOE, Label.RIGHT_SHOE, Label.SCARF, Label.SOCKS,
    Label.OTHER,
)  # fmt: skip
ARM_LABELS, LEG_LABELS = (Label.LEFT_ARM, Label.RIGHT_ARM), (Label.LEFT_LEG, Label.RIGHT_LEG)
UPPER_PARTS = (Bone.TORSO, *UPPER_ARMS, *FOREARMS)
LOWER_PARTS = (*THIGHS, *SHINS)


@dataclass(frozen=True)
class PartRule:
    """What is repainted beside the garment, and what is kept, for one part of the outfit.

    Attributes:
        body: bones about which the body is repainted.
        kept: labels of body and other garments that are kept.

    """

    body: tuple[Bone, ...]
    kept: tuple[Label, ...]


RULES: dict[Part, PartRule] = {
    Part.UPPER: PartRule(
        body=UPPER_PARTS,
        kept=(*LEG_LABELS, Label.SKIRT, Label.PANTS),
    ),
    Part.LOWER: PartRule(
        body=LOWER_PARTS,
        kept=(*ARM_LABELS, Label.FACE, Label.TORSO_SKIN, Label.UPPER_CLOTHES, Label.COAT),
    ),
    Part.DRESS: PartRule(
        body=UPPER_PARTS + LOWER_PARTS,
        kept=(),
    ),
    Part.INNER: PartRule(
        body=(Bone.TORSO,),
        kept=(*LEG_LABELS, Label.DRESS, Label.COAT, Label.SKIRT, Label.PANTS, Label.JUMPSUITS),
    ),
    Part.OUTER: PartRule(
        body=UPPER_PARTS,
        kept=(*LEG_LABELS, Label.DRESS, Label.PANTS, Label.SKIRT, Label.UPPER_CLOTHES, Label.JUMPSUITS),
    ),
}
"""CatVTON's AutoMasker, by part (facts of its public code; its DensePose parts are bones here)."""


FIGURE = 4.5
"""Height of a person over the length of the torso, generously. AutoMasker's kernels grow with the frame, which a
person fills in its data; where one fills less, they grow with the person."""


class AgnosticMask(Stage):
    """Marks the pixels that a try-on model repaints for the pair's part.

    Follows CatVTON's AutoMasker and CatV2TON's smoothing over time. Three things differ: the body is taken from the
    pose instead of DensePose; by default pieces are widened by `reach` and not to their convex hulls, which for
    legs apart or arms spread are more than twice the garment; and kernels grow with the person, not the frame.
    """

    needs: ClassVar[tuple[str, ...]] = ("parsing", "pose", "hands")
    gives: ClassVar[tuple[str, ...]] = ("agnostic_mask",)
    version: ClassVar[int] = 2

    hull: bool = Field(
        default=False,
        description="Whether each piece of the mask is widened to its convex hull, as AutoMasker does.",
    )
    reach: float = Field(
        default=0.007, ge=0, le=0.2, description="Room around garment and body, over the person's height."
    )
    smoothing: float = Field(
        default=0.018,
        ge=0,
        le=0.2,
        description="Side of the square the mask is averaged over, over the person's height.",
    )
    smoothing_seconds: float = Field(default=0.25, ge=0, le=2, description="Time that the mask is averaged over.")
    hands: HandRegion = Field(default_factory=HandRegion, description="How hands are marked off.")

    def process(self, clip: Clip) -> None:
        """Give `agnostic_mask`, (T, H, W) bool, true = repaint."""
        parsing, rule = clip.artifacts["parsing"], RULES[clip.pair.part]
        body = fitting_skeleton(clip.artifacts["pose"], parsing, nobody=(Label.BACKGROUND, *ACCESSORIES))
        extent = max(parsing.shape[1:])
        if body is not None:
            extent = min(extent, round(FIGURE * float(np.median(body.torso))))
        side, half_window = odd(int(self.smoothing * extent)), int(self.smoothing_seconds * float(clip.span.fps) / 2)
        # Nothing is painted far from the person: what lies there is not looked at.
        margin = round(self.reach * extent) + extent // 25 + extent // 250 + 2
        mask, all_kept = np.zeros(parsing.shape, bool), []
        for frame, labels in enumerate(parsing):
            kept = labels == Label.FACE
            kept |= self.hands.mask(clip.artifacts["hands"], body, labels, frame, extent=extent)
            near = surroundings(labels, margin=margin)
            if near is not None:
                inside = (
                    None if body is None else body_region(body, frame, rule.body, labels.shape, extent=extent)[near]
                )
                garment = among(labels[near], GARMENT_LABELS[clip.pair.part])
                mask[frame][near] = self._frame(labels[near], garment, kept[near], rule, inside, extent)
            all_kept.append(np.packbits(kept, axis=1))  # a long clip's masks are large
        mask = smooth_mask(mask, side=side, half_window=half_window)
        for frame, labels in enumerate(parsing):
            mask[frame] |= among(labels, GARMENT_LABELS[clip.pair.part])
            mask[frame] &= ~np.unpackbits(all_kept[frame], axis=1, count=labels.shape[1]).view(np.bool_)
        clip.artifacts["agnostic_mask"] = mask

    def _frame(
        self,
        labels: NDArray[np.uint8],
        garment: Mask,
        protected: Mask,
        rule: PartRule,
        body: Mask | None,
        extent: int,
    ) -> Mask:
        """AutoMasker's steps on one frame."""
        fine, broad = odd(extent // 250), odd(extent // 25)  # px, of AutoMasker's kernels
        weak = protected | among(labels, (Label.HAIR, *ACCESSORIES, *rule.kept))
        area = ~weak if body is None else ~weak | body
        area &= labels != Label.BACKGROUND
        area = hulls(area) if self.hull else area
        area = _dilate(area, 2 * round(self.reach * extent) + 1) & ~weak
        area = ((_blurred(area, broad) >= 25) | garment) & ~protected
        area = _dilate(area, fine)
        return (area | garment) & ~protected


def among(labels: NDArray[np.uint8], wanted: Sequence[Label]) -> Mask:
    """(H, W) bool: pixels whose label is one of `wanted`. `np.isin`, many times as fast."""
    import cv2

    table = np.zeros(256, np.uint8)
    table[list(wanted)] = 1
    return np.asarray(cv2.LUT(labels, table), np.uint8).view(np.bool_)


def surroundings(labels: NDArray[np.uint8], *, margin: int) -> tuple[slice, slice] | None:
    """Rows and columns of what is not background in (H, W), and `margin` px around; None if all is."""
    import cv2

    x, y, width, height = cv2.boundingRect(labels)  # background is 0
    if not width:
        return None
    return slice(max(0, y - margin), y + height + margin), slice(max(0, x - margin), x + width + margin)


def _dilate(mask: Mask, side: int) -> Mask:
    import cv2

    return cv2.dilate(mask.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))) > 0


def _blurred(mask: Mask, side: int) -> NDArray[np.uint8]:
    """`mask` as 0 and 255 under OpenCV's Gaussian of `side` px, computed at half the size: it has no detail to lose."""
    import cv2

    height, width = mask.shape
    half = cv2.resize(
        mask.view(np.uint8) * np.uint8(255), (-(-width // 2), -(-height // 2)), interpolation=cv2.INTER_AREA
    )
    sigma = 0.3 * ((side - 1) / 2 - 1) + 0.8
    half = cv2.GaussianBlur(half, (odd(side // 2), odd(side // 2)), sigma / 2)
    return np.asarray(cv2.resize(half, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def odd(value: int) -> int:
    """The next odd number from `value` on."""
    return value + 1 - value % 2


def body_region(body: Skeleton, frame: int, bones: tuple[Bone, ...], shape: tuple[int, ...], *, extent: int) -> Mask:
    """(H, W) bool of `shape`: capsules about `bones`, the torso as the polygon of shoulders and hips."""
    import cv2

    canvas = np.zeros((-(-shape[0] // 4), -(-shape[1] // 4)), np.uint8)
    small = (body.ends[frame] / 4).clip(-(2**14), 2**14)
    for bone in bones:
        if np.isnan(small[bone]).any():
            continue
        width = max(1, round(2 * float(body.half_width(bone)[frame]) / 4))
        points = np.round(small[bone]).astype(np.int32)
        if bone is Bone.TORSO:
            corners = small[[Bone.L_UPPER_ARM, Bone.R_UPPER_ARM, Bone.R_THIGH, Bone.L_THIGH], 0]
            if not np.isnan(corners).any():
                cv2.fillConvexPoly(canvas, cv2.convexHull(np.round(corners).astype(np.int32)), 1)
            continue
        cv2.line(canvas, points[0].tolist(), points[1].tolist(), 1, width)
    fine = odd(extent // 250)
    wider = cv2.dilate(canvas, np.ones((fine, fine), np.uint8), iterations=2)
    size = 4 * canvas.shape[1], 4 * canvas.shape[0]
    return cv2.resize(wider, size, interpolation=cv2.INTER_NEAREST)[: shape[0], : shape[1]] > 0


def hulls(mask: Mask) -> Mask:
    """`mask` with each piece widened to its convex hull."""
    import cv2

    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_KCOS)
    canvas = np.zeros(mask.shape, np.uint8)
    for contour in contours:
        cv2.fillConvexPoly(canvas, cv2.convexHull(contour), 1)
    return canvas > 0


def smooth_mask(mask: Mask, *, side: int, half_window: int) -> Mask:
    """(T, H, W) bool: mean over a square of `side` px, then over `half_window` frames to each side, from a half on.

    The first and last frames are repeated beyond the ends.
    """
    import cv2

    def blurred(frame: int) -> NDArray[np.uint8]:
        pixels = mask[min(max(frame, 0), len(mask) - 1)].view(np.uint8) * np.uint8(255)
        return np.asarray(cv2.blur(pixels, (side, side)), np.uint8)

    length = 2 * half_window + 1
    window = deque(blurred(frame) for frame in range(-half_window, half_window))
    total = np.sum(window, axis=0, dtype=np.uint32) if window else np.zeros(mask.shape[1:], np.uint32)
    smooth = np.empty_like(mask)
    for frame in range(len(mask)):
        window.append(blurred(frame + half_window))
        total += window[-1]
        np.greater(total, 255 * length // 2, out=smooth[frame])
        total -= window.popleft()
    return smooth
