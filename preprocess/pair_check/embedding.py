"""Pair check by a model: embeddings of the garment image and of the garment worn.

Shape legend: N cuts, s px the side of what the model takes, D numbers an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from math import isqrt
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field, PrivateAttr

from preprocess.devices import Precision, torch_device, torch_dtype
from preprocess.pair_check.cuts import Cut, UInt8, cut_out, worn_cuts
from preprocess.pretrained import PictureInput, load_pretrained, picture_input
from schemas.clip import Clip
from schemas.errors import StageError, WeightsError
from schemas.metrics import Metric
from schemas.stage import Filter, ModelFile

if TYPE_CHECKING:
    import torch

GREY = 128
"""What is not garment, in the pictures that the model sees."""
MARGIN = 0.05
"""Room around the garment, over its longer side."""


class PairMatchEmbedding(Filter):
    """Compares the garment image with the garment worn by the embeddings of an image model of transformers.

    Made for SigLIP 2 and DINOv3; any will do that `AutoModel` reads and that pools a picture to one vector (SigLIP,
    DINOv2). The model sees the garment alone, on grey, whole: no centre is cropped out. How alike is alike enough is
    each model's own, so there is no bound by default: look at docs/decisions.md for how to choose one. Nothing is
    measured for a pair without a garment image, whose garment was cut out of this very clip.
    """

    needs: ClassVar[tuple[str, ...]] = ("video", "parsing", "garment", "garment_mask")
    uses: ClassVar[tuple[str, ...]] = ("garment_track",)
    metrics: ClassVar[dict[str, Metric]] = {
        "garment_embedding_match": Metric(
            "cosine of the embeddings of the garment image and of the garment worn, median over frames", "", (-1, 1)
        ),
    }

    model: ModelFile = Field(
        description="Folder with config.json, model.safetensors and preprocessor_config.json, as published."
    )
    frames: int = Field(
        default=8, ge=1, description="Frames looked at, evenly spread over those that show the garment."
    )
    batch: int = Field(default=32, ge=1, description="Pictures that go through the model at once.")
    device: str = Field(
        default="auto", description="Where it runs, as torch names it; auto is the GPU if there is one."
    )
    precision: Precision = Field(default="auto", description="Of weights and activations; auto is half on a GPU.")

    _tower: Any = PrivateAttr(default=None)
    _input: PictureInput = PrivateAttr(default=PictureInput())

    def setup(self) -> None:
        """Load the model. Raises `WeightsError` for one that cannot be used."""
        device = torch_device(self.device)
        self._input = picture_input(self.model)
        model = load_pretrained("AutoModel", self.model, device=device, dtype=torch_dtype(self.precision, device))
        self._tower = getattr(model, "vision_model", model)  # without the text tower of SigLIP
        try:
            self._embed([np.full((self._side, self._side, 3), GREY, np.uint8)])
        except Exception as error:  # what a model of another kind raises, nobody knows
            raise WeightsError(
                f"{type(model).__name__} makes no embedding of a picture: {type(error).__name__}: {error}",
                where=self.model, allowed="SigLIP 2, SigLIP, DINOv3, DINOv2",
            ) from error  # fmt: skip

    def measure(self, clip: Clip) -> dict[str, float]:
        """Nothing where the garment is not to be seen, in its image or worn."""
        return self._matches([clip])[0]

    def process_batch(self, clips: Sequence[Clip]) -> None:
        """Measure all clips, their pictures in common batches."""
        for clip, matches in zip(clips, self._matches(clips), strict=True):
            clip.metrics.update(matches)

    def _matches(self, clips: Sequence[Clip]) -> list[dict[str, float]]:
        cuts = [self._cuts(clip) for clip in clips]
        pictures = (on_grey(cut) for of_clip in cuts for cut in of_clip)
        vectors: list[np.ndarray] = []
        while some := list(islice(pictures, self.batch)):
            vectors += list(self._embed(some))
        following = iter(vectors)
        return [self._match(clip, list(islice(following, len(own)))) for clip, own in zip(clips, cuts, strict=True)]

    def _match(self, clip: Clip, vectors: Sequence[np.ndarray]) -> dict[str, float]:
        """Of the garment's embedding and, after it, those of the worn ones."""
        if not vectors:
            return {}
        garment, *worn = vectors
        cosine = float(np.median([garment @ other for other in worn]))
        if not np.isfinite(cosine):
            raise StageError(
                "the model gives no finite numbers", where=f"{self.name}, {clip.key}",
                remedy=f"Set stages.{self.name}.precision=float32",
            )  # fmt: skip
        return {"garment_embedding_match": cosine}

    def _cuts(self, clip: Clip) -> list[Cut]:
        """The garment from its image, then as it is worn; empty where there is nothing to compare."""
        if clip.pair.garment is None:
            return []
        garment = cut_out(clip.artifacts["garment"], clip.artifacts["garment_mask"])
        worn = worn_cuts(clip, most=self.frames)
        return [garment, *worn] if garment is not None and worn else []

    def _embed(self, pictures: Sequence[UInt8]) -> np.ndarray:
        """(N, D) float32, of length 1: what the model makes of (·, ·, 3) uint8 RGB squares of any size."""
        import torch

        device, dtype = self._tower.device, self._tower.dtype
        shape = (self._side, self._side)
        ready = [self._input.ready(torch.from_numpy(picture)[None].to(device), shape) for picture in pictures]
        with torch.inference_mode():
            pooled = self._tower(**self._model_input(torch.cat(ready).to(dtype))).pooler_output
            return torch.nn.functional.normalize(pooled.float(), dim=1).cpu().numpy()

    @property
    def _side(self) -> int:
        """Of the square that the model takes, in px: a whole number of its patches."""
        config = self._tower.config
        patch = getattr(config, "patch_size", 1)
        if self._takes_patches:
            return isqrt(config.num_patches) * patch
        return (max(self._input.shape) or config.image_size) // patch * patch

    @property
    def _takes_patches(self) -> bool:
        """Whether it is SigLIP 2 for any aspect ratio (NaFlex), which takes pictures cut into patches."""
        return self._tower.config.model_type == "siglip2_vision_model"

    def _model_input(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the tower is called with, for (N, 3, s, s) pixels."""
        import torch

        if not self._takes_patches:
            return {"pixel_values": pixels}
        patch = self._tower.config.patch_size
        count, grid = len(pixels), self._side // patch
        patches = pixels.reshape(count, 3, grid, patch, grid, patch).permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
        return {
            "pixel_values": patches,
            "pixel_attention_mask": torch.ones(patches.shape[:2], dtype=torch.int64, device=pixels.device),
            "spatial_shapes": torch.full((count, 2), grid, device=pixels.device),
        }


def on_grey(cut: Cut) -> UInt8:
    """(side, side, 3) uint8 RGB: the garment in the middle of a square, all else grey."""
    height, width = cut.mask.shape
    room = round(MARGIN * max(height, width))
    side = max(height, width) + 2 * room
    square = np.full((side, side, 3), GREY, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width][cut.mask] = cut.image[cut.mask]
    return square
