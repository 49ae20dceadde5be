"""The normalised clip: its form, its frame mapping, and that it is the same every time."""

from __future__ import annotations

import gc
import io
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import media
import weights
from media.encode import ClipEncoder, EncodedClip, constant_rate
from media.normalised import check_normalised
from media.recording import Recording
from schemas.clip import Source
from schemas.errors import WeightsError
from tests.clips import shared
from tests.media.cases import CASES, UNEVEN, Case
from tests.media.numbered import luma, read, write

ROOT = Path(__file__).resolve().parents[2]


def shown(clip: EncodedClip) -> list[int | None]:
    with av.open(io.BytesIO(clip.video)) as container:
        return [read(luma(frame)) for frame in container.decode(video=0)]


def expected(times: list[float], fps: float) -> list[int]:
    """Which frame is on screen at n / fps; a frame counts a little early, to forgive rounded timestamps."""
    steps = np.minimum(np.diff(times, append=times[-1] + min(times[-1] - times[-2], 1 / fps)), 9)
    ends = np.array(times) + steps - np.minimum(0.25 / fps, steps / 2)
    moments = np.arange(int(times[-1] * fps) + 2) / fps
    return [int(at) for at in np.searchsorted(ends - 1e-6, moments, side="right") if at < len(times)]


def source(rate: Fraction | float, *, varies: bool = False) -> Source:
    return Source(
        url="video.mp4", container="mp4", codec="h264", pixel_format="yuv420p", width=320, height=180,
        frame_rate=Fraction(rate), duration=1.0, size_bytes=1, variable_rate=varies,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rate", "kept"),
    [
        (24, 24), (25, 25), (30, 30), (Fraction(30000, 1001), Fraction(30000, 1001)), (15, 15),
        (Fraction(24000, 1001), Fraction(24000, 1001)), (50, 25), (60, 30), (48, 24), (120, 30), (100, 25),
        (Fraction(60000, 1001), Fraction(30000, 1001)), (Fraction("29.97"), Fraction(30000, 1001)),
        (Fraction(1000, 33), 30), (Fraction(2997003, 100000), Fraction(30000, 1001)), (31, 30), (45, Fraction(45, 2)),
    ],
)  # fmt: skip
def test_constant_rates_are_kept_or_halved(rate: Fraction, kept: Fraction) -> None:
    assert constant_rate(source(rate)) == kept


@pytest.mark.parametrize(
    ("rate", "kept"), [(23.1, Fraction(24000, 1001)), (28.4, Fraction(30000, 1001)), (13, 15), (42, 30), (3, 10)]
)
def test_variable_rates_become_the_standard_one_above(rate: float, kept: Fraction) -> None:
    assert constant_rate(source(rate, varies=True)) == kept


def test_highest_rate_is_the_callers() -> None:
    assert constant_rate(source(60), max_fps=60) == 60
    assert constant_rate(source(30), max_fps=15) == 15
    assert constant_rate(source(Fraction(30000, 1001)), max_fps=29.97) == Fraction(30000, 1001)


@pytest.mark.parametrize("case", [case for case in CASES if not case.varies], ids=lambda case: case.name)
def test_every_kind_of_recording_becomes_the_same_form(case: Case, tmp_path: Path) -> None:
    clip = media.normalise(case.make(tmp_path))
    layout = check_normalised(clip.video)
    assert (layout.width, layout.height) == case.size
    assert (layout.frames, layout.fps) == (clip.span.frames, clip.span.fps)
    if clip.span.fps == 25:
        assert shown(clip) == list(case.numbers)
    else:  # timestamps were damaged, so that the rate is a guess; the order must hold all the same
        assert shown(clip) == sorted(shown(clip))
    assert len(clip.source_pts) == clip.span.frames


@pytest.mark.parametrize("file", ["video.mp4", "video.mkv"])
def test_variable_rate_shows_what_was_on_screen(file: str, tmp_path: Path) -> None:
    clip = media.normalise(write(tmp_path / file, 30, times=UNEVEN))
    times = [float(time) for time in UNEVEN]
    assert shown(clip) == expected(times, float(clip.span.fps))
    seconds = (clip.source_pts - clip.source_pts[0]) * float(clip.span.time_base)
    assert seconds == pytest.approx([times[number] for number in shown(clip)], abs=0.002)


@pytest.mark.parametrize(("rate", "step"), [(50, 2), (60, 2), (Fraction(60000, 1001), 2), (120, 4), (25, 1)])
def test_high_rates_keep_every_nth_frame(rate: Fraction, step: int, tmp_path: Path) -> None:
    for file in ("video.mp4", "video.mkv"):  # mkv rounds to milliseconds
        assert shown(media.normalise(write(tmp_path / file, 48, rate=rate))) == list(range(0, 48, step))


def test_span_says_what_is_shown(tmp_path: Path) -> None:
    file = write(tmp_path / "video.ts", 60)
    clip = media.normalise(file, start=0.4, end=1.2)
    assert shown(clip) == list(range(10, 30))
    span = clip.span
    assert (span.first_frame, span.last_frame, span.frames, span.fps) == (10, 29, 20, 25)
    assert (span.width, span.height) == (320, 180)
    assert span.end_seconds - span.start_seconds == pytest.approx(0.76, abs=1e-3)
    assert 0 < span.bytes < file.stat().st_size
    assert list(clip.source_pts[[0, -1]]) == [span.first_pts, span.last_pts]


def test_form_of_the_file(tmp_path: Path) -> None:
    clip = media.normalise(write(tmp_path / "video.mkv", 60), max_short_side=90)
    assert clip.video.index(b"moov") < clip.video.index(b"mdat"), "the index comes first"
    with av.open(io.BytesIO(clip.video)) as container:
        stream = container.streams.video[0]
        keys = sorted(packet.pts for packet in container.demux(stream) if packet.size and packet.is_keyframe)
        assert stream.start_time == 0
        assert (stream.codec_context.name, stream.pix_fmt, stream.width, stream.height) == ("h264", "yuv420p", 160, 90)
        assert len(container.streams) == 1
        assert not container.metadata.get("creation_time")
        gaps = np.diff(np.array(keys, dtype=np.int64)) * stream.time_base
        assert max(gaps) <= Fraction(1, 2)
    with av.open(io.BytesIO(clip.video)) as container:  # closed: each group of pictures decodes by itself
        container.seek(keys[2], stream=container.streams.video[0])
        assert next(container.decode(video=0)).pts == keys[2]


def test_two_encodes_are_the_same_bytes(tmp_path: Path) -> None:
    file = write(tmp_path / "video.mp4", 50)
    assert media.normalise(file).video == media.normalise(file).video


@pytest.mark.parametrize("name", ["face_noface", "lower1"])
def test_bytes_do_not_depend_on_what_memory_held_before(name: str) -> None:
    # glibc fills fresh memory with this value: an encoder that reads what nobody wrote gives itself away, on some
    # videos only; these are two.
    try:
        video = shared("clips/vivid/videos/lower1.mp4") if name == "lower1" else weights.path(name)
    except WeightsError as error:
        pytest.skip(str(error))
    code = "import sys, hashlib, media; print(hashlib.sha256(media.normalise(sys.argv[1]).video).hexdigest())"
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code, str(video)],
            env={**os.environ, "MALLOC_PERTURB_": fill},
            capture_output=True,
            check=True,
            cwd=ROOT,
        ).stdout
        for fill in ("0", "1", "2", "165", "90")
    }
    assert len(hashes) == 1


def test_a_single_frame_can_be_encoded(tmp_path: Path) -> None:
    with Recording(write(tmp_path / "video.mp4", 3)) as recording:
        encoder = ClipEncoder(width=320, height=180, fps=Fraction(25), time_base=recording.time_base)
        encoder.add(next(iter(recording)))
        assert encoder.finish().span.frames == 1


def test_no_frame_cannot() -> None:
    with pytest.raises(ValueError, match="at least one"):
        ClipEncoder(width=320, height=180, fps=Fraction(25), time_base=Fraction(1, 1000)).finish()


def test_lower_crf_is_closer_to_the_source(tmp_path: Path) -> None:
    file = write(tmp_path / "video.mp4", 10)
    assert len(media.normalise(file, crf=30).video) < len(media.normalise(file, crf=10).video)


def test_encoders_are_freed_at_once(tmp_path: Path) -> None:
    """Finished or given up, without waiting for the garbage collector: each holds tens of megabytes."""
    file = write(tmp_path / "video.mp4", 20)
    gc.collect()
    before = _encoders()
    gc.disable()
    try:
        for given_up in (True, False) * 3:
            with Recording(file) as recording:
                encoder = ClipEncoder(width=320, height=180, fps=Fraction(25), time_base=recording.time_base)
                for frame in recording:
                    encoder.add(frame)
            if not given_up:
                encoder.finish()
            del encoder, frame
        assert _encoders() == before
    finally:
        gc.enable()


def _encoders() -> int:
    return sum(isinstance(thing, av.CodecContext) and thing.is_encoder for thing in gc.get_objects())
