"""The presenter in the maps of a clip: their labels among other people's, their garment, their body, their hands.

Shape legend: T frames, H×W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from preprocess.automasker import (
    DENSE_PARTS,
    HANDS_AND_FEET,
    Mask,
    UInt8,
    among,
    dense_body,
    dilated,
    enlarged,
    odd,
)
from preprocess.body import FOREARMS, SHINS, THIGHS, UPPER_ARMS, Bone, Skeleton, body_picture, fitting_skeleton
from preprocess.hand_region import SKIN_LABELS, HandRegion
from schemas.clip import Clip
from schemas.conditions import Label
from schemas.manifest import Part
from schemas.outfit import GARMENT_LABELS

ACCESSORIES = (
    Label.HAT, Label.GLOVE, Label.SUNGLASSES, Label.BAG, Label.LEFT_SHOE, Label.RIGHT_SHOE, Label.SCARF, Label.SOCKS,
    Label.OTHER,
)  # fmt: skip
_UPPER_BODY, _LOWER_BODY = (Bone.TORSO, *UPPER_ARMS, *FOREARMS), (*THIGHS, *SHINS)
BODY_BONES: dict[Part, tuple[Bone, ...]] = {
    Part.UPPER: _UPPER_BODY,
    Part.LOWER: _LOWER_BODY,
    Part.DRESS: _UPPER_BODY + _LOWER_BODY,
    Part.INNER: (Bone.TORSO,),
    Part.OUTER: _UPPER_BODY,
}
"""Bones about which the body is repainted with a garment: AutoMasker's parts of DensePose, `DENSE_PARTS`."""
FIGURE = 4.5
"""Height of a person over the length of the torso, generously."""


@dataclass(frozen=True, eq=False)
class Wearer:
    """The presenter of `clip`, whose artifacts it reads.

    Attributes:
        clip: has `parsing`, `pose` and `hands`, and may have `person`, `densepose` and `garment_track`.
        body: bones of the presenter; None where the pose shows none.
        extent: px, height of the presenter, or the frame's longer side if that is less.
        room: px about the body within which clothes are the presenter's, though others are in the picture.

    """

    clip: Clip
    body: Skeleton | None
    extent: int
    room: float

    @classmethod
    def of(cls, clip: Clip, *, room: float = 0.25) -> Wearer:
        """The presenter of `clip`; `room` is over the torso's length."""
        parsing = clip.artifacts["parsing"]
        body = fitting_skeleton(clip.artifacts["pose"], parsing, nobody=(Label.BACKGROUND, *ACCESSORIES))
        extent = max(parsing.shape[1:])
        if body is not None:
            extent = min(extent, round(FIGURE * float(np.median(body.torso))))
        return cls(clip=clip, body=body, extent=extent, room=room * extent / FIGURE)

    @property
    def fine(self) -> int:
        """Side in px of AutoMasker's smaller kernel.

        It grows with the frame, which a person fills in AutoMasker's data; where one fills less, with the person.
        """
        return odd(self.extent // 250)

    def densepose(self, frame: int) -> UInt8 | None:
        """(H, W) uint8 index I; None where no stage gave it or it found nobody."""
        densepose = self.clip.artifacts.get("densepose")
        return densepose[frame] if densepose is not None and densepose[frame].any() else None

    def labels(self, frame: int) -> tuple[UInt8, Mask | None]:
        """(H, W) labels of the presenter alone, and (H, W) bool where others' were; None if nowhere.

        Those of a presenter who is alone throughout the clip are all that hang together with the body: wide clothes,
        however wide. Where others may touch the presenter, they are pieces of one label that lie within `room` of the
        body almost wholly, and of those that do so mostly, what lies there: they may be two people's.
        """
        import cv2

        labels, person = self.clip.artifacts["parsing"][frame], self.clip.artifacts.get("person")
        place = self._place(frame)
        if place is None:
            return labels, None
        coarse = np.ascontiguousarray(labels[::4, ::4])
        near = cv2.distanceTransform((~place).view(np.uint8), cv2.DIST_L2, 3) <= self.room / 4
        if not coarse[~near].any():
            return labels, None
        if person is None or person.counts.max() <= 1:  # of all frames: people are missed in some
            near |= _pieces_at(coarse > 0, near, least=0)
        else:
            pieces = [coarse == label for label in np.unique(coarse)]
            most, mostly = (
                np.any([_pieces_at(piece, near, least=share) for piece in pieces], axis=0) for share in (0.8, 0.5)
            )
            near = (near & mostly) | most
        strange = ~enlarged(dilated(near, 3), labels.shape) & (labels > 0)
        return (np.where(strange, np.uint8(Label.BACKGROUND), labels), strange) if strange.any() else (labels, None)

    def _place(self, frame: int) -> Mask | None:
        """(ceil(H / 4), ceil(W / 4)) bool, where the presenter surely is; None where that is not known."""
        densepose, person = self.densepose(frame), self.clip.artifacts.get("person")
        shape = self.clip.artifacts["parsing"].shape[1:]
        if densepose is not None:
            return np.ascontiguousarray(densepose[::4, ::4]) > 0
        if self.body is not None:
            place = body_picture(self.body, frame, tuple(Bone), shape)
        else:
            place = np.zeros((-(-shape[0] // 4), -(-shape[1] // 4)), bool)
            if person is not None and person.scores[frame] > 0:
                x0, y0, x1, y1 = (max(0, round(float(side) / 4)) for side in person.boxes[frame])
                place[y0:y1, x0:x1] = True
        return place if place.any() else None

    def garment(self, labels: UInt8, frame: int) -> Mask:
        """(H, W) bool: the pair's garment, by `labels` of the presenter and by the track.

        Which of two garments one over the other it is, the track of the very garment knows best.
        """
        part, track = self.clip.pair.part, self.clip.artifacts.get("garment_track")
        labelled = among(labels, GARMENT_LABELS[part])
        if track is None or not track[frame].any():
            return labelled
        return np.asarray(track[frame] if part in (Part.INNER, Part.OUTER) else track[frame] | labelled)

    def repainted_body(self, labels: UInt8, frame: int) -> Mask:
        """(H, W) bool: the body that is repainted with the garment, by DensePose.

        Where that is not there, by the bones, as far as `labels` show somebody there: how wide they are is a guess.
        """
        part, densepose = self.clip.pair.part, self.densepose(frame)
        if densepose is not None:
            return enlarged(dense_body(densepose, DENSE_PARTS[part], 1), labels.shape)
        if self.body is None:
            return np.zeros(labels.shape, bool)
        drawn = body_picture(self.body, frame, BODY_BONES[part], labels.shape)
        return enlarged(drawn, labels.shape) & (labels > 0)

    def limbs(self, labels: UInt8, frame: int, region: HandRegion) -> Mask:
        """(H, W) bool: hands to the wrist, and, where DensePose shows them, bare feet."""
        hands = region.mask(self.clip.artifacts["hands"], self.body, labels, frame, extent=self.extent)
        densepose = self.densepose(frame)
        if densepose is None:
            return hands
        limbs = enlarged(dense_body(densepose, HANDS_AND_FEET, 1), labels.shape)
        return hands | (limbs & among(labels, SKIN_LABELS))


def _pieces_at(seen: Mask, place: Mask, *, least: float) -> Mask:
    """(H, W) bool: the pieces of `seen` of which more than the share `least` lies at `place`."""
    import cv2

    count, pieces = cv2.connectedComponents(seen.view(np.uint8))
    there = np.bincount(pieces[place], minlength=count) > least * np.bincount(pieces.ravel(), minlength=count)
    there[0] = False  # what is not seen
    return np.asarray(there[pieces])
