"""From the model's six classes to `schemas.conditions.Label`, by the nearest bone."""

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

UPPER_LABEL = {Part.OUTER: Label.COAT, Part.DRESS: Label.DRESS}
LOWER_LABEL = {Part.DRESS: Label.DRESS}
ARM_FIRST = 0.6
"""Skin is an arm's even if it is nearer to another bone by this factor."""
COARSE = 4
"""Pixels of the clip per pixel of the map of nearest bones."""


def body_labels(
    classes: NDArray[np.uint8], pictures: NDArray[np.uint8], pose: Pose, *, part: Part, split: OutfitSplit
) -> NDArray[np.uint8]:
    """(T, H, W) uint8 labels. `classes` (T, H, W) are the model's; `pictures` (T, h, w, 3) the frames, smaller."""
    import cv2

    height, width = classes.shape[1:]
    upper, lower = UPPER_LABEL.get(part, Label.UPPER_CLOTHES), LOWER_LABEL.get(part, Label.PANTS)
    body = fitting_skeleton(pose, (classes != selfie.BACKGROUND) & (classes != selfie.OTHERS))
    table = np.zeros(6, np.uint8)
    table[[selfie.HAIR, selfie.FACE_SKIN, selfie.BODY_SKIN, selfie.OTHERS]] = (
        Label.HAIR,
        Label.FACE,
        Label.TORSO_SKIN,
        Label.OTHER,
    )
    table[selfie.CLOTHES] = lower if part is Part.LOWER else upper
    labels = table[classes]
    if body is None:
        return labels
    coarse = (max(1, height // COARSE), max(1, width // COARSE))
    small = body.resized(coarse[0] / height)
    near = [body_map(small, frame, *coarse) for frame in range(len(classes))]
    margin = None if upper == lower else split.margin(classes, pictures, near)
    for frame, label in enumerate(labels):
        fine = [
            cv2.resize(table_of, (width, height), interpolation=cv2.INTER_NEAREST) for table_of in _tables(near[frame])
        ]
        seen = classes[frame]
        label[:] = np.where(seen == selfie.BODY_SKIN, fine[0], label)
        label[:] = np.where(seen == selfie.OTHERS, fine[1], label)
        if margin is not None:
            below = cv2.resize(margin[frame], (width, height), interpolation=cv2.INTER_LINEAR) > 0
            label[:] = np.where(seen == selfie.CLOTHES, np.where(below, lower, upper), label)
    return labels


def _tables(near: BodyMap) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """What skin and what accessories are called at each pixel."""
    skin, things = np.full(len(Bone), Label.TORSO_SKIN, np.uint8), np.full(len(Bone), Label.OTHER, np.uint8)
    for bone in Bone:
        left = bone in LEFT_SIDE
        if bone in ARMS:
            skin[bone] = Label.LEFT_ARM if left else Label.RIGHT_ARM
        if bone in THIGHS + SHINS + FEET:
            skin[bone] = Label.LEFT_LEG if left else Label.RIGHT_LEG
        if bone in HANDS + FOREARMS + THIGHS:
            things[bone] = Label.BAG
        if bone in FEET:
            things[bone] = Label.LEFT_SHOE if left else Label.RIGHT_SHOE
    # Bare arms are in front of whatever they cross more often than not.
    arm = near.arms.distance * ARM_FIRST < near.trunk.distance
    flesh = np.where(arm, skin[near.arms.bone], skin[near.trunk.bone])
    bone, along = near.all.bone, near.all.along
    accessories = things[bone]
    accessories[(bone == Bone.HEAD) & (along > 1)] = Label.HAT
    ankles = np.isin(bone, SHINS) & (along > 0.85)
    accessories[ankles] = np.where(bone[ankles] == Bone.L_SHIN, Label.LEFT_SHOE, Label.RIGHT_SHOE)
    return flesh, accessories
