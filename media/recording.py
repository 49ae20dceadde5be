"""A raw recording as a stream of pictures with exact times: one pass, constant memory."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from media.clock import LONGEST_HOLD, Clock
from media.decoding import Decoded, decode
from media.inputs import DEFAULT_LIMITS, Input
from media.pictures import PictureFilter, fitted_size
from media.probing import probe_input
from media.skipping import skip_to
from schemas.errors import MediaError
from schemas.limits import Limits

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

WORTH_SKIPPING = 2
"""Seconds before `start` from which on they are passed over undecoded, where that can be done exactly."""

A_DAY = 86400.0
"""Seconds that one picture may stay where the clock does not jump; beyond, it was the clock all the same, or damage."""
LONGEST_SIDE = 16384
"""Pixels; x264 encodes no longer side."""


@dataclass(frozen=True, eq=False)
class DecodedFrame:
    """One picture of a recording.

    Attributes:
        index: how many frames of the recording come before it, in display order.
        pts: when it appears, in units of the recording's time base; strictly increasing.
        picture: yuv420p, 8 bit, SDR, limited range, progressive, upright, square pixels, even size.
        bytes: compressed bytes that the recording spends on it.

    """

    index: int
    pts: int
    picture: VideoFrame
    bytes: int


class Recording:
    """Iterates over a recording's pictures, once, from its start or a part of it.

    Timestamps that are missing, doubled or jump are repaired (`media.clock`); packets that do not decode are
    skipped.

    Args:
        video: path or fsspec URL, or the file's bytes.
        start: seconds after the first frame; earlier frames are counted, not yielded.
        end: seconds after the first frame; frames from there on are not yielded.
        max_short_side: pictures are scaled down so that their shorter side is at most this, in pixels.
        limits: what opening and reading it may cost.

    Attributes:
        source: what the recording is.
        time_base: seconds per unit of the frames' `pts`.
        width: of the pictures, in pixels.
        height: of the pictures, in pixels.

    Raises:
        MediaError: as `media.probe`; while iterating: unreadable, where the storage fails; stalled; too_long.

    """

    def __init__(
        self,
        video: str | Path | bytes,
        *,
        start: float | None = None,
        end: float | None = None,
        max_short_side: int | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        with Input(video, limits=limits) as trial:  # probing reads ahead; a fresh input needs no seek back
            self.source = probe_input(trial)
        self.width, self.height = fitted_size(self.source.width, self.source.height, max_short_side)
        if max(self.width, self.height) > LONGEST_SIDE:
            raise MediaError(
                f"its pictures would be {self.width}×{self.height}",
                code="too_large",
                where=self.source.url,
                allowed=f"sides of {LONGEST_SIDE} pixels, once scaled down",
            )
        self._video, self._start, self._end, self._limits = video, start, end, limits
        self._input = Input(video, limits=limits)
        stream = self._input.stream
        self.time_base = Fraction(stream.time_base or Fraction(1, 90000))
        self._filter = PictureFilter(width=self.width, height=self.height, pixel_aspect=stream.sample_aspect_ratio)
        self._frames = self._pictures()

    def __iter__(self) -> Generator[DecodedFrame, None, None]:
        return self._frames

    def close(self) -> None:
        """Let go of the file and the decoder; iterating ends."""
        self._frames.close()
        self._input.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _pictures(self) -> Generator[DecodedFrame, None, None]:
        try:
            for index, pts, decoded in self._wanted():
                for picture, (its_index, its_pts, its_bytes) in self._filter.push(
                    decoded.frame, (index, pts, decoded.bytes)
                ):
                    yield DecodedFrame(its_index, its_pts, picture, its_bytes)
            for picture, (index, pts, size) in self._filter.flush():
                yield DecodedFrame(index, pts, picture, size)
        finally:
            self._input.close()

    def _wanted(self) -> Iterator[tuple[int, int, Decoded]]:
        """Frames between `start` and `end`, with their index and repaired timestamp."""
        start = 0 if self._start is None else self._ticks(self._start)
        end = None if self._end is None else self._ticks(self._end)
        longest = self._ticks(self._limits.max_hours * 3600)
        first_index, origin, frames = self._from(start)
        for index, (pts, decoded) in enumerate(self._timed(frames), first_index):
            origin = pts if origin is None else origin
            if end is not None and pts - origin >= end:
                return
            if pts - origin > longest:
                raise self._too_long(f"{self._limits.max_hours:g} hours", "max_hours")
            if index >= self._limits.max_frames:
                raise self._too_long(f"{self._limits.max_frames:,} frames", "max_frames")
            if pts - origin >= start:
                yield index, pts, decoded

    def _too_long(self, length: str, limit: str) -> MediaError:
        return MediaError(
            f"it goes on for more than {length}",
            code="too_long",
            where=self.source.url,
            remedy=f"Give the row an `end`, divide the recording, or raise `ingest.limits.{limit}`",
        )

    def _ticks(self, seconds: float) -> int:
        """The first timestamp at or after `seconds`, which 0.4 as a float must not miss."""
        return ceil(Fraction(seconds) / self.time_base - Fraction(1, 1000))

    def _from(self, start: int) -> tuple[int, int | None, Iterator[Decoded]]:
        """Frames from a little before `start`, the first one's index, and the recording's first timestamp."""
        if start * self.time_base > WORTH_SKIPPING:
            resumption = skip_to(self._input, start)
            if resumption is not None:
                decoded = decode(self._input, resumption.packets)
                whole = (frame for frame in decoded if (frame.frame.pts or 0) >= resumption.first_pts)
                return resumption.first_index, resumption.origin, whole
            self._input.close()
            self._input = Input(self._video, limits=self._limits)
        return 0, None, decode(self._input)

    def _timed(self, frames: Iterator[Decoded]) -> Iterator[tuple[int, Decoded]]:
        """Every frame with its repaired timestamp."""
        clock = Clock(
            time_base=self.time_base,
            frame_rate=self.source.frame_rate,
            longest_hold=LONGEST_HOLD if self._input.clock_may_jump else A_DAY,
        )
        time_of = attrgetter("dts" if self._input.shows_in_decoding_order else "pts")
        held: Decoded | None = None
        for decoded in frames:
            if held is not None:
                yield clock.repair(time_of(held.frame), time_of(decoded.frame)), held
            held = decoded
        if held is not None:
            yield clock.repair(time_of(held.frame), None), held
