"""Human parsing of the full tier: a semantic segmenter of transformers, whose classes go by their names.

Shape legend: T frames of the clip, H×W its pixels; N crops in a batch, h×w what the model takes, C its classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field, PrivateAttr

from preprocess.crops import Box, crop_boxes
from preprocess.devices import Precision, frames_on, torch_device, torch_dtype
from preprocess.label_names import SAPIENS2, label_table
from preprocess.pretrained import PictureInput, load_pretrained, picture_input
from schemas.clip import Clip
from schemas.manifest import Part
from schemas.stage import ModelFile, Stage

if TYPE_CHECKING:
    import torch

_Look = tuple[int, int, Box]
"""Index of a clip, of a frame of it, and where to look."""


class Segmentation(Stage):
    """Labels every pixel of every frame with `schemas.conditions.Label`, as a semantic segmenter sees it.

    Made for SegFormer trained on clothes (ATR's 18 classes) and Sapiens2's body parts (29 classes); any model that
    `AutoModelForSemanticSegmentation` reads will do whose classes are those of ATR, LIP, CIHP, Goliath or Sapiens2.
    It sees the person's surroundings, resized as its own preprocessor_config.json says. Crops are batched across
    frames and clips. Outside of them all is background.

    ATR and Sapiens2 do not tell inner from outer garments, Sapiens2 neither skirts from trousers nor faces from necks:
    `preprocess.label_names` says what they are called.
    """

    needs: ClassVar[tuple[str, ...]] = ("video", "person")
    gives: ClassVar[tuple[str, ...]] = ("parsing",)

    model: ModelFile = Field(
        description="Folder with config.json, model.safetensors and preprocessor_config.json, as published."
    )
    crop_margin: float = Field(
        default=0.2, ge=0, le=1, description="Room left around the person's box, over its longer side."
    )
    batch: int = Field(default=16, ge=1, description="Crops that go through the model at once.")
    device: str = Field(
        default="auto", description="Where it runs, as torch names it; auto is the GPU if there is one."
    )
    precision: Precision = Field(default="auto", description="Of weights and activations; auto is half on a GPU.")

    _model: Any = PrivateAttr(default=None)
    _input: PictureInput = PrivateAttr(default=PictureInput())

    def setup(self) -> None:
        """Load the model. Raises `WeightsError` for one that cannot be used."""
        device = torch_device(self.device)
        self._input = picture_input(self.model)
        self._model = load_pretrained(
            "AutoModelForSemanticSegmentation", self.model, device=device, dtype=torch_dtype(self.precision, device)
        )
        self._table(Part.UPPER)

    def process(self, clip: Clip) -> None:
        """Give `parsing`, (T, H, W) uint8."""
        self.process_batch([clip])

    def process_batch(self, clips: Sequence[Clip]) -> None:
        """Give `parsing` to each clip."""
        import torch

        device = self._model.device
        shapes = [(clip.span.frames, clip.span.height, clip.span.width) for clip in clips]
        labels = [torch.zeros(shape, dtype=torch.uint8, device=device) for shape in shapes]
        tables = [torch.from_numpy(self._table(clip.pair.part)).to(device) for clip in clips]
        looks = self._looks(clips)
        while some := list(islice(looks, self.batch)):
            for (index, frame, (x0, y0, x1, y1)), logits in zip(some, self._logits(clips, some), strict=True):
                classes = _likeliest(logits, (y1 - y0, x1 - x0))
                labels[index][frame, y0:y1, x0:x1] = tables[index][classes]
        for clip, given in zip(clips, labels, strict=True):
            clip.artifacts["parsing"] = given.cpu().numpy()

    def _looks(self, clips: Sequence[Clip]) -> Iterator[_Look]:
        for index, clip in enumerate(clips):
            boxes = crop_boxes(clip.artifacts["person"].boxes, clip.span, margin=self.crop_margin)
            yield from ((index, frame, box) for frame, box in enumerate(boxes))

    def _logits(self, clips: Sequence[Clip], looks: Sequence[_Look]) -> torch.Tensor:
        """(N, C, h/4, w/4) or so: what the model makes of the crops."""
        import torch

        crops = []
        for index, frame, (x0, y0, x1, y1) in looks:
            image = frames_on(clips[index], self._model.device)[frame : frame + 1, y0:y1, x0:x1]
            crops.append(self._input.ready(image, self._shape))
        with torch.inference_mode():
            return self._model(pixel_values=torch.cat(crops).to(self._model.dtype)).logits

    @property
    def _shape(self) -> tuple[int, int]:
        """Of a crop, (h, w): what the preprocessor says, else what the model was made for."""
        size = self._input.shape if all(self._input.shape) else getattr(self._model.config, "image_size", 512)
        return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))

    def _table(self, part: Part) -> np.ndarray:
        config = self._model.config
        names = {int(index): str(name) for index, name in config.id2label.items()}
        unnamed = all(name == f"LABEL_{index}" for index, name in names.items())  # what transformers puts for none
        if unnamed and config.model_type == "sapiens2" and len(names) == len(SAPIENS2):
            names = dict(enumerate(SAPIENS2))
        return label_table(names, part=part, where=self.model)


def _likeliest(logits: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """(C, ·, ·) → (*shape) int64, the class with the highest logit, interpolated to the pixels of the crop."""
    from torch.nn.functional import interpolate

    return interpolate(logits[None].float(), shape, mode="bilinear", align_corners=False)[0].argmax(0)
