"""What a trainer reads, and how: the `data` section of a training config."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from media.reader import Backend
from training.fit import Size
from training.sample import Picture

_PIXELS = 16
"""Sides of a bucket are multiples of it: 8 px a latent pixel, two of these a token (Wan2.1)."""


class DataSettings(BaseModel):
    """Settings of `training.clips.TrainingClips`. Shares are of an epoch, in 0..1."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    dataset: str = Field(description="Folder that `vvt build` wrote: path or fsspec URL.")
    split: str = Field("train", description="Split to read.")
    frames: int = Field(81, ge=1, description="Frames of a window, 4n+1 (iTryOn: 81).")
    min_frames: int = Field(
        1,
        ge=1,
        description="Clips that give fewer frames are left out. Others that are shorter than a window give the longest "
        "4n+1 frames that they have.",
    )
    fps: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Frames a second, resampled by time; null: as the clip has them."
    )
    buckets: tuple[Size, ...] = Field(
        ((768, 576),),
        min_length=1,
        description="Picture sizes (height, width) in px, multiples of 16. A clip goes to the nearest in aspect, of "
        "equal ones to the first (iTryOn: 576 wide and 768 high, by a note).",
    )
    pictures: tuple[Picture, ...] = Field(
        ("pose", "hands"),
        description="Conditions to draw beside video and mask: pose, hands, densepose, agnostic. The agnostic video is "
        "cheaper made of video and mask on the device.",
    )
    interactive_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of interactive frames wanted over an epoch, met by where in the clips the windows are "
        "taken; null: anywhere alike.",
    )
    unpaired_share: float = Field(
        0.0, ge=0, le=1, description="Share of samples that get another garment, of another sample of the same part."
    )
    caption_dropout: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of samples whose captions are all emptied, for classifier-free guidance (our own choice).",
    )
    action_dropout: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of samples whose action captions alone are emptied; 1 for stage 1 of iTryOn, by a note.",
    )
    pose_dropout: float = Field(
        0.05, ge=0, le=1, description="Share of pose points left out of the pose picture, frame by frame (DPIDM: 0.05)."
    )
    batch: int = Field(1, ge=1, description="Samples a step on each rank.")
    shuffle: bool = Field(True, description="A new order each epoch; else in order of keys within each bucket.")
    seed: int = Field(0, ge=0, description="Of the order, and of every random choice.")
    backend: Backend = Field("pyav", description="Decoder: pyav, decord or torchcodec.")
    cache: str | None = Field(
        None, description="Local folder that keeps samples of a remote dataset; all processes of a machine share it."
    )
    cache_gb: float = Field(
        100.0, gt=0, description="Bound of that folder, in GB; what was read longest ago goes first."
    )
    workers: int = Field(4, ge=0, description="Processes that read and draw; 0: the trainer's own.")
    prefetch: int = Field(2, ge=1, description="Batches that each worker makes ahead.")
    on_error: Literal["raise", "skip"] = Field(
        "raise",
        description="At a damaged sample stop, or take another one of its bucket, warn and count it.",
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
        if self.min_frames > self.frames:
            raise ValueError(f"min_frames is {self.min_frames}, more than the {self.frames} of a window")
        return self
