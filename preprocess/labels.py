"""From the segmenter's six classes to `schemas.conditions.Label`, by the nearest bone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from preprocess import selfie
from preprocess.body import (
    ARMS,
    FEET,
    FOREARMS,
    HANDS,
    LEFT_SIDE,
    SHINS,
    THIGHS,
    BodyMap,
    Bone,
    body_map,
    fitting_skeleton,
)
from preprocess.outfit import OutfitSplit
from schemas.conditions import Label, Pose
from schemas.manifest import Part

UInt8 = NDArray[np.uint8]

ARM_FIRST, ARM_ROOM = 1.7, 1.2
"""Skin is an arm's even if nearer to another bone by this factor, or within so many half widths of the arm: bare
arms mostly are in front."""
ENCLOSED = 0.8
"""Share of clothes in the rim of a print."""
NOT_BODY = (selfie.BACKGROUND, selfie.OTHERS)
COARSE = 4
"""Pixels of the clip per pixel of the map of nearest bones."""


def body_labels(classes: UInt8, pictures: UInt8, pose: Pose, *, part: Part, split: OutfitSplit) -> UInt8:
    """Labels of a clip whose pair is worn as `part`.

    Args:
        classes: (T, H, W) uint8, the segmenter's classes. The labels are written over them: a clip's maps are large.
        pictures: (T, h, w, 3) uint8 RGB, the frames, smaller; their colours tell the garments apart.
        pose: of the presenter. Where no torso is ever seen, all clothes are the pair's garment.
        part: decides what upper and lower garment are called.
        split: how clothes are told apart.

    Returns:
        (T, H, W) uint8 of `Label`: `classes`.

    """
    import cv2

    garments = _garment_labels(part)
    body = fitting_skeleton(pose, classes, nobody=NOT_BODY)
    if body is None:
        for seen in classes:
            seen[:] = cv2.LUT(seen, _unsplit(garments[int(part is Part.LOWER)]))
        return classes
    size = max(1, classes.shape[1] // COARSE), max(1, classes.shape[2] // COARSE)
    small = body.resized(size[0] / classes.shape[1])
    odds = split.colour_odds(classes, pictures, small, size)
    for frame, seen in enumerate(classes):
        near = body_map(small, frame, *size)
        lower = split.log_odds(seen, pictures[frame], near, odds)
        below = cv2.resize(lower, seen.shape[::-1], interpolation=cv2.INTER_LINEAR) > 0
        seen[:] = _label_frame(seen, near, np.where(below, garments[1], garments[0]))
    return classes


def _garment_labels(part: Part) -> UInt8:
    """What clothes above and below the waist are called."""
    if part is Part.DRESS:
        return np.array([Label.DRESS, Label.DRESS], np.uint8)
    return np.array([Label.COAT if part is Part.OUTER else Label.UPPER_CLOTHES, Label.PANTS], np.uint8)


def _unsplit(garment: int) -> UInt8:
    """(256,) label of each class where no pose tells more."""
    table = np.zeros(256, np.uint8)
    table[selfie.HAIR], table[selfie.FACE_SKIN], table[selfie.CLOTHES] = Label.HAIR, Label.FACE, garment
    table[selfie.BODY_SKIN], table[selfie.OTHERS] = Label.TORSO_SKIN, Label.OTHER
    return table


_MAY_BE_PRINT = np.isin(np.arange(256), NOT_BODY).astype(np.uint8)


def _label_frame(seen: UInt8, near: BodyMap, garments: UInt8) -> UInt8:
    """(H, W) labels of one frame. `garments` (H, W) are the labels that clothes take."""
    import cv2

    def enlarge(coarse: UInt8) -> UInt8:
        return np.asarray(cv2.resize(coarse, seen.shape[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)

    def where(mask: NDArray[np.bool_]) -> UInt8:
        return mask.view(np.uint8)

    labels = np.asarray(cv2.LUT(seen, _unsplit(0)), np.uint8)
    cv2.copyTo(enlarge(_skin(near)), where(seen == selfie.BODY_SKIN), labels)
    cv2.copyTo(enlarge(_accessories(near)), where(seen == selfie.OTHERS), labels)
    cv2.copyTo(garments, where(seen == selfie.CLOTHES), labels)
    prints = _prints(seen, near)
    if prints.any():
        cv2.copyTo(garments, cv2.bitwise_and(enlarge(prints), cv2.LUT(seen, _MAY_BE_PRINT)), labels)
    return labels


def _prints(seen: UInt8, near: BodyMap) -> UInt8:
    """Coarse map, 1 where clothes all around in mid torso enclose what the segmenter took for something else."""
    import cv2

    trunk = near.trunk
    middle = (trunk.bone == Bone.TORSO) & (trunk.along > 0.1) & (trunk.along < 0.9) & (trunk.distance < 1.3)
    coarse = cv2.resize(seen, middle.shape[::-1], interpolation=cv2.INTER_NEAREST)
    count, pieces = cv2.connectedComponents(cv2.LUT(coarse, _MAY_BE_PRINT), connectivity=4)
    inner = np.bincount(pieces[middle], minlength=count) > ENCLOSED * np.bincount(pieces.ravel(), minlength=count)
    found = np.zeros(middle.shape, np.uint8)
    for piece in np.flatnonzero(inner[1:]) + 1:
        inside = pieces == piece
        around = (cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & ~inside
        found[inside & (np.mean(coarse[around] == selfie.CLOTHES) > ENCLOSED)] = 1
    return np.asarray(cv2.dilate(found, np.ones((3, 3), np.uint8)), np.uint8)


def _skin(near: BodyMap) -> UInt8:
    """What bare skin is called at each pixel of the coarse map."""
    names = np.full(len(Bone), Label.TORSO_SKIN, np.uint8)
    for bone in ARMS:
        names[bone] = Label.LEFT_ARM if bone in LEFT_SIDE else Label.RIGHT_ARM
    for bone in THIGHS + SHINS + FEET:
        names[bone] = Label.LEFT_LEG if bone in LEFT_SIDE else Label.RIGHT_LEG
    arm = near.arms.distance < np.maximum(ARM_ROOM, near.trunk.distance * ARM_FIRST)
    return np.where(arm, names[near.arms.bone], names[near.trunk.bone])


def _accessories(near: BodyMap) -> UInt8:
    """What accessories are called at each pixel of the coarse map."""
    names = np.full(len(Bone), Label.OTHER, np.uint8)
    names[list(HANDS + FOREARMS + THIGHS)] = Label.BAG
    for bone in FEET:
        names[bone] = Label.LEFT_SHOE if bone in LEFT_SIDE else Label.RIGHT_SHOE
    nearest = near.all
    things = names[nearest.bone]
    things[(nearest.bone == Bone.HEAD) & (nearest.along > 1)] = Label.HAT
    ankle = nearest.along > 0.85
    things[ankle & (nearest.bone == Bone.L_SHIN)] = Label.LEFT_SHOE
    things[ankle & (nearest.bone == Bone.R_SHIN)] = Label.RIGHT_SHOE
    return things
