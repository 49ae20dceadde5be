"""Windows that were encoded when the dataset was built: read, and made into what a training step needs.

Shape legend: B samples, T = 4n + 1 frames of H×W pixels; f = n + 1 latent frames of h = H/8 by w = W/8.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from schemas.annotation import Annotation
from schemas.errors import ConfigError
from schemas.latents import Latents, caption_texts
from training.conditioning import ConditionLatents, Encoded, encoded, joined, moved
from training.data_settings import DataSettings
from training.plan import Bucket
from training.sample import Batch, Sample, WindowLatents
from training.segments import segments
from training.stored import StoredSample
from training.survey import speed_of
from training.text import GLOBAL, side_by_side
from training.windows import actions_shown, offsets


def read_window(stored: StoredSample, settings: DataSettings, *, key: str, bucket: Bucket, quantile: float) -> Sample:
    """The window at `quantile`, 0..1, of those that are stored.

    Args:
        stored: a sample of the sidecar.
        settings: which windows are expected.
        key: its name.
        bucket: shape that the window has to have.
        quantile: which window.

    Raises:
        DatasetError: a member is missing, damaged, or does not fit the others.
        ConfigError: the windows are of another length, rate or size than the settings'.

    """
    annotation: Annotation = stored.artifact("annotation")
    latents: Latents = stored.artifact("latents")
    meta, texts = stored.meta(), caption_texts(annotation)
    if len(texts) != len(latents.lengths) or latents.frames.max() >= len(annotation.labels):
        raise stored.error("member latents.npz is of another annotation")
    number = min(int(quantile * len(latents.frames)), len(latents.frames) - 1)
    shown = latents.frames[number].astype(np.int64)
    wanted = offsets(len(annotation.labels), frames=settings.frames, speed=speed_of(float(meta.span.fps), settings))
    size = latents.mask.shape[2], 8 * latents.mask.shape[3]
    if not np.array_equal(shown - shown[0], wanted) or size != (bucket.height, bucket.width):
        raise ConfigError(
            f"the latents are of {len(shown)} frames from {shown[0]} to {shown[-1]}, {size[0]}×{size[1]} px",
            where=stored.where,
            allowed=f"{len(wanted)} frames over {wanted[-1] + 1} of the clip, {bucket.height}×{bucket.width} px, as "
            "frames, fps and buckets say",
            remedy="Set these as they were set for the stage that made the latents",
        )
    ends = np.cumsum(latents.lengths)[:-1].tolist()
    tokens = torch.from_numpy(latents.tokens).tensor_split(ends)
    return {  # type: ignore[typeddict-item]  # no pictures
        "key": key,
        "labels": torch.tensor(annotation.labels)[shown],
        "global_caption": annotation.global_caption,
        "actions": actions_shown(annotation.actions, shown),
        "fps": float(meta.span.fps),
        "meta": meta,
        "window": (int(shown[0]), int(shown[-1])),
        "paired": True,
        "garment_key": key,
        "latents": WindowLatents(
            video=torch.from_numpy(latents.video[number]),
            inactive=torch.from_numpy(latents.inactive[number]),
            reactive=torch.from_numpy(latents.reactive[number]),
            hands=torch.from_numpy(latents.hands[number]),
            garment=torch.from_numpy(latents.garment),
            mask=torch.from_numpy(latents.mask[number]),
            captions=dict(zip(texts, tokens, strict=True)),
            pose_everywhere=bool(latents.pose_everywhere),
        ),
    }


class LatentConditioner:
    """What `training.conditioning.Conditioner` is for pictures, for batches of stored latents; without a network.

    Args:
        device: where everything comes out.
        dtype: of the tokens, as a text encoder would give them.
        pose: where the pose picture has to show.

    """

    def __init__(self, device: torch.device, *, dtype: torch.dtype, pose: Literal["masked", "everywhere"]) -> None:
        self.device, self.dtype, self.pose = device, dtype, pose

    def __call__(self, batch: Batch) -> Encoded:
        """All that a training step needs.

        Raises:
            ConfigError: the pose picture was encoded as it shows elsewhere.

        """
        windows = batch["latents"]
        if other := [at for at, each in enumerate(windows) if each.pose_everywhere != (self.pose == "everywhere")]:
            raise ConfigError(
                f"the latents of {batch['key'][other[0]]} have the pose picture otherwise",
                where=f"pose: {self.pose}",
                remedy="Set `pose` as it was set for the stage that made the latents",
            )
        timed, actions = segments(batch["actions"], frames=batch["labels"].shape[1])
        captions = [
            [(number, window.captions[text]) for number, text in ((GLOBAL, overall), *own)]
            for window, overall, own in zip(windows, batch["global_caption"], actions, strict=True)
        ]
        tokens = moved(side_by_side(captions), self.device)
        mask = unpacked(self._stacked(windows, "mask"))
        pictures = ConditionLatents(
            **{name: self._stacked(windows, name).float() for name in ("inactive", "reactive", "hands", "garment")}
        )
        tokens = replace(tokens, tokens=tokens.tokens.to(self.dtype))
        conditions = joined(pictures, mask=mask, captions=tokens, timed=moved(timed, self.device))
        labels = batch["labels"].to(self.device)
        return encoded(self._stacked(windows, "video").float(), conditions, mask=mask, labels=labels)

    def _stacked(self, windows: list[WindowLatents], name: str) -> Tensor:
        return torch.stack([getattr(each, name) for each in windows]).to(self.device)


def unpacked(bits: Tensor) -> Tensor:
    """(..., W/8) uint8, highest bit first → (..., W) bool."""
    places = torch.arange(7, -1, -1, dtype=torch.uint8, device=bits.device)
    return (bits[..., None] >> places & 1).flatten(-2).bool()
