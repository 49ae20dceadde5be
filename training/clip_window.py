"""Some frames of a stored sample, read as they are asked for.

Shape legend: T frames of the window, H×W pixels of the stored video.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from media.draw import VISIBLE
from schemas.annotation import Annotation
from schemas.conditions import Bool, Hands, Pose, UInt8
from schemas.tables import Meta
from training.fit import Box, Size
from training.stored import StoredSample
from training.windows import Frames

_MARGIN = 0.1
"""Of the height of the found points: what of a person lies beyond them, the crown above the eyes first."""


class ClipWindow:
    """The frames `indices` (T,), rising, of `stored`, all of whose members have to fit its `annotation`.

    Everything that is read raises `DatasetError` where a member is missing, damaged, or does not fit the others.
    """

    def __init__(self, stored: StoredSample, annotation: Annotation, indices: Frames) -> None:
        self.stored, self.annotation, self.indices = stored, annotation, indices
        self._total = len(annotation.labels)
        self._reader = stored.reader(total=self._total)

    @property
    def source(self) -> Size:
        """(H, W) of the stored video."""
        return self._reader.height, self._reader.width

    def each_image(self, use: Callable[[int, UInt8], None]) -> None:
        """Call `use` with each frame's number in the window and its (H, W, 3) uint8 RGB, as they are decoded."""
        self.stored.each_image(self._reader, self.indices.tolist(), use)

    @cached_property
    def meta(self) -> Meta:
        return self.stored.meta()

    @cached_property
    def _mask_bits(self) -> UInt8:
        return self.stored.mask_bits(self.indices.tolist(), (self._total, *self.source))

    def mask(self, t: int) -> Bool:
        """(H, W): the region to repaint in frame `t` of the window."""
        return self._unpacked(self._mask_bits[t])

    def _unpacked(self, bits: UInt8) -> Bool:
        return np.unpackbits(bits, axis=-1, count=self.source[1]).view(np.bool_)

    @cached_property
    def pose(self) -> Pose:
        """Of the window's frames, in px of the stored video."""
        pose: Pose = self.stored.per_frame("pose", self._total)
        return Pose(pose.keypoints[self.indices], pose.scores[self.indices])

    @cached_property
    def hands(self) -> Hands:
        """Of the window's frames, in px of the stored video."""
        hands: Hands = self.stored.per_frame("hands", self._total)
        at = self.indices
        return Hands(hands.scores[at], hands.joints_2d[at], hands.joints_3d[at], hands.method)

    def maps(self, name: str) -> UInt8:
        """(T, H, W): artifact `name`, "hand_prior" or "densepose"."""
        return self.stored.maps(name, (self._total, *self.source))[self.indices]

    def person_box(self) -> Box:
        """Around the mask and all points found in any frame, with a margin; the whole picture where there is none."""
        height, width = self.source
        seen = self.pose.keypoints[self.pose.scores > VISIBLE]
        repainted = self._unpacked(np.bitwise_or.reduce(self._mask_bits, axis=0))
        rows, columns = np.flatnonzero(repainted.any(axis=1)), np.flatnonzero(repainted.any(axis=0))
        margin = _MARGIN * float(np.ptp(seen[:, 1])) if len(seen) else 0.0
        corners = [*(seen - margin), *(seen + margin)]
        if len(rows):
            corners += [np.array((columns[0], rows[0])), np.array((columns[-1] + 1, rows[-1] + 1))]
        if not corners:
            return 0, 0, width, height
        x0, y0 = np.clip(np.min(corners, axis=0), 0, (width, height))
        x1, y1 = np.clip(np.max(corners, axis=0), 0, (width, height))
        return float(x0), float(y0), float(x1), float(y1)
