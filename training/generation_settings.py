"""How videos are generated: settings of `vvt generate`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from training.fit import Size


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class SamplerSettings(_Section):
    """The way from noise to a video."""

    scheduler: Literal["unipc", "euler"] = Field(
        "unipc",
        description="Solver of diffusers: UniPCMultistepScheduler, as the published checkpoints name it, or "
        "FlowMatchEulerDiscreteScheduler.",
    )
    steps: int = Field(50, ge=1, description="Denoising steps (diffusers' pipeline: 50).")
    shift: float = Field(5.0, gt=0, description="Of the noise levels, σ ← shift·σ/(1+(shift−1)σ); as in training.")
    guidance: float = Field(
        5.0,
        ge=1,
        description="Classifier-free guidance over the captions (diffusers' pipeline: 5); 1 does without, in half the "
        "time.",
    )


class LongVideoSettings(_Section):
    """Clips longer than the model's window."""

    mode: Literal["keyframes", "windows"] = Field(
        "keyframes",
        description="`keyframes`: these are generated first, then what lies between (RealVVT, Algorithm 1). `windows`: "
        "one window after the other.",
    )
    window: int = Field(81, ge=5, description="Frames that the model makes at once, 4n + 1.")
    overlap: int = Field(
        9, ge=1, description="Frames of a window, 4n + 1, that the one before it has made and that it continues."
    )
    pose_distance: float = Field(
        0.6,
        ge=0,
        le=1,
        description="d_pose: a frame whose DensePose (pose, where there is none) is so far from the last keyframe's is "
        "the next. 0: the same picture; 1: nothing in common.",
    )
    max_stride: int = Field(16, ge=1, description="s_max: frames from a keyframe to the next, at most.")

    @field_validator("window", "overlap")
    @classmethod
    def _whole_latent_frames(cls, value: int) -> int:
        if value % 4 != 1:
            raise ValueError(f"{value} is not 4n + 1; nearest: {value - (value - 1) % 4}, {value + (1 - value) % 4}")
        return value

    @model_validator(mode="after")
    def _goes_forward(self) -> Self:
        if self.overlap >= self.window:
            raise ValueError(f"an overlap of {self.overlap} frames leaves nothing of a window of {self.window}")
        return self


class GenerationSettings(_Section):
    """All that a generated video depends on beside checkpoint, sample and garment."""

    buckets: tuple[Size, ...] = Field(
        ((768, 576),),
        min_length=1,
        description="Sizes (height, width) in px, multiples of 16, at which the model works: for each clip the nearest "
        "in aspect, cut to the person as in training. What is written has the clip's own size.",
    )
    pose: Literal["masked", "everywhere"] = Field(
        "masked", description="Where the Context Blocks see the pose picture; as in training."
    )
    precision: Literal["float32", "bf16"] = Field(
        "bf16", description="Of transformer and text encoder; the autoencoder computes in float32."
    )
    seed: int = Field(
        0, ge=0, description="Of the noise, with the key and the window's number, and of unpaired garments."
    )
    paste: bool = Field(
        True,
        description="Take what lies outside of the mask from the real video. false: as the model made it.",
    )
    sampler: SamplerSettings = Field(default_factory=SamplerSettings, description="Denoising.")
    long: LongVideoSettings = Field(default_factory=LongVideoSettings, description="Clips longer than the window.")

    @field_validator("buckets")
    @classmethod
    def _whole_tokens(cls, buckets: tuple[Size, ...]) -> tuple[Size, ...]:
        for height, width in buckets:
            if min(height, width) < 16 or height % 16 or width % 16:
                raise ValueError(f"{height}×{width} px are not multiples of 16")
        return buckets
