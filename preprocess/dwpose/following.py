"""The presenter of one clip: looked for in some frames, followed through those between, looked for again in doubt.

Shapes: T frames of H×W px, K = 133 points.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from preprocess.person import Sighting, as_boxes, nearest_looks, presenter
from schemas.body import Joint
from schemas.conditions import POSE_POINTS, PersonTrack, Pose

Boxes = NDArray[np.float64]

BODY = slice(0, Joint.RIGHT_ANKLE + 1)
MOVED = 0.5
"""Px by which a box may be corrected without its pose being estimated anew."""


class Following:
    """What is known of the presenter so far.

    A frame that was looked at shows the presenter if they were found there; a frame between two looks, if both found
    them: their box there is interpolated. Between two looks that disagree nothing is decided; such frames are to be
    looked at themselves. So nobody is made out of nothing, and nobody is held for longer than they are there.

    Attributes:
        images: (T, H, W, 3) uint8 RGB.
        boxes: (T, 4) float64, x0 y0 x1 y1 in px; they may reach beyond the picture.
        present: (T,) bool.

    """

    def __init__(self, images: NDArray[np.uint8]) -> None:
        count = len(images)
        self.images = images
        self.boxes = np.zeros((count, 4))
        self.present = np.zeros(count, bool)
        self._looks: dict[int, Sighting] = {}
        self._keypoints = np.zeros((count, POSE_POINTS, 2))
        self._scores = np.zeros((count, POSE_POINTS))
        self._estimated_in = np.full((count, 4), np.nan)

    def regular(self, every: int) -> list[int]:
        """Frames to look at first: each `every`-th, and the last."""
        last = len(self.images) - 1
        return sorted({*range(0, last, every), last})

    def found(self, frame: int, boxes: Boxes) -> None:
        """Take (P, 4) boxes as what a look at `frame` found. `decide` after the last of several."""
        self._looks[frame] = Sighting(frame, boxes, as_boxes([]))

    def decide(self) -> list[int]:
        """Link what was found: who presents, where, and when. Returns the frames that are to be looked at for it."""
        frames, height, width = self.images.shape[:3]
        track = presenter(self._sightings, frames=frames, width=width, height=height)
        before, after = self._neighbours()
        if track is None:
            self.present[:] = False
            return []
        seen = {frame: _among(track[frame], look.boxes) for frame, look in self._looks.items()}
        ahead, behind = (np.array([seen[frame] for frame in looks]) for looks in (before, after))
        self.boxes, self.present = track, ahead & behind
        return np.flatnonzero((ahead != behind) & (before != after)).tolist()

    def stale(self) -> list[int]:
        """Frames of the presenter whose pose is not estimated yet, or in a box that has moved since."""
        kept = np.abs(self.boxes - self._estimated_in).max(1) <= MOVED
        return np.flatnonzero(self.present & ~kept).tolist()

    def estimated(self, frame: int, keypoints: NDArray[np.float64], scores: NDArray[np.float32]) -> None:
        """Take (133, 2) points in px and their (133,) scores as the presenter's in `frame`."""
        self._keypoints[frame], self._scores[frame] = keypoints, scores.clip(0, 1)
        self._estimated_in[frame] = self.boxes[frame]

    def doubtful(self, trust: float) -> list[int]:
        """Followed frames whose body is less sure than `trust` times that at the less sure of the looks around."""
        before, after = self._neighbours()
        sure = self._sure()
        less = sure < trust * np.minimum(sure[before], sure[after])
        return np.flatnonzero(self.present & (before != after) & less).tolist()

    def person(self) -> PersonTrack:
        """Boxes within the picture; how sure the body's points are on the whole; people at the nearest look."""
        height, width = self.images.shape[1:3]
        boxes = self.boxes.clip(0, (width, height, width, height)).astype(np.float32)
        shown = self._shown()
        counts = np.array([len(look.boxes) for look in nearest_looks(self._sightings, len(boxes))], int)
        return PersonTrack(
            boxes=np.where(shown[:, None], boxes, 0).astype(np.float32),
            scores=np.where(shown, self._sure(), 0).astype(np.float32),
            counts=np.maximum(counts, shown).clip(0, 255).astype(np.uint8),
        )

    def pose(self) -> Pose:
        """The presenter's points; zeros where they are absent."""
        shown = self._shown()
        return Pose(
            keypoints=(self._keypoints * shown[:, None, None]).astype(np.float32),
            scores=(self._scores * shown[:, None]).astype(np.float16),
        )

    @property
    def _sightings(self) -> list[Sighting]:
        return [self._looks[frame] for frame in sorted(self._looks)]

    def _neighbours(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """(T,) frames of the looks before and after each frame; both are the frame itself where it was looked at."""
        looks, frames = np.array(sorted(self._looks)), np.arange(len(self.images))
        return looks[np.searchsorted(looks, frames, "right") - 1], looks[np.searchsorted(looks, frames)]

    def _sure(self) -> NDArray[np.float64]:
        return self._scores[:, BODY].mean(1)

    def _shown(self) -> NDArray[np.bool_]:
        """(T,) whether the presenter is there, with some of the box in the picture and some point seen."""
        height, width = self.images.shape[1:3]
        within = (self.boxes[:, 2:] > 0) & (self.boxes[:, :2] < (width, height))
        return self.present & within.all(1) & (self._sure() > 0)


def _among(box: Boxes, boxes: Boxes) -> bool:
    return bool(len(boxes)) and float(np.abs(boxes - box).max(1).min()) < 1e-6
