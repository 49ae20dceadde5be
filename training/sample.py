"""What a trainer sees: one sample, or a batch of them, as tensors.

Shape legend: T frames, H×W pixels of the video, h×w of the garment image, B samples of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

import torch
from torch import Tensor

from schemas.annotation import ActionCaption
from schemas.errors import ConfigError
from schemas.tables import Meta

Picture = Literal["agnostic", "pose", "hands", "densepose"]
HandsFrom = Literal["mesh", "joints"]


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowLatents:
    """A window as it was encoded when the dataset was built; f latent frames of H/8×W/8, see `schemas.latents`.

    Attributes:
        video, inactive, reactive, hands: (16, f, H/8, W/8) float16.
        garment: (16, 1, H/8, W/8) float16.
        mask: (T, H, W/8) uint8, packed along x, highest bit first.
        captions: text → (n, D) float16 tokens, of the clip's captions and the empty one.
        pose_everywhere: whether the pose picture shows beyond the mask.

    """

    video: Tensor
    inactive: Tensor
    reactive: Tensor
    hands: Tensor
    garment: Tensor
    mask: Tensor
    captions: Mapping[str, Tensor]
    pose_everywhere: bool


class Sample(TypedDict):
    """One clip. Pictures are uint8 RGB 0..255; `to_unit_range` makes them float -1..1, best on the GPU.

    The keys of pictures that the dataset was not asked for are absent, and with `latents` those of all pictures.
    """

    key: str
    """Name of the sample, unique in the dataset."""
    video: Tensor
    """(T, 3, H, W) uint8: the person in the garment."""
    agnostic_video: NotRequired[Tensor]
    """(T, 3, H, W) uint8: `video` with the region to repaint in grey 126."""
    mask: Tensor
    """(T, 1, H, W) bool: the region to repaint."""
    pose: NotRequired[Tensor]
    """(T, 3, H, W) uint8: body, hands and face as DWPose draws them."""
    hands: NotRequired[Tensor]
    """(T, 3, H, W) uint8: both hands as shaded solids on black, the prior that does not depend on the garment."""
    hands_from: NotRequired[HandsFrom]
    """What `hands` shows: "mesh", the MANO meshes as rendered when the dataset was built, or "joints", drawn from
    these in the same style where there are no meshes."""
    hands_method: NotRequired[str]
    """Which model found the hands of `hands`, e.g. "hamer" or "mediapipe"."""
    densepose: NotRequired[Tensor]
    """(T, 3, H, W) uint8: DensePose parts in VIRIDIS."""
    garment: Tensor
    """(3, h, w) uint8: the garment image."""
    garment_mask: Tensor
    """(1, h, w) bool: where the garment is in it."""
    labels: Tensor
    """(T,) bool: whether a hand handles the garment in the frame."""
    probabilities: Tensor
    """(T,) float32 0..1: the evidence for it before smoothing."""
    global_caption: str
    """What the whole clip shows."""
    actions: list[ActionCaption]
    """Interactions within `video`, in its frame numbers."""
    fps: float
    """Frames a second of `video`."""
    meta: Meta
    """`KEY.meta.json`: pair, source, span, stages, metrics."""
    window: NotRequired[tuple[int, int]]
    """First and last frame of the stored clip that `video` shows; this and what follows: of `TrainingClips` only."""
    paired: NotRequired[bool]
    """Whether `garment` is the one that the person wears; else it is that of `garment_key`."""
    garment_key: NotRequired[str]
    """Name of the sample that `garment` is of."""
    repeated: NotRequired[bool]
    """Whether the sample only fills up a batch: the epoch has it in another place too."""
    seed: NotRequired[int]
    """63 bits that all random choices of the sample follow from, for those of the trainer too."""
    latents: NotRequired[WindowLatents]
    """What there is in place of pictures, masks and `probabilities` where `DataSettings.latents` asks for it."""


class Batch(TypedDict):
    """Samples side by side, shorter ones padded at the end with zeros (masks and labels: false)."""

    key: list[str]
    lengths: Tensor
    """(B,) int64: frames of each sample before padding."""
    video: Tensor
    """(B, T, 3, H, W) uint8; the other pictures alike."""
    agnostic_video: NotRequired[Tensor]
    mask: Tensor
    """(B, T, 1, H, W) bool."""
    pose: NotRequired[Tensor]
    hands: NotRequired[Tensor]
    hands_from: NotRequired[list[HandsFrom]]
    hands_method: NotRequired[list[str]]
    densepose: NotRequired[Tensor]
    garment: Tensor
    """(B, 3, h, w) uint8."""
    garment_mask: Tensor
    """(B, 1, h, w) bool."""
    labels: Tensor
    """(B, T) bool."""
    probabilities: Tensor
    """(B, T) float32."""
    fps: Tensor
    """(B,) float32."""
    global_caption: list[str]
    actions: list[list[ActionCaption]]
    meta: list[Meta]
    window: NotRequired[list[tuple[int, int]]]
    paired: NotRequired[Tensor]
    """(B,) bool."""
    garment_key: NotRequired[list[str]]
    repeated: NotRequired[Tensor]
    """(B,) bool."""
    seed: NotRequired[Tensor]
    """(B,) int64."""
    latents: NotRequired[list[WindowLatents]]


_NUMBERS = {"fps": torch.float32, "paired": torch.bool, "repeated": torch.bool, "seed": torch.int64}


def to_unit_range(pictures: Tensor) -> Tensor:
    """uint8 0..255 of any shape → float32 -1..1 of the same shape."""
    return pictures.to(torch.float32) / 127.5 - 1


def collate(samples: Sequence[Sample], *, stacked: Mapping[str, Tensor] | None = None) -> Batch:
    """Stack samples into a batch: `DataLoader(dataset, batch_size=4, collate_fn=collate)`.

    `stacked` are tensors of the batch, by name, in which those of the samples lie side by side already.

    Raises:
        ConfigError: the samples differ in picture size, or there is none.

    """
    if not samples:
        raise ConfigError("a batch of no samples", allowed="one sample and more")
    batch: dict[str, Any] = {"lengths": torch.tensor([len(sample["labels"]) for sample in samples])}
    for name in samples[0]:
        values: list[Any] = [sample[name] for sample in samples]  # type: ignore[literal-required]
        if stacked and name in stacked:
            batch[name] = stacked[name]
        elif name in ("garment", "garment_mask"):
            batch[name] = torch.stack(_of_one_size(values, name, setting="garment_size"))
        elif isinstance(values[0], Tensor):
            batch[name] = torch.nn.utils.rnn.pad_sequence(_of_one_size(values, name, setting="size"), batch_first=True)
        else:
            batch[name] = torch.tensor(values, dtype=_NUMBERS[name]) if name in _NUMBERS else values
    return batch  # type: ignore[return-value]


def _of_one_size(tensors: list[Tensor], name: str, *, setting: str) -> list[Tensor]:
    sizes = sorted({tuple(tensor.shape[-2:]) for tensor in tensors if tensor.ndim > 1})
    if len(sizes) > 1:
        raise ConfigError(
            f"the samples of a batch have {name} of {len(sizes)} sizes: {sizes}",
            remedy=f"Set `{setting}=(height, width)` on the dataset, or use batch_size=1",
        )
    return tensors
