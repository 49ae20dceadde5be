"""`Recording` on every kind of input: the right frames, in order, at the right times, in the one form."""

from __future__ import annotations

import gc
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import ffmpeg
import numpy as np
import pytest

from media.probing import describe, probe
from media.recording import DecodedFrame, Recording
from schemas.errors import MediaError
from tests.clips import shared
from tests.media.cases import CASES, CLOSED, FFMPEG, OPEN, UNEVEN, Case
from tests.media.numbered import draw, luma, read, write

LONG_UNEVEN = [time + lap * Fraction(3) for lap in range(4) for time in UNEVEN[:25]]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_right_frames_at_right_times(case: Case, tmp_path: Path) -> None:
    with Recording(case.make(tmp_path)) as recording:
        assert (recording.width, recording.height) == case.size
        frames = list(recording)
        assert [read(luma(frame.picture)) for frame in frames] == list(case.numbers)
    assert [frame.index for frame in frames] == list(range(len(frames)))
    seconds = [float((frame.pts - frames[0].pts) * recording.time_base) for frame in frames]
    assert seconds == pytest.approx(case.seconds(), abs=0.002)
    for picture in (frame.picture for frame in frames):
        assert (picture.format.name, picture.width, picture.height) == ("yuv420p", *case.size)
        assert picture.color_range != 2, "full range"


@pytest.mark.parametrize("case", [case for case in CASES if case.interlaced or case.varies or case.times is None][:16])
def test_probe_sees_what_it_is(case: Case, tmp_path: Path) -> None:
    source = probe(case.make(tmp_path))
    assert (source.interlaced, source.variable_rate) == (case.interlaced, case.varies)
    if not case.varies:
        assert source.frame_rate == 25
        assert source.duration == pytest.approx(len(case.numbers) / 25, abs=0.05)
    assert source.size_bytes
    advice = dict(describe(source))["on ingest"]
    assert ("deinterlaced" in advice) == case.interlaced
    assert ("constant rate" in advice) == case.varies


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_turns_as_the_ffmpeg_program_does(degrees: int, mirrored: bool, tmp_path: Path) -> None:
    file = write(tmp_path / "turned.mp4", 2, turn=(degrees, mirrored))
    raw = subprocess.run(
        [FFMPEG, "-loglevel", "error", "-i", file, "-pix_fmt", "yuv420p", "-f", "rawvideo", "-"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    with Recording(file) as recording:
        theirs = np.frombuffer(raw, np.uint8).reshape(2, -1)[:, : recording.width * recording.height]
        ours = np.stack([luma(frame.picture).ravel() for frame in recording])
    np.testing.assert_array_equal(ours, theirs)


def test_start_and_end_keep_the_count(tmp_path: Path) -> None:
    file = write(tmp_path / "video.ts", 50, options=CLOSED)
    with Recording(file, start=0.6, end=1.0) as recording:
        frames = list(recording)
    assert [read(luma(frame.picture)) for frame in frames] == list(range(15, 25))
    assert [frame.index for frame in frames] == list(range(15, 25))


@pytest.mark.parametrize("start", [2.5, 3.0, 3.96, 9.0])
@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("v.mp4", {"options": CLOSED}),
        ("v.mp4", {"options": OPEN}),
        ("v.mkv", {"options": OPEN}),
        ("v.mp4", {"options": CLOSED, "times": LONG_UNEVEN}),
        ("v.mp4", {"codec": "libx265", "options": {"x265-params": "keyint=12:open-gop=1:log-level=none"}}),
        ("v.webm", {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8", "g": "12"}}),
        ("v.ts", {"options": CLOSED}),
        ("v.avi", {"options": CLOSED}),
    ],
)
def test_skipping_changes_nothing(start: float, file: str, options: dict[str, Any], tmp_path: Path) -> None:
    video = write(tmp_path / file, 100, **options)
    with Recording(video) as recording:
        origin = None
        expected = []
        for frame in recording:
            origin = frame.pts if origin is None else origin
            if (frame.pts - origin) * recording.time_base >= Fraction(str(start)):
                expected.append((frame.index, frame.pts, frame.bytes, read(luma(frame.picture))))
    with Recording(video, start=start) as recording:
        got = [(frame.index, frame.pts, frame.bytes, read(luma(frame.picture))) for frame in recording]
    assert got == expected


def test_skipping_counts_what_an_edit_list_hides(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.mp4", 150, options=CLOSED)
    cut = tmp_path / "cut.mp4"
    ffmpeg.input(str(whole), ss=0.6).output(str(cut), c="copy").run(cmd=FFMPEG, quiet=True)
    with Recording(cut, start=3.0) as recording:
        frames = [(frame.index, read(luma(frame.picture))) for frame in recording]
    assert frames == [(index, index + 15) for index in range(75, 135)]


def test_scales_to_the_short_side_and_keeps_the_shape(tmp_path: Path) -> None:
    file = write(tmp_path / "video.mp4", 3, turn=(90, False))
    with Recording(file, max_short_side=90) as recording:
        assert (recording.width, recording.height) == (160, 90)
        assert [read(luma(frame.picture)) for frame in recording] == [0, 1, 2]


def test_another_shape_on_the_way_gets_black_bars(tmp_path: Path) -> None:
    first = write(tmp_path / "wide.ts", 5).read_bytes()
    second = write(tmp_path / "square.ts", 5, size=(200, 200), times=[0.2 + n / 25 for n in range(5)]).read_bytes()
    (tmp_path / "both.ts").write_bytes(first + second)
    with Recording(tmp_path / "both.ts") as recording:
        pictures = [luma(frame.picture).copy() for frame in recording]
    assert {picture.shape for picture in pictures} == {(180, 320)}
    later = pictures[-1]
    assert later[:, :66].max() < 20
    assert later[:, -66:].max() < 20
    assert read(later[:, 70:250]) == 4


def test_deinterlaces(tmp_path: Path) -> None:
    """Two fields of different moments, interleaved: combs before, none after."""
    file = tmp_path / "combed.mkv"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"x264-params": "tff=1", "crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for number in range(6):
            picture = np.full((180, 320, 3), 30, np.uint8)
            for field in (0, 1):
                left = 20 + 30 * number + 15 * field
                picture[field::2, left : left + 60] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))

    def combs(picture: np.ndarray) -> float:
        rows = picture.astype(float)
        return float(np.abs(2 * rows[1:-1] - rows[:-2] - rows[2:]).mean())

    with av.open(str(file)) as container:
        before = [combs(luma(frame)) for frame in container.decode(video=0)]
    with Recording(file) as recording:
        after = [combs(luma(frame.picture)) for frame in recording]
    assert len(after) == len(before) == 6
    assert max(after[1:-1]) < 0.25 * min(before[1:-1])


NITS = [0, 1, 5, 26, 50, 100, 150, 203, 400, 1000]


@pytest.mark.parametrize("transfer", ["pq", "hlg"])
def test_hdr_white_and_greys_become_sdr(transfer: str, tmp_path: Path) -> None:
    """Light up to reference white (203 cd/m², BT.2408) comes out as SDR shows it; brighter light is white."""
    light = np.array(NITS) / 203
    signal = _pq(np.array(NITS)) if transfer == "pq" else _hlg(np.array(NITS))
    file = _write_hdr(tmp_path / "hdr.mp4", signal, transfer=16 if transfer == "pq" else 18)
    assert probe(file).hdr
    with Recording(file) as recording:
        picture = next(iter(recording)).picture
    shown = luma(picture)[90, 16 :: 320 // len(NITS)].astype(float)
    expected = 16 + 219 * np.clip(light, 0, 1) ** (1 / 2.4)
    tolerance = 5 if transfer == "pq" else 12
    np.testing.assert_allclose(shown, expected, atol=tolerance)
    assert (picture.color_trc, picture.color_primaries, picture.colorspace) == (1, 1, 1)


def test_hdr_colours_of_cloth_stay(tmp_path: Path) -> None:
    """BT.709 colours at reference brightness, stored as BT.2020 PQ, come out as they were."""
    colours = np.array([(200, 30, 40), (30, 120, 60), (40, 60, 160), (230, 200, 60), (190, 140, 120)]) / 255.0
    to_bt2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    signal = _pq((colours**2.4) @ to_bt2020.T * 203)
    file = _write_hdr(tmp_path / "hdr.mp4", signal, transfer=16)
    with Recording(file) as recording:
        image = next(iter(recording)).picture.to_ndarray(format="rgb24")
    shown = image[90, 32::64]
    np.testing.assert_allclose(shown, colours * 255, atol=12)


def test_first_frame_needs_no_whole_file() -> None:
    """A stream: closing after a few frames is quick and leaves nothing open."""
    with Recording(shared("clips/dance_man.mp4"), max_short_side=144) as recording:
        frames = iter(recording)
        first = [next(frames) for _ in range(3)]
        assert all(isinstance(frame, DecodedFrame) for frame in first)
        assert min(first[0].picture.width, first[0].picture.height) == 144
    with pytest.raises(StopIteration):
        next(frames)


def test_bytes_add_up_to_the_stream() -> None:
    file = shared("clips/open_hand.mp4")
    with av.open(str(file)) as container:
        spent = sum(packet.size for packet in container.demux(video=0))
    with Recording(file) as recording:
        assert sum(frame.bytes for frame in recording) == spent


def _pq(nits: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084, inverse EOTF."""
    y = np.clip(nits / 10000, 0, 1) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375


def _hlg(nits: np.ndarray) -> np.ndarray:
    """ARIB STD-B67 OETF of greys shown at `nits` on a display of 1000 cd/m² (system gamma 1.2)."""
    scene = (nits / 1000) ** (1 / 1.2)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


def _write_hdr(file: Path, signal: np.ndarray, *, transfer: int) -> Path:
    """Vertical bars of a nonlinear signal, (N,) greys or (N, 3) RGB in BT.2020, as 10-bit HEVC."""
    rgb = np.repeat(signal[:, None], 3, axis=1) if signal.ndim == 1 else signal
    rgb = np.repeat(rgb, 320 // len(rgb), axis=0)
    y = rgb @ np.array([0.2627, 0.6780, 0.0593])
    planes = [
        np.tile(np.round(64 + 876 * y), (180, 1)),
        np.tile(np.round(512 + 896 * (rgb[:, 2] - y) / 1.8814)[::2], (90, 1)),
        np.tile(np.round(512 + 896 * (rgb[:, 0] - y) / 1.4746)[::2], (90, 1)),
    ]
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx265", rate=25, options={"x265-params": "log-level=none:crf=5"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p10le"
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = 9, transfer, 9, 1
        for _ in range(3):
            frame = av.VideoFrame(320, 180, "yuv420p10le")
            for plane, values in zip(frame.planes, planes, strict=True):
                rows = np.zeros((values.shape[0], plane.line_size // 2), "<u2")
                rows[:, : values.shape[1]] = values
                plane.update(rows.tobytes())
            frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range = 9, transfer, 9, 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file


def test_numbers_are_readable_and_a_wrong_picture_is_not() -> None:
    assert [read(draw(number)) for number in (0, 1, 2731, 4095)] == [0, 1, 2731, 4095]
    assert read(draw(5)[:, ::-1]) != 5
    assert read(np.zeros((180, 320), np.uint8)) is None


def test_errors_name_their_file() -> None:
    with pytest.raises(MediaError, match="no_such_file"):
        Recording("no_such_file.mp4")


def test_rates_are_exact(tmp_path: Path) -> None:
    assert probe(write(tmp_path / "ntsc.mp4", 30, rate=Fraction(30000, 1001))).frame_rate == Fraction(30000, 1001)


def test_frames_are_freed_at_once(tmp_path: Path) -> None:
    """Not only when the garbage collector comes by: at 1080p, that would be gigabytes later."""
    file = write(tmp_path / "video.mp4", 30, turn=(90, False))
    gc.collect()
    gc.disable()
    try:
        with Recording(file) as recording:
            for frame in recording:
                assert frame.picture.width
            del frame
        alive = sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects())
    finally:
        gc.enable()
    assert alive < 6, "of 30"


@pytest.mark.parametrize(("size", "shown"), [((323, 181), (322, 180)), ((16, 16), (16, 16)), ((33, 19), (32, 18))])
def test_odd_sizes_lose_a_line_and_stay_sharp(size: tuple[int, int], shown: tuple[int, int], tmp_path: Path) -> None:
    file = write(tmp_path / "odd.mkv", 2, size=size, codec="ffv1", pixel_format="yuv420p")
    with av.open(str(file)) as container:
        stored = luma(next(container.decode(video=0)))[: shown[1], : shown[0]].copy()
    with Recording(file) as recording:
        assert (recording.width, recording.height) == shown
        np.testing.assert_array_equal(luma(next(iter(recording)).picture), stored)


def test_a_single_pixel_becomes_the_smallest_even_size(tmp_path: Path) -> None:
    file = write(tmp_path / "tiny.mov", 2, size=(1, 1), codec="png", pixel_format="rgb24")
    with Recording(file) as recording:
        assert [(frame.picture.width, frame.picture.height) for frame in recording] == [(2, 2)] * 2
