"""From the members of a sample to the tensors of a `Sample`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import cv2
import numpy as np
import torch
from torch import Tensor

from media import draw
from media.reader import Backend
from schemas.annotation import ActionCaption, Annotation
from schemas.conditions import Bool, Hands, Pose, UInt8
from schemas.errors import ConfigError
from training.fit import Fit, Size
from training.sample import Picture, Sample
from training.stored import StoredSample


@dataclass(frozen=True, kw_only=True)
class SampleDecoder:
    """Turns the members of a sample into a `Sample`.

    Attributes:
        frames: only the first so many frames, all of a shorter clip; None: all frames.
        size: (H, W) to fit the video into, aspect kept, centred on black; None: as stored.
        garment_size: (h, w) to fit the garment image into, centred on white; None: as stored.
        pictures: which pictures to make beside the video; each one takes its time to draw.
        backend: decoder of the video, see `media.open_reader`.

    Raises:
        ConfigError: a value that cannot be.

    """

    frames: int | None = None
    size: Size | None = None
    garment_size: Size | None = None
    pictures: Sequence[Picture] = ("agnostic", "pose", "hands")
    backend: Backend = "pyav"

    def __post_init__(self) -> None:
        if self.frames is not None and self.frames < 1:
            raise ConfigError(f"frames is {self.frames}", allowed="1 and above, or None for all")
        for name, size in (("size", self.size), ("garment_size", self.garment_size)):
            if size is not None and (len(size) != 2 or min(size) < 1):
                raise ConfigError(f"{name} is {size}", allowed="(height, width) in px, or None for the stored size")
        unknown = sorted(set(self.pictures) - set(get_args(Picture)))
        if unknown:
            raise ConfigError(f"there is no picture {', '.join(unknown)}", allowed=", ".join(get_args(Picture)))

    def __call__(self, key: str, members: Mapping[str, bytes], *, where: str) -> Sample:
        """Decode one sample. `where` names its place in errors.

        Raises:
            DatasetError: a member is missing, does not decode, or does not fit the others.

        """
        stored = StoredSample(members, where, self.backend)
        annotation: Annotation = stored.artifact("annotation")
        total = len(annotation.labels)
        length = total if self.frames is None else min(self.frames, total)
        video = stored.images(range(length), total=total)
        mask = stored.maps("agnostic_mask", (total, *video.shape[1:3]))[:length]
        fit = Fit.into(self.size, video.shape[1:3])
        video, mask = fit.pictures(video), fit.masks(mask)
        garment, garment_mask = self._garment(stored)
        meta = stored.meta()
        sample: Sample = {
            "key": key,
            "video": _channels_first(video),
            "mask": torch.from_numpy(mask)[:, None],
            "garment": _channels_first(garment),
            "garment_mask": torch.from_numpy(garment_mask)[None],
            "labels": torch.tensor(annotation.labels[:length], dtype=torch.bool),
            "probabilities": torch.tensor(annotation.probabilities[:length], dtype=torch.float32),
            "global_caption": annotation.global_caption,
            "actions": _within(annotation.actions, length),
            "fps": float(meta.span.fps),
            "meta": meta,
        }
        if "agnostic" in self.pictures:
            sample["agnostic_video"] = _channels_first(draw.agnostic(video, mask))
        if "pose" in self.pictures:
            sample["pose"] = _channels_first(_pose_pictures(stored.per_frame("pose", total), fit, length))
        if "hands" in self.pictures:
            hands: Hands = stored.per_frame("hands", total)
            sample["hands_method"] = hands.method
            if stored.has("hand_prior"):
                shade = fit.pictures(stored.maps("hand_prior", (total, *fit.source))[:length])
                sample["hands_from"], pictures = "mesh", draw.hand_colours(shade)
            else:
                sample["hands_from"], pictures = "joints", _hand_pictures(hands, fit, length)
            sample["hands"] = _channels_first(pictures)
        if "densepose" in self.pictures:
            parts = fit.maps(stored.maps("densepose", (total, *fit.source))[:length])
            sample["densepose"] = _channels_first(draw.densepose_picture(parts))
        return sample

    def _garment(self, stored: StoredSample) -> tuple[UInt8, Bool]:
        image, mask = stored.artifact("garment"), stored.artifact("garment_mask")
        if mask.shape != image.shape[:2]:
            raise stored.error(f"garment_mask has shape {mask.shape}, the garment {image.shape[:2]}")
        fit = Fit.into(self.garment_size, mask.shape)
        return fit.pictures(image[None], fill=255)[0], fit.masks(mask[None])[0]


def _pose_pictures(pose: Pose, fit: Fit, length: int) -> UInt8:
    points = fit.points(pose.keypoints[:length])
    height, width = fit.target
    return np.stack([draw.skeleton(points[t], pose.scores[t], height=height, width=width) for t in range(length)])


def _hand_pictures(hands: Hands, fit: Fit, length: int) -> UInt8:
    points = fit.points(hands.joints_2d[:length])
    height, width = fit.target
    return np.stack(
        [
            draw.hand_picture(points[t], hands.joints_3d[t], hands.scores[t], height=height, width=width)
            for t in range(length)
        ]
    )


def _within(actions: Sequence[ActionCaption], length: int) -> list[ActionCaption]:
    """Actions that begin within the first `length` frames, cut off there."""
    return [
        action.model_copy(update={"end_frame": min(action.end_frame, length - 1)})
        for action in actions
        if action.start_frame < length
    ]


def _channels_first(pictures: UInt8) -> Tensor:
    """(..., H, W, 3) → (..., 3, H, W), contiguous, so that it need not be copied again on its way."""
    *front, height, width, _ = pictures.shape
    planes = np.empty((*front, 3, height, width), dtype=np.uint8)
    frames = pictures.reshape(-1, height, width, 3)
    for frame, split in zip(frames, planes.reshape(-1, 3, height, width), strict=True):
        cv2.split(frame, list(split))
    return torch.from_numpy(planes)
