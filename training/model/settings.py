"""Settings of the model."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.stage import ModelFile


class LoraSettings(BaseModel):
    """Low-rank adapters of the backbone. Rank and targets: DiffSynth-Studio's for Wan."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(default=32, ge=1, description="Rank of each update.")
    alpha: int = Field(default=32, ge=1, description="An update counts alpha / rank times.")
    targets: tuple[str, ...] = Field(
        default=("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"),
        min_length=1,
        description="Ends of the names of the linear layers that get one, in main and Context Blocks alike.",
    )


class GarmentAttentionSettings(BaseModel):
    """What is measured for RealVVT's agnostic-mask-guided attention loss."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: tuple[int, ...] = Field(
        default=(15,), min_length=1, description="Main blocks in whose self-attention it is measured, from 0."
    )
    queries: int = Field(default=64, ge=1, description="Video tokens of each latent frame that are looked at.")


class ModelSettings(BaseModel):
    """How iTryOn is built on a Wan2.1-VACE, and what of it trains."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: ModelFile = Field(
        description="Folder of a Wan2.1-VACE in the layout of diffusers (with `transformer/`), e.g. a download of "
        "Wan-AI/Wan2.1-VACE-1.3B-diffusers; or `tiny`: a random one of a few thousand parameters, for trying out."
    )
    guider: bool = Field(default=True, description="With the Interaction Guider, which takes the hand prior (iTryOn).")
    guider_start: Literal["context_blocks", "random"] = Field(
        default="context_blocks",
        description="Where its blocks' weights start: from the backbone's Context Blocks (our choice) or anew. "
        "Its outputs start at zero either way.",
    )
    positions: Literal["a_rope", "rerope", "none"] = Field(
        default="a_rope", description="How captions are tied to their time: A-RoPE of iTryOn, ReRoPE of MinT, or not."
    )
    spacing: float = Field(default=4.0, ge=0, description="A-RoPE: from one segment to the next (k of iTryOn).")
    rerope_length: float = Field(default=8.0, gt=0, description="ReRoPE: length of each segment (L of MinT).")
    theta: float = Field(default=10_000.0, gt=1, description="Base of the frequencies of either.")
    segment_mask: bool = Field(
        default=False,
        description="Frames see the caption of their own segment and the global one only. MinT saw less good of it.",
    )
    text_length: int = Field(
        default=512,
        ge=0,
        description="Captions of a sample are filled up with zeros to so many tokens, which are attended to: so Wan "
        "was trained, with 512. 0 leaves padding unseen.",
    )
    train: Literal["branch", "full", "lora"] = Field(
        default="branch",
        description="What trains: the Context Blocks with their patch embedding and the Guider; everything; or "
        "low-rank adapters of the backbone, and the Guider.",
    )
    lora: LoraSettings = Field(default=LoraSettings(), description="With `train: lora`.")
    gradient_checkpointing: bool = Field(
        default=False, description="Keep only the blocks' inputs and compute them again backward: less memory, slower."
    )
    keep_attention: bool = Field(
        default=True,
        description="With checkpointing: keep also what self-attention gives, most of the time at tens of thousands of "
        "tokens, at the cost of as much memory again as the inputs take.",
    )
    garment_attention: GarmentAttentionSettings | None = Field(
        default=None, description="Measure how far video tokens look at the garment; none: don't."
    )
