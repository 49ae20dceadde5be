"""How generated videos are measured: settings of `metrics.yaml`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.stage import ModelFile
from training.features import Backbone


class QualitySettings(BaseModel):
    """Which networks see the videos, and how these are cut for them. What each choice follows: docs/evaluation.md."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    i3d: ModelFile = Field(
        default="i3d_kinetics", description="I3D, for VFID_I and FVD: a name of the registry or a path; empty: neither."
    )
    resnext: ModelFile = Field(
        default="resnext_101_kinetics", description="3D ResNeXt-101, for VFID_R: a name or a path; empty: it is not."
    )
    lpips: ModelFile = Field(
        default="alexnet",
        description="torchvision's file of the backbone of LPIPS: a name or a path; empty: it is not.",
    )
    lpips_backbone: Backbone = Field(default="alex", description="Which network `lpips` is: alex, squeeze or vgg.")
    vfid_frames: int = Field(default=10, ge=2, description="Frames of a clip for VFID.")
    fvd_frames: int = Field(default=16, ge=2, description="Frames of a clip for FVD.")
    vfid_input: Literal["published", "trained"] = Field(
        default="published",
        description='"published": BGR, -1..1 for both networks, as in the code behind published tables; "trained": as '
        "each network was trained.",
    )
    frames: int | None = Field(
        default=None,
        ge=1,
        description="Only the first so many frames of a sample, as `InteractDataset(frames=…)`; null: all.",
    )
    batch: int = Field(default=8, ge=1, description="Frames of a video that are held and measured at once.")
    device: str = Field(default="cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="Where the networks run.")
    seed: int = Field(default=0, description="Of the bootstrap.")
