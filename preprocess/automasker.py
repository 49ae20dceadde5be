"""CatVTON's AutoMasker, bit for bit: what to repaint in one picture, from DensePose and two parsings of it.

Written from facts of the public code of CatVTON (https://github.com/Zheng-Chong/CatVTON) and CatV2TON
(https://github.com/Zheng-Chong/CatV2TON), whose code is not used.

Shape legend: H×W pixels of a picture. Kernels are squares that grow with its longer side.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from schemas.conditions import Label, check_array
from schemas.errors import ArtifactError
from schemas.manifest import Part
from schemas.outfit import GARMENT_LABELS

Mask = NDArray[np.bool_]
UInt8 = NDArray[np.uint8]

LIP = tuple(Label)[:20]
"""Labels of LIP, by index."""
ATR = (
    Label.BACKGROUND, Label.HAT, Label.HAIR, Label.SUNGLASSES, Label.UPPER_CLOTHES, Label.SKIRT, Label.PANTS,
    Label.DRESS, Label.BELT, Label.LEFT_SHOE, Label.RIGHT_SHOE, Label.FACE, Label.LEFT_LEG, Label.RIGHT_LEG,
    Label.LEFT_ARM, Label.RIGHT_ARM, Label.BAG, Label.SCARF,
)  # fmt: skip
"""Labels of ATR, by index."""

HANDS_AND_FEET = (3, 4, 5, 6)
_TORSO, _THIGHS, _SHINS, _ARMS = (1, 2), (7, 8, 9, 10), (11, 12, 13, 14), tuple(range(15, 23))
DENSE_PARTS: dict[Part, tuple[int, ...]] = {
    Part.UPPER: _TORSO + _ARMS,
    Part.LOWER: _THIGHS + _SHINS,
    Part.DRESS: _TORSO + _THIGHS + _SHINS + _ARMS,
    Part.INNER: _TORSO,
    Part.OUTER: _TORSO + _ARMS,
}
"""Parts of DensePose (index I) that are repainted with a garment."""

_ARM_LABELS, _LEG_LABELS = (Label.LEFT_ARM, Label.RIGHT_ARM), (Label.LEFT_LEG, Label.RIGHT_LEG)
_THINGS = (
    Label.HAIR, Label.HAT, Label.GLOVE, Label.SUNGLASSES, Label.BAG, Label.LEFT_SHOE, Label.RIGHT_SHOE, Label.SCARF,
    Label.SOCKS,
)  # fmt: skip
_OTHERS_LIP: dict[Part, tuple[Label, ...]] = {
    Part.UPPER: (*_LEG_LABELS, Label.SKIRT, Label.PANTS),
    Part.LOWER: (*_ARM_LABELS, Label.FACE, Label.UPPER_CLOTHES, Label.COAT),
    Part.DRESS: (),
    Part.INNER: (*_LEG_LABELS, Label.DRESS, Label.COAT, Label.SKIRT, Label.PANTS, Label.JUMPSUITS),
    Part.OUTER: (*_LEG_LABELS, Label.DRESS, Label.PANTS, Label.SKIRT, Label.UPPER_CLOTHES, Label.JUMPSUITS),
}
_OTHERS_ATR = _OTHERS_LIP | {Part.OUTER: (*_LEG_LABELS, Label.DRESS, Label.PANTS, Label.SKIRT)}
"""Body and other garments that are kept with a part; an upper garment in ATR may be the coat, which ATR lacks."""

_LIMB, _FACE, _KEPT, _GARMENT, _PERSON = 1, 2, 4, 8, 16
"""Bits of what a label means to the mask."""


@dataclass(frozen=True, eq=False)
class AutoMaskSteps:
    """What AutoMasker computes on its way, each (H, W) bool but `dense_quarter`.

    Attributes:
        hands_feet: hands and feet of DensePose, dilated.
        dense_quarter: (ceil(H / 4), ceil(W / 4)) bool, the part's body of DensePose, dilated.
        area: what is neither kept nor background, and the body.
        hull: `area`, each piece widened to its convex hull.
        trimmed: `hull` without what is kept.
        soft: `trimmed`, blurred and cut low.
        repainted: `soft` and the garment, without hands and face.
        mask: `repainted`, dilated: the agnostic mask.

    """

    hands_feet: Mask
    dense_quarter: Mask
    area: Mask
    hull: Mask
    trimmed: Mask
    soft: Mask
    repainted: Mask
    mask: Mask


def automask(densepose: UInt8, lip: UInt8, atr: UInt8, part: Part, *, protect_again: bool = False) -> Mask:
    """(H, W) bool agnostic mask of one picture, true = repaint; see `automask_steps`."""
    return automask_steps(densepose, lip, atr, part, protect_again=protect_again).mask


def automask_steps(
    densepose: UInt8, lip: UInt8, atr: UInt8, part: Part, *, protect_again: bool = False
) -> AutoMaskSteps:
    """AutoMasker's steps on one picture.

    Args:
        densepose: (H, W) uint8, DensePose index I, 0 to 24. AutoMasker itself takes multiples of 4 only.
        lip: (H, W) uint8, labels of LIP, 0 to 19.
        atr: (H, W) uint8, labels of ATR, 0 to 17.
        part: what is changed; AutoMasker calls `Part.DRESS` "overall".
        protect_again: takes hands and face out once more after the last dilation, which creeps over them: the
            low-resolution option of CatV2TON.

    Raises:
        ArtifactError: a map is no (H, W) uint8 array of the others' size, or holds labels beyond its range.

    """
    import cv2

    for name, labels, count in (("densepose", densepose, 25), ("lip", lip, len(LIP)), ("atr", atr, len(ATR))):
        check_array(labels, name=name, shape=densepose.shape[-2:], dtype=np.uint8)
        if labels.size and int(labels.max()) >= count:
            raise ArtifactError(f"{name} holds {int(labels.max())}", allowed=f"0..{count - 1}")
    fine, broad = odd(max(densepose.shape) // 250), odd(max(densepose.shape) // 25)  # px
    lip_meaning, atr_meaning = _meanings(part)
    meaning = np.asarray(cv2.bitwise_or(cv2.LUT(lip, lip_meaning), cv2.LUT(atr, atr_meaning)), np.uint8)

    def marked(bits: int) -> Mask:
        return (meaning & np.uint8(bits)) > 0

    hands_feet = dilated(among(densepose, HANDS_AND_FEET), fine)
    strong = (hands_feet & marked(_LIMB)) | marked(_FACE)
    weak = strong | marked(_KEPT)
    dense_quarter = dense_body(densepose, DENSE_PARTS[part], fine)
    area = (~weak & marked(_PERSON)) | enlarged(dense_quarter, densepose.shape)
    hull = hulls(area)
    trimmed = hull & ~weak
    soft = _softened(trimmed, broad)
    garment = marked(_GARMENT)
    repainted = (soft | garment) & ~strong
    mask = dilated(repainted, fine)
    if protect_again:
        mask = (mask | garment) & ~strong
    return AutoMaskSteps(hands_feet, dense_quarter, area, hull, trimmed, soft, repainted, mask)


def _softened(mask: Mask, side: int) -> Mask:
    """Where `mask` as 0 and 255 is 25 or more under OpenCV's Gaussian of `side` px; no pixel is farther from it."""
    import cv2

    soft = np.zeros_like(mask)
    near = surroundings(mask, margin=side)
    if near is not None:
        pixels = mask[near].view(np.uint8) * np.uint8(255)
        np.greater_equal(cv2.GaussianBlur(pixels, (side, side), 0), 25, out=soft[near])
    return soft


def as_lip(labels: UInt8) -> UInt8:
    """(H, W) labels in LIP's space; what LIP has no name for is background."""
    return _renamed(labels, LIP)


def as_atr(labels: UInt8) -> UInt8:
    """(H, W) labels in ATR's space; what ATR has no name for is background.

    A coat is among that: AutoMasker asks for what either map says, so the LIP map tells it, and to call it upper
    clothes would have it repainted with an inner garment.
    """
    return _renamed(labels, ATR)


def _renamed(labels: UInt8, space: tuple[Label, ...]) -> UInt8:
    import cv2

    table = np.zeros(256, np.uint8)
    table[list(space)] = np.arange(len(space))
    if Label.BAG in space:
        table[Label.OTHER] = table[Label.BAG]  # things carried or worn, kept as a bag is
    return np.asarray(cv2.LUT(labels, table), np.uint8)


@lru_cache
def _meanings(part: Part) -> tuple[UInt8, UInt8]:
    """(256,) bits for each label of LIP, and of ATR."""
    lip, atr = np.zeros(256, np.uint8), np.zeros(256, np.uint8)
    for table, space, others in ((lip, LIP, _OTHERS_LIP), (atr, ATR, _OTHERS_ATR)):
        for index, label in enumerate(space):
            table[index] = (
                (_PERSON if label != Label.BACKGROUND else 0)
                | (_LIMB if label in _ARM_LABELS + _LEG_LABELS else 0)
                | (_KEPT if label in _THINGS + others[part] else 0)
                | (_GARMENT if label in GARMENT_LABELS[part] else 0)
            )
    lip[Label.FACE] |= _FACE  # of LIP only
    return lip, atr


def dense_body(densepose: UInt8, parts: tuple[int, ...], side: int) -> Mask:
    """(ceil(H / 4), ceil(W / 4)) bool: `parts` in every fourth pixel of (H, W), dilated twice by `side` px."""
    return dilated(among(np.ascontiguousarray(densepose[::4, ::4]), parts), side, times=2)


def enlarged(quarter: Mask, shape: tuple[int, ...]) -> Mask:
    """(H, W) bool of `shape`: each pixel of `quarter` four times in both directions."""
    return quarter.repeat(4, axis=1).repeat(4, axis=0)[: shape[0], : shape[1]]


def hulls(mask: Mask) -> Mask:
    """`mask` with each piece widened to its convex hull, filled as OpenCV 4 does.

    OpenCV 5 fills what lies between the lines of the outline. Before, the outline's edges rounded to the nearest
    pixel in each row were filled, too; these are added, so that all versions give the same.
    """
    import cv2

    contours, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    canvas = np.zeros(mask.shape, np.uint8)
    outlines = [np.asarray(cv2.convexHull(contour), np.int32) for contour in contours]
    for outline in outlines:
        cv2.fillPoly(canvas, [outline], (1,))
    if outlines:
        starts = np.concatenate([outline[:, 0] for outline in outlines]).astype(np.int64)
        ends = np.concatenate([np.roll(outline[:, 0], -1, axis=0) for outline in outlines]).astype(np.int64)
        canvas[_edge_pixels(starts, ends)] = 1
    return canvas.view(np.bool_)


def _edge_pixels(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of edges between points (N, 2) x y, in 16.16 fixed point from the upper end down."""
    upside_down = (starts[:, 1] > ends[:, 1])[:, None]
    (x, y), (end_x, end_y) = np.where(upside_down, ends, starts).T, np.where(upside_down, starts, ends).T
    height = end_y - y
    slope = np.sign(end_x - x) * ((np.abs(end_x - x) << 16) // np.maximum(height, 1))
    edge = np.repeat(np.arange(len(x)), height)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(height) - height, height)
    return y[edge] + row, ((x[edge] << 16) + row * slope[edge] + (1 << 15)) >> 16


def among(labels: UInt8, wanted: tuple[int, ...]) -> Mask:
    """(H, W) bool: pixels whose label is one of `wanted`. `np.isin`, many times as fast."""
    import cv2

    table = np.zeros(256, np.uint8)
    table[list(wanted)] = 1
    return np.asarray(cv2.LUT(labels, table), np.uint8).view(np.bool_)


def dilated(mask: Mask, side: int, *, times: int = 1) -> Mask:
    """`mask` widened by a square of `side` px, `times` over."""
    import cv2

    return cv2.dilate(mask.view(np.uint8), np.ones((side, side), np.uint8), iterations=times).view(np.bool_)


def surroundings(seen: Mask, *, margin: int) -> tuple[slice, slice] | None:
    """Rows and columns of what is true in (H, W), and `margin` px around; None if nothing is."""
    import cv2

    x, y, width, height = cv2.boundingRect(seen.view(np.uint8))
    if not width:
        return None
    return slice(max(0, y - margin), y + height + margin), slice(max(0, x - margin), x + width + margin)


def odd(value: int) -> int:
    """The next odd number from `value` on."""
    return value + 1 - value % 2
