"""Joints of the body under each part of the outfit."""

from __future__ import annotations

from schemas.body import Joint
from schemas.manifest import Part

_SHOULDERS = (Joint.LEFT_SHOULDER, Joint.RIGHT_SHOULDER)
_HIPS = (Joint.LEFT_HIP, Joint.RIGHT_HIP)
_KNEES = (Joint.LEFT_KNEE, Joint.RIGHT_KNEE)
_ANKLES = (Joint.LEFT_ANKLE, Joint.RIGHT_ANKLE)

GARMENT_JOINTS: dict[Part, tuple[Joint, ...]] = {
    Part.UPPER: _SHOULDERS + _HIPS,
    Part.INNER: _SHOULDERS + _HIPS,
    Part.OUTER: _SHOULDERS + _HIPS,
    Part.LOWER: _HIPS + _KNEES + _ANKLES,
    Part.DRESS: _SHOULDERS + _HIPS + _KNEES,
}
"""Joints between which the garment of a part is worn."""
