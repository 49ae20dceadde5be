"""How a model is run in the worker's own process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

import weights


class TransformersSettings(BaseModel):
    """Weights, device and limits."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    kind: Literal["transformers"] = Field(
        default="transformers", description="Which backend: a model in the worker's own process."
    )
    model: str = Field(
        min_length=1,
        description="Folder of the weights, as published: config.json, *.safetensors, tokenizer, chat template.",
    )
    device: str = Field(default="auto", description="Where it runs, as torch says; auto: the GPU where there is one.")
    precision: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto", description="Of weights and activations; auto: bfloat16 on a GPU, float32 elsewhere."
    )
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = Field(
        default="auto", description="Implementation of attention; auto: what transformers prefers for the model."
    )
    batch: int = Field(
        default=8, ge=1, description="Requests answered at once, at most; halved for good where memory runs out."
    )
    min_pixels: int = Field(default=3136, ge=784, description="Smaller pictures are scaled up to this many pixels.")
    max_pixels: int = Field(
        default=401_408, ge=784, description="Larger pictures are scaled down to this many pixels (28 x 28 a token)."
    )
    temperature: float = Field(default=0.0, ge=0, description="Of the sampling; 0 takes the likeliest token.")
    top_logprobs: int = Field(default=10, ge=1, le=20, description="Likeliest tokens told at each place of the answer.")
    structured: bool = Field(default=True, description="Let through only tokens that fit the answer's JSON schema.")

    @model_validator(mode="after")
    def _some_size_is_allowed(self) -> TransformersSettings:
        if self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels {self.min_pixels} is above max_pixels {self.max_pixels}")
        return self

    @property
    def identity(self) -> Mapping[str, str]:
        """What the answers depend on, of all this. Of the weights it is their content, wherever they lie.

        Raises:
            WeightsError: they are not there.

        """
        return {
            "backend": "transformers",
            "model": weights.sha256(self.model),
            "precision": self.precision,
            "attention": self.attention,
            "pictures": f"{self.min_pixels} to {self.max_pixels}",
            "temperature": f"{self.temperature:g}",
            "logprobs": str(self.top_logprobs),
            "structured": str(self.structured),
        }
