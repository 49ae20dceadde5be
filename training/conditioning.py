"""From a batch of pictures and captions to what the model is given.

Shape legend: B samples, T = 4n + 1 frames of H×W pixels, multiples of 16; f = n + 1 latent frames, F = f + 1 with the
reference garment's in front; h = H/8, w = W/8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from schemas.errors import ConfigError
from training.fit import Fit
from training.model.inputs import Captions, Conditions, Segments
from training.sample import Batch, to_unit_range
from training.segments import any_frame, latent_frames, latent_mask, segments
from training.text import TextEncoder
from training.vae import SCALE, VideoVae

TOKEN = 2 * SCALE
"""Pixels to a side of one token of the transformer."""
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, eq=False)
class ConditionLatents:
    """Latents of the pictures that the model is told, as the VAE gives them or as they were stored.

    Attributes:
        inactive: (B, 16, f, h, w): the video where it stays, mid-grey (0) where it is repainted: the agnostic video.
        reactive: (B, 16, f, h, w): the pose picture.
        hands: (B, 16, f, h, w): the hand prior.
        garment: (B, 16, 1, h, w): the reference garment.

    """

    inactive: Tensor
    reactive: Tensor
    hands: Tensor
    garment: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """A batch as training uses it.

    Attributes:
        latents: (B, 16, F, h, w) float32: the clean target, the reference garment's latent and then the video's.
        conditions: what the model is told.
        interactive: (B, F) float32: 1 at latent frames with an interaction, 0 elsewhere and at the reference.
        repaint: (B, F - 1, h / 2, w / 2) bool: tokens with a pixel to repaint, in any of their frames.

    """

    latents: Tensor
    conditions: Conditions
    interactive: Tensor
    repaint: Tensor


class Conditioner:
    """Encodes batches with the frozen VAE and text encoder. Everything comes out on the VAE's device.

    Pose and agnostic video share the Context Blocks, whose input has room for two videos: where the region to repaint
    is, VACE puts what controls it ("reactive"), elsewhere what stays ("inactive"). That iTryOn feeds them so is
    inferred; it says that Context Blocks take both.

    Args:
        vae: between pixels and latents.
        text: for captions.
        pose: "masked": the pose picture shows only where it is repainted, as in VACE; "everywhere": all of it.
        hands: whether to encode the hand prior; a model without the Interaction Guider needs none, and gets zeros.

    """

    def __init__(
        self, vae: VideoVae, text: TextEncoder, *, pose: Literal["masked", "everywhere"] = "masked", hands: bool = True
    ) -> None:
        self.vae, self.text, self.pose, self.hands = vae, text, pose, hands

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        pose: Literal["masked", "everywhere"] = "masked",
        hands: bool = True,
    ) -> Self:
        """With VAE and text encoder of a checkpoint.

        Args:
            folder: the checkpoint, see `training.pretrained`.
            device: of both.
            dtype: of both; None: bfloat16 on a GPU, float32 on a CPU.
            pose: where the pose picture shows, as above.
            hands: whether to encode the hand prior.

        Raises:
            WeightsError: one of them is not there, or damaged.
            MissingExtraError: diffusers or transformers is not installed.

        """
        dtype = dtype or (torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16)
        vae = VideoVae.load(folder, device=device, dtype=dtype)
        return cls(vae, TextEncoder.load(folder, device=device, dtype=dtype), pose=pose, hands=hands)

    def __call__(self, batch: Batch) -> Encoded:
        """All that a training step needs.

        Raises:
            ConfigError: the batch lacks a picture, has samples of several lengths, or sizes that the networks cannot
                take.

        """
        pictures = self.condition_latents(batch)
        return self.of_latents(batch, video=self.video_latents(batch), pictures=pictures)

    def of_latents(self, batch: Batch, *, video: Tensor, pictures: ConditionLatents) -> Encoded:
        """The same where the latents are known: of the batch only mask, labels, captions and actions are read.

        Args:
            batch: without its pictures, if need be.
            video: (B, 16, f, h, w): of the target.
            pictures: of the conditions.

        """
        mask, labels = self._mask(batch), batch["labels"].to(self.vae.device)
        return encoded(video, self._conditions(batch, pictures), mask=mask, labels=labels)

    def conditions(self, batch: Batch) -> Conditions:
        """What the model is told: all that generation needs. Raises as `__call__`."""
        return self._conditions(batch, self.condition_latents(batch))

    def condition_latents(self, batch: Batch) -> ConditionLatents:
        """Latents of the pictures that the model is told. Raises as `__call__`."""
        _check(batch, pictures=("pose", "hands") if self.hands else ("pose",))
        mask = batch["mask"]
        inactive = self._encode(batch["video"], where=~mask)
        garment = _on_canvas(batch["garment"], size=batch["video"].shape[-2:])
        return ConditionLatents(
            inactive=inactive,
            reactive=self._encode(batch["pose"], where=mask if self.pose == "masked" else None),
            hands=self._encode(batch["hands"]) if self.hands else torch.zeros_like(inactive),
            garment=self._encode(garment[:, None]),
        )

    def video_latents(self, batch: Batch) -> Tensor:
        """(B, 16, f, h, w): latents of the target."""
        return self._encode(batch["video"])

    def unconditional(self, conditions: Conditions, *, caption: str = "") -> Conditions:
        """The same with `caption` for the global one and empty action captions: what guidance leads away from.

        Emptied captions keep their segments, as they do where training drops captions (`caption_dropout`).
        """
        actions = [[(int(number), "") for number in row.nonzero()] for row in conditions.segments.interactive]
        captions = self.text.captions([caption] * len(actions), actions)
        return replace(conditions, captions=moved(captions, self.vae.device))

    def _conditions(self, batch: Batch, pictures: ConditionLatents) -> Conditions:
        timed, actions = segments(batch["actions"], frames=batch["labels"].shape[1])
        captions = self.text.captions(batch["global_caption"], actions)
        device = self.vae.device
        return joined(pictures, mask=self._mask(batch), captions=moved(captions, device), timed=moved(timed, device))

    def _encode(self, pictures: Tensor, *, where: Tensor | None = None) -> Tensor:
        """(B, T, 3, H, W) uint8 → (B, 16, f, h, w); mid-grey outside of `where`, (B, T, 1, H, W) bool."""
        latents = []
        for sample in range(len(pictures)):  # one by one: as floats they take four times the memory, or eight
            video = to_unit_range(pictures[sample].to(self.vae.device))
            if where is not None:
                video *= where[sample].to(video.device)
            latents.append(self.vae.encode(video.transpose(0, 1)[None]))
        return torch.cat(latents)

    def _mask(self, batch: Batch) -> Tensor:
        return batch["mask"][:, :, 0].to(self.vae.device)


def encoded(video: Tensor, conditions: Conditions, *, mask: Tensor, labels: Tensor) -> Encoded:
    """The batch of which `conditions` are the conditions.

    Args:
        video: (B, 16, f, h, w): latents of the target.
        conditions: its conditions; the target's first frame is the garment of their context.
        mask: (B, T, H, W) bool: the region to repaint.
        labels: (B, T) bool: interactive frames.

    """
    garment = conditions.context[:, : video.shape[1], :1]
    return Encoded(
        latents=torch.cat([garment, video], dim=2),
        conditions=conditions,
        interactive=latent_mask(labels),
        repaint=any_frame(mask).unflatten(-2, (-1, TOKEN)).unflatten(-1, (-1, TOKEN)).any(-1).any(-2),
    )


def joined(pictures: ConditionLatents, *, mask: Tensor, captions: Captions, timed: Segments) -> Conditions:
    """Conditions as the model takes them, the reference garment in front.

    The context is that of VACE (diffusers' `WanVACEPipeline` prepares it alike): 16 channels inactive, 16 reactive, 64
    of the mask; and of the reference 16 channels, then zeros.

    Args:
        pictures: their latents.
        mask: (B, T, H, W) bool: the region to repaint.
        captions: the text.
        timed: when the actions are.

    """
    shown = torch.cat([pictures.inactive, pictures.reactive, mask_channels(mask)], dim=1)
    channels = shown.shape[1] - pictures.garment.shape[1]
    reference = functional.pad(pictures.garment, (0, 0) * 3 + (0, channels))
    return Conditions(
        context=torch.cat([reference, shown], dim=2),
        hands=functional.pad(pictures.hands, (0, 0, 0, 0, 1, 0)),
        captions=captions,
        segments=timed,
    )


def mask_channels(mask: Tensor) -> Tensor:
    """(B, T, H, W) bool → (B, 64, f, h, w) float32: the 8×8 pixels of a latent pixel, row by row, as channels.

    In time it is the nearest frame that speaks for a latent one ("nearest-exact"), as in VACE.
    """
    numbers = torch.arange(mask.shape[1], dtype=torch.float32, device=mask.device)[None, None]
    nearest = functional.interpolate(numbers, latent_frames(mask.shape[1]), mode="nearest-exact").long().flatten()
    cells = mask[:, nearest].unflatten(-2, (-1, SCALE)).unflatten(-1, (-1, SCALE))
    return cells.permute(0, 3, 5, 1, 2, 4).flatten(1, 2).float()


def _on_canvas(garments: Tensor, *, size: Sequence[int]) -> Tensor:
    """(B, 3, *, *) uint8 → (B, 3, H, W) uint8: fitted in, centred, on white."""
    height, width = size
    fit = Fit.into((height, width), (garments.shape[-2], garments.shape[-1]))
    if fit.source == fit.target:
        return garments
    (top, left), (inner_height, inner_width) = fit.offset, fit.inner
    canvas = garments.new_full((*garments.shape[:2], height, width), 255)
    canvas[..., top : top + inner_height, left : left + inner_width] = functional.interpolate(
        garments.float(), fit.inner, mode="bilinear", antialias=True
    ).round()
    return canvas


def _check(batch: Batch, *, pictures: Sequence[str]) -> None:
    if missing := [name for name in pictures if name not in batch]:
        raise ConfigError(
            f"the batch has no {' and no '.join(missing)} picture",
            remedy=f"Name it in the dataset's `pictures`: {', '.join(pictures)}",
        )
    _, frames, _, height, width = batch["video"].shape
    latent_frames(frames)
    if lengths := sorted({*batch["lengths"].tolist()} - {frames}):
        raise ConfigError(f"there are samples of {lengths[0]} frames in a batch of {frames}", allowed="one length")
    if height % TOKEN or width % TOKEN:
        raise ConfigError(f"videos of {height}×{width} px", allowed=f"sides that are multiples of {TOKEN}")


def moved(tensors: _T, device: torch.device) -> _T:
    """A dataclass of tensors, moved."""
    values: dict[str, Any] = {field.name: getattr(tensors, field.name).to(device) for field in fields(tensors)}  # type: ignore[arg-type]
    return replace(tensors, **values)  # type: ignore[type-var]
