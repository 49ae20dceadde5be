"""The labels of a clip as a strip: evidence as a curve, interactions as bars, frames as ticks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from schemas.annotation import DEFAULT_CATEGORIES, ActionCaption, Annotation
from schemas.conditions import UInt8

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

# Okabe and Ito's hues, told apart with any colour vision (https://jfly.uni-koeln.de/color/), dark enough for
# white words.
PALETTE = ((0, 114, 178), (190, 84, 0), (0, 128, 93), (166, 84, 129), (140, 98, 0), (98, 70, 160))
CURVE = (120, 128, 140)
_INK, _FAINT, _PAPER = (40, 44, 52), (214, 218, 224), (255, 255, 255)
_TICK_EVERY = (1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2000, 5000)


def category_colour(category: str) -> tuple[int, int, int]:
    """The colour of a category, the same in every strip; categories of a user's own share the last one."""
    names = list(DEFAULT_CATEGORIES)
    return PALETTE[names.index(category) if category in names else len(PALETTE) - 1]


def timeline(
    annotation: Annotation, *, width: int, height: int = 96, text_size: int = 14, marks: Sequence[int] = ()
) -> UInt8:
    """Draw what `annotation` says over time, first frame at the left edge, last at the right.

    From top to bottom: a bar for each action with its caption, the probability per frame from 0 (bottom) to 1
    (top), a tick row with frame numbers. `marks` are frames to point at with a triangle.

    Returns:
        (height, width, 3) uint8 RGB on white.

    """
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(image)
    draw.font = ImageFont.load_default(size=text_size)
    frames = max(1, len(annotation.labels))
    strip = _Strip(draw, frames=frames, width=width, height=height, text_size=text_size)
    strip.curve(annotation.probabilities)
    strip.ticks(marks)
    starts = [*(action.start_frame for action in annotation.actions), frames]
    for action, next_start in zip(annotation.actions, starts[1:], strict=True):
        strip.action(action, next_start=next_start)
    if not annotation.actions:
        draw.text((0, 3), "no interaction", fill=CURVE)
    return np.asarray(image)


@dataclass(frozen=True)
class _Strip:
    draw: ImageDraw
    frames: int
    width: int
    height: int
    text_size: int

    @property
    def top(self) -> int:
        """Upper edge of the curve: the bars end here."""
        return self.text_size + 8

    @property
    def bottom(self) -> int:
        """Lower edge of the curve: the ticks begin here."""
        return self.height - self.text_size - 8

    def x(self, frame: float) -> float:
        """Left edge of `frame`."""
        return frame / self.frames * (self.width - 1)

    def ticks(self, marks: Sequence[int]) -> None:
        self.draw.line([(0, self.bottom), (self.width, self.bottom)], fill=_INK)
        room = self.draw.textlength("00000")
        step = next((every for every in _TICK_EVERY if self.x(every) >= room), _TICK_EVERY[-1])
        for frame in range(0, self.frames, step):
            middle = self.x(frame + 0.5)
            self.draw.line([(middle, self.bottom), (middle, self.bottom + 4)], fill=_INK)
            half = self.draw.textlength(str(frame)) / 2
            left = min(max(middle - half, 0), self.width - 2 * half)
            self.draw.text((left, self.bottom + 5), str(frame), fill=_INK)
        for frame in marks:
            middle = self.x(frame + 0.5)
            self.draw.polygon(
                [(middle - 5, self.bottom), (middle + 5, self.bottom), (middle, self.bottom - 8)], fill=_INK
            )

    def curve(self, probabilities: Sequence[float]) -> None:
        if not probabilities:
            return
        heights = [self.bottom - p * (self.bottom - self.top) for p in probabilities]
        points = [(self.x(i + 0.5), y) for i, y in enumerate(heights)]
        points = [(0, heights[0]), *points, (self.width, heights[-1])]
        self.draw.polygon([(0, self.bottom), *points, (self.width, self.bottom)], fill=_FAINT)
        self.draw.line(points, fill=CURVE, width=2, joint="curve")

    def action(self, action: ActionCaption, *, next_start: int) -> None:
        """Bar and caption; the caption stands behind a bar that is too short for it, where that is free."""
        colour = category_colour(action.category)
        left, right = self.x(action.start_frame), self.x(action.end_frame + 1)
        self.draw.rectangle([left, 0, right, self.top - 2], fill=colour)
        for edge in (left, right):
            self.draw.line([(edge, self.top), (edge, self.bottom)], fill=colour)
        words = f"{action.caption} [{action.start_frame}, {action.end_frame}]"
        inside, behind = right - left - 8, self.x(next_start) - right - 12
        if self.draw.textlength(words) > inside and behind > inside:
            self.draw.text((right + 6, 3), _shortened(self.draw, words, behind), fill=colour)
        else:
            self.draw.text((left + 4, 3), _shortened(self.draw, words, inside), fill=_PAPER)


def _shortened(draw: ImageDraw, words: str, room: float) -> str:
    """`words`, cut at the end to fit `room` px."""
    if draw.textlength(words) <= room:
        return words
    while words and draw.textlength(words + "…") > room:
        words = words[:-1]
    return words.rstrip() + "…" if words else ""
