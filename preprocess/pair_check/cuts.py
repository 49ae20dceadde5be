"""The garment cut out of its own image, and out of the frames that show it worn.

Shape legend: T frames of the clip, H×W px of it or of the garment image; h×w px of a cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from media import frames
from preprocess.garment_crop import IN_FRONT
from schemas.clip import Clip
from schemas.outfit import GARMENT_LABELS

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]
Mask = NDArray[np.bool_]

RIM = 0.01
"""Width of the rim that is left out, over the root of the garment's area: there it mixes with what is beside it."""
LEAST = 400
"""Fewest px that tell what a garment looks like."""
LARGE = 0.75
"""Quantile of the garment's area over the frames that show any. The largest are no better: there the parsing spills."""
SHOWN = 0.5
"""Share of that area from which on a frame shows the garment well enough."""
STRIDE = 4
"""Every so manieth row and column is enough to choose frames by."""


@dataclass(frozen=True, eq=False)
class Cut:
    """A garment within its bounding box.

    Attributes:
        image: (h, w, 3) uint8 RGB.
        mask: (h, w) bool, true = garment; its rim is left out.

    """

    image: UInt8
    mask: Mask

    @property
    def side(self) -> float:
        """Root of the garment's area, px."""
        return float(np.sqrt(np.count_nonzero(self.mask)))

    def scaled(self, side: float) -> tuple[Float32, Mask]:
        """The garment at about `side` px: (h', w', 3) float32 RGB in 0..255, and its mask (h', w').

        Pixels are means of the garment's alone: what lies beside it does not bleed in. The mask is never empty.
        """
        import cv2

        scale = side / self.side
        size = max(1, round(self.mask.shape[1] * scale)), max(1, round(self.mask.shape[0] * scale))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        share = cv2.resize(self.mask.astype(np.float32), size, interpolation=how)
        total = cv2.resize(self.image * self.mask[..., None].astype(np.float32), size, interpolation=how)
        image = total / np.maximum(share, 1e-3)[..., None]
        return np.asarray(image.clip(0, 255), np.float32), np.asarray(share > share.max() / 2)


def cut_out(image: UInt8, mask: Mask) -> Cut | None:
    """The garment that `mask` (H, W) marks in `image` (H, W, 3); None where fewer than `LEAST` px of it are left."""
    import cv2

    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    inside = slice(y, y + height), slice(x, x + width)
    rim = max(1, round(RIM * np.sqrt(np.count_nonzero(mask))))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * rim + 1, 2 * rim + 1))
    inner = cv2.erode(np.pad(mask[inside], rim).astype(np.uint8), disc)[rim:-rim, rim:-rim] > 0
    return Cut(image[inside], inner) if np.count_nonzero(inner) >= LEAST else None


def worn_cuts(clip: Clip, *, most: int) -> list[Cut]:
    """The worn garment in at most `most` frames, evenly spread over those that show it well; none where none does.

    It is where `garment_track` says, or else the parsing's garment of the pair's part, without what is before it.
    """
    parsing, track = clip.artifacts["parsing"], clip.artifacts.get("garment_track")
    wanted = np.zeros(256, bool)
    wanted[list(GARMENT_LABELS[clip.pair.part])] = True
    allowed = np.ones(256, bool)
    allowed[list(IN_FRONT)] = False

    def garment(index: int, stride: int = 1) -> Mask:
        labels = parsing[index, ::stride, ::stride]
        return wanted[labels] if track is None else track[index, ::stride, ::stride] & allowed[labels]

    areas = np.array([np.count_nonzero(garment(index, STRIDE)) for index in range(len(parsing))])
    if not areas.any():
        return []
    shown = np.flatnonzero(areas >= SHOWN * np.quantile(areas[areas > 0], LARGE))
    chosen = shown[np.unique(np.linspace(0, len(shown) - 1, most).round().astype(int))]
    images = frames(clip).images
    cuts = (cut_out(images[index], garment(index)) for index in chosen)
    return [cut for cut in cuts if cut is not None]
