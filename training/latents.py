"""The stage that encodes windows of clips for training, so that it needs neither video, nor VAE, nor text encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PrivateAttr

from schemas.clip import Clip
from schemas.stage import ModelFile, Stage
from training.window_settings import WindowSettings

if TYPE_CHECKING:
    from training.conditioning import Conditioner

_TINY = "tiny"


class WanLatents(WindowSettings, Stage):
    """Gives latents of Wan's VAE of some windows of a clip, and its captions as embedded by Wan's text encoder.

    In no tier: `stages: {latents: {use: "training.latents:WanLatents", checkpoint: …}}` appends it. Windows and
    conditions are made by the code that training makes them with; what training would draw anew each time it sees a
    clip is drawn once here. Latents lie in shards of their own, and leave the others as they are.
    """

    needs: ClassVar[tuple[str, ...]] = (
        "video", "garment", "garment_mask", "agnostic_mask", "pose", "hands", "annotation",
    )  # fmt: skip
    uses: ClassVar[tuple[str, ...]] = ("hand_prior",)
    gives: ClassVar[tuple[str, ...]] = ("latents",)

    checkpoint: ModelFile = Field(
        description="Folder with `vae`, `text_encoder` and `tokenizer` in the layout of diffusers, e.g. a download of "
        "Wan-AI/Wan2.1-VACE-1.3B-diffusers; or tiny, a random one to try things with."
    )
    windows: int = Field(1, ge=1, description="Windows of a clip, fewer where it has not so many.")
    interactive_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of interactive frames wanted of each clip's windows, met by where they are taken, as far as "
        "the clip allows; null: anywhere alike.",
    )
    pose_dropout: float = Field(
        0.05, ge=0, le=1, description="Share of pose points left out of the pose picture, frame by frame (DPIDM: 0.05)."
    )
    pose: Literal["masked", "everywhere"] = Field(
        "masked", description="Where the Context Blocks see the pose picture; the same as in training."
    )
    precision: Literal["float32", "bf16"] = Field("bf16", description="What both networks compute in.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto is CUDA where torch has it, else CPU.")
    seed: int = Field(0, ge=0, description="Of windows and of left out points, together with the clip's key.")

    _conditioner: Conditioner = PrivateAttr()

    def setup(self) -> None:
        """Load both networks.

        Raises:
            WeightsError: a part of the checkpoint is absent or damaged.
            MissingExtraError: diffusers or transformers is not installed.

        """
        import torch

        from training.conditioning import Conditioner
        from training.model.backbone import base_folder

        found = "cuda" if torch.cuda.is_available() else "cpu"
        self._conditioner = Conditioner.load(
            base_folder(self.checkpoint),
            device=found if self.device == "auto" else self.device,
            dtype=torch.bfloat16 if self.precision == "bf16" else torch.float32,
            pose=self.pose,
        )

    def process(self, clip: Clip) -> None:
        """Fill in `latents`."""
        from training.latent_encoding import encode_windows

        clip.artifacts["latents"] = encode_windows(clip, self, self._conditioner)

    def _chosen_files(self) -> dict[str, str]:
        return {} if self.checkpoint == _TINY else super()._chosen_files()
