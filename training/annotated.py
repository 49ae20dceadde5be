"""What is judged: annotated interactions of a split, and the frames that show them in a generated or the real video.

Shapes: T frames of a video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotators.vlm.windows import nearest, spread
from media.reader import FrameReader, open_reader
from schemas.annotation import ActionCaption, Annotation
from schemas.errors import ConfigError, DatasetError
from schemas.manifest import Part
from training.isr import Answer, Judged, Kind
from training.judging import Judging
from training.shards import Entry, read_index, read_members
from training.stored import StoredSample

_ROUNDING = 1e-6
"""Seconds below which two times are one."""


@dataclass(frozen=True, kw_only=True)
class AnnotatedSample:
    """A sample whose interactions are judged, as far as they lie in its first `frames`, `fps` a second."""

    entry: Entry
    part: Part
    fps: float
    frames: int
    actions: tuple[ActionCaption, ...]


def read_samples(dataset: str, judging: Judging, *, split: str = "test") -> list[AnnotatedSample]:
    """Samples of a split with interactions to judge.

    Raises:
        DatasetError: the dataset is absent or damaged, or has no interaction there.
        ConfigError: an annotated category is not among those shown to the judge.

    """
    read = [_read_sample(entry, judging) for entry in read_index(dataset, split=split)]
    samples = [sample for sample in read if sample.actions]
    if not samples:
        raise DatasetError(f"the {split} split has no annotated interaction to judge", where=dataset)
    annotated = {action.category for sample in samples for action in sample.actions}
    if unknown := sorted(annotated - set(judging.categories)):
        raise ConfigError(
            f"samples are annotated with {', '.join(map(repr, unknown))}",
            where="judging.categories",
            allowed="every category of the dataset",
            remedy="List the dataset's categories there",
        )
    return samples


def _read_sample(entry: Entry, judging: Judging) -> AnnotatedSample:
    stored = StoredSample(read_members(entry), str(entry))
    annotation: Annotation = stored.artifact("annotation")
    meta = stored.meta()
    frames = min(judging.frames or len(annotation.labels), len(annotation.labels))
    actions = tuple(action for action in annotation.actions if action.start_frame < frames)
    return AnnotatedSample(entry=entry, part=meta.pair.part, fps=float(meta.span.fps), frames=frames, actions=actions)


@dataclass(frozen=True)
class Video:
    """A generated video, at URL `url`, or the real one of a sample, where that is empty."""

    sample: AnnotatedSample
    url: str = ""

    @property
    def kind(self) -> Kind:
        return "generated" if self.url else "reference"

    def open(self) -> FrameReader:
        """Raises `MediaError` as `open_reader`; `DatasetError` if the real one is not in its shard."""
        entry = self.sample.entry
        return open_reader(self.url or StoredSample(read_members(entry), str(entry)).artifact("video"))

    def times(self, reader: FrameReader) -> NDArray[np.float64]:
        """(T,) seconds of the sample that the frames show.

        A video of as many frames as are judged shows these one by one, whatever rate its file gives; others go by
        their own times.
        """
        if len(reader) == self.sample.frames:
            return np.arange(len(reader)) / self.sample.fps
        return reader.timestamps

    def judged(self, number: int, *, answers: Sequence[Answer] = (), missing: str = "", unjudged: str = "") -> Judged:
        """Record of interaction `number`."""
        return Judged(
            key=self.sample.entry.key,
            number=number,
            video=self.kind,
            category=self.sample.actions[number].category,
            answers=tuple(answers),
            missing=missing,
            unjudged=unjudged,
        )


def shown_frames(
    times: NDArray[np.float64], action: ActionCaption, sample: AnnotatedSample, judging: Judging
) -> list[int]:
    """Indices of the frames, shown at (T,) `times`, by which `action` is judged; none where it begins after them."""
    start, end = action.start_frame / sample.fps, (action.end_frame + 1) / sample.fps
    step = float(np.median(np.diff(times))) if len(times) > 1 else 1 / sample.fps
    if times[-1] + step <= start + _ROUNDING:
        return []
    last_judged = min(end + judging.context, sample.frames / sample.fps)
    inside = np.flatnonzero((times >= start - judging.context - _ROUNDING) & (times < last_judged - _ROUNDING))
    if not len(inside):  # a low rate, and an interaction between two frames
        return nearest(times, np.array([(start + end) / 2])).tolist()
    return spread(int(inside[0]), int(inside[-1]), count=judging.pictures)
