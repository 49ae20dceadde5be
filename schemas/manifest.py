"""One row of a manifest: a recording, the garment shown for it, and where the garment is worn."""

from __future__ import annotations

import math
import re
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator


class Part(StrEnum):
    """Which part of the outfit the pair's garment is."""

    UPPER = "upper"
    LOWER = "lower"
    DRESS = "dress"
    INNER = "inner"
    OUTER = "outer"


class Kind(StrEnum):
    """How the row's `video` is read."""

    RECORDING = "recording"
    LIVE = "live"


PAIR_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
SEGMENT_SUFFIX = "-s{:06d}"
"""What a segment of a live row adds to the row's `pair_id`."""
SEGMENT_PAIR_ID = re.compile(r"(.+)-s\d{6,}")
LIVE_PAIR_ID_MAX = 64 - len(SEGMENT_SUFFIX.format(0))
LIVE_PROTOCOLS = ("http", "https", "rtmp", "rtmps")
_CLOCK = re.compile(r"^(?:(\d+):(?=[0-5]?\d:))?(\d+):([0-5]?\d(?:\.\d+)?)$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Pair(BaseModel):
    """A manifest row. Paths are as the manifest had them, made absolute against its folder.

    `pair_id` becomes the first part of every sample key, hence its narrow alphabet (WebDataset splits a file
    name at its first dot).
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, str_strip_whitespace=True, coerce_numbers_to_str=True, str_max_length=10_000
    )

    kind: Annotated[
        Kind,
        Field(description="`recording`: a file. `live`: a stream that is captured while it runs; see live.md."),
    ] = Kind.RECORDING
    pair_id: Annotated[
        str, Field(pattern=PAIR_ID_PATTERN, description="Unique name of the pair; letters, digits, _ and -.")
    ]
    video: Annotated[
        str,
        Field(
            min_length=1,
            description="Recording: path or fsspec URL, relative to the manifest. Of a "
            "live row: an address of HLS, FLV or MPEG-TS over http(s), or of RTMP.",
        ),
    ]
    garment: Annotated[
        str | None,
        Field(
            description="Garment image: path or fsspec URL. Empty where there is none: `garment_crop` cuts one out.",
        ),
    ]
    part: Annotated[Part, Field(description="Where the garment is worn: upper, lower, dress, inner or outer.")]
    start: Annotated[
        float | None,
        Field(ge=0, allow_inf_nan=False, description="Use the recording from here on: seconds, or h:mm:ss."),
    ] = None
    end: Annotated[
        float | None, Field(gt=0, allow_inf_nan=False, description="Use the recording up to here: seconds, or h:mm:ss.")
    ] = None
    max_seconds: Annotated[
        float | None,
        Field(gt=0, allow_inf_nan=False, description="Live rows: stop when so much is captured, in seconds of stream."),
    ] = None
    max_mb: Annotated[
        float | None,
        Field(gt=0, allow_inf_nan=False, description="Live rows: stop when so much is captured, in MB."),
    ] = None
    split_group: Annotated[
        str | None,
        Field(description="Rows of one group (a person, a room) are never on both sides of the split."),
    ] = None
    licence: Annotated[str | None, Field(description="Licence or terms of the recording, copied to each sample.")] = (
        None
    )
    caption: Annotated[
        str | None, Field(description="Words on the garment or the recording, copied to each sample.")
    ] = None

    @field_validator(
        "garment", "split_group", "licence", "caption", "start", "end", "max_seconds", "max_mb", mode="before"
    )
    @classmethod
    def _blank_is_none(cls, value: Any) -> Any:
        return None if _is_blank(value) else value

    @field_validator("kind", mode="before")
    @classmethod
    def _blank_is_a_recording(cls, value: Any) -> Any:
        return Kind.RECORDING if value is None or _is_blank(value) else value

    @field_validator("pair_id", "split_group", mode="before")
    @classmethod
    def _whole_number(cls, value: Any) -> Any:
        # pandas turns a column of integers with one blank into floats.
        return int(value) if isinstance(value, float) and value.is_integer() else value

    @field_validator("start", "end", mode="before")
    @classmethod
    def _clock_to_seconds(cls, value: Any) -> Any:
        if isinstance(value, str) and ":" in value:
            match = _CLOCK.match(value.strip())
            if not match:
                raise ValueError(f"{value!r} is no time; allowed: seconds, m:ss or h:mm:ss")
            hours, minutes, seconds = match.groups()
            return int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds)
        return value

    @field_validator("pair_id", "video", "start", "end", "max_seconds", "max_mb")
    @classmethod
    def _suits_the_kind(cls, value: Any, info: ValidationInfo) -> Any:
        live = info.data.get("kind") is Kind.LIVE
        if live and info.field_name == "pair_id" and len(value) > LIVE_PAIR_ID_MAX:
            raise ValueError(f"has {len(value)} characters; allowed for a live row: {LIVE_PAIR_ID_MAX}")
        if live and info.field_name == "video" and not _is_live_address(value):
            raise ValueError(f"{value!r:.80} is no address of a live stream; allowed: {', '.join(LIVE_PROTOCOLS)}")
        if live and value is not None and info.field_name in ("start", "end"):
            raise ValueError("a live stream has no span; allowed: max_seconds, max_mb")
        if not live and value is not None and info.field_name in ("max_seconds", "max_mb"):
            raise ValueError("is for rows of `kind: live`; allowed for a recording: start, end")
        return value

    @field_validator("video", "garment")
    @classmethod
    def _one_line(cls, value: str | None) -> str | None:
        if value and _CONTROL.search(value):  # mostly the trace of a quote that was never closed
            raise ValueError(f"{value!r:.80} holds a line break or another control character")
        return value

    @model_validator(mode="after")
    def _end_after_start(self) -> Pair:
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError(f"end ({self.end:g} s) is not after start ({self.start:g} s)")
        return self


def _is_live_address(value: str) -> bool:
    try:
        address = urlsplit(value)
        return address.scheme in LIVE_PROTOCOLS and bool(address.hostname) and address.port != 0
    except ValueError:  # no port, no IPv6 address
        return False


def _is_blank(value: Any) -> bool:
    # pandas: NaN is "no value"
    return not value.strip() if isinstance(value, str) else isinstance(value, float) and math.isnan(value)
