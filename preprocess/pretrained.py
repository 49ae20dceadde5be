"""Models of transformers: from the user's own folder, whole or not at all, and the pictures that they take.

Shape legend: N pictures of H×W px; h×w what the model takes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import weights
from schemas.errors import MissingExtraError, WeightsError
from weights.checkpoints import listed
from weights.torchvision_operators import declare_missing_operators

if TYPE_CHECKING:
    import torch

PREPROCESSORS = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")
NESTED = ("image_processor", "video_processor")
"""Where `processor_config.json` keeps what the others hold at the top."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def model_type(model: str) -> str:
    """Which architecture the folder `model` (registry name or path) holds, as its config.json says.

    Raises:
        WeightsError: there is no such folder, or it holds no config.json of transformers.

    """
    folder = weights.path(model)
    try:
        return str(json.loads((folder / "config.json").read_text())["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"this is no model of transformers: {type(error).__name__}: {error}", where=str(folder),
            allowed="a folder with config.json (`model_type` in it), model.safetensors and preprocessor_config.json",
        ) from error  # fmt: skip


def load_pretrained(kind: str, model: str, *, device: torch.device, dtype: torch.dtype) -> Any:
    """The model in the folder `model` (registry name or path), for inference.

    Args:
        kind: name of the class of transformers that reads it, e.g. "AutoModelForSemanticSegmentation".
        model: holds config.json and safetensors. Pickled weights are not read: they may run code.
        device: where it is put.
        dtype: of its weights.

    Raises:
        MissingExtraError: transformers is not installed.
        WeightsError: the folder does not hold such a model, or its keys are missing, too many, or of another shape.

    """
    declare_missing_operators()  # transformers imports torchvision wherever it is installed
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError("transformers", "conditions", purpose=f"a model of type {model_type(model)}") from error
    model_type(model)
    folder = weights.path(model)
    transformers.utils.logging.disable_progress_bar()
    try:
        loaded, report = getattr(transformers, kind).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, ignore_mismatched_sizes=True,
            output_loading_info=True, dtype=dtype,
        )  # fmt: skip
    except Exception as error:  # of damaged files transformers raises whatever comes
        raise WeightsError(
            f"{kind} cannot read this: {type(error).__name__}: {str(error)[:300]}", where=str(folder)
        ) from error
    misshapen = [f"{name} is {tuple(given)}, not {tuple(wanted)}" for name, given, wanted in report["mismatched_keys"]]
    faults = [
        listed("lacks", report["missing_keys"]),
        listed("has besides", report["unexpected_keys"]),
        listed("has of another shape:", misshapen),
    ]
    if any(faults):
        raise WeightsError(
            f"the checkpoint {'; '.join(filter(None, faults))}", where=str(folder),
            remedy=f"It is not what {type(loaded).__name__} with this config.json takes, or it is damaged",
        )  # fmt: skip
    return loaded.to(device).eval().requires_grad_(False)


class PictureInput(BaseModel):
    """How pictures are made ready for a model: the fields of preprocessor_config.json that tell it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    size: dict[Literal["height", "width", "shortest_edge"], int] | int | None = None
    resample: Literal[2, 3] = Field(default=2, description="As in Pillow: 2 is bilinear, 3 bicubic.")
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    do_normalize: bool = True
    image_mean: tuple[float, float, float] = IMAGENET_MEAN
    image_std: tuple[float, float, float] = IMAGENET_STD

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width that the model takes, in px. A single number makes a square, as SegFormer has it."""
        if isinstance(self.size, dict):
            side = self.size.get("shortest_edge", 0)
            return self.size.get("height", side), self.size.get("width", side)
        return (self.size or 0,) * 2

    def ready(self, images: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
        """(N, H, W, 3) uint8 RGB → (N, 3, *shape) float32: resized with antialiasing, normalised.

        What transformers' image processors do, which need torchvision; they round to whole grey levels after resizing.
        """
        import torch
        from torch.nn.functional import interpolate

        mode = {2: "bilinear", 3: "bicubic"}[self.resample]
        pixels = images.permute(0, 3, 1, 2).float()
        pixels = interpolate(pixels, shape, mode=mode, align_corners=False, antialias=True).clamp(0, 255)
        pixels = pixels * self.rescale_factor if self.do_rescale else pixels
        if not self.do_normalize:
            return pixels
        mean, std = (
            torch.tensor(one, device=images.device)[:, None, None] for one in (self.image_mean, self.image_std)
        )
        return (pixels - mean) / std


def picture_input(model: str) -> PictureInput:
    """How pictures are made ready for the model in the folder `model` (registry name or path).

    Raises:
        WeightsError: the folder does not tell, or wants what is not known here.

    """
    folder = weights.path(model)
    for file in PREPROCESSORS:
        if not (folder / file).is_file():
            continue
        try:
            fields = json.loads((folder / file).read_text())
            fields = next((fields[name] for name in NESTED if name in fields), fields)
            return PictureInput.model_validate({name: value for name, value in fields.items() if value is not None})
        except (ValueError, AttributeError) as error:  # ValidationError and JSONDecodeError are ValueErrors
            words = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise WeightsError(
                f"this does not say how pictures are made ready: {words}", where=str(folder / file)
            ) from error
    raise WeightsError(
        "the folder does not say how pictures are made ready for the model", where=str(folder),
        allowed=f"one of {', '.join(PREPROCESSORS)}", remedy="Copy it from where the model was published",
    )  # fmt: skip
