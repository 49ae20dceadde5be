"""From the members of a sample to the tensors of a `Sample`.

Shape legend: T frames, H×W pixels of the video as it is given out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import get_args

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

NewTensor = Callable[[str, tuple[int, ...], torch.dtype], Tensor]
"""Makes the tensor of a name, shape and dtype, of undefined contents."""


def new_tensor(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor of its own."""
    memory = np.empty(math.prod(shape) * dtype.itemsize, np.uint8)  # numpy asks for huge pages
    return torch.from_numpy(memory).view(dtype).view(shape)


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
    new: NewTensor = new_tensor,
) -> Sample:
    """The frames of `window`, placed by `fit`, with their conditions. Draws these while the video is decoded.

    Args:
        window: what is shown.
        key: name of the sample.
        fit: of the stored pictures into those that are given out.
        garment: image and mask, see `decode_garment`.
        pictures: which pictures to draw beside the video.
        absent: (T, 133), pose points that are not to be drawn.
        new: makes the tensors of T frames, by their names in `Sample`.

    Raises:
        DatasetError: a member is missing, does not decode, or does not fit the others.

    """
    annotation, frames = window.annotation, len(window.indices)
    conditions = _Conditions(window, fit, new)
    with ThreadPoolExecutor(1) as aside:
        drawn = aside.submit(conditions.draw, pictures, absent)
        video = new("video", (frames, 3, *fit.target), torch.uint8)
        planes = video.numpy()
        window.each_image(lambda t, image: _split(fit.pictures(image[None])[0], planes[t]))
        sample: Sample = {
            "key": key,
            "video": video,
            "garment": garment[0],
            "garment_mask": garment[1],
            "labels": torch.tensor(annotation.labels)[window.indices],
            "probabilities": torch.tensor(annotation.probabilities, dtype=torch.float32)[window.indices],
            "global_caption": annotation.global_caption,
            "actions": actions_shown(annotation.actions, window.indices),
            "fps": float(window.meta.span.fps),
            "meta": window.meta,
            **drawn.result(),  # type: ignore[typeddict-item]
        }
    if "agnostic" in pictures:
        agnostic = new("agnostic_video", (frames, 3, *fit.target), torch.uint8)
        sample["agnostic_video"] = agnostic.copy_(video).masked_fill_(sample["mask"], AGNOSTIC_FILL)
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


class _Conditions:
    """Draws what goes with the video, frame by frame: a frame that is at work fits into the processor's cache."""

    def __init__(self, window: ClipWindow, fit: Fit, new: NewTensor) -> None:
        self.window, self.fit, self.new = window, fit, new
        self.frames = len(window.indices)
        self.size = {"height": fit.target[0], "width": fit.target[1]}

    def draw(self, pictures: Sequence[Picture], absent: Bool | None) -> dict[str, object]:
        """Mask and `pictures`, but for the agnostic video."""
        drawn: dict[str, object] = {"mask": self._mask()}
        if "pose" in pictures:
            drawn["pose"] = self._pose(absent)
        if "hands" in pictures:
            drawn["hands_method"] = self.window.hands.method
            drawn["hands_from"] = "mesh" if self.window.stored.has("hand_prior") else "joints"
            drawn["hands"] = self._hands()
        if "densepose" in pictures:
            drawn["densepose"] = self._densepose()
        return drawn

    def _mask(self) -> Tensor:
        mask = self.new("mask", (self.frames, 1, *self.fit.target), torch.bool)
        for t, target in enumerate(mask.numpy()):
            target[:] = self.fit.masks(self.window.mask(t)[None])
        return mask

    def _pose(self, absent: Bool | None) -> Tensor:
        points, scores = self.fit.points(self.window.pose.keypoints), self.window.pose.scores
        if absent is not None:
            scores = np.where(absent, np.float16(0), scores)
        planes, pose = self._planes("pose")
        picture = np.empty((*self.fit.target, 3), np.uint8)
        for t, target in enumerate(planes):
            _split(draw.skeleton(points[t], scores[t], **self.size, out=picture), target)
        return pose

    def _hands(self) -> Tensor:
        planes, pictures = self._planes("hands")
        pictures.zero_()
        if self.window.stored.has("hand_prior"):
            for target, shade in zip(planes, self.window.maps("hand_prior"), strict=True):
                _colour_drawn(self.fit.pictures(shade[None])[0], _HAND_COLOURS, target)
            return pictures
        hands, points = self.window.hands, self.fit.points(self.window.hands.joints_2d)
        for t in np.flatnonzero(hands.present.any(axis=1)):
            shade = draw.hand_shade(points[t], hands.joints_3d[t], hands.scores[t], **self.size)
            _colour_drawn(shade, _HAND_COLOURS, planes[t])
        return pictures

    def _densepose(self) -> Tensor:
        planes, pictures = self._planes("densepose")
        for target, parts in zip(planes, self.window.maps("densepose"), strict=True):
            _split(draw.densepose_picture(self.fit.maps(parts[None])[0]), target)
        return pictures

    def _planes(self, name: str) -> tuple[UInt8, Tensor]:
        tensor = self.new(name, (self.frames, 3, *self.fit.target), torch.uint8)
        return tensor.numpy(), tensor


_HAND_COLOURS = np.ascontiguousarray(draw.hand_colours(np.arange(256, dtype=np.uint8)[None])[0].T)
"""(3, 256)."""


def _split(picture: UInt8, planes: UInt8) -> None:
    """(H, W, 3) into (3, H, W)."""
    cv2.split(picture, list(planes))


def _colour_drawn(shade: UInt8, colours: UInt8, planes: UInt8) -> None:
    """Brightness (H, W) into black (3, H, W) by a table (3, 256), only where there is any."""
    left, top, across, down = cv2.boundingRect(shade)
    part = (slice(top, top + down), slice(left, left + across))
    for table, plane in zip(colours, planes, strict=True):
        if down:
            cv2.LUT(shade[part], table, dst=plane[part])
