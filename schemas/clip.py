"""The record that travels: one clip, what was found in it, and whether it stays. Data only."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated, Any

from pydantic import Field

from schemas.manifest import Pair


@dataclass(frozen=True, kw_only=True)
class Source:
    """What the recording was, as probed before anything was changed.

    `width` and `height` are in pixels as shown (rotation and pixel aspect applied); `frame_rate` is the average
    one; `duration` is in seconds, or None where the container does not know it.
    """

    url: str
    container: str
    codec: str
    pixel_format: str
    width: int
    height: int
    frame_rate: Fraction
    duration: float | None
    size_bytes: int | None
    variable_rate: bool = False
    interlaced: bool = False
    hdr: bool = False


@dataclass(frozen=True, kw_only=True)
class Span:
    """Which frames of the recording a clip shows, and the form of the normalised clip.

    `first_frame` and `last_frame` are inclusive and count decoded frames in display order from 0 at the start of
    the recording (of the row's `start`, where given: of the whole recording all the same). `first_pts` and
    `last_pts` are in `time_base` units of the recording. `fps`, `frames`, `width`, `height` are the clip's own.
    `bytes` is how many bytes of video the recording spends on the span.
    """

    first_frame: int
    last_frame: int
    first_pts: int
    last_pts: int
    time_base: Fraction
    fps: Fraction
    frames: int
    width: int
    height: int
    bytes: int

    @property
    def start_seconds(self) -> float:
        """Presentation time of the first frame, in seconds of the recording's own clock."""
        return float(self.first_pts * self.time_base)

    @property
    def end_seconds(self) -> float:
        """Presentation time of the last frame, in seconds of the recording's own clock."""
        return float(self.last_pts * self.time_base)

    @property
    def seconds(self) -> float:
        """Length of the normalised clip."""
        return float(self.frames / self.fps)


@dataclass(frozen=True, kw_only=True)
class Drop:
    """Why a clip does not stay: the metric that left its bounds, and by how much."""

    stage: str
    metric: str
    value: float
    bound: tuple[float | None, float | None]
    words: str


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a clip could not be judged: the stage that raised, and its traceback."""

    stage: str
    cause: str
    traceback: str
    code: str = "error"


@dataclass(kw_only=True)
class Clip:
    """One clip on its way through the stages.

    `key` is the pair id and the first source frame, so it is stable over runs and sorts by time. `artifacts` maps
    the names of `schemas.artifacts.ARTIFACTS` to values of the types given there; `metrics` holds every measured
    number, kept whatever was decided. `signature` is what the footage is known by among all clips, 16 hex digits a
    hash (see `curation.duplicates.signature`), empty where none was taken. `fingerprints` says, stage by stage, what
    made them; `seconds` how long each stage took.
    """

    key: str
    pair: Pair
    source: Source
    span: Span
    artifacts: MutableMapping[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    signature: Annotated[str, Field(pattern=r"^([0-9a-f]{16})*$")] = ""
    drop: Drop | None = None
    failure: Failure | None = None
    fingerprints: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @staticmethod
    def make_key(pair_id: str, first_frame: int) -> str:
        """Key of the clip of `pair_id` that begins at source frame `first_frame`."""
        return f"{pair_id}-{first_frame:08d}"
