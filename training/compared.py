"""A generated video beside the real one of its sample, frame by frame.

Shape legend: N frames held at once, H×W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from media.reader import FrameReader, Image, open_reader
from schemas.annotation import Annotation
from schemas.conditions import Bool, UInt8
from schemas.errors import MediaError
from training.fit import Fit
from training.isr import EvaluationError
from training.shards import Entry, read_members
from training.stored import StoredSample

SMALLEST = 64
"""Pixels of a side, from which on every metric is defined (AlexNet's last layers would be left with nothing)."""
COVERED = 0.6
"""Share of the generated picture that the sample's, fitted into it, covers at least; less is another picture."""
IN_THE_VIDEO = {"missing", "empty", "not_media", "no_video", "undecodable", "truncated", "too_short"}
"""Codes of a `MediaError` that lie in the video itself, not in the storage or in how it is read."""


@dataclass(frozen=True, eq=False)
class Compared:
    """One sample, opened.

    Attributes:
        stored: its members.
        annotation: its labels.
        frames: that are compared, from the first on.
        real, generated: the two videos.
        fit: how the real picture lies in the generated one.

    """

    key: str
    stored: StoredSample
    annotation: Annotation
    frames: int
    real: FrameReader
    generated: FrameReader
    fit: Fit

    @property
    def labels(self) -> Bool:
        """(frames,) bool: whether a hand handles the garment in the frame."""
        return np.array(self.annotation.labels[: self.frames], dtype=np.bool_)

    def pictures(self, count: int) -> Iterator[tuple[UInt8, UInt8, Bool]]:
        """Real and generated pictures, (N, H, W, 3) uint8 RGB, and labels (N,), up to `count` at once.

        Both at the generated video's size, and only as far as the real picture reaches: its borders are no merit.

        Raises:
            EvaluationError: the generated video breaks off, or does not decode.
            DatasetError: the real one does.

        """
        (top, left), (height, width) = self.fit.offset, self.fit.inner
        inside = np.s_[:, top : top + height, left : left + width]
        start, labels = 0, self.labels
        for real, generated in self.whole_pictures(count):
            yield self.fit.pictures(real)[inside], generated[inside], labels[start : start + len(real)]
            start += len(real)

    def whole_pictures(self, count: int) -> Iterator[tuple[UInt8, UInt8]]:
        """As `pictures`, each (N, H, W, 3) uint8 RGB of its own size, uncut."""
        real, generated = iter(self.real), iter(self.generated)
        for start in range(0, self.frames, count):
            wanted = min(count, self.frames - start)
            yield self._taken(real, wanted, start), self._made(generated, wanted, start)

    def _taken(self, images: Iterator[Image], count: int, start: int) -> UInt8:
        try:
            taken = list(islice(images, count))
        except MediaError as error:
            raise self.stored.error(f"the video does not decode ({error})") from error
        if len(taken) < count:
            raise self.stored.error(f"the video ends after {start + len(taken)} of {self.frames} frames")
        return np.stack(taken)

    def _made(self, images: Iterator[Image], count: int, start: int) -> UInt8:
        try:
            taken = list(islice(images, count))
        except MediaError as error:
            raise _absent([(self.key, error.what)]) from error
        if len(taken) < count:
            raise _absent([(self.key, f"it ends after {start + len(taken)} of {self.frames} frames")])
        return np.stack(taken)


def open_compared(entry: Entry, generated: str, *, frames: int | None = None) -> Compared:
    """Open the sample `entry` and `generated`/KEY.mp4, of which the first `frames` are compared; None: all.

    Raises:
        EvaluationError: the generated video is absent, broken, too small, of another shape or number of frames.
        DatasetError: the sample is damaged.
        MediaError: the storage refuses.

    """
    stored = StoredSample(read_members(entry), str(entry))
    annotation: Annotation = stored.artifact("annotation")
    wanted = min(frames or len(annotation.labels), len(annotation.labels))
    real = _open_real(stored, len(annotation.labels))
    try:
        made = open_reader(f"{generated.rstrip('/')}/{entry.key}.mp4")
    except MediaError as error:
        if error.code not in IN_THE_VIDEO:
            raise
        raise _absent([(entry.key, error.what)]) from error
    fit = Fit.into((made.height, made.width), (real.height, real.width))
    if fault := _fault(made, fit, wanted):
        raise _absent([(entry.key, fault)])
    return Compared(entry.key, stored, annotation, wanted, real, made, fit)


def check_all(entries: Sequence[Entry], generated: str, *, frames: int | None = None) -> None:
    """Open every pair once, so that all that is missing is known before anything is measured.

    Raises:
        EvaluationError: names every generated video that cannot be compared.
        DatasetError, MediaError: as `open_compared`.

    """
    faults: list[tuple[str, str]] = []
    for entry in entries:
        try:
            open_compared(entry, generated, frames=frames)
        except _AbsentError as error:
            faults += error.faults
    if faults:
        raise _absent(faults)


class _AbsentError(EvaluationError):
    """Generated videos cannot be compared: key, and why."""

    faults: Sequence[tuple[str, str]]


def _absent(faults: Sequence[tuple[str, str]], *, most: int = 10) -> _AbsentError:
    told = "; ".join(f"{key} ({why:.200})" for key, why in faults[:most])
    more = f"; and {len(faults) - most} more" if len(faults) > most else ""
    error = _AbsentError(
        f"{len(faults)} generated video(s) cannot be compared: {told}{more}",
        allowed="KEY.mp4 for each sample of the split, with its frames, one by one, and its shape",
        remedy="Generate them anew; or compare only the first frames (`frames`)",
    )
    error.faults = faults
    return error


def _open_real(stored: StoredSample, frames: int) -> FrameReader:
    data: Any = stored.artifact("video")
    try:
        real = open_reader(data)
    except MediaError as error:
        raise stored.error(f"the video does not decode ({error})") from error
    if len(real) != frames:
        raise stored.error(f"the video has {len(real)} frames, the annotation {frames}")
    return real


def _fault(made: FrameReader, fit: Fit, wanted: int) -> str:
    """What is wrong with a generated video, by its container; empty if nothing."""
    if len(made) != wanted:
        return f"it has {len(made)} frames, the sample {wanted}"
    if min(fit.inner) < SMALLEST:
        return f"the sample's picture is {fit.inner[1]}×{fit.inner[0]} px in it; a side needs {SMALLEST}"
    if fit.inner[0] * fit.inner[1] < COVERED * made.height * made.width:
        return f"it has {made.width}×{made.height} px, the sample {fit.source[1]}×{fit.source[0]}: another shape"
    return ""
