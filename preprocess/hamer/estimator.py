"""HaMeR's network over the hands of whole clips, in full batches. Shape legend: T frames, N hands, M in a batch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from media.frames import frames
from preprocess.hamer.boxes import hand_boxes, worth_a_look
from preprocess.hamer.camera import full_focal, full_translation
from preprocess.hamer.crop import Square, crop_hand, square_around
from preprocess.hamer.network import JOINTS, SHAPES, HamerNetwork, HandParameters
from preprocess.hamer.smoothing import HandTrack
from schemas.clip import Clip
from schemas.conditions import RIGHT, Float32, UInt8
from schemas.errors import StageError

_NEAREST = 0.5
"""Metres from the camera; hands nearer than this are none. (HaMeR's focal length puts real ones beyond 5.)"""


@dataclass(frozen=True, eq=False)
class _Look:
    """One hand to look at."""

    image: UInt8
    square: Square
    right: bool


@dataclass(frozen=True, eq=False)
class _Found:
    """Where the hands of one clip are: frames and sides (N,), confidences (T, 2), squares of each of N."""

    frames: NDArray[np.int64]
    sides: NDArray[np.int64]
    confidence: Float32
    squares: list[Square]


class HandEstimator:
    """Looks at the hands that the pose shows.

    Args:
        network: on its device, ready to run.
        focal: of the crop's camera, px of the crop.
        batch: most crops that the network sees at once.
        sure: confidence above which a keypoint of a hand counts.

    """

    def __init__(self, network: HamerNetwork, *, focal: float, batch: int, sure: float) -> None:
        self._network, self._focal, self._batch, self._sure = network, focal, batch, sure
        self._device = next(network.parameters()).device

    def __call__(self, clips: Sequence[Clip]) -> list[HandTrack]:
        """Both hands of every clip, as seen in each frame alone. The clips hold `video` and `pose`."""
        found = [self._find(clip) for clip in clips]
        looks = (
            _Look(frames(clip).images[frame], square, bool(side == RIGHT))
            for clip, hands in zip(clips, found, strict=True)
            for frame, side, square in zip(hands.frames, hands.sides, hands.squares, strict=True)
        )
        seen = self._see(looks)
        ends = itertools.accumulate(len(hands.squares) for hands in found)
        return [
            self._track(clip, hands, [values[end - len(hands.squares) : end] for values in seen])
            for clip, hands, end in zip(clips, found, ends, strict=True)
        ]

    def _find(self, clip: Clip) -> _Found:
        pose = clip.artifacts["pose"]
        boxes, confidence = hand_boxes(pose, sure=self._sure)
        shown = worth_a_look(pose, boxes, confidence, height=clip.span.height, width=clip.span.width)
        at, sides = np.nonzero(shown)
        return _Found(
            frames=at, sides=sides, confidence=confidence, squares=[square_around(box) for box in boxes[shown]]
        )

    @torch.inference_mode()
    def _see(self, looks: Iterable[_Look]) -> list[Tensor]:
        """`HandParameters` of all looks, field by field, on the CPU."""
        seen = []
        with ThreadPoolExecutor() as pool:  # OpenCV and scipy let go of the interpreter
            for batch in _in_batches(looks, self._batch):
                crops = torch.from_numpy(np.stack(list(pool.map(_crop, batch))))
                if self._device.type == "cuda":  # crops of the next batch are cut while this one runs
                    crops = crops.pin_memory()
                seen.append(self._network(crops.to(self._device, non_blocking=True)))
        names = [field.name for field in fields(HandParameters)]
        return [torch.cat([getattr(part, name) for part in seen]).cpu() for name in names] if seen else []

    def _track(self, clip: Clip, hands: _Found, seen: Sequence[Tensor]) -> HandTrack:
        count = clip.span.frames
        scores = np.zeros((count, 2), np.float32)
        rotations = np.zeros((count, 2, JOINTS, 3, 3), np.float32)
        betas, translation = np.zeros((count, 2, SHAPES), np.float32), np.zeros((count, 2, 3), np.float32)
        if hands.squares:
            if not all(values.isfinite().all() for values in seen):
                raise StageError(
                    "HaMeR's network gave NaN or infinity", where=clip.key,
                    remedy="Set precision: bfloat16 or float32 if it was float16, else the checkpoint is damaged",
                )  # fmt: skip
            orient, pose, shape, camera = seen
            place = self._place(clip, hands, camera)
            sound = place[:, 2] > _NEAREST  # a scale below 0 would even put it behind the camera
            at = hands.frames[sound], hands.sides[sound]
            scores[at] = hands.confidence[at]
            rotations[at] = torch.cat([orient[:, None], pose], dim=1).numpy()[sound]
            betas[at], translation[at] = shape.numpy()[sound], place[sound]
        return HandTrack(scores=scores, rotations=rotations, betas=betas, translation=translation)

    def _place(self, clip: Clip, hands: _Found, camera: Tensor) -> Float32:
        width, height = clip.span.width, clip.span.height
        return full_translation(
            camera,
            centers=torch.from_numpy(np.stack([square.center for square in hands.squares])),
            sizes=torch.tensor([square.size for square in hands.squares]),
            right=torch.from_numpy(hands.sides == RIGHT),
            width=width, height=height, focal=full_focal(width, height, focal=self._focal),
        ).numpy()  # fmt: skip


def _crop(look: _Look) -> Float32:
    return crop_hand(look.image, look.square, right=look.right)


def _in_batches(looks: Iterable[_Look], most: int) -> Iterator[list[_Look]]:
    looks = iter(looks)
    while batch := list(itertools.islice(looks, most)):
        yield batch
