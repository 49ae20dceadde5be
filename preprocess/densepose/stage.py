"""DensePose of the full tier: part and place on the body's surface for every pixel of the presenter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

import weights
from preprocess.densepose.limbs import fill_limbs
from preprocess.devices import Precision, frames_on, torch_device, torch_dtype
from schemas.clip import Clip
from schemas.conditions import PersonTrack
from schemas.stage import ModelFile, Stage

if TYPE_CHECKING:
    from torch import Tensor

Boxes = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Look:
    """One frame of one of the clips of a batch: its picture (H, W, 3) on the device, and the box (4,) to read."""

    clip: int
    frame: int
    image: Tensor
    box: Boxes


class DensePose(Stage):
    """DensePose R-CNN (R-50 FPN, plain or DeepLab head, which the checkpoint says) on the tracked person.

    The detector of the network is not needed where the track says where the person is: `boxes: track` skips it, is
    faster, and cannot take somebody else for the presenter. `boxes: detector` reads the network's own box of that
    person, as detectron2 does, and the tracked one where it finds none.

    Frames in which the track has nobody stay empty. Gaps of at most `fill` seconds are filled: the track's by boxes
    in between; those of a limb, where there is a pose that sees it, by the limb as it is before or after.
    """

    needs: ClassVar[tuple[str, ...]] = ("video", "person")
    uses: ClassVar[tuple[str, ...]] = ("pose",)
    gives: ClassVar[tuple[str, ...]] = ("densepose", "densepose_uv")

    checkpoint: ModelFile = Field(
        default="densepose_rcnn_R_50_FPN_s1x",
        description="detectron2's published checkpoint (`.pkl`), densepose_rcnn_R_50_FPN_s1x or …_DL_s1x.",
    )
    backend: Literal["torch", "detectron2"] = Field(
        default="torch", description="`torch` needs nothing else; `detectron2` runs an installed one, in float32."
    )
    boxes: Literal["track", "detector"] = Field(
        default="track", description="Whose box of the person is read: the track's, or the network's own."
    )
    margin: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Room around the tracked box, on each side, over its own width and height.",
    )
    min_size: int = Field(
        default=800, ge=64, le=1333, description="Shorter side in pixels that frames are resized to; 800 as trained."
    )
    batch: int = Field(default=4, ge=1, le=256, description="Frames that the network sees at once.")
    device: str = Field(
        default="auto", description="Where it runs: auto (a GPU where there is one), cpu, cuda, cuda:1."
    )
    precision: Precision = Field(
        default="auto", description="Of weights and activations; auto is float16 on a GPU, float32 elsewhere."
    )
    fill: float = Field(default=0.25, ge=0, le=2, description="Longest gap in seconds that is filled; 0 fills none.")

    _reader: Any = PrivateAttr(default=None)

    def setup(self) -> None:
        """Load the network.

        Raises:
            WeightsError: the checkpoint is absent, or its keys are not those of the network.
            ConfigError: there is no such device, or no detectron2 where the backend is that.

        """
        from preprocess.densepose.model import load
        from preprocess.densepose.reader import Network, SurfaceReader

        device = torch_device(self.device)
        file = weights.path(self.checkpoint)
        network: Network
        if self.backend == "detectron2":
            from preprocess.densepose.detectron2_backend import Detectron2Network

            network = Detectron2Network(file, device=device)
        else:
            network = load(file, device=device, dtype=torch_dtype(self.precision, device))
        self._reader = SurfaceReader(network, min_size=self.min_size, detect=self.boxes == "detector")

    def process(self, clip: Clip) -> None:
        """Give `densepose` and `densepose_uv`."""
        self.process_batch([clip])

    def process_batch(self, clips: Sequence[Clip]) -> None:
        """Like `process`; frames of several clips share a batch where they are of one size."""
        for clip in clips:
            span = clip.span
            clip.artifacts["densepose"] = np.zeros((span.frames, span.height, span.width), np.uint8)
            clip.artifacts["densepose_uv"] = np.zeros((span.frames, 2, span.height, span.width), np.uint8)
        for looks in self._batches(clips):
            self._read(looks, clips)
        for clip in clips:
            longest = round(self.fill * float(clip.span.fps))
            if "pose" in clip.artifacts and longest:
                fill_limbs(
                    clip.artifacts["densepose"], clip.artifacts["densepose_uv"], clip.artifacts["pose"], longest=longest
                )

    def _read(self, looks: Sequence[_Look], clips: Sequence[Clip]) -> None:
        import torch

        images = torch.stack([look.image for look in looks])
        boxes = torch.from_numpy(np.stack([look.box for look in looks])).to(images.device)
        for look, reading in zip(looks, self._reader.read(images, boxes), strict=True):
            height, width = reading.part.shape
            rows, columns = slice(reading.y, reading.y + height), slice(reading.x, reading.x + width)
            artifacts = clips[look.clip].artifacts
            artifacts["densepose"][look.frame, rows, columns] = reading.part
            artifacts["densepose_uv"][look.frame, :, rows, columns] = reading.uv

    def _batches(self, clips: Sequence[Clip]) -> Iterator[list[_Look]]:
        device = torch_device(self.device)
        batch: list[_Look] = []
        for number, clip in enumerate(clips):
            track: PersonTrack = clip.artifacts["person"]
            boxes = _bridged(track.boxes, round(self.fill * float(clip.span.fps)))
            there = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(1))
            if self.boxes == "track":
                boxes = _widened(boxes, self.margin)
            for frame in there.tolist():
                image = frames_on(clip, device)[frame]
                if batch and (len(batch) == self.batch or batch[0].image.shape != image.shape):
                    yield batch
                    batch = []
                batch.append(_Look(number, frame, image, boxes[frame]))
        if batch:
            yield batch


def _bridged(boxes: Boxes, longest: int) -> Boxes:
    """(T, 4) `boxes` with those between two in runs of at most `longest` frames without any."""
    there = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(1))
    bridged = boxes.copy()
    for before, after in pairwise(there.tolist()):
        if 1 < after - before <= longest + 1:
            share = (np.arange(before + 1, after) - before)[:, None] / (after - before)
            bridged[before + 1 : after] = (1 - share) * boxes[before] + share * boxes[after]
    return bridged


def _widened(boxes: Boxes, margin: float) -> Boxes:
    room = margin * (boxes[:, 2:] - boxes[:, :2])
    return np.concatenate([boxes[:, :2] - room, boxes[:, 2:] + room], 1)
