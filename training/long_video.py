"""Videos of any length from a model that makes a window of frames at once (RealVVT, section 3.5).

A frame that is already made is given to the next window as known: it stands in the video, and the mask is empty there.

Shape legend: T frames of the clip, N of one window, H×W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from training.generation_settings import LongVideoSettings
from training.keyframes import body_pictures, keyframes
from training.sample import Sample
from training.segments import STRIDE
from training.windows import actions_shown

MakeWindow = Callable[[Sample], Tensor]
"""A sample of N = 4n + 1 frames → (N, 3, H, W) uint8 RGB, the video generated."""
_OF_THE_GARMENT = ("garment", "garment_mask")


def windows(frames: Sequence[int], *, length: int, overlap: int) -> list[tuple[int, ...]]:
    """Frame numbers cut into windows of `length`, each with at least the first `overlap` from the one before it.

    All have the full length, which the model knows best: the last one reaches back as far as it needs to. Frames are
    padded to 4n + 1 by repeating the last. Fewer than `length` are one window.

    Args:
        frames: numbers, one and more.
        length: N, 4n + 1.
        overlap: 4n + 1, below `length`. Windows then begin where latent frames do.

    """
    padded = [*frames, *[frames[-1]] * (-(len(frames) - 1) % STRIDE)]
    last = max(0, len(padded) - length)
    starts = [*range(0, last, length - overlap), last]
    return [tuple(padded[start : start + length]) for start in starts]


def generate_long(sample: Sample, make: MakeWindow, *, settings: LongVideoSettings) -> Tensor:
    """The whole video of `sample`, window by window.

    A clip that fits into one window is made at once. In a longer one, by `mode`, keyframes are made first, as if they
    were a video, in groups where they are more than a window; they are then known frames of the windows that they fall
    in. Either way a window continues the frames that it shares with the one before it. Nothing is cross-faded: shared
    frames are known to the second window, so a blend would only soften them. What it makes of a frame that is made
    already is not used; what it makes of a keyframe is, as it suits the frames beside it.

    Args:
        sample: the clip's conditions, T frames, see `training.sample`.
        make: the model.
        settings: window, overlap, and how keyframes are chosen.

    Returns:
        (T, 3, H, W) uint8 RGB: what the model made, also outside of the mask.

    """
    frames = len(sample["labels"])
    known: dict[int, Tensor] = {}
    if settings.mode == "keyframes" and frames > settings.window:
        chosen = keyframes(body_pictures(sample), distance=settings.pose_distance, stride=settings.max_stride)
        known = _make_all(sample, make, windows(chosen, length=settings.window, overlap=settings.overlap), known={})
    plan = windows(range(frames), length=settings.window, overlap=settings.overlap)
    made = _make_all(sample, make, plan, known=known)
    return torch.stack([made[frame] for frame in range(frames)])


def _make_all(
    sample: Sample, make: MakeWindow, plan: Sequence[Sequence[int]], *, known: dict[int, Tensor]
) -> dict[int, Tensor]:
    """Make the windows of `plan` in turn, each told what is `known` and made before; frames by number, (3, H, W)."""
    made: dict[int, Tensor] = {}
    for numbers in plan:
        told = known | made
        video = make(with_known(select(sample, numbers), [told.get(number) for number in numbers]))
        for number, frame in zip(numbers, video, strict=True):
            made.setdefault(number, frame)
    return made


def select(sample: Sample, numbers: Sequence[int]) -> Sample:
    """A sample of the frames `numbers`, in ascending order, any of them more than once; actions are renumbered.

    An action none of whose frames is among them is left out.
    """
    index = torch.tensor(numbers)
    chosen: dict[str, Any] = {
        name: value[index] if isinstance(value, Tensor) and name not in _OF_THE_GARMENT else value
        for name, value in sample.items()
    }
    return {**chosen, "actions": actions_shown(sample["actions"], index.numpy())}  # type: ignore[typeddict-item]


def with_known(sample: Sample, frames: Sequence[Tensor | None]) -> Sample:
    """`sample` with the frames that are known, (3, H, W) uint8 each: generated where its mask is, real elsewhere.

    The mask of these is empty.
    """
    video, mask = sample["video"].clone(), sample["mask"].clone()
    for place, frame in enumerate(frames):
        if frame is not None:
            video[place] = torch.where(mask[place], frame, video[place])
            mask[place] = False
    return {**sample, "video": video, "mask": mask}
