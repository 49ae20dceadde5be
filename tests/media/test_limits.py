"""Recordings that cost more than they are worth: each limit ends them, with a code, and keeps what came before."""

from __future__ import annotations

import contextlib
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path

import ffmpeg
import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import media
from curation.ingest import Ingest
from media.recording import Recording
from schemas.errors import MEDIA_ERROR_CODES, MediaError
from schemas.limits import Limits
from tests.media.cases import CASES, CLOSED, FFMPEG
from tests.media.numbered import luma, read, write


def ends_with(video: Path | str | bytes, limits: Limits, **span: float) -> tuple[list[int | None], str]:
    """Numbers of the frames that came, and the code of the error after them."""
    numbers: list[int | None] = []
    with pytest.raises(MediaError) as caught, Recording(video, limits=limits, **span) as recording:
        numbers.extend(read(luma(frame.picture)) for frame in recording)
    assert caught.value.code in MEDIA_ERROR_CODES
    assert caught.value.remedy or caught.value.allowed
    return numbers, caught.value.code


def test_pictures_of_too_many_pixels(tmp_path: Path) -> None:
    file = write(tmp_path / "video.mp4", 5)
    assert ends_with(file, Limits(max_pixels=320 * 180 - 1)) == ([], "too_large")
    with Recording(file, limits=Limits(max_pixels=320 * 180)) as recording:
        assert len(list(recording)) == 5


def test_pictures_that_are_larger_than_the_container_says(tmp_path: Path) -> None:
    data = bytearray(write(tmp_path / "video.mp4", 5, size=(640, 360)).read_bytes())
    at = data.rindex(b"avc1") + 28  # the first one is a brand
    assert data[at : at + 4] == struct.pack(">HH", 640, 360)
    data[at : at + 4] = struct.pack(">HH", 64, 36)
    numbers, code = ends_with(bytes(data), Limits(max_pixels=320 * 180))
    assert numbers == []
    assert code in ("too_large", "undecodable")


def test_pictures_that_grow_beyond_the_limit_on_the_way_are_left_out(tmp_path: Path) -> None:
    growing = next(case for case in CASES if case.name == "size_changes").make(tmp_path)
    with Recording(growing, limits=Limits(max_pixels=320 * 180)) as recording:
        assert [read(luma(frame.picture)) for frame in recording] == list(range(15))


@pytest.mark.parametrize("size", [(17_000, 90), (40, 16_500)])
def test_sides_that_no_encoder_takes(size: tuple[int, int], tmp_path: Path) -> None:
    file = write(tmp_path / "video.mkv", 2, codec="ffv1", size=size)
    with pytest.raises(MediaError) as caught:
        media.normalise(file, max_short_side=720)
    assert caught.value.code == "too_large"


def test_too_many_frames(tmp_path: Path) -> None:
    file = write(tmp_path / "video.mp4", 60)
    numbers, code = ends_with(file, Limits(max_frames=50))
    assert numbers == list(range(50))
    assert code == "too_long"


def test_too_long_by_its_frames_not_its_header(tmp_path: Path) -> None:
    file = write(tmp_path / "video.mkv", 6, times=[0, 1000, 2000, 4000, 5000, 6000])
    assert ends_with(file, Limits(max_hours=1)) == ([0, 1, 2], "too_long")
    with Recording(file, end=3000, limits=Limits(max_hours=1)) as recording:  # the part that is used is short enough
        assert len(list(recording)) == 3
    data = bytearray(write(tmp_path / "video.mp4", 6).read_bytes())
    at = data.index(b"mvhd") + 20
    data[at : at + 4] = b"\x7f\xff\xff\xff"  # claims weeks
    with Recording(bytes(data), limits=Limits(max_hours=1)) as recording:
        assert len(list(recording)) == 6


def test_a_clock_that_jumps_by_years_is_no_long_recording(tmp_path: Path) -> None:
    file = write(tmp_path / "video.mkv", 6, times=[0, 0.04, 0.08, 1e7, 1e7 + 0.04, 1e7 + 0.08])
    with Recording(file, limits=Limits(max_hours=1)) as recording:
        frames = list(recording)
    assert len(frames) == 6
    assert (frames[-1].pts - frames[0].pts) * recording.time_base < 1


@pytest.mark.parametrize("suffix", ["mp4", "ts", "mkv"])
def test_too_many_streams(suffix: str, tmp_path: Path) -> None:
    source = ffmpeg.input(str(write(tmp_path / "one.mp4", 5)))["v"]
    many = tmp_path / f"many.{suffix}"
    ffmpeg.output(*[source] * 9, str(many), c="copy").run(cmd=FFMPEG, quiet=True)
    assert ends_with(many, Limits(max_streams=8)) == ([], "too_many_streams")
    with Recording(many, limits=Limits(max_streams=9)) as recording:
        assert len(list(recording)) == 5


@pytest.mark.parametrize("suffix", ["flv", "mkv"])
def test_endless_zeros_behind_a_recording(suffix: str, tmp_path: Path) -> None:
    file = write(tmp_path / f"video.{suffix}", 400, size=(160, 90))
    with file.open("r+b") as stream:
        stream.truncate(1 << 40)  # a terabyte that takes no room
    numbers, code = ends_with(file, Limits(max_stalled_mb=8))
    assert numbers[:350] == list(range(350))
    assert code == "stalled"


def test_endless_packets_without_a_frame(tmp_path: Path) -> None:
    data = bytearray(write(tmp_path / "video.mp4", 300, options=CLOSED).read_bytes())
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[(start + end) // 2 : end] = bytes(end - (start + end) // 2)
    numbers, code = ends_with(bytes(data), Limits(max_stalled_packets=100))
    assert numbers[:100] == list(range(100))
    assert code == "stalled"
    with Recording(bytes(data)) as recording:
        assert len(list(recording)) >= len(numbers)


class _Trickle(MemoryFileSystem):
    """Storage that answers, late."""

    protocol = "trickle"
    cachable = False
    answers_after = 0.3

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.rpartition("://")[2].lstrip("/")

    def _open(self, path: str, mode: str = "rb", **options: object) -> object:
        file = super()._open(path, mode, **options)
        whole = file.read

        def read_late(count: int = -1) -> bytes:
            time.sleep(self.answers_after)
            return whole(min(count, 1 << 16))

        file.read = read_late
        return file


def test_a_recording_that_opens_too_slowly() -> None:
    fsspec.register_implementation("trickle", _Trickle, clobber=True)
    with fsspec.open("memory://slow.flv", "wb") as file:
        file.write(b"FLV\x01\x01\0\0\0\x09\0\0\0\0" + bytes(1 << 22))
    assert ends_with("trickle://slow.flv", Limits(max_stalled_seconds=1)) == ([], "stalled")


def test_a_pause_between_two_frames_is_no_stall(tmp_path: Path) -> None:
    file = write(tmp_path / "video.nut", 40, codec="rawvideo", size=(640, 360))
    assert file.stat().st_size > 12 << 20
    with Recording(file, limits=Limits(max_stalled_seconds=0.5, max_stalled_mb=8)) as recording:
        frames = iter(recording)
        next(frames)
        time.sleep(0.6)
        assert len(list(frames)) == 39


SCRIPTS = {
    "itself.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nitself.m3u8\n#EXT-X-ENDLIST\n",
    "data.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\ndata:video/mp2t;base64,R0AAEA==\n#EXT-X-ENDLIST\n",
    "list.ffconcat": "ffconcat version 1.0\nfile '{folder}/secret.mp4'\n",
    "list.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet>'
    "<Representation><BaseURL>file://{folder}/secret.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "picture.svg": '<svg xmlns="http://www.w3.org/2000/svg"><image href="file://{folder}/secret.mp4"/></svg>',
    "words.srt": "1\n00:00:00,000 --> 00:00:02,000\nhello\n",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_that_name_other_files_are_never_followed(name: str, tmp_path: Path) -> None:
    write(tmp_path / "secret.mp4", 5)
    (tmp_path / name).write_text(SCRIPTS[name].replace("{folder}", str(tmp_path)))
    shutil.copy(tmp_path / name, tmp_path / "video.mp4")  # whatever it is called
    for file in (name, "video.mp4"):
        assert ends_with(tmp_path / file, Limits()) == ([], "not_media")


def test_containers_are_a_setting(tmp_path: Path) -> None:
    file = write(tmp_path / "video.mkv", 5)
    assert ends_with(file, Limits(containers=("mp4",))) == ([], "not_media")
    with Recording(file, limits=Limits(containers=("matroska",))) as recording:
        assert len(list(recording)) == 5


def _claims(field: bytes, offset: int, value: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        at = data.rindex(field) + 4 + offset
        return data[:at] + value + data[at + len(value) :]

    return change


@pytest.mark.parametrize(
    "change",
    [
        _claims(b"stsz", 4, struct.pack(">II", 1, 10**9)),  # a billion samples of a byte
        _claims(b"stsz", 4, struct.pack(">II", 0, 10**9)),
        _claims(b"stts", 8, struct.pack(">I", 2**31 - 1)),
        _claims(b"stsc", 12, struct.pack(">I", 2**31 - 1)),
        _claims(b"avc1", 24, struct.pack(">HH", 64_000, 64_000)),
        _claims(b"avcC", 0, np.random.default_rng(0).bytes(30)),
    ],
)
def test_an_index_that_claims_too_much(change: Callable[[bytes], bytes], tmp_path: Path) -> None:
    data = change(write(tmp_path / "video.mp4", 10, options=CLOSED).read_bytes())
    frames = []
    with contextlib.suppress(MediaError), Recording(data) as recording:  # anything else fails the test
        frames.extend(frame.index for frame in recording)
    assert len(frames) <= 10


def test_limits_change_no_clip() -> None:
    assert Ingest(limits=Limits(max_hours=1)).fingerprint() == Ingest().fingerprint()


def test_ingest_reads_under_its_limits(tmp_path: Path) -> None:
    from schemas.manifest import Pair

    pair = Pair(pair_id="a", video=str(write(tmp_path / "video.mp4", 50)), garment=None, part="upper")
    with pytest.raises(MediaError) as caught:
        list(Ingest(detector="pyscenedetect", limits=Limits(max_pixels=16)).clips(pair))
    assert caught.value.code == "too_large"
    assert "ingest.limits.max_pixels" in str(caught.value)
