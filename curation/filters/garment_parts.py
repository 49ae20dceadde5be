"""What belongs to each part of the outfit: labels of parsing, and joints of the body under it."""

from __future__ import annotations

from schemas.body import Joint
from schemas.conditions import Label
from schemas.manifest import Part

_ONE_PIECE = (Label.DRESS, Label.JUMPSUITS)
_SHOULDERS = (Joint.LEFT_SHOULDER, Joint.RIGHT_SHOULDER)
_HIPS = (Joint.LEFT_HIP, Joint.RIGHT_HIP)
_KNEES = (Joint.LEFT_KNEE, Joint.RIGHT_KNEE)
_ANKLES = (Joint.LEFT_ANKLE, Joint.RIGHT_ANKLE)

GARMENT_LABELS: dict[Part, tuple[Label, ...]] = {
    Part.UPPER: (Label.UPPER_CLOTHES, Label.COAT, *_ONE_PIECE),
    Part.INNER: (Label.UPPER_CLOTHES, *_ONE_PIECE),
    Part.OUTER: (Label.COAT, Label.UPPER_CLOTHES),
    Part.LOWER: (Label.PANTS, Label.SKIRT, *_ONE_PIECE),
    Part.DRESS: (*_ONE_PIECE, Label.UPPER_CLOTHES, Label.SKIRT),
}
"""Labels that parsers give to the garment of a part; an outer garment may be labelled UPPER_CLOTHES, too."""

GARMENT_JOINTS: dict[Part, tuple[Joint, ...]] = {
    Part.UPPER: _SHOULDERS + _HIPS,
    Part.INNER: _SHOULDERS + _HIPS,
    Part.OUTER: _SHOULDERS + _HIPS,
    Part.LOWER: _HIPS + _KNEES + _ANKLES,
    Part.DRESS: _SHOULDERS + _HIPS + _KNEES,
}
"""Joints between which the garment of a part is worn."""
