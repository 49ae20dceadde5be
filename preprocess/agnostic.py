"""The agnostic mask: what a try-on model repaints, hands never among it.

Shape legend: T frames, H×W pixels.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from preprocess.automasker import Mask, UInt8, among, as_atr, as_lip, automask, hulls, odd, surroundings
from preprocess.hand_region import HandRegion
from preprocess.mask_smoothing import catv2ton_smooth, smooth_mask
from preprocess.wearer import ACCESSORIES, Wearer
from schemas.clip import Clip
from schemas.conditions import Label
from schemas.errors import StageError
from schemas.manifest import Part
from schemas.outfit import GARMENT_LABELS
from schemas.stage import Stage

_ARMS, _LEGS = (Label.LEFT_ARM, Label.RIGHT_ARM), (Label.LEFT_LEG, Label.RIGHT_LEG)
KEPT: dict[Part, tuple[Label, ...]] = {
    Part.UPPER: (*_LEGS, Label.SKIRT, Label.PANTS),
    Part.LOWER: (*_ARMS, Label.FACE, Label.TORSO_SKIN, Label.UPPER_CLOTHES, Label.COAT),
    Part.DRESS: (),
    Part.INNER: (*_LEGS, Label.DRESS, Label.COAT, Label.SKIRT, Label.PANTS, Label.JUMPSUITS),
    Part.OUTER: (*_LEGS, Label.DRESS, Label.PANTS, Label.SKIRT, Label.UPPER_CLOTHES, Label.JUMPSUITS),
}
"""Body and other garments that are kept with a part, as AutoMasker does."""


def kept_beside(part: Part) -> tuple[Label, ...]:
    """Labels that are kept unless they are of the very garment: what parsing calls so and its track does not, too."""
    return (Label.HAIR, *ACCESSORIES, *KEPT[part], *GARMENT_LABELS[part])


class AgnosticMask(Stage):
    """Marks the pixels that a try-on model repaints for the pair's part.

    `ours` follows CatVTON's AutoMasker and CatV2TON's smoothing over time, and differs in this: the body is taken
    from DensePose where a stage gives it, else from the pose; the garment from its track where one is given, and
    from parsing; other people are left as they are; whatever the smoothing does, the garment is covered, and hands,
    face and hair are spared, hair but for a rim; by default pieces are widened by `reach` and
    not to their convex hulls, which for legs apart or arms spread are more than twice the garment; and kernels grow
    with the person, not the frame.

    `catvton` is AutoMasker itself, frame by frame, bit for bit; `catv2ton` is the same under CatV2TON's
    low-resolution option and smoothing. Both need `densepose`, and take `parsing` for both of their label maps.
    """

    needs: ClassVar[tuple[str, ...]] = ("parsing", "pose", "hands")
    uses: ClassVar[tuple[str, ...]] = ("person", "densepose", "garment_track")
    gives: ClassVar[tuple[str, ...]] = ("agnostic_mask",)
    version: ClassVar[int] = 3

    method: Literal["ours", "catvton", "catv2ton"] = Field(
        default="ours", description="Whose masks: these, CatVTON's, or CatV2TON's. The other fields are of `ours`."
    )
    hull: bool = Field(
        default=False,
        description="Whether each piece of the mask is widened to its convex hull, as AutoMasker does.",
    )
    reach: float = Field(
        default=0.005, ge=0, le=0.2, description="Room around garment and body, over the person's height."
    )
    room: float = Field(
        default=0.25,
        ge=0,
        description="With others in the picture, how far from the body clothes are the presenter's, over the torso's "
        "length.",
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
        """Give `agnostic_mask`, (T, H, W) bool, true = repaint.

        Raises:
            StageError: `method` needs `densepose`, and no stage gave it.

        """
        clip.artifacts["agnostic_mask"] = self._ours(clip) if self.method == "ours" else self._automasker(clip)

    def _automasker(self, clip: Clip) -> Mask:
        densepose, parsing = clip.artifacts.get("densepose"), clip.artifacts["parsing"]
        if densepose is None:
            raise StageError(
                f"method {self.method!r} needs the artifact densepose, which no stage before it gives",
                where=f"{self.name}, {clip.key}",
                remedy="Put a DensePose stage before it, or set `method: ours`",
            )
        video = self.method == "catv2ton"
        mask = np.empty(parsing.shape, bool)
        for frame, labels in enumerate(parsing):
            lip, atr = as_lip(labels), as_atr(labels)
            mask[frame] = automask(densepose[frame], lip, atr, clip.pair.part, protect_again=video)
        return catv2ton_smooth(mask) if video else mask

    def _ours(self, clip: Clip) -> Mask:
        wearer = Wearer.of(clip, room=self.room)
        mask, sure = np.zeros(clip.artifacts["parsing"].shape, bool), []
        for frame in range(len(mask)):
            labels, strangers = wearer.labels(frame)
            garment = wearer.garment(labels, frame)
            protected = self._protected(wearer, labels, frame)
            if strangers is not None:
                protected |= strangers
            self._paint(mask[frame], wearer, labels, garment, protected, frame)
            # A long clip's masks are large.
            sure.append((np.packbits(garment, axis=1), np.packbits(protected, axis=1)))
        frames = 2 * int(self.smoothing_seconds * float(clip.span.fps) / 2) + 1
        mask = smooth_mask(mask, side=odd(int(self.smoothing * wearer.extent)), frames=frames)
        for painted, packed in zip(mask, sure, strict=True):
            garment, protected = (np.unpackbits(bits, axis=1, count=mask.shape[2]).view(np.bool_) for bits in packed)
            painted |= garment
            painted &= ~protected
        return mask

    def _protected(self, wearer: Wearer, labels: UInt8, frame: int) -> Mask:
        """(H, W) bool: what is never painted. Hair has a rim that may be: the old garment shows through it."""
        import cv2

        protected = (labels == Label.FACE) | wearer.limbs(labels, frame, self.hands)
        hair, side = labels == Label.HAIR, 2 * self._reach(wearer) + 1
        near = surroundings(hair, margin=side)
        if near is not None:
            protected[near] |= cv2.erode(hair[near].view(np.uint8), _disc(side)).view(np.bool_)
        return protected

    def _paint(self, mask: Mask, wearer: Wearer, labels: UInt8, garment: Mask, protected: Mask, frame: int) -> None:
        """AutoMasker's steps on one frame, in the surroundings of the presenter: nothing is painted far from there."""
        body, seen = wearer.repainted_body(labels, frame), (labels > 0) | garment
        broad = odd(wearer.extent // 25)  # px, of AutoMasker's larger kernel
        near = surroundings(seen | body, margin=self._reach(wearer) + broad + wearer.fine + 1)
        if near is None:
            return
        labels, garment, protected = labels[near], garment[near], protected[near]
        kept = protected | (among(labels, kept_beside(wearer.clip.pair.part)) & ~garment)
        area = (~kept & seen[near]) | body[near]
        area = hulls(area) if self.hull else area
        area = _dilated(area, 2 * self._reach(wearer) + 1) & ~kept
        area = ((_blurred(area, broad) >= 25) | garment) & ~protected
        mask[near] = (_dilated(area, wearer.fine) | garment) & ~protected

    def _reach(self, wearer: Wearer) -> int:
        return round(self.reach * wearer.extent)


def _disc(side: int) -> UInt8:
    import cv2

    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


def _dilated(mask: Mask, side: int) -> Mask:
    import cv2

    return cv2.dilate(mask.view(np.uint8), _disc(side)).view(np.bool_)


def _blurred(mask: Mask, side: int) -> UInt8:
    """`mask` as 0 and 255 under OpenCV's Gaussian of `side` px, computed at half the size: it has no detail to lose."""
    import cv2

    height, width = mask.shape
    half = cv2.resize(
        mask.view(np.uint8) * np.uint8(255), (-(-width // 2), -(-height // 2)), interpolation=cv2.INTER_AREA
    )
    sigma = 0.3 * ((side - 1) / 2 - 1) + 0.8
    half = cv2.GaussianBlur(half, (odd(side // 2), odd(side // 2)), sigma / 2)
    return np.asarray(cv2.resize(half, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
