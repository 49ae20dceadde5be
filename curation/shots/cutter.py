"""From frame scores to clips: a state machine without pictures, I/O or models."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from curation.shots.base import FrameScore

GRADUAL_FRAMES = 3
"""A boundary of this many frames is gradual and trimmed off; a shorter one is a hard cut, or a flash."""

MARGIN_FRAMES = 2
"""Frames trimmed off at either side of a gradual transition, whose first and last steps are hardly seen."""

EPSILON = 1e-6


class Kind(StrEnum):
    """What a run of frames is."""

    CLIP = "clip"
    SHORT = "short"
    TRANSITION = "transition"


@dataclass(frozen=True, slots=True)
class Run:
    """The next `frames` frames of the stream, of one kind.

    Attributes:
        kind: CLIP: they belong to the clip being cut; SHORT: they are a whole shot that is too short; TRANSITION:
            they belong to no shot.
        frames: how many.
        ends: the clip, short shot or transition ends with them.
        score: the highest cut score among them, a hard cut's own at the end left out.
    """

    kind: Kind
    frames: int
    ends: bool
    score: float


@dataclass(frozen=True, slots=True)
class _Frame:
    seconds: float
    score: float


class Cutter:
    """Divides a stream of scored frames into runs, each released as soon as it is known where it belongs.

    Every frame comes out in exactly one run, in order. Hard cuts divide between two frames; gradual transitions
    are runs of their own. One or two odd frames without a cut are a flash and stay in their shot. Shots longer than
    `max_seconds` are divided so that no piece is shorter than `min_seconds`; for that, frames from `max_seconds -
    min_seconds` on are held back until the shot's end is known or `min_seconds` more have come.

    Args:
        min_seconds: shorter shots come out as SHORT.
        max_seconds: longer shots are divided; at least twice `min_seconds`.
        frame_seconds: usual time between two frames.
        trim: whether gradual transitions are trimmed off. Otherwise each is divided at its first cut frame and its
            frames stay in the shots.
    """

    def __init__(self, *, min_seconds: float, max_seconds: float, frame_seconds: float, trim: bool = True) -> None:
        if max_seconds < 2 * min_seconds:
            raise ValueError(f"{max_seconds = } is less than twice {min_seconds = }: long shots could not be divided")
        self._min, self._max, self._frame_seconds = min_seconds, max_seconds, frame_seconds
        self._trim = trim
        self._was_cut = False
        self._held: deque[_Frame] = deque()  # of the open piece, not yet released
        self._boundary: list[tuple[_Frame, FrameScore]] = []  # too few frames yet to say what they are
        self._start: float | None = None  # of the open piece
        self._released = False  # some frames of the open piece are
        self._gradual = False  # inside a gradual transition
        self._trailing = 0  # frames still to be trimmed after it

    def push(self, seconds: float, score: FrameScore) -> Iterator[Run]:
        """Take the next frame, shown from `seconds` on. `seconds` must increase."""
        frame = _Frame(seconds, score.score)
        if not self._trim:
            score, self._was_cut = FrameScore(score.cut and not self._was_cut, False, score.score), score.cut
        if self._gradual:
            yield from self._push_gradual(frame, score)
        elif score.boundary:
            self._boundary.append((frame, score))
            if len(self._boundary) == GRADUAL_FRAMES:
                yield from self._begin_gradual()
        else:
            yield from self._settle_boundary()
            yield from self._hold(frame)

    def flush(self) -> Iterator[Run]:
        """End the stream."""
        yield from self._settle_boundary()
        yield from self._end_shot()
        if self._gradual:
            yield Run(Kind.TRANSITION, 0, True, 0.0)
            self._gradual = False

    def _push_gradual(self, frame: _Frame, score: FrameScore) -> Iterator[Run]:
        if score.boundary:
            self._trailing = MARGIN_FRAMES
        elif self._trailing:
            self._trailing -= 1
        else:
            self._gradual = False
            yield Run(Kind.TRANSITION, 0, True, 0.0)
            yield from self._hold(frame)
            return
        yield Run(Kind.TRANSITION, 1, False, frame.score)

    def _begin_gradual(self) -> Iterator[Run]:
        trimmed = [self._held.pop() for _ in range(min(MARGIN_FRAMES, len(self._held)))]
        yield from self._end_shot()
        trimmed += [frame for frame, _ in self._boundary]
        yield Run(Kind.TRANSITION, len(trimmed), False, _highest(trimmed))
        self._boundary, self._gradual, self._trailing = [], True, MARGIN_FRAMES

    def _settle_boundary(self) -> Iterator[Run]:
        """A boundary too short to be gradual: a hard cut after its first cut frame, or a flash."""
        boundary, self._boundary = self._boundary, []
        for position, (frame, score) in enumerate(boundary):
            yield from self._hold(_Frame(frame.seconds, 0.0) if score.cut else frame)
            if score.cut:
                yield from self._end_shot()
                if between := [frame for frame, _ in boundary[position + 1 :]]:
                    yield Run(Kind.TRANSITION, len(between), True, _highest(between))
                return

    def _hold(self, frame: _Frame) -> Iterator[Run]:
        if self._start is None:
            self._start = frame.seconds
        self._held.append(frame)
        # A gradual transition may still trim the newest frames.
        margin = MARGIN_FRAMES * self._frame_seconds + EPSILON
        elapsed = self._elapsed(frame)
        if elapsed > self._max + self._min + margin:
            yield from self._release(up_to=self._max, ends=True)
        elif elapsed > self._min + margin:
            yield from self._release(up_to=min(elapsed - margin, self._max - self._min), ends=False)

    def _end_shot(self) -> Iterator[Run]:
        """The shot ends with the newest held frame: divide what is too long for one clip."""
        if self._held and self._elapsed(self._held[-1]) > self._max + EPSILON:
            half = self._elapsed(self._held[-1]) / 2
            yield from self._release(up_to=max(self._max - self._min, half), ends=True)
        if self._held or self._released:
            yield from self._release(up_to=math.inf, ends=True)
        self._start = None

    def _release(self, *, up_to: float, ends: bool) -> Iterator[Run]:
        """Let go of the held frames that are over within `up_to` seconds of the piece's start."""
        going: list[_Frame] = []
        while self._held and self._elapsed(self._held[0]) <= up_to + EPSILON:
            going.append(self._held.popleft())
        if going or ends:
            short = ends and not self._released and self._elapsed(going[-1]) < self._min - EPSILON
            yield Run(Kind.SHORT if short else Kind.CLIP, len(going), ends, _highest(going))
        self._released = not ends and (self._released or bool(going))
        if ends and self._held:
            self._start = self._held[0].seconds

    def _elapsed(self, frame: _Frame) -> float:
        """Seconds from the start of the open piece to the end of `frame`."""
        assert self._start is not None
        return frame.seconds + self._frame_seconds - self._start


def _highest(frames: list[_Frame]) -> float:
    return max((frame.score for frame in frames), default=0.0)
