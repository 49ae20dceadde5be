"""From actions in pixel frames to segments and masks in latent frames.

Wan's VAE encodes T = 4n + 1 pixel frames as f = n + 1 latent frames: latent frame 0 shows pixel frame 0, latent frame
j the pixel frames 4j - 3 to 4j. In front of them comes the reference garment's latent: F = f + 1. That iTryOn carries
its frame mask to latents in this way is inferred.

Shape legend: B samples, T pixel frames, f latent frames, F = f + 1 with the reference, S most segments of a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from schemas.annotation import ActionCaption
from schemas.errors import ConfigError
from training.model.inputs import Segments

STRIDE = 4
"""Pixel frames of a latent frame after the first."""
_GAP = -1


def latent_frames(frames: int) -> int:
    """Latent frames of `frames` pixel frames, the reference not counted.

    Raises:
        ConfigError: Wan's VAE takes no video of that length.

    """
    if frames < 1 or frames % STRIDE != 1:
        raise ConfigError(
            f"a video of {frames} frames", allowed="4n + 1 frames: 1, 5, 9, …, 81", remedy="Set `frames` so"
        )
    return 1 + frames // STRIDE


def latent_mask(labels: Tensor) -> Tensor:
    """(B, T) bool, whether a pixel frame shows an interaction → (B, F) float32 0 or 1, 0 of the reference.

    A latent frame is interactive if any of its pixel frames is. Raises `ConfigError` as `latent_frames`.
    """
    return torch.cat([torch.zeros_like(labels[:, :1]), any_frame(labels)], dim=1).float()


def any_frame(marks: Tensor) -> Tensor:
    """(B, T, ...) bool → (B, f, ...) bool: whether any pixel frame of a latent frame is marked; no reference.

    Raises `ConfigError` as `latent_frames`.
    """
    others = marks[:, 1:].unflatten(1, (latent_frames(marks.shape[1]) - 1, STRIDE)).any(2)
    return torch.cat([marks[:, :1], others], dim=1)


def segments(
    actions: Sequence[Sequence[ActionCaption]], *, frames: int
) -> tuple[Segments, list[list[tuple[int, str]]]]:
    """How the actions of each sample divide its latent frames.

    A latent frame belongs to the action that covers most of its pixel frames, the earlier of two that cover as many,
    and to the gap between actions only if none touches it. A segment is a run of latent frames of one action, or of
    one gap. An action of one to three frames that shares its only latent frame with another one that covers more of
    it, or as much and earlier, gets no segment; its caption is left out.

    Args:
        actions: of each of B samples, in time order, without overlap, within its `frames` pixel frames.
        frames: T.

    Returns:
        The segments, and of each sample (number of the segment, caption) of the actions that have one.

    Raises:
        ConfigError: `frames` is not 4n + 1, or actions overlap, are out of order or end beyond the last frame.

    """
    owners = [_owners(sample, frames=frames) for sample in actions]
    starts = [[0, *(np.flatnonzero(np.diff(owner)) + 1).tolist(), len(owner)] for owner in owners]
    longest = max((len(start) - 1 for start in starts), default=1)
    numbers = torch.full((len(owners), 1 + latent_frames(frames)), -1)
    interactive = torch.zeros(len(owners), longest, dtype=torch.bool)
    bounds = torch.zeros(len(owners), longest, 2)
    captions: list[list[tuple[int, str]]] = [[] for _ in owners]
    for sample, owner in enumerate(owners):
        for number, (first, end) in enumerate(pairwise(starts[sample])):
            numbers[sample, 1 + first : 1 + end] = number
            bounds[sample, number] = torch.tensor([first, end])
            if (action := int(owner[first])) != _GAP:
                interactive[sample, number] = True
                captions[sample].append((number, actions[sample][action].caption))
    return Segments(frames=numbers, interactive=interactive, bounds=bounds), captions


def _owners(actions: Sequence[ActionCaption], *, frames: int) -> np.ndarray:
    """(f,) int: which of `actions` each latent frame belongs to, or `_GAP`."""
    covered = np.zeros((len(actions), latent_frames(frames)), dtype=np.int64)
    last = -1
    for action, counts in zip(actions, covered, strict=True):
        if not last < action.start_frame <= action.end_frame < frames:
            raise ConfigError(
                f"action {action.caption!r} is on frames {action.start_frame} to {action.end_frame}",
                allowed=f"frames 0 to {frames - 1}, actions in time order and without overlap",
            )
        last = action.end_frame
        shown = np.arange(action.start_frame, last + 1)
        np.add.at(counts, (shown + STRIDE - 1) // STRIDE, 1)
    if not len(actions):
        return np.full(covered.shape[1], _GAP)
    return np.where(covered.any(0), covered.argmax(0), _GAP)
