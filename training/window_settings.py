"""Which windows of clips are looked at: what is set alike for reading them and for encoding them beforehand."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field, field_validator, model_validator

from training.fit import Size

_PIXELS = 16
"""Sides of a bucket are multiples of it: 8 px a latent pixel, two of these a token (Wan2.1)."""


class WindowSettings(BaseModel):
    """Length, rate and size of windows."""

    frames: int = Field(81, ge=1, description="Frames of a window, 4n+1 (iTryOn: 81).")
    fps: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Frames a second, resampled by time; null: as the clip has them."
    )
    buckets: tuple[Size, ...] = Field(
        ((768, 576),),
        min_length=1,
        description="Picture sizes (height, width) in px, multiples of 16. A clip goes to the nearest in aspect, of "
        "equal ones to the first (iTryOn: 576 wide and 768 high, by a note).",
    )

    @field_validator("buckets")
    @classmethod
    def _whole_tokens(cls, buckets: tuple[Size, ...]) -> tuple[Size, ...]:
        if wrong := [size for size in buckets if min(size) < _PIXELS or size[0] % _PIXELS or size[1] % _PIXELS]:
            raise ValueError(f"{wrong[0]} is no picture size; both sides have to be multiples of {_PIXELS} px")
        return buckets

    @model_validator(mode="after")
    def _whole_latents(self) -> Self:
        if self.frames % 4 != 1:
            raise ValueError(f"frames is {self.frames}, not 4n+1: try {self.frames // 4 * 4 + 1}")
        return self
