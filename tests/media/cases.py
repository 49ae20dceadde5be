"""The kinds of recording that the readers must get right, each with its true frame numbers and times."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import ffmpeg
import imageio_ffmpeg

from tests.media.numbered import TransportStream, write

FRAMES = 30
SECOND = 90000  # ticks of MPEG-TS
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()

CLOSED = {"x264-params": "keyint=12:scenecut=0:bframes=3:b-adapt=0"}
OPEN = {"x264-params": "keyint=12:scenecut=0:bframes=3:b-adapt=0:open-gop=1"}
FAST_VPX = {"deadline": "realtime", "cpu-used": "8"}
_steps = random.Random(7).choices([1, 2, 3, 5], k=FRAMES - 1)
UNEVEN = [Fraction(step, 50) for step in accumulate([0, *_steps])]
"""Times of a variable rate, 0.02 to 0.1 s apart."""


@dataclass(frozen=True)
class Case:
    """A kind of recording. `times` are seconds from the first frame; `size` is as shown."""

    name: str
    make: Callable[[Path], Path]
    numbers: Sequence[int] = field(default_factory=lambda: range(FRAMES))
    times: Sequence[Fraction | float] | None = None
    size: tuple[int, int] = (320, 180)
    interlaced: bool = False
    varies: bool = False

    def seconds(self) -> list[float]:
        """True times of the frames, from the first."""
        times = self.times or [Fraction(number, 25) for number in self.numbers]
        return [float(time - times[0]) for time in times]


def _written(name: str, file: str, **options: object) -> Case:
    about = {key: options.pop(key) for key in ("interlaced", "varies") if key in options}
    if "times" in options and about.get("varies"):
        about["times"] = options["times"]
    return Case(name, lambda folder: write(folder / file, FRAMES, **options), **about)  # type: ignore[arg-type]


def _cut_without_decoding(folder: Path) -> Path:
    """Begins amid a group of pictures; an edit list hides what comes before."""
    whole = write(folder / "whole.mp4", 50, options=CLOSED)
    cut = folder / "cut.mp4"
    ffmpeg.input(str(whole), ss=0.6).output(str(cut), c="copy").run(cmd=FFMPEG, quiet=True, overwrite_output=True)
    return cut


def _of_two_sizes(folder: Path) -> Path:
    first = write(folder / "small.ts", 15)
    second = write(
        folder / "large.ts", 15, size=(640, 360), first_number=15, times=[Fraction(n, 25) for n in range(15, 30)]
    )
    both = folder / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    return both


def _stamped(name: str, change: Callable[[int, int], int | None]) -> Case:
    """An MPEG-TS whose timestamps `change` has damaged; the true times are those before."""

    def make(folder: Path) -> Path:
        stream = TransportStream(write(folder / "even.ts", FRAMES).read_bytes())
        damaged = folder / "damaged.ts"
        damaged.write_bytes(stream.rewrite(change).data)
        return damaged

    return Case(name, make)


CASES = [
    _written("constant_rate", "video.mp4"),
    _written("variable_rate", "video.mp4", times=UNEVEN, varies=True),
    _written("variable_rate_b_frames", "video.mp4", times=UNEVEN, options=CLOSED, varies=True),
    _written("variable_rate_milliseconds", "video.mkv", times=UNEVEN, options=CLOSED, varies=True),
    _written("b_frames", "video.mp4", options=CLOSED),
    _written("open_gop", "video.mp4", options=OPEN),
    _written("transport_stream", "video.ts", options=CLOSED),
    _written("transport_stream_open_gop", "video.ts", options=OPEN),
    Case("cut_with_edit_list", _cut_without_decoding, numbers=range(15, 50)),
    _written("starts_late", "video.mp4", times=[Fraction(3, 2) + Fraction(n, 25) for n in range(FRAMES)]),
    _written("starts_late_mkv", "video.mkv", times=[Fraction(3, 2) + Fraction(n, 25) for n in range(FRAMES)]),
    _written("interlaced_h264", "video.mkv", options={"x264-params": "tff=1"}, interlaced=True),
    _written(
        "interlaced_mpeg2",
        "video.ts",
        codec="mpeg2video",
        interlaced=True,
        options={"flags": "+ildct+ilme", "b": "4M", "bf": "2"},
    ),
    _written("hevc_10_bit", "video.mp4", codec="libx265", pixel_format="yuv420p10le"),
    _written("vp8_hidden_frames", "video.webm", codec="libvpx", options=FAST_VPX | {"auto-alt-ref": "1", "b": "2M"}),
    _written("vp9", "video.webm", codec="libvpx-vp9", options=FAST_VPX),
    _written("av1", "video.mp4", codec="libsvtav1", options={"preset": "12", "crf": "20"}),
    _written("odd_size", "video.mkv", pixel_format="yuv444p", size=(321, 181)),
    _written("anamorphic", "video.mp4", squeezed=2, pixel_aspect=Fraction(2)),
    _written("bare_h264", "video.h264", options=CLOSED),
    _written("avi_b_frames", "video.avi", options=CLOSED),
    _written("avi_mpeg4", "video.avi", codec="mpeg4", options={"b": "4M"}),
    _written("grey", "video.mkv", codec="ffv1", pixel_format="gray"),
    _written("rgb", "video.mkv", codec="libx264rgb", pixel_format="rgb24"),
    _written("alpha", "video.mov", codec="png", pixel_format="rgba"),
    _written("prores_alpha_10_bit", "video.mov", codec="prores_ks", pixel_format="yuva444p10le"),
    _written("motion_jpeg_full_range", "video.avi", codec="mjpeg", pixel_format="yuvj420p"),
    *(
        _written(f"turned_{degrees}{'_mirrored' if mirrored else ''}", "video.mp4", turn=(degrees, mirrored))
        for degrees in (0, 90, 180, 270)
        for mirrored in (False, True)
        if degrees or mirrored
    ),
    Case("size_changes", _of_two_sizes),
    _stamped("doubled_timestamps", lambda n, pts: pts - SECOND // 25 if n % 7 == 3 else pts),
    _stamped("tripled_timestamps", lambda n, pts: pts - SECOND // 25 * (n % 7 - 3) if n % 7 in (4, 5) else pts),
    _stamped("missing_timestamps", lambda n, pts: None if n % 3 == 1 else pts),
    _stamped("no_timestamps", lambda n, pts: None),
    _stamped("clock_jumps_back", lambda n, pts: pts - 5 * SECOND if n >= 17 else pts),
    _stamped("clock_steps_back", lambda n, pts: pts - SECOND // 2 if n >= 17 else pts),
    _stamped("clock_jumps_forward", lambda n, pts: pts + 3600 * SECOND if n >= 17 else pts),
    _stamped("one_timestamp_astray", lambda n, pts: pts + 3600 * SECOND if n == 17 else pts),
    _stamped("one_timestamp_behind", lambda n, pts: pts - 30 * SECOND if n == 17 else pts),
    _stamped("counter_wraps", lambda n, pts: pts + (1 << 33) - 2 * SECOND),
]
