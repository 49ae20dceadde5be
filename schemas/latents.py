"""Windows of a clip as a trainer reads them instead of pictures and captions: latents and embedded captions.

Shape legend: N windows of T = 4n + 1 frames of H×W pixels, multiples of 16; f = n + 1 latent frames of h = H/8 by
w = W/8; C captions of L tokens together, D the width of a token.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.annotation import Annotation
from schemas.conditions import Bool, UInt8, check_array
from schemas.errors import ArtifactError

Float16 = NDArray[np.float16]
CHANNELS = 16
"""Of the latents of Wan's VAE."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Latents:
    """Latents of Wan's VAE, normalised as its transformers are trained on them, and embeddings of its text encoder.

    Floats are of 16 bits with 11 of them for the fraction: latents, of the size of 1, are off by 1/2048 at most, and
    what a network in bfloat16 gave (8 bits) is kept as it was.

    Attributes:
        frames: (N, T) int32, rising: frames of the clip that each window shows.
        video: (N, 16, f, h, w) float16: the target.
        inactive: (N, 16, f, h, w) float16: the agnostic video, mid-grey (0) where it is repainted.
        reactive: (N, 16, f, h, w) float16: the pose picture.
        hands: (N, 16, f, h, w) float16: the hand prior.
        garment: (16, 1, h, w) float16: the reference garment.
        mask: (N, T, H, W / 8) uint8: the region to repaint, packed along x, highest bit first.
        tokens: (L, D) float16: the captions that `caption_texts` gives, one after the other.
        lengths: (C,) int32: tokens of each.
        pose_everywhere: () bool: whether the pose picture shows beyond the mask.

    """

    frames: NDArray[np.int32]
    video: Float16
    inactive: Float16
    reactive: Float16
    hands: Float16
    garment: Float16
    mask: UInt8
    tokens: Float16
    lengths: NDArray[np.int32]
    pose_everywhere: Bool

    def __post_init__(self) -> None:
        check_array(self.frames, name="latents.frames", shape=(None, None), dtype=np.int32)
        windows, length = self.frames.shape
        if windows < 1 or length % 4 != 1 or self.frames[:, 0].min() < 0 or (np.diff(self.frames) < 0).any():
            raise ArtifactError(
                f"latents.frames are {windows} windows of {length} frames", allowed="4n + 1 rising frames from 0 on"
            )
        check_array(self.video, name="latents.video", shape=(windows, CHANNELS, None, None, None), dtype=np.float16)
        *_, height, width = self.video.shape
        shape = (windows, CHANNELS, length // 4 + 1, height, width)
        for name in ("video", "inactive", "reactive", "hands"):
            check_array(getattr(self, name), name=f"latents.{name}", shape=shape, dtype=np.float16)
        garment = (CHANNELS, 1, height, width)
        check_array(self.garment, name="latents.garment", shape=garment, dtype=np.float16)
        check_array(self.mask, name="latents.mask", shape=(windows, length, 8 * height, width), dtype=np.uint8)
        check_array(self.tokens, name="latents.tokens", shape=(None, None), dtype=np.float16)
        check_array(self.lengths, name="latents.lengths", shape=(None,), dtype=np.int32)
        check_array(self.pose_everywhere, name="latents.pose_everywhere", shape=(), dtype=np.bool_)
        if (self.lengths < 1).any() or self.lengths.sum() != len(self.tokens):
            raise ArtifactError(f"latents.lengths add up to {self.lengths.sum()} tokens of {len(self.tokens)}")


def caption_texts(annotation: Annotation) -> list[str]:
    """Captions of a clip in the order of `Latents.lengths`: the empty one, the global one, then the actions'."""
    return ["", annotation.global_caption, *(action.caption for action in annotation.actions)]
