"""The garment in a picture of somebody who wears it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from preprocess.body_track import follow_body, look_for_people
from preprocess.labels import body_labels
from preprocess.outfit import OutfitSplit
from preprocess.pose import whole_body
from preprocess.selfie import Confidences, likeliest
from schemas.manifest import Part
from schemas.outfit import GARMENT_LABELS

GRID = 416
"""Longer side in px of the picture that colours are learnt from."""


def worn_garment(image: NDArray[np.uint8], confidences: Confidences, part: Part) -> NDArray[np.bool_]:
    """(H, W) bool: clothes of `part` on the person in `image` (H, W, 3), parsed as a clip of one frame.

    `confidences` are the segmenter's on the whole picture.
    """
    import cv2

    height, width = image.shape[:2]
    classes = likeliest(confidences, (height, width))
    scale = min(1.0, GRID / max(height, width))
    small = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    clip = image[None]
    pose = whole_body(follow_body(clip, look_for_people(clip, every=1, most=1)))
    labels = body_labels(classes[None], small[None], pose, part=part, split=OutfitSplit())
    return np.isin(labels[0], GARMENT_LABELS[part])
