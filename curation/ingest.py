"""From a recording to normalised clips of one shot each: one pass, no seeking, constant memory."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

import weights
from curation.shots.base import FrameScore, ShotDetector
from curation.shots.cutter import Cutter, Kind, Run
from media.encode import ClipEncoder, constant_rate
from media.recording import DecodedFrame, Recording
from schemas.clip import Clip, Drop, Span
from schemas.errors import MediaError
from schemas.limits import Limits
from schemas.manifest import Pair
from schemas.metrics import Metric
from schemas.stage import Resources

PROGRESS_SECONDS = 5.0
"""Recording read between two items, at most, so that progress shows while no clip appears."""

STAGE = "shots"
"""Name under which short shots are dropped."""


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """A clip, or None where only time has passed, and how far the recording is read.

    `position_seconds` counts from the recording's start; `duration_seconds` is its length, None where unknown.
    """

    clip: Clip | None
    position_seconds: float
    duration_seconds: float | None


class Ingest(BaseModel):
    """Reads a recording, divides it into shots and encodes each to a normalised clip."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    version: ClassVar[int] = 1
    metrics: ClassVar[dict[str, Metric]] = {
        "shot_seconds": Metric("length of the shot, or of the piece of a long one", "s", (0, None)),
        "cut_score": Metric("highest evidence of a cut inside the clip", "probability", (0, 1)),
        "transition_seconds": Metric("length of a stretch between shots: fade, dissolve, flat", "s", (0, None)),
    }

    detector: Literal["transnetv2", "pyscenedetect"] = Field(
        default="transnetv2",
        description="Finds the shots: `transnetv2` (network; cuts, dissolves, fades) or `pyscenedetect` (adaptive "
        "change of colour; cuts, and flat frames of fades).",
    )
    threshold: float | None = Field(
        default=None,
        gt=0,
        description="From which score on a frame is a cut. transnetv2: probability, default 0.5; pyscenedetect: ratio "
        "to neighbouring frames, default 3.0.",
    )
    trim: bool = Field(
        default=True,
        description="Trim dissolves, fades and flat frames off the shots. Else they stay in, divided in the middle.",
    )
    min_seconds: float = Field(default=1.0, gt=0, description="Shorter shots are dropped, in seconds.")
    max_seconds: float = Field(
        default=10.0, gt=0, description="Longer shots are divided, in seconds; at least twice `min_seconds`."
    )
    max_short_side: int = Field(
        default=720, ge=16, description="Clips are scaled down to at most this at their shorter side, in pixels."
    )
    max_fps: float = Field(
        default=30.0, gt=0, description="Highest frame rate of clips; recordings above it lose every nth frame."
    )
    crf: float = Field(
        default=18.0, ge=0, le=51, description="x264's constant rate factor: lower is better, and larger."
    )
    preset: Literal[
        "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"
    ] = Field(default="veryfast", description="x264's preset.")  # fmt: skip
    threads: int = Field(
        default=1,
        ge=1,
        description="CPU threads of the shot network, which runs beside decoding and encoding. Changes no clip.",
    )
    device: str = Field(default="cpu", description="Torch device of the shot network, e.g. `cuda`.")
    resources: Resources = Field(default_factory=Resources, description="What one worker that reads recordings holds.")
    time_limit: float = Field(
        default=600.0,
        gt=0,
        description="Seconds that a recording may take to give its next clip, or to be read on by five seconds. "
        "Beyond, its worker is ended and the recording fails.",
    )

    limits: Limits = Field(default_factory=Limits, description="How far a recording is trusted; docs/security.md.")

    @model_validator(mode="after")
    def _can_divide(self) -> Ingest:
        if self.max_seconds < 2 * self.min_seconds:
            raise ValueError(
                f"max_seconds ({self.max_seconds:g}) is less than twice min_seconds ({self.min_seconds:g}), "
                "so a shot just over it could not be divided"
            )
        if self.detector == "transnetv2" and self.threshold is not None and self.threshold >= 1:
            raise ValueError(f"threshold ({self.threshold:g}) of transnetv2 is a probability, below 1")
        return self

    def identity(self) -> dict[str, object]:
        """All that the clips depend on: class, version, fields, weights."""
        identity: dict[str, object] = {
            "class": f"{type(self).__module__}:{type(self).__qualname__}",
            "version": self.version,
            "fields": self.model_dump(mode="json", exclude={"threads", "device", "resources", "time_limit", "limits"}),
        }
        if self.detector == "transnetv2":
            identity["weights"] = weights.sha256("transnetv2")
        return identity

    def fingerprint(self) -> str:
        """Hash of `identity`, 16 hex digits."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:16]

    def clips(self, pair: Pair, *, recording_url: str | None = None, known: Collection[str] = ()) -> Iterator[Ingested]:
        """Clips of the pair's recording between its `start` and `end`, in order, each as soon as its end is known.

        Shots that are too short come out too, with `drop` set and without artifacts, and so do transitions of at
        least `min_seconds`: every longer stretch of the recording has a row.

        Args:
            pair: the manifest row.
            recording_url: where to read the recording instead of `pair.video`.
            known: keys of clips that are there already: they come without artifacts, at the price of decoding alone.

        Raises:
            MediaError: the recording is hopeless, or has no frame between `start` and `end`.
        """
        with Recording(
            recording_url or pair.video,
            start=pair.start,
            end=pair.end,
            max_short_side=self.max_short_side,
            limits=self.limits,
        ) as recording:
            yield from _Pass(self, pair, recording, known).run()

    def make_detector(self) -> ShotDetector:
        """A detector for one recording, as configured."""
        given = {} if self.threshold is None else {"threshold": self.threshold}
        if self.detector == "pyscenedetect":
            from curation.shots.pyscenedetect import PySceneDetector

            return PySceneDetector(**given)
        from curation.shots.transnetv2 import TransNetV2Detector

        return TransNetV2Detector(**given, threads=self.threads, device=self.device)


class _Pass:
    """One pass over one recording."""

    def __init__(self, ingest: Ingest, pair: Pair, recording: Recording, known: Collection[str]) -> None:
        self._ingest, self._pair, self._recording, self._known = ingest, pair, recording, known
        self._frame_seconds = float(1 / recording.source.frame_rate)
        self._fps = constant_rate(recording.source, max_fps=ingest.max_fps)
        self._detector = ingest.make_detector()
        self._cutter = Cutter(
            min_seconds=ingest.min_seconds,
            max_seconds=ingest.max_seconds,
            frame_seconds=self._frame_seconds,
            trim=ingest.trim,
        )
        self._unscored: deque[DecodedFrame] = deque()
        self._undivided: deque[DecodedFrame] = deque()  # scored, but not yet known where they belong
        self._stretch: _Stretch | None = None
        self._encoder: ClipEncoder | None = None

    def run(self) -> Iterator[Ingested]:
        position = reported = 0.0
        for frame in self._recording:
            position = frame.index * self._frame_seconds
            self._unscored.append(frame)
            for clip in self._divide(self._detector.push(frame.picture)):
                reported = position
                yield self._item(clip, position)
            if position - reported >= PROGRESS_SECONDS:
                reported = position
                yield self._item(None, position)
        for clip in self._finish():
            yield self._item(clip, position)

    def _item(self, clip: Clip | None, position: float) -> Ingested:
        return Ingested(clip=clip, position_seconds=position, duration_seconds=self._recording.source.duration)

    def _divide(self, scores: list[FrameScore]) -> Iterator[Clip]:
        for score in scores:
            frame = self._unscored.popleft()
            self._undivided.append(frame)
            for run in self._cutter.push(float(frame.pts * self._recording.time_base), score):
                yield from self._take(run)

    def _finish(self) -> Iterator[Clip]:
        if not self._unscored and not self._undivided and self._stretch is None:
            raise MediaError(
                "there is no frame between the row's start and end",
                code="too_short",
                where=self._pair.video,
                allowed=f"a part of the recording's {self._recording.source.duration or 0:.2f} s",
                remedy="Mend `start` and `end` of the row",
            )
        yield from self._divide(self._detector.flush())
        for run in self._cutter.flush():
            yield from self._take(run)

    def _take(self, run: Run) -> Iterator[Clip]:
        for _ in range(run.frames):
            frame = self._undivided.popleft()
            if self._stretch is None:
                self._stretch = _Stretch(first_frame=frame.index, first_pts=frame.pts)
            self._stretch.add(frame)
            if run.kind is Kind.CLIP and self._key(self._stretch.first_frame) not in self._known:
                self._encode(frame)
        if self._stretch is not None:
            self._stretch.score = max(self._stretch.score, run.score)
            if run.ends:
                stretch, self._stretch = self._stretch, None
                yield from self._close(stretch, run.kind)

    def _encode(self, frame: DecodedFrame) -> None:
        if self._encoder is None:
            self._encoder = ClipEncoder(
                width=self._recording.width,
                height=self._recording.height,
                fps=self._fps,
                time_base=self._recording.time_base,
                crf=self._ingest.crf,
                preset=self._ingest.preset,
            )
        self._encoder.add(frame)

    def _close(self, stretch: _Stretch, kind: Kind) -> Iterator[Clip]:
        """The record of a finished stretch, if it deserves one."""
        if kind is Kind.CLIP:
            if self._encoder is None:  # it is known
                yield self._clip(self._span_of(stretch, 0.0), {})
                return
            encoded, self._encoder = self._encoder.finish(), None
            clip = self._clip(encoded.span, {"shot_seconds": encoded.span.seconds, "cut_score": stretch.score})
            clip.artifacts = {"video": encoded.video, "source_pts": encoded.source_pts}
            yield clip
            return
        seconds = float((stretch.last_pts - stretch.first_pts) * self._recording.time_base) + self._frame_seconds
        span = self._span_of(stretch, seconds)
        low, high = self._ingest.min_seconds, self._ingest.max_seconds
        if kind is Kind.SHORT:
            clip = self._clip(span, {"shot_seconds": seconds, "cut_score": stretch.score})
            words = f"the shot lasts {seconds:.2f} s, less than the {low:g} s that a clip needs"
            clip.drop = Drop(stage=STAGE, metric="shot_seconds", value=seconds, bound=(low, high), words=words)
            yield clip
        elif seconds >= low:
            clip = self._clip(span, {"transition_seconds": seconds})
            words = f"{seconds:.2f} s between two shots: a fade, a dissolve, or a picture without content"
            clip.drop = Drop(stage=STAGE, metric="transition_seconds", value=seconds, bound=(None, low), words=words)
            yield clip

    def _key(self, first_frame: int) -> str:
        return Clip.make_key(self._pair.pair_id, first_frame)

    def _clip(self, span: Span, metrics: dict[str, float]) -> Clip:
        key = self._key(span.first_frame)
        return Clip(key=key, pair=self._pair, source=self._recording.source, span=span, metrics=metrics)

    def _span_of(self, stretch: _Stretch, seconds: float) -> Span:
        return Span(
            first_frame=stretch.first_frame,
            last_frame=stretch.last_frame,
            first_pts=stretch.first_pts,
            last_pts=stretch.last_pts,
            time_base=self._recording.time_base,
            fps=self._fps,
            frames=max(1, round(seconds * self._fps)),
            width=self._recording.width,
            height=self._recording.height,
            bytes=stretch.bytes,
        )


@dataclass(kw_only=True)
class _Stretch:
    """Consecutive frames of one kind, so far."""

    first_frame: int
    first_pts: int
    last_frame: int = 0
    last_pts: int = 0
    bytes: int = 0
    score: float = 0.0

    def add(self, frame: DecodedFrame) -> None:
        self.last_frame, self.last_pts = frame.index, frame.pts
        self.bytes += frame.bytes
