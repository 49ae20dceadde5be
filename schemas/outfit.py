"""Which labels of parsing are the garment of a part."""

from __future__ import annotations

from schemas.conditions import Label
from schemas.manifest import Part

_UPPER = (Label.UPPER_CLOTHES, Label.COAT, Label.DRESS, Label.JUMPSUITS)
_LOWER = (Label.PANTS, Label.SKIRT, Label.DRESS, Label.JUMPSUITS)

GARMENT_LABELS: dict[Part, tuple[Label, ...]] = {
    Part.UPPER: _UPPER,
    Part.LOWER: _LOWER,
    Part.DRESS: (*_UPPER, Label.PANTS, Label.SKIRT),
    Part.INNER: (Label.UPPER_CLOTHES,),
    Part.OUTER: (Label.COAT,),
}
"""Garment classes of a part, as CatVTON's AutoMasker has them."""
