"""The normalised clip: constant rate, closed short GOP, starts at 0, faststart, the same bytes every time."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from media.recording import DecodedFrame, Recording
from schemas.clip import Source, Span
from schemas.errors import MediaError

if TYPE_CHECKING:
    from av.packet import Packet

ENCODER_THREADS = 1
"""x264's output depends on its number of threads, so that is fixed. One: a worker holds one core, and beside the shot
network of the same recording more threads only take turns (measured: benchmarks/RESULTS.md)."""

ENCODER_INSTRUCTIONS = "AVX2"
"""The highest that x264 may use. Its AVX-512 code reads memory that nobody wrote (other bytes from run to run), and
gives other bytes than its AVX2 code: nodes with other processors would make other clips. Costs 4 % of encoding."""

EARLY = Fraction(1, 4)
"""How much of an output interval a source frame may be early (and at most half its distance from the frame before).
Without it, timestamps rounded to milliseconds would repeat one frame and lose the next."""


@dataclass(frozen=True, eq=False)
class EncodedClip:
    """A normalised clip.

    Attributes:
        video: the mp4's bytes.
        span: which source frames it shows.
        source_pts: (T,) int64, timestamp of the source frame behind each output frame, in `span.time_base`.

    """

    video: bytes
    span: Span
    source_pts: NDArray[np.int64]


class ClipEncoder:
    """Encodes a run of decoded frames, of any frame rate, to one normalised clip.

    Output frame n shows the source frame that was on screen at t0 + n / fps, t0 being the first frame's time. A frame
    that stays on screen is written again and again: callers who fear a hold of hours cut there.
    The form of the file: H.264 yuv420p in mp4, every `gop_seconds` a key frame that nothing refers across.

    Args:
        width: of the pictures, even.
        height: of the pictures, even.
        fps: constant frame rate of the clip.
        time_base: seconds per unit of the source's timestamps.
        crf: x264's constant rate factor, 0 (lossless) to 51.
        preset: x264's preset.
        gop_seconds: time between key frames.

    """

    def __init__(
        self,
        *,
        width: int,
        height: int,
        fps: Fraction,
        time_base: Fraction,
        crf: float = 18,
        preset: str = "veryfast",
        gop_seconds: float = 0.5,
    ) -> None:
        import av

        self.frames = 0
        self._fps, self._time_base = Fraction(fps), Fraction(time_base)
        self._interval = 1 / (self._fps * self._time_base)  # of output frames, in the source's units
        self._first: DecodedFrame | None = None
        self._shown: DecodedFrame | None = None  # on screen, until the next one's time is known
        self._last_interval: Fraction = self._interval
        self._bytes = 0
        self._source_pts: list[int] = []
        self._packets: list[Packet] = []
        gop = max(1, round(self._fps * Fraction(gop_seconds)))
        # Not a stream of a container: that would live on in a reference cycle where an encoder is given up.
        self._context = context = av.CodecContext.create("libx264", "w")
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base, context.framerate = 1 / self._fps, self._fps
        context.gop_size, context.thread_count = gop, ENCODER_THREADS
        context.options = {
            "preset": preset,
            "crf": str(crf),
            "keyint_min": str(gop),
            "sc_threshold": "0",
            "flags": "+cgop",
            "a53cc": "0",
            "bf": "0",  # each frame needs only earlier ones, and the mp4 no edit list, which some readers get wrong
            "x264-params": f"asm={ENCODER_INSTRUCTIONS}",
        }

    def add(self, frame: DecodedFrame) -> None:
        """Take the next frame, in display order."""
        if self._shown is None:
            self._first = frame
            self._take_colours(frame)
        else:
            self._last_interval = Fraction(frame.pts - self._shown.pts)
            self._show_until(frame.pts)
        self._shown = frame
        self._bytes += frame.bytes

    def finish(self) -> EncodedClip:
        """Write the last frame and close the file.

        Raises:
            ValueError: no frame was added.

        """
        first, last = self._first, self._shown
        if first is None or last is None:
            raise ValueError("a clip needs at least one frame")
        # Nobody knows how long the last frame stays: as long as the one before it, but no longer than is shown once.
        self._last_interval = min(self._last_interval, self._interval)
        self._show_until(last.pts + self._last_interval)
        if not self.frames:
            self._write(last)
        self._packets += self._context.encode(None)
        span = Span(
            first_frame=first.index,
            last_frame=last.index,
            first_pts=first.pts,
            last_pts=last.pts,
            time_base=self._time_base,
            fps=self._fps,
            frames=self.frames,
            width=self._context.width,
            height=self._context.height,
            bytes=self._bytes,
        )
        return EncodedClip(video=self._mux(), span=span, source_pts=np.array(self._source_pts, dtype=np.int64))

    def _show_until(self, pts: int | Fraction) -> None:
        assert self._first is not None
        assert self._shown is not None
        end = pts - min(EARLY * self._interval, self._last_interval / 2)
        while self._first.pts + self.frames * self._interval < end:
            self._write(self._shown)

    def _write(self, frame: DecodedFrame) -> None:
        picture = frame.picture
        picture.pts, picture.time_base = self.frames, 1 / self._fps
        picture.pict_type = 0  # else the encoder would copy the source's choice of key frames
        self._packets += self._context.encode(picture)
        self._source_pts.append(frame.pts)
        self.frames += 1

    def _mux(self) -> bytes:
        import av

        buffer = io.BytesIO()
        # movenc reads the file again to move its index to the front.
        options = {"movflags": "+faststart", "fflags": "+bitexact"}
        with av.open(buffer, "w", format="mp4", options=options, io_open=_reopen(buffer)) as container:
            stream = container.add_mux_stream(
                "h264", rate=self._fps, width=self._context.width, height=self._context.height, time_base=1 / self._fps
            )
            for packet in self._packets:
                packet.stream = stream
                container.mux(packet)
        return buffer.getvalue()

    def _take_colours(self, frame: DecodedFrame) -> None:
        context, picture = self._context, frame.picture
        context.colorspace, context.color_range = picture.colorspace, picture.color_range
        context.color_primaries, context.color_trc = picture.color_primaries, picture.color_trc


class _View(io.RawIOBase):
    """Reads a buffer that somebody else goes on writing."""

    def __init__(self, buffer: io.BytesIO) -> None:
        self._buffer, self._position = buffer, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._buffer.getbuffer().nbytes}
        self._position = start[whence] + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        end = None if size < 0 else self._position + size
        data = bytes(self._buffer.getbuffer()[self._position : end])
        self._position += len(data)
        return data


def _reopen(buffer: io.BytesIO) -> Callable[[str, int, dict[str, Any]], _View]:
    def reopen(url: str, flags: int, options: dict[str, Any]) -> _View:
        return _View(buffer)

    return reopen


STANDARD_RATES = tuple(
    Fraction(rate) for rate in (10, 12, "12.5", 15, 20, Fraction(24000, 1001), 24, 25, Fraction(30000, 1001), 30)
)  # fmt: skip


def constant_rate(source: Source, *, max_fps: Fraction | float = 30) -> Fraction:
    """Frame rate of the clips of `source`: its own where that is at most `max_fps`, else an even part of it.

    Rates within 1 % of a standard one become that. A variable rate becomes the standard rate just above its
    average, so that hardly a frame is lost.

    Returns:
        Frames a second, at most `max_fps`.

    """
    highest = _standard(Fraction(max_fps))
    if source.variable_rate:
        above = (rate for rate in STANDARD_RATES if rate >= source.frame_rate * Fraction(99, 100))
        return min(next(above, highest), highest)
    rate = _standard(source.frame_rate)
    if rate <= highest:
        return rate
    part = _standard(rate / -(-rate // highest))
    return part if part >= highest * Fraction(2, 3) else highest


def _standard(rate: Fraction) -> Fraction:
    nearest = min(STANDARD_RATES, key=lambda standard: abs(standard - rate))
    return nearest if abs(nearest - rate) * 100 <= rate else rate.limit_denominator(1001)


def normalise(
    video: str | Path | bytes,
    *,
    start: float | None = None,
    end: float | None = None,
    max_short_side: int | None = None,
    max_fps: Fraction | float = 30,
    crf: float = 18,
    preset: str = "veryfast",
) -> EncodedClip:
    """A whole recording, or its part from `start` to `end` seconds, as one normalised clip.

    Raises:
        MediaError: as `Recording`; too_short, where fewer than two frames are left.

    """
    with Recording(video, start=start, end=end, max_short_side=max_short_side) as recording:
        encoder = ClipEncoder(
            width=recording.width,
            height=recording.height,
            fps=constant_rate(recording.source, max_fps=max_fps),
            time_base=recording.time_base,
            crf=crf,
            preset=preset,
        )
        frames = 0
        for frame in recording:
            encoder.add(frame)
            frames += 1
        if frames < 2:
            raise MediaError(
                f"there are {frames} frames", code="too_short", where=recording.source.url, allowed="2 or more"
            )
        return encoder.finish()
