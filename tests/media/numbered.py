"""Videos made on the fly whose every frame carries its number, in a code that survives codecs and scaling."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

COLUMNS, ROWS = 8, 2
"""16 blocks over the upper two thirds: 12 bits of number, 4 of checksum; digits for people below."""
TICKS = Fraction(1, 90000)


def draw(number: int, *, width: int = 320, height: int = 180) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 picture of `number`, 0..4095."""
    picture = np.full((height, width, 3), 90, np.uint8)
    for place, bit in enumerate(_bits(number)):
        left, right = (round(width * (place % COLUMNS + side) / COLUMNS) for side in (0, 1))
        top, bottom = (round(height * 2 / 3 * (place // COLUMNS + side) / ROWS) for side in (0, 1))
        picture[top:bottom, left:right] = 225 if bit else 25
    cv2.putText(picture, str(number), (width // 3, height - 12), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (255,) * 3, 3)
    return picture


def read(picture: NDArray[np.uint8]) -> int | None:
    """Number in a picture (H, W) or (H, W, 3); None where the checksum is wrong."""
    grey = picture if picture.ndim == 2 else picture.mean(axis=2)
    height, width = grey.shape
    bits = []
    for place in range(COLUMNS * ROWS):
        x, y = (place % COLUMNS + 0.5) / COLUMNS * width, (place // COLUMNS + 0.5) / ROWS * height * 2 / 3
        dx, dy = max(1, width // COLUMNS // 5), max(1, height // 3 // 5)
        bits.append(bool(grey[int(y) - dy : int(y) + dy, int(x) - dx : int(x) + dx].mean() > 125))
    number = sum(bit << place for place, bit in enumerate(bits[:12]))
    return number if _bits(number) == bits else None


def luma(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """(H, W) luma of a yuv420p picture."""
    plane = frame.planes[0]
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]


def write(
    path: Path,
    frames: int,
    *,
    rate: Fraction | int = 25,
    times: Sequence[Fraction | float] | None = None,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    size: tuple[int, int] = (320, 180),
    options: dict[str, str] | None = None,
    pixel_aspect: Fraction | None = None,
    turn: tuple[int, bool] | None = None,
    first_number: int = 0,
    squeezed: int = 1,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write `frames` numbered frames at `times` (seconds; default: n / rate). `turn` is (degrees, mirrored)."""
    presets = {"libx264": {"preset": "ultrafast"}, "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"}}
    on_grid = times is None  # some codecs and containers know nothing else
    times = times or [number / Fraction(rate) for number in range(frames)]
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=presets.get(codec, {}) | (options or {}))
        height, width = _turned(draw(0, width=size[0], height=size[1]), turn).shape[:2]
        stream.width, stream.height, stream.pix_fmt = width // squeezed, height, pixel_format
        stream.codec_context.time_base = 1 / Fraction(rate) if on_grid else TICKS
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if turn is not None:
            stream.set_display_rotation(turn[0], hflip=turn[1])
        for number in range(frames):
            picture = _turned(draw(first_number + number, width=size[0], height=size[1]), turn)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                width=stream.width, height=stream.height, format=pixel_format,
                dst_color_range=2 if pixel_format.startswith(("yuvj", "gray")) else 1,
            )  # fmt: skip
            frame.time_base = stream.codec_context.time_base
            frame.pts = round(times[number] / frame.time_base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _turned(picture: NDArray[np.uint8], turn: tuple[int, bool] | None) -> NDArray[np.uint8]:
    """What has to be stored, so that turning it (counterclockwise, then mirrored) shows `picture`."""
    degrees, mirrored = turn or (0, False)
    return np.ascontiguousarray(np.rot90(picture[:, ::-1] if mirrored else picture, -degrees // 90))


def _bits(number: int) -> list[bool]:
    checksum = (number ^ number >> 4 ^ number >> 8 ^ 0b1001) & 15
    return [bool((number | checksum << 12) >> place & 1) for place in range(16)]


class TransportStream:
    """An MPEG-TS file whose presentation timestamps can be rewritten, frame by frame in decoding order."""

    PACKET = 188

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self._headers = [
            header for start in range(0, len(data), self.PACKET) if (header := self._pes_header(start)) is not None
        ]

    def rewrite(self, change: Any) -> TransportStream:
        """Replace each timestamp by `change(frame number, timestamp)`; None removes it."""
        for number, header in enumerate(self._headers):
            flags, body = self.data[header + 7] >> 6, header + 9
            if not flags & 2:
                continue
            new = change(number, self._get(body))
            if new is None:
                self.data[header + 7] &= 0x3F
                continue
            self._put(body, new)
            if flags & 1:
                self._put(body + 5, new)
        return self

    def _pes_header(self, start: int) -> int | None:
        """Where the PES header of a video frame begins, if this packet begins one."""
        begins = self.data[start + 1] & 0x40
        has_adaptation = self.data[start + 3] & 0x20
        payload = start + 4 + (self.data[start + 4] + 1 if has_adaptation else 0)
        is_video = self.data[payload : payload + 3] == b"\0\0\1" and 0xE0 <= self.data[payload + 3] < 0xF0
        return payload if begins and is_video else None

    def _get(self, at: int) -> int:
        a, b, c, d, e = self.data[at : at + 5]
        return (a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1

    def _put(self, at: int, value: int) -> None:
        value %= 1 << 33
        self.data[at] = self.data[at] & 0xF1 | (value >> 30 & 7) << 1
        self.data[at + 1] = value >> 22 & 255
        self.data[at + 2] = (value >> 15 & 127) << 1 | 1
        self.data[at + 3] = value >> 7 & 255
        self.data[at + 4] = (value & 127) << 1 | 1
