"""From a stored sample and a garment to a try-on video.

Shape legend: T frames of the clip, H×W px of it as stored.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from schemas.annotation import Annotation
from schemas.conditions import Bool, UInt8
from schemas.errors import ConfigError, WeightsError
from training.checkpoints import read_checkpoint, trained_weights
from training.clip_window import ClipWindow
from training.conditioning import Conditioner
from training.decoding import decode_window
from training.fit import Fit
from training.generation_settings import GenerationSettings
from training.long_video import generate_long
from training.model.backbone import base_folder
from training.model.itryon import ITryOn
from training.model.settings import ModelSettings
from training.model.trained import saved_settings
from training.sample import Picture, Sample, collate
from training.sampler import sample as sample_latents
from training.stored import StoredSample
from training.survey import nearest_size
from training.text import TextEncoder
from training.train_settings import TrainSettings
from training.vae import VideoVae


class Generator:
    """A model that makes videos.

    Args:
        model: on the device where it is to work.
        conditioner: VAE and text encoder, on the same one.
        settings: how.

    """

    def __init__(self, model: ITryOn, conditioner: Conditioner, settings: GenerationSettings) -> None:
        self.model, self.conditioner, self.settings = model.eval(), conditioner, settings

    @classmethod
    def load(
        cls, checkpoint: Path | None, *, base: str | None = None, settings: GenerationSettings, device: str = "cpu"
    ) -> Self:
        """The model that training wrote, or a published one as it is.

        Args:
            checkpoint: see `training.checkpoints.trained_weights`: the average of the weights where there is one.
            base: the Wan2.1-VACE to build on; None: the one that training was told. Without `checkpoint`, this is the
                model: no Interaction Guider, captions without time.
            settings: how videos are generated.
            device: of torch.

        Raises:
            WeightsError: weights are absent, damaged, or do not fit each other.
            ConfigError: neither `checkpoint` nor `base` is given.
            MissingExtraError: a package of the extra `train` is not installed.

        """
        weights = None if checkpoint is None else trained_weights(checkpoint)
        dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
        model = ITryOn.load(_model_settings(weights, base), dtype=dtype)
        if weights is not None:
            model.load_trained(weights)
        folder = base_folder(model.settings.base)
        conditioner = Conditioner(
            VideoVae.load(folder, device=device),
            TextEncoder.load(folder, device=device, dtype=dtype),
            pose=settings.pose,
            hands=model.guider is not None,
        )
        return cls(model.to(device), conditioner, settings)

    def video(self, stored: StoredSample, *, key: str, garment: Tensor) -> UInt8:
        """The clip with another garment, or its own generated anew.

        Args:
            stored: the clip and its conditions.
            key: of the sample; the noise depends on it.
            garment: (3, h, w) uint8 RGB.

        Returns:
            (T, H, W, 3) uint8 RGB: as many frames as the clip has, of its size.

        Raises:
            DatasetError: the sample is damaged.

        """
        annotation: Annotation = stored.artifact("annotation")
        window = ClipWindow(stored, annotation, np.arange(len(annotation.labels)))
        fit = Fit.around(window.person_box(), nearest_size(self.settings.buckets, window.source), window.source)
        pictures = self._pictures(stored, frames=len(annotation.labels))
        shown = (garment, torch.ones_like(garment[:1], dtype=torch.bool))
        sample = decode_window(window, key=key, fit=fit, garment=shown, pictures=pictures)
        seeds = window_seeds(self.settings.seed, key)
        made = generate_long(sample, lambda part: self.window(part, seed=next(seeds)), settings=self.settings.long)
        video = np.empty((len(made), *window.source, 3), np.uint8)

        def place(frame: int, real: UInt8) -> None:
            mask = window.mask(frame) if self.settings.paste else None
            video[frame] = placed_back(made[frame].permute(1, 2, 0).numpy(), real, fit=fit, mask=mask)

        window.each_image(place)
        return video

    def window(self, sample: Sample, *, seed: int) -> Tensor:
        """(N, 3, H', W') uint8 RGB: the video of a sample of N = 4n + 1 frames, as the model makes it at once."""
        conditions = self.conditioner.conditions(collate([sample]))
        free = self.conditioner.unconditional(conditions)
        latents = sample_latents(self.model, conditions, free, seeds=[seed], settings=self.settings.sampler)
        video = self.conditioner.vae.decode(latents)[0].transpose(0, 1)
        return ((video + 1) * 127.5).round().to(torch.uint8).cpu()

    def _pictures(self, stored: StoredSample, *, frames: int) -> tuple[Picture, ...]:
        of_model: tuple[Picture, ...] = ("pose", "hands") if self.conditioner.hands else ("pose",)
        long = self.settings.long
        measured = long.mode == "keyframes" and frames > long.window and stored.has("densepose")
        return (*of_model, "densepose") if measured else of_model


def window_seeds(seed: int, key: str) -> Iterator[int]:
    """Seeds of the windows of sample `key`, one after the other: the same whatever else is generated."""
    random = np.random.default_rng((seed, zlib.crc32(key.encode())))
    while True:
        yield int(random.integers(2**63))


def placed_back(made: UInt8, real: UInt8, *, fit: Fit, mask: Bool | None) -> UInt8:
    """A generated picture laid over the real one that it was made from.

    Args:
        made: (H', W', 3), of `fit.target`.
        real: (H, W, 3), of `fit.source`.
        fit: how the real picture lay in the one that was generated.
        mask: (H, W): only there; None: wherever the generated picture reaches. Its edge is hard: a soft one would mix
            the old garment into the new one.

    """
    if fit.source == fit.target:
        placed, reached = made, np.ones(fit.source, np.bool_)
    else:
        back = Fit(fit.target, fit.inner, fit.target, (-fit.offset[0], -fit.offset[1]))  # cuts, scales nothing
        method = cv2.INTER_AREA if fit.inner[0] > fit.source[0] else cv2.INTER_CUBIC
        placed = cv2.resize(back.pictures(made[None])[0], fit.source[::-1], interpolation=method)
        reach = back.masks(np.ones((1, *fit.target), np.bool_))[0].view(np.uint8)
        reached = cv2.resize(reach, fit.source[::-1], interpolation=cv2.INTER_NEAREST_EXACT).view(np.bool_)
    return np.where((reached if mask is None else reached & mask)[..., None], placed, real)


def trained_as(checkpoint: Path | None) -> dict[str, Any]:
    """Settings of generation that follow from how the model was trained, where `checkpoint` tells: it is of a run.

    Raises:
        WeightsError: there are no trained weights, or those of another version.

    """
    found = None if checkpoint is None else read_checkpoint(trained_weights(checkpoint).parent)
    if found is None:
        return {}
    try:
        run = TrainSettings.model_validate(found.settings)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors())
        raise WeightsError(
            f"the checkpoint has settings that are not known here: {fields}", where=str(checkpoint),
            remedy="It is of another version: use that, or copy its weights to a folder of their own",
        ) from error  # fmt: skip
    window = max(5, run.data.frames)
    return {
        "buckets": [list(size) for size in run.data.buckets],
        "pose": run.pose,
        "sampler": {"shift": run.loss.shift},
        "long": {"window": window, "overlap": min(9, window - 4)},
    }


def _model_settings(weights: Path | None, base: str | None) -> ModelSettings:
    if weights is not None:
        found = saved_settings(weights)
        changed = {"base": base or found.base, "gradient_checkpointing": False, "garment_attention": None}
        return found.model_copy(update=changed)
    if base is None:
        raise ConfigError(
            "there is no model", remedy="Say --checkpoint, a run of `vvt train`, or --base, a Wan2.1-VACE"
        )
    return ModelSettings(base=base, guider=False, positions="none")
