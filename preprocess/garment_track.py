"""The pair's garment followed through the clip, behind hands and beyond what the parsing loses.

Shape legend: T frames of the clip, H×W its pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from preprocess.automasker import among, hulls
from preprocess.crops import Box
from preprocess.devices import Precision
from preprocess.hand_region import HandRegion
from preprocess.trackers import FlowTracker, Tracker
from preprocess.wearer import Wearer
from schemas.clip import Clip
from schemas.outfit import GARMENT_LABELS
from schemas.stage import ModelFile, Stage

Mask = NDArray[np.bool_]
Float64 = NDArray[np.float64]

USUAL_AREA = 0.5
"""Quantile of the garment's area over the frames that show it. Larger ones are no better: the parsing spills, too."""
SHOWN = 0.1
"""Share of its usual area from which on a frame is taken to show the garment."""
ROOM = 0.1
"""Room around the person in the window that the tracker sees, over its longer side."""


class GarmentTrack(Stage):
    """Follows the pair's garment, both ways from the frames where it shows best, and through what hides it.

    The parsing marks the garment in one frame, a video model (SAM 2, SAM 3) follows it; optical flow, which drifts,
    has it marked in more. Where the parsing sees it elsewhere for long while no hand is about, the best of those
    frames marks it, too, and all is followed anew. Hands before the garment are not garment; behind them it goes on.
    """

    needs: ClassVar[tuple[str, ...]] = ("video", "parsing", "pose", "hands")
    uses: ClassVar[tuple[str, ...]] = ("person", "densepose")
    gives: ClassVar[tuple[str, ...]] = ("garment_track",)

    model: ModelFile = Field(
        default="",
        description="Folder of a video model of SAM 2 or SAM 3, as transformers has it; empty follows by optical flow.",
    )
    batch: int = Field(default=8, ge=1, description="Frames that go through SAM's image encoder at once.")
    device: str = Field(
        default="auto", description="Where SAM runs, as torch names it; auto is the GPU if there is one."
    )
    precision: Precision = Field(default="auto", description="Of SAM's weights; auto is bfloat16 on a GPU.")
    agreement: float = Field(
        default=0.85, ge=0, le=1, description="IoU of track and parsing below which they are taken to disagree."
    )
    patience: float = Field(
        default=0.25, ge=0, le=10, description="Seconds that they may disagree before the garment is marked anew."
    )
    away: float = Field(
        default=0.1, ge=0, le=1,
        description="Most of the garment, as a share, that hands may cover for the parsing to be taken at its word.",
    )  # fmt: skip
    renewals: int = Field(default=5, ge=0, description="How often the garment is so marked anew at most.")
    hands: HandRegion = Field(default_factory=HandRegion, description="How hands are marked off.")

    _tracker: Tracker = PrivateAttr(default_factory=FlowTracker)

    def setup(self) -> None:
        """Load the video model, if one is named."""
        if self.model:
            from preprocess.sam import SamTracker

            self._tracker = SamTracker.load(self.model, device=self.device, precision=self.precision, batch=self.batch)

    def process(self, clip: Clip) -> None:
        """Give `garment_track`, (T, H, W) bool; all false where the parsing never shows the garment."""
        seen, hands = self._seen(clip)
        track = np.zeros_like(seen)
        if seen.any():
            x0, y0, x1, y1 = window = _window(clip.artifacts["parsing"])
            seen, hands = seen[:, y0:y1, x0:x1], hands[:, y0:y1, x0:x1]
            track[:, y0:y1, x0:x1] = self._followed(clip, window, seen, hands)
        clip.artifacts["garment_track"] = track

    def _seen(self, clip: Clip) -> tuple[Mask, Mask]:
        """Twice (T, H, W) bool: the presenter's garment as parsing shows it beside the hands, and the hands."""
        wearer, shape = Wearer.of(clip), clip.artifacts["parsing"].shape
        garment, hands = np.empty(shape, bool), np.empty(shape, bool)
        for frame in range(len(garment)):
            labels, _ = wearer.labels(frame)
            hands[frame] = wearer.limbs(labels, frame, self.hands)
            garment[frame] = among(labels, GARMENT_LABELS[clip.pair.part]) & ~hands[frame]
        return garment, hands

    def _followed(self, clip: Clip, window: Box, seen: Mask, hands: Mask) -> Mask:
        """(T, H, W) bool of the window: the garment, of which the parsing shows `seen` beside `hands`."""
        footage, fps = self._tracker.watch(clip, window, hands), float(clip.span.fps)
        covered = np.array([_covered(mask, hand) for mask, hand in zip(seen, hands, strict=True)])
        worth = _worth(seen, covered)
        clear = (worth > 0) & (covered <= self.away)
        prompts = {frame: seen[frame] for frame in _best(worth, clear, apart=self._tracker.lasts * fps)}
        for renewals in range(self.renewals + 1):
            track = footage.track(prompts) & ~hands
            agreement = np.array([_iou(*masks) for masks in zip(track, seen, strict=True)])
            runs = _runs((agreement < self.agreement) & clear, least=max(1, round(self.patience * fps)))
            lost = [run for run in runs if not prompts.keys() & set(run)]
            if not lost or renewals == self.renewals:
                break
            worst = max(lost, key=lambda run: float((1 - agreement[list(run)]).sum()))
            best = max(worst, key=lambda frame: worth[frame])
            prompts[best] = seen[best]
        return track


def _best(worth: Float64, clear: Mask, *, apart: float) -> list[int]:
    """The best frame of all, and of each stretch of `apart` frames, if the clip has several, the best `clear` one."""
    best = {int(worth.argmax())}
    count = round(len(worth) / apart)
    for stretch in np.array_split(np.arange(len(worth)), count) if count > 1 else ():
        if clear[stretch].any():
            best.add(int(stretch[np.where(clear[stretch], worth[stretch], 0).argmax()]))
    return sorted(best)


def _window(parsing: NDArray[np.uint8]) -> Box:
    """Where the person is in any frame, with some room."""
    rows, columns = (np.flatnonzero(parsing.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    room = round(ROOM * max(np.ptp(rows), np.ptp(columns)))
    height, width = parsing.shape[1:]
    return (
        max(0, int(columns[0]) - room), max(0, int(rows[0]) - room),
        min(width, int(columns[-1]) + 1 + room), min(height, int(rows[-1]) + 1 + room),
    )  # fmt: skip


def _covered(garment: Mask, hands: Mask) -> float:
    """Share of a garment that hands cover: of them, what lies within the convex hulls of its pieces."""
    if not hands.any() or not garment.any():
        return 0.0
    over = np.count_nonzero(hulls(garment) & hands)
    return over / (over + np.count_nonzero(garment))


def _worth(seen: Mask, covered: Float64) -> Float64:
    """(T,) how well each frame would do to mark the garment in: as large as usual, steady, hands away; 0 for none."""
    areas = seen.sum((1, 2)).astype(float)
    usual = np.quantile(areas[areas > 0], USUAL_AREA)
    steady = np.ones(len(seen))
    if len(seen) > 1:
        pairs = np.array([_iou(one, other) for one, other in zip(seen[1:], seen[:-1], strict=True)])
        steady = np.minimum(np.append(pairs, 1), np.append(1, pairs))
    worth = np.minimum(areas / usual, 1) * steady * (1 - covered)
    return np.where(areas >= SHOWN * usual, np.maximum(worth, 1e-9), 0)


def _iou(one: Mask, other: Mask) -> float:
    either = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / either if either else 1.0


def _runs(where: NDArray[np.bool_], *, least: int) -> list[Sequence[int]]:
    """Runs of true in (T,) that are at least so long, or the whole of it."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], where, [False]]).astype(np.int8)))
    runs = [range(start, end) for start, end in edges.reshape(-1, 2).tolist()]
    return [run for run in runs if len(run) >= min(least, len(where))]
