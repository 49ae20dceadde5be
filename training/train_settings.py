"""All of a training run: one YAML file, any value of which a dotted override can set."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.data_settings import DataSettings
from training.generation_settings import SamplerSettings
from training.losses import ACTION_WEIGHT, NEGATIVE_WEIGHT
from training.model.settings import ModelSettings


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class LossSettings(_Section):
    """What is minimised."""

    action_weight: float = Field(
        ACTION_WEIGHT, ge=0, description="λ of the action-aware constraint loss; 0: plain flow matching (iTryOn: 0.5)."
    )
    reference: bool = Field(
        True, description="The reference garment's latent is denoised and counts, as one frame of the video."
    )
    shift: float = Field(5.0, gt=0, description="Of the noise levels, σ ← shift·σ/(1+(shift−1)σ) (Wan2.1: 5).")
    garment_attention: float = Field(
        0.0,
        ge=0,
        description="Weight of RealVVT's agnostic-mask-guided attention loss (RealVVT: 0.5); 0: without. Layers and "
        "queries that it looks at: `model`.",
    )
    garment_negative: float = Field(
        NEGATIVE_WEIGHT, ge=0, description="λ_N of that loss: attention from outside of the mask (RealVVT: 0.01)."
    )


class OptimiserSettings(_Section):
    """AdamW, and how its learning rate goes."""

    lr: float = Field(5e-5, gt=0, description="Highest learning rate.")
    betas: tuple[float, float] = Field((0.9, 0.999), description="Of the moments.")
    eps: float = Field(1e-8, gt=0, description="Added to the second moment's root.")
    weight_decay: float = Field(0.01, ge=0, description="Decoupled.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are scaled down to this norm over all of them.")
    warmup_steps: int = Field(0, ge=0, description="The rate rises linearly over so many steps.")
    decay: Literal["constant", "cosine"] = Field("constant", description="After it: as it is, or to 0 at `steps`.")


class ParallelSettings(_Section):
    """Several GPUs. One, or one process, needs none of it."""

    strategy: Literal["ddp", "fsdp"] = Field(
        "ddp", description="ddp: every GPU holds the model. fsdp: all share it (FSDP2); on GPUs only."
    )
    reshard: bool = Field(
        True, description="fsdp: drop gathered weights after the forward pass; less memory, more traffic."
    )
    cpu_offload: bool = Field(False, description="fsdp: weights, gradients and optimiser's state rest on the CPU.")


class CheckpointSettings(_Section):
    """What a run can go on from."""

    every: int = Field(500, ge=1, description="Steps between checkpoints; there is one at the end, too.")
    keep: int = Field(3, ge=1, description="The newest so many stay.")


class ValidationSettings(_Section):
    """Loss and videos of samples that are not trained on, with the averaged weights where `ema` is on."""

    every: int = Field(1000, ge=0, description="Steps between validations, and at the end; 0: none.")
    split: str = Field("test", description="Split of the dataset that they are of.")
    samples: int = Field(8, ge=1, description="Windows whose loss is measured, over all ranks.")
    sigmas: tuple[float, ...] = Field(
        (0.2, 0.4, 0.6, 0.8),
        description="Noise levels, 0 to 1, that it is the mean of, with the same noise every time.",
    )
    videos: int = Field(4, ge=0, description="Of these windows, generated and written as video grids.")
    sampler: SamplerSettings = Field(default_factory=SamplerSettings, description="How they are generated.")


class LoggingSettings(_Section):
    """What is told of a run. OUT/metrics.jsonl has a line a step in any case."""

    every: int = Field(10, ge=1, description="Steps between two lines of the console, and two points of the trackers.")
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = Field(
        ("tensorboard",), description="tensorboard: into OUT/tensorboard. wandb: if installed."
    )


class TrainSettings(_Section):
    """A run. Relative paths are relative to the working directory."""

    out: str = Field(description="Folder of the run. If it has checkpoints, the run goes on from the newest.")
    steps: int = Field(10_000, ge=1, description="Optimiser steps (iTryOn: 10,000 in each of two stages).")
    accumulate: int = Field(1, ge=1, description="Batches a step on each rank.")
    precision: Literal["float32", "bf16"] = Field(
        "bf16", description="bf16: matrix products and frozen weights; what is trained is kept in float32."
    )
    seed: int = Field(0, ge=0, description="Of new weights. Data, noise and noise levels go by `data.seed`.")
    ema_decay: float | None = Field(
        0.999, ge=0, lt=1, description="Of the average of what is trained; null: no average is kept."
    )
    start_from: str | None = Field(
        None,
        description="What an earlier run has trained, to begin with: its folder, one of its checkpoints, or a folder "
        "with trained weights.",
    )
    data: DataSettings = Field(description="What is read.")
    model: ModelSettings = Field(description="What is trained.")
    compile: bool = Field(False, description="Compile each block (`torch.compile`): faster steps, a slower start.")
    pose: Literal["masked", "everywhere"] = Field(
        "masked", description="Where the Context Blocks see the pose picture."
    )
    loss: LossSettings = Field(default_factory=LossSettings, description="What is minimised.")
    optimiser: OptimiserSettings = Field(default_factory=OptimiserSettings, description="AdamW.")
    parallel: ParallelSettings = Field(default_factory=ParallelSettings, description="Several GPUs.")
    checkpoints: CheckpointSettings = Field(default_factory=CheckpointSettings, description="For resume.")
    validation: ValidationSettings = Field(default_factory=ValidationSettings, description="While it trains.")
    logging: LoggingSettings = Field(default_factory=LoggingSettings, description="What is told.")

    @model_validator(mode="after")
    def _videos_have_pictures(self) -> Self:
        if self.data.latents and self.validation.every and self.validation.videos:
            raise ValueError(
                "validation.videos are made of pictures, which data.latents does without: set it to 0, and make videos "
                "with `vvt generate`"
            )
        return self

    @model_validator(mode="after")
    def _attention_is_measured(self) -> Self:
        if self.loss.garment_attention and self.model.garment_attention is None:
            raise ValueError("loss.garment_attention needs model.garment_attention, which says what is measured")
        if self.model.garment_attention is not None and not self.loss.garment_attention:
            raise ValueError("model.garment_attention is measured for nothing: loss.garment_attention is 0")
        return self
