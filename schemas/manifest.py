"""One row of a manifest: a recording, the garment shown for it, and where the garment is worn."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Part(StrEnum):
    """Which part of the outfit the pair's garment is."""

    UPPER = "upper"
    LOWER = "lower"
    DRESS = "dress"
    INNER = "inner"
    OUTER = "outer"


PAIR_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
_CLOCK = re.compile(r"^(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)$")


class Pair(BaseModel):
    """A manifest row. Paths are as the manifest had them, made absolute against its folder.

    `pair_id` becomes the first part of every sample key, hence its narrow alphabet (WebDataset splits a file
    name at its first dot).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True, coerce_numbers_to_str=True)

    pair_id: Annotated[
        str, Field(pattern=PAIR_ID_PATTERN, description="Unique name of the pair; letters, digits, _ and -.")
    ]
    video: Annotated[str, Field(min_length=1, description="Recording: path or fsspec URL, relative to the manifest.")]
    garment: Annotated[
        str | None,
        Field(description="Garment image: path or fsspec URL. Empty where there is none: `garment_crop` cuts one out."),
    ]
    part: Annotated[Part, Field(description="Where the garment is worn: upper, lower, dress, inner or outer.")]
    start: Annotated[float | None, Field(ge=0, description="Use the recording from here on: seconds, or h:mm:ss.")] = (
        None
    )
    end: Annotated[float | None, Field(gt=0, description="Use the recording up to here: seconds, or h:mm:ss.")] = None
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

    @field_validator("garment", "split_group", "licence", "caption", "start", "end", mode="before")
    @classmethod
    def _blank_is_none(cls, value: Any) -> Any:
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator("start", "end", mode="before")
    @classmethod
    def _clock_to_seconds(cls, value: Any) -> Any:
        if isinstance(value, str) and (match := _CLOCK.match(value.strip())):
            hours, minutes, seconds = match.groups()
            return int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds)
        return value

    @model_validator(mode="after")
    def _end_after_start(self) -> Pair:
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError(f"end ({self.end:g} s) is not after start ({self.start:g} s)")
        return self
