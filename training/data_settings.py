"""What a trainer reads, and how: the `data` section of a training config."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from media.reader import Backend
from training.sample import Picture
from training.window_settings import WindowSettings


class DataSettings(WindowSettings):
    """Settings of `training.clips.TrainingClips`. Shares are of an epoch, in 0..1."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    dataset: str = Field(description="Folder that `vvt build` wrote: path or fsspec URL.")
    split: str = Field("train", description="Split to read.")
    min_frames: int = Field(
        1,
        ge=1,
        description="Clips that give fewer frames are left out. Others that are shorter than a window give the longest "
        "4n+1 frames that they have.",
    )
    latents: bool = Field(
        False,
        description="Read latents and embedded captions that `training.latents:WanLatents` stored beside the shards, "
        "instead of pictures: neither video, VAE nor text encoder is needed. frames, fps and buckets have to be those "
        "of that stage.",
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

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.min_frames > self.frames:
            raise ValueError(f"min_frames is {self.min_frames}, more than the {self.frames} of a window")
        drawn_before = {
            "interactive_share": self.interactive_share is not None,
            "unpaired_share": self.unpaired_share > 0,
            "pose_dropout": self.pose_dropout > 0,
        }
        if self.latents and any(drawn_before.values()):
            raise ValueError(
                f"with `latents` there is no {', '.join(name for name, asked in drawn_before.items() if asked)}: the "
                "stage that made them has drawn windows and pose points, and knew each clip's own garment only; leave "
                "interactive_share null, and set the others to 0"
            )
        return self
