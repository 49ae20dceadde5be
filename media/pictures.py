"""Brings decoded pictures into the one form that the rest of the project sees."""

from __future__ import annotations

import struct
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from schemas.errors import MediaError

if TYPE_CHECKING:
    from av.filter import Graph
    from av.video.frame import VideoFrame

FILTER_THREADS = 2

MOST_INCONVERTIBLE = 100
"""Pictures in a row that FFmpeg's filters refuse, after which a recording counts as damaged to its end."""

_FULL = 2  # AVColorRange
_HDR_TRANSFERS = {16, 18}  # AVColorTransferCharacteristic: PQ and HLG
_BT2020 = 9  # AVColorPrimaries
_ORIENTATIONS = {
    # Signs of the display matrix (a, b, c, d), x' = a x + c y and y' = b x + d y: the filters that do the same.
    (1, 0, 0, 1): (),
    (-1, 0, 0, 1): ("hflip",),
    # Not vflip: it hands on pictures with negative strides, which few libraries expect.
    (1, 0, 0, -1): ("transpose=clock", "transpose=cclock_flip"),
    (-1, 0, 0, -1): ("transpose=clock", "transpose=clock"),
    (0, 1, 1, 0): ("transpose=cclock_flip",),
    (0, 1, -1, 0): ("transpose=clock",),
    (0, -1, 1, 0): ("transpose=cclock",),
    (0, -1, -1, 0): ("transpose=clock_flip",),
}


def is_hdr(frame: VideoFrame) -> bool:
    """Whether the picture's transfer function is PQ or HLG (ITU-R BT.2100)."""
    return frame.color_trc in _HDR_TRANSFERS


def orientation(frame: VideoFrame) -> tuple[str, ...]:
    """Filters that turn the picture as its display matrix says, by right angles and mirrors.

    Not for every frame: asking PyAV for side data ties the frame into a reference cycle, so that it stays in memory
    until the garbage collector comes by.
    """
    side_data: Any = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return ()
    a, b, _, c, d = struct.unpack_from("=5i", bytes(side_data))
    upright = abs(a) >= abs(b)
    signs = (_sign(a), 0, 0, _sign(d)) if upright else (0, _sign(b), _sign(c), 0)
    return _ORIENTATIONS.get(signs, ())


def shown_size(frame: VideoFrame, pixel_aspect: Fraction | None) -> tuple[int, int]:
    """Width and height of the picture as a player shows it: pixels made square, then turned."""
    width, height = round(frame.width * _sane(pixel_aspect)), frame.height
    return (height, width) if _turned(orientation(frame)) else (width, height)


def fitted_size(width: int, height: int, max_short_side: int | None) -> tuple[int, int]:
    """Even size for pictures of `width` × `height`, scaled down to `max_short_side` where that is less."""
    scale = Fraction(1)
    if max_short_side is not None and min(width, height) > max_short_side:
        scale = Fraction(max_short_side, min(width, height))
    return _even(width * scale), _even(height * scale)


class PictureFilter:
    """Turns decoded pictures into yuv420p, 8 bit, SDR, limited range, progressive, upright, with square pixels.

    Pictures that have that form already pass untouched. Where the recording changes its size on the way, later
    pictures are fitted into the first size with black bars.

    Args:
        width: of the pictures that come out, even.
        height: of the pictures that come out, even.
        pixel_aspect: width over height of the recording's pixels; None: square.

    """

    def __init__(self, *, width: int, height: int, pixel_aspect: Fraction | None) -> None:
        self._size = (width, height)
        self._pixel_aspect = _sane(pixel_aspect)
        self._deinterlace = False
        self._rotation: int | None = None
        self._orientation: tuple[str, ...] = ()
        self._look: _Look | None = None
        self._graph: Graph | None = None
        self._held: deque[Any] = deque()
        self._pushed = self._inconvertible = 0

    def push(self, frame: VideoFrame, tag: Any) -> list[tuple[VideoFrame, Any]]:
        """Pictures that are ready after `frame` came in, in order, each with the tag it came in with.

        A picture that cannot be converted, its header damaged, is left out.

        Raises:
            MediaError: undecodable, where that happens to the first one, or to `MOST_INCONVERTIBLE` in a row.

        """
        import av

        try:
            done = self._push(frame, tag)
        except av.error.FFmpegError as error:
            self._inconvertible += 1
            if self._pushed == 0 or self._inconvertible > MOST_INCONVERTIBLE:
                raise MediaError(
                    f"pictures of {frame.width}×{frame.height} {frame.format.name} cannot be converted: {error}",
                    code="undecodable",
                ) from error
            self._graph = self._look = None
            self._held.clear()
            return []
        self._inconvertible = 0
        self._pushed += 1
        return done

    def _push(self, frame: VideoFrame, tag: Any) -> list[tuple[VideoFrame, Any]]:
        self._deinterlace |= frame.interlaced_frame
        if frame.rotation != self._rotation:
            self._rotation, self._orientation = frame.rotation, orientation(frame)
        look = _Look.of(frame, orientation=self._orientation, deinterlace=self._deinterlace)
        done: list[tuple[VideoFrame, Any]] = []
        if look != self._look:
            done = self.flush()
            self._graph = self._build(look)
            self._look = look
        if self._graph is None:
            return [*done, (frame, tag)]
        self._held.append(tag)
        # The graph only wants rising numbers; the true timestamps travel in the tag.
        frame.pts, frame.time_base = self._pushed, Fraction(1, 1000)
        self._graph.vpush(frame)
        return done + self._pull()

    def flush(self) -> list[tuple[VideoFrame, Any]]:
        """The pictures still held back by the deinterlacer; a new one starts with the next picture."""
        import av

        done: list[tuple[VideoFrame, Any]] = []
        if self._graph is not None:
            with suppress(av.error.FFmpegError):  # left out, as in `push`
                self._graph.vpush(None)
                done = self._pull()
        self._graph = self._look = None
        self._held.clear()
        return done

    def _pull(self) -> list[tuple[VideoFrame, Any]]:
        import av

        assert self._graph is not None
        done = []
        while self._held:
            try:
                done.append((self._graph.vpull(), self._held[0]))
            except (av.error.BlockingIOError, av.error.EOFError):
                break
            self._held.popleft()
        return done

    def _build(self, look: _Look) -> Graph | None:
        import av.filter

        steps = self._steps(look)
        if not steps:
            return None
        graph = av.filter.Graph()
        graph.threads = FILTER_THREADS
        nodes = [graph.add("buffer", look.buffer_arguments())]
        for step in [*steps, "format=pix_fmts=yuv420p"]:
            name, _, arguments = step.partition("=")
            nodes.append(graph.add(name, arguments or None))
        nodes.append(graph.add("buffersink"))
        graph.link_nodes(*nodes)
        graph.configure(auto_buffer=False)
        return graph

    def _steps(self, look: _Look) -> list[str]:
        """Filters that bring a picture of this look into the final form; none where it has it."""
        width, height = look.width // 2 * 2 or 1, look.height // 2 * 2 or 1
        steps = []
        if (width, height) != (look.width, look.height):
            steps.append(f"crop={width}:{height}:0:0")  # loses a line, keeps the others sharp
        if look.deinterlace:
            steps.append("bwdif=mode=send_frame:deint=interlaced")
        wide, high = reversed(self._size) if _turned(look.orientation) else self._size
        shown = (width * self._pixel_aspect, height)
        fit = min(Fraction(wide) / shown[0], Fraction(high, height))
        inner = (_even(shown[0] * fit), _even(shown[1] * fit))
        if abs(wide - inner[0]) <= 2 and abs(high - inner[1]) <= 2:
            inner = (wide, high)  # rounding, not another shape
        if inner != (width, height) or look.needs_conversion:
            steps.append(_scale(*inner, look))
        if inner != (wide, high):
            steps.append(f"pad={wide}:{high}:-1:-1")
        return steps + list(look.orientation)


@dataclass(frozen=True)
class _Look:
    """All that the filters depend on."""

    width: int
    height: int
    pixel_format: str
    orientation: tuple[str, ...]
    deinterlace: bool
    colours: tuple[int, int, int, int]  # matrix, range, primaries, transfer, in FFmpeg's numbers

    @classmethod
    def of(cls, frame: VideoFrame, *, orientation: tuple[str, ...], deinterlace: bool) -> _Look:
        colours = (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc)
        return cls(
            width=frame.width,
            height=frame.height,
            pixel_format=frame.format.name,
            orientation=orientation,
            deinterlace=deinterlace,
            colours=tuple(int(number) for number in colours),  # type: ignore[arg-type]
        )

    @property
    def needs_conversion(self) -> bool:
        return self.pixel_format != "yuv420p" or self.colours[1] == _FULL or self.wide_gamut

    @property
    def wide_gamut(self) -> bool:
        return self.colours[2] == _BT2020 or self.colours[3] in _HDR_TRANSFERS

    @property
    def is_rgb(self) -> bool:
        return any(name in self.pixel_format for name in ("rgb", "bgr", "gbr", "pal8"))

    def buffer_arguments(self) -> str:
        matrix, colour_range = self.colours[:2]
        return (
            f"video_size={self.width}x{self.height}:pix_fmt={self.pixel_format}:time_base=1/1000:"
            f"colorspace={matrix}:range={colour_range}"
        )


def _scale(width: int, height: int, look: _Look) -> str:
    scale = f"scale={width}:{height}:flags=bicubic+accurate_rnd+full_chroma_int:out_range=limited"
    if look.wide_gamut:
        # swscale maps HDR's reference white (203 cd/m², ITU-R BT.2408) to SDR white and clips what is brighter, so
        # that cloth keeps its colour; its perceptual intent would darken everything for the sake of highlights.
        return f"{scale}:out_color_matrix=bt709:out_primaries=bt709:out_transfer=bt709"
    return f"{scale}:out_color_matrix=bt709" if look.is_rgb else scale


def _turned(filters: tuple[str, ...]) -> bool:
    return sum(name.startswith("transpose") for name in filters) == 1


def _even(length: Fraction | int) -> int:
    return max(2, int(length / 2) * 2)


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)


def _sane(pixel_aspect: Fraction | None) -> Fraction:
    """Square where the container says nothing, or nonsense."""
    return pixel_aspect if pixel_aspect and Fraction(1, 4) <= pixel_aspect <= 4 else Fraction(1)
