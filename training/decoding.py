"""From the bytes of a sample's members to its artifacts, and on to the tensors of a `Sample`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from media import draw
from schemas.annotation import ActionCaption, Annotation
from schemas.artifacts import artifact
from schemas.conditions import Bool, Hands, Pose, UInt8
from schemas.errors import ConfigError, DatasetError
from training.fit import Fit, Size
from training.sample import Picture, Sample

META = "meta.json"


@dataclass(frozen=True, eq=False)
class StoredSample:
    """A sample's members, decoded as they are asked for.

    Attributes:
        members: name after the key → bytes, e.g. "pose.npz".
        where: shard and key, for errors.
        backend: decoder of the video, see `media.open_reader`.
    """

    members: Mapping[str, bytes]
    where: str
    backend: str = "pyav"

    def artifact(self, name: str) -> Any:
        """Value of artifact `name`, see `schemas.artifacts`. Raises `DatasetError` if missing or damaged."""
        kind = artifact(name)
        return self._decoded(kind.member, kind.decode)

    def meta(self) -> dict[str, Any]:
        """`KEY.meta.json`. Raises `DatasetError` if missing or damaged."""
        return self._decoded(META, json.loads)

    def frames(self, count: int | None = None) -> tuple[UInt8, float]:
        """The first `count` frames (None: all) as (T, H, W, 3) uint8 RGB, and frames a second.

        Raises:
            DatasetError: the video is missing, does not decode, or has fewer frames.
        """
        images, fps = self._decoded(artifact("video").member, lambda data: _decode_video(data, count))
        if count is not None and len(images) != count:
            raise self.error(f"the video has {len(images)} frames, the annotation {count} or more")
        return images, fps

    def error(self, what: str) -> DatasetError:
        """A `DatasetError` that names this sample."""
        return DatasetError(what, where=self.where, remedy="Run `vvt validate` on the dataset")

    def _decoded(self, member: str, decode: Callable[[bytes], Any]) -> Any:
        if member not in self.members:
            raise self.error(
                f"member {member} is missing; there are {', '.join(sorted(self.members)) or 'none'}"
            )
        try:
            return decode(self.members[member])
        except Exception as cause:  # a codec may raise anything at damaged bytes
            raise self.error(f"member {member} does not decode ({type(cause).__name__}: {cause})") from cause


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
    backend: str = "pyav"

    def __post_init__(self) -> None:
        if self.frames is not None and self.frames < 1:
            raise ConfigError(f"frames is {self.frames}", allowed="1 and above, or None for all")
        for name, size in (("size", self.size), ("garment_size", self.garment_size)):
            if size is not None and (len(size) != 2 or min(size) < 1):
                raise ConfigError(
                    f"{name} is {size}", allowed="(height, width) in px, or None for the stored size"
                )
        unknown = sorted(set(self.pictures) - set(get_args(Picture)))
        if unknown:
            raise ConfigError(
                f"there is no picture {', '.join(unknown)}", allowed=", ".join(get_args(Picture))
            )

    def __call__(self, key: str, members: Mapping[str, bytes], *, where: str) -> Sample:
        """Decode one sample. `where` names its place in errors.

        Raises:
            DatasetError: a member is missing, does not decode, or does not fit the others.
        """
        stored = StoredSample(members, where, self.backend)
        annotation: Annotation = stored.artifact("annotation")
        total = len(annotation.labels)
        length = total if self.frames is None else min(self.frames, total)
        video, fps = stored.frames(length)
        mask = _maps(stored, "agnostic_mask", (total, *video.shape[1:3]))[:length]
        fit = Fit.into(self.size, video.shape[1:3])
        video, mask = fit.pictures(video), fit.masks(mask)
        garment, garment_mask = self._garment(stored)
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
            "fps": fps,
            "meta": stored.meta(),
        }
        if "agnostic" in self.pictures:
            sample["agnostic_video"] = _channels_first(draw.agnostic(video, mask))
        if "pose" in self.pictures:
            sample["pose"] = _channels_first(_pose_pictures(stored, fit, total, length))
        if "hands" in self.pictures:
            sample["hands"] = _channels_first(_hand_pictures(stored, fit, total, length))
        if "densepose" in self.pictures:
            parts = fit.maps(_maps(stored, "densepose", (total, *fit.source))[:length])
            sample["densepose"] = _channels_first(draw.densepose_picture(parts))
        return sample

    def _garment(self, stored: StoredSample) -> tuple[UInt8, Bool]:
        image, mask = stored.artifact("garment"), stored.artifact("garment_mask")
        if mask.shape != image.shape[:2]:
            raise stored.error(f"garment_mask has shape {mask.shape}, the garment {image.shape[:2]}")
        fit = Fit.into(self.garment_size, mask.shape)
        return fit.pictures(image[None], fill=255)[0], fit.masks(mask[None])[0]


def _decode_video(data: bytes, count: int | None) -> tuple[UInt8, float]:
    import io
    import itertools

    import av

    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        frames = itertools.islice(container.decode(stream), count)
        return np.stack([frame.to_ndarray(format="rgb24") for frame in frames]), float(
            stream.average_rate or 0
        )


def _maps(stored: StoredSample, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Per-pixel artifact `name`, which has to have `shape`."""
    maps = stored.artifact(name)
    if maps.shape != shape:
        raise stored.error(f"{name} has shape {maps.shape}, video and annotation {shape}")
    return maps


def _pose_pictures(stored: StoredSample, fit: Fit, total: int, length: int) -> UInt8:
    pose: Pose = stored.artifact("pose")
    _check_length(stored, "pose", len(pose.keypoints), total)
    points = fit.points(pose.keypoints[:length])
    height, width = fit.target
    drawn = [
        draw.skeleton(p, s, height=height, width=width) for p, s in zip(points, pose.scores, strict=False)
    ]
    return np.stack(drawn)


def _hand_pictures(stored: StoredSample, fit: Fit, total: int, length: int) -> UInt8:
    hands: Hands = stored.artifact("hands")
    _check_length(stored, "hands", len(hands.scores), total)
    points = fit.points(hands.joints_2d[:length])
    height, width = fit.target
    return np.stack(
        [
            draw.hand_picture(points[t], hands.joints_3d[t], hands.scores[t], height=height, width=width)
            for t in range(length)
        ]
    )


def _check_length(stored: StoredSample, name: str, frames: int, total: int) -> None:
    if frames != total:
        raise stored.error(f"{name} has {frames} frames, the annotation {total}")


def _within(actions: Sequence[ActionCaption], length: int) -> list[ActionCaption]:
    """Actions that begin within the first `length` frames, cut off there."""
    return [
        action.model_copy(update={"end_frame": min(action.end_frame, length - 1)})
        for action in actions
        if action.start_frame < length
    ]


def _channels_first(pictures: UInt8) -> Tensor:
    """(..., H, W, 3) → (..., 3, H, W), contiguous, so that it need not be copied again on its way."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pictures, -1, -3)))
