"""A made-up task in which only the hand prior tells where, and only the times of action captions what and when.

A clip lies in latent space, without a VAE. Each of its frames shows the garment, one vector of 16 channels of which
the context tells, and detail of which nothing tells, as in videos. In a few interactive frames a pattern is on top:

- *where*: under the hand, which is seen in every frame, each time elsewhere, in the latents of the hand prior alone;
- *what*: one of a few patterns, named by the caption of the action;
- *when*: in the frames of the action. A clip has two actions with different captions, and attention without positions
  sees no order of words: without times, nothing tells which frames show which pattern, or any.

Noisy latents show the pattern too, the better the less noise there is.

Legend: B clips, T pixel frames, f latent frames, F = f + 1 with the reference garment first, h×w latent pixels, p×p of
them under the hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from schemas.annotation import ActionCaption
from training.conditioning import ConditionLatents, Encoded, encoded, joined
from training.segments import latent_frames, segments
from training.text import GLOBAL, side_by_side
from training.vae import SCALE

CHANNELS = 16
TEXT_WIDTH = 32
FRAMES = 65
"""T: 17 latent frames."""
SIDE = 6
"""h and w: 3×3 tokens a frame."""
HAND = 4
"""p: 2×2 tokens."""
TOKEN = 2
"""Latent pixels to a side of a token; places of the hand are so far apart."""
KINDS = 6
"""Patterns, and captions."""
ACTIONS = 2
"""In a clip."""
LENGTHS = (2, 3)
"""Pixel frames of an action: 8 % of a clip are interactive, and 16 % of its latent frames show some of that."""
WORDS = 3
"""Tokens of a caption."""
DETAILS = 4
"""Dimensions of what nothing tells."""


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """What all clips of a task share, drawn at random.

    Attributes:
        hand: (16, p, p): its latent.
        patterns: (K, 16, p, p): what an action adds to the garment's latent.
        detail: (R, 16): directions in which each latent pixel varies, normally distributed.
        captions: (K, n, D): tokens of the captions of actions.
        overall: (n, D): tokens of the global caption, which says nothing.

    """

    hand: Tensor
    patterns: Tensor
    detail: Tensor
    captions: Tensor
    overall: Tensor

    @classmethod
    def drawn(cls, seed: int) -> Self:
        generator = torch.Generator().manual_seed(seed)

        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        return cls(
            hand=random(CHANNELS, HAND, HAND),
            patterns=2 * random(KINDS, CHANNELS, HAND, HAND),
            detail=random(DETAILS, CHANNELS) / 2,
            captions=random(KINDS, WORDS, TEXT_WIDTH),
            overall=random(WORDS, TEXT_WIDTH),
        )

    def clips(self, seeds: Sequence[int]) -> Encoded:
        """The clips of B seeds, as a training step takes them."""
        clips = [self._clip(seed) for seed in seeds]
        actions = [clip.actions for clip in clips]
        timed, captions = segments(actions, frames=FRAMES)
        video, garment, hands = (
            torch.stack([getattr(clip, name) for clip in clips]) for name in ("video", "garment", "hands")
        )
        nowhere = torch.zeros(len(clips), FRAMES, SIDE * SCALE, SIDE * SCALE, dtype=torch.bool)
        pictures = ConditionLatents(
            inactive=garment.expand_as(video), reactive=torch.zeros_like(video), hands=hands, garment=garment
        )
        text = side_by_side(
            [[(GLOBAL, self.overall), *((number, self.captions[int(kind)]) for number, kind in of)] for of in captions]
        )
        labels = torch.zeros(len(clips), FRAMES, dtype=torch.bool)
        for label, of in zip(labels, actions, strict=True):
            for action in of:
                label[action.start_frame : action.end_frame + 1] = True
        return encoded(video, joined(pictures, mask=nowhere, captions=text, timed=timed), mask=nowhere, labels=labels)

    def least_error(self, sigma: Tensor) -> Tensor:
        """(B,) noise levels → (B,) mean squared error of the velocity where all but the detail is known.

        Detail is normal, so its best guess from a noisy latent is linear. Along a direction of variance s it leaves
        sσ²/((1-σ)²s + σ²) of x0, and 1/σ² times that of the velocity, which is (x_σ - x0)/σ.
        """
        variance = torch.linalg.svdvals(self.detail).square()[None]
        sigma = sigma[:, None]
        return (variance / ((1 - sigma).square() * variance + sigma.square())).sum(1) / CHANNELS

    def _clip(self, seed: int) -> _Clip:
        generator = torch.Generator().manual_seed(seed)

        def below(limit: int) -> int:
            return int(torch.randint(limit, (), generator=generator))

        frames = latent_frames(FRAMES)
        garment = torch.randn(CHANNELS, 1, 1, 1, generator=generator).expand(-1, 1, SIDE, SIDE)
        detail = torch.randn(DETAILS, frames, SIDE, SIDE, generator=generator)
        video = garment + torch.einsum("rc,rfhw->cfhw", self.detail, detail)

        actions, part = [], FRAMES // ACTIONS
        for number, kind in enumerate(torch.randperm(KINDS, generator=generator)[:ACTIONS].tolist()):
            length = LENGTHS[0] + below(LENGTHS[1] - LENGTHS[0] + 1)
            first = number * part + below(part - length + 1)
            actions.append(
                ActionCaption(category="", caption=str(kind), start_frame=first, end_frame=first + length - 1)
            )
        timed, [captions] = segments([actions], frames=FRAMES)
        kinds = {number: int(kind) for number, kind in captions}

        hands = torch.zeros_like(video)
        for frame, segment in enumerate(timed.frames[0, 1:].tolist()):
            top, left = (TOKEN * below((SIDE - HAND) // TOKEN + 1) for _ in range(2))
            place = (slice(None), frame, slice(top, top + HAND), slice(left, left + HAND))
            hands[place] = self.hand
            if segment in kinds:
                video[place] += self.patterns[kinds[segment]]
        return _Clip(video=video, garment=garment, hands=hands, actions=actions)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Clip:
    """Latents (16, f, h, w), the garment's (16, 1, h, w), and the actions, whose captions are numbers of patterns."""

    video: Tensor
    garment: Tensor
    hands: Tensor
    actions: list[ActionCaption]
