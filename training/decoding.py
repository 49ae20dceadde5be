"""From the members of a sample to the tensors of a `Sample`.

Shape legend: T frames, H×W pixels of the video as it is given out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import cv2
import numpy as np
import torch
from torch import Tensor

from media import draw
from media.draw.overlay import AGNOSTIC_FILL
from media.reader import Backend
from schemas.annotation import Annotation
from schemas.conditions import Bool, UInt8
from schemas.errors import ConfigError
from training.clip_window import ClipWindow
from training.fit import Fit, Size
from training.sample import Picture, Sample
from training.stored import StoredSample
from training.windows import actions_shown


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
        window = ClipWindow(stored, annotation, np.arange(total if self.frames is None else min(self.frames, total)))
        return decode_window(
            window,
            key=key,
            fit=Fit.into(self.size, window.source),
            garment=decode_garment(stored, self.garment_size),
            pictures=self.pictures,
        )


def decode_window(
    window: ClipWindow,
    *,
    key: str,
    fit: Fit,
    garment: tuple[Tensor, Tensor],
    pictures: Sequence[Picture],
    absent: Bool | None = None,
) -> Sample:
    """The frames of `window`, placed by `fit`, with their conditions.

    Args:
        window: what is shown.
        key: name of the sample.
        fit: of the stored pictures into those that are given out.
        garment: image and mask, see `decode_garment`.
        pictures: which pictures to draw beside the video.
        absent: (T, 133), pose points that are not to be drawn.

    Raises:
        DatasetError: a member is missing, does not decode, or does not fit the others.

    """
    annotation, frames = window.annotation, len(window.indices)
    size = (frames, 3, *fit.target)
    mask = torch.from_numpy(fit.masks(window.mask))[:, None]
    sample: Sample = {
        "key": key,
        "video": torch.zeros(size, dtype=torch.uint8),
        "mask": mask,
        "garment": garment[0],
        "garment_mask": garment[1],
        "labels": torch.tensor(annotation.labels)[window.indices],
        "probabilities": torch.tensor(annotation.probabilities, dtype=torch.float32)[window.indices],
        "global_caption": annotation.global_caption,
        "actions": actions_shown(annotation.actions, window.indices),
        "fps": float(window.meta.span.fps),
        "meta": window.meta,
    }
    video = sample["video"].numpy()
    window.each_image(lambda t, image: _split(fit.pictures(image[None])[0], video[t]))
    if "agnostic" in pictures:
        sample["agnostic_video"] = sample["video"].masked_fill(mask, AGNOSTIC_FILL)
    if "pose" in pictures:
        sample["pose"] = _drawn(size, _pose(window, fit, absent))
    if "hands" in pictures:
        sample["hands_method"] = window.hands.method
        if window.stored.has("hand_prior"):
            shade = fit.pictures(window.maps("hand_prior"))
            sample["hands_from"], hands = "mesh", lambda t: draw.hand_colours(shade[t])
        else:
            sample["hands_from"], hands = "joints", _hands(window, fit)
        sample["hands"] = _drawn(size, hands)
    if "densepose" in pictures:
        parts = fit.maps(window.maps("densepose"))
        sample["densepose"] = _drawn(size, lambda t: draw.densepose_picture(parts[t]))
    return sample


def decode_garment(stored: StoredSample, size: Size | None) -> tuple[Tensor, Tensor]:
    """Garment (3, h, w) uint8 and its mask (1, h, w) bool, fitted into `size`, on white.

    Raises:
        DatasetError: one is missing or damaged, or they differ in size.

    """
    image, mask = stored.artifact("garment"), stored.artifact("garment_mask")
    if mask.shape != image.shape[:2]:
        raise stored.error(f"garment_mask has shape {mask.shape}, the garment {image.shape[:2]}")
    fit = Fit.into(size, mask.shape)
    planes = np.ascontiguousarray(fit.pictures(image[None], fill=255)[0].transpose(2, 0, 1))
    return torch.from_numpy(planes), torch.from_numpy(fit.masks(mask[None]))


def _pose(window: ClipWindow, fit: Fit, absent: Bool | None) -> Callable[[int], UInt8]:
    points, (height, width) = fit.points(window.pose.keypoints), fit.target
    scores = window.pose.scores if absent is None else np.where(absent, np.float16(0), window.pose.scores)
    return lambda t: draw.skeleton(points[t], scores[t], height=height, width=width)


def _hands(window: ClipWindow, fit: Fit) -> Callable[[int], UInt8]:
    hands, (height, width) = window.hands, fit.target
    points = fit.points(hands.joints_2d)
    return lambda t: draw.hand_picture(points[t], hands.joints_3d[t], hands.scores[t], height=height, width=width)


def _drawn(size: tuple[int, ...], picture: Callable[[int], UInt8]) -> Tensor:
    """(T, 3, H, W) uint8 of the (H, W, 3) picture of each frame."""
    planes = torch.zeros(size, dtype=torch.uint8)
    for t, target in enumerate(planes.numpy()):
        _split(picture(t), target)
    return planes


def _split(picture: UInt8, planes: Any) -> None:
    """(H, W, 3) into (3, H, W)."""
    cv2.split(picture, list(planes))
