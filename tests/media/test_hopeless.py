"""Input that is no good: a typed error, or what is left of it; never a crash, never a hang."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import cv2
import ffmpeg
import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import media
from media.recording import Recording
from schemas.errors import MEDIA_ERROR_CODES, MediaError
from tests.media.cases import FFMPEG
from tests.media.numbered import draw, luma, read, write

CLOSED = {"x264-params": "keyint=10:scenecut=0"}


def numbers(video: Path | str | bytes) -> list[int | None]:
    with Recording(video) as recording:
        return [read(luma(frame.picture)) for frame in recording]


def run(*inputs: object, output: Path, **options: str) -> Path:
    ffmpeg.output(*inputs, str(output), **options).run(cmd=FFMPEG, quiet=True, overwrite_output=True)
    return output


def index_first(folder: Path, frames: int = 60) -> bytes:
    whole = write(folder / "whole.mp4", frames, options=CLOSED)
    moved = run(ffmpeg.input(str(whole)), output=folder / "index_first.mp4", c="copy", movflags="faststart")
    return moved.read_bytes()


def _saved(content: bytes, name: str = "video.mp4") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _no_index(folder: Path) -> Path:
    data = write(folder / "whole.mp4", 30).read_bytes()
    return _saved(data[: len(data) // 2])(folder)


def _only_sound(folder: Path) -> Path:
    return run(ffmpeg.input("sine=d=1", f="lavfi"), output=folder / "sound.mp4")


def _sound_with_cover(folder: Path) -> Path:
    cv2.imwrite(str(folder / "cover.jpg"), draw(1))
    streams = ffmpeg.input("sine=d=1", f="lavfi"), ffmpeg.input(str(folder / "cover.jpg"))
    return run(*streams, output=folder / "song.mp3", vcodec="copy", **{"disposition:v": "attached_pic"})


def _png(folder: Path) -> Path:
    cv2.imwrite(str(folder / "one.png"), draw(1))
    return folder / "one.png"


def _png_called_mp4(folder: Path) -> Path:
    return _png(folder).rename(folder / "one.mp4")


def _all_damaged(folder: Path) -> Path:
    data = bytearray(index_first(folder))
    start = data.index(b"mdat") + 4
    data[start:] = random.Random(1).randbytes(len(data) - start)
    return _saved(bytes(data))(folder)


def _playlist(folder: Path) -> Path:
    write(folder / "secret.ts", 5)
    (folder / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:4,\n{folder}/secret.ts\n#EXT-X-ENDLIST\n")
    return folder / "list.m3u8"


def _concat_script(folder: Path) -> Path:
    write(folder / "secret.ts", 5)
    (folder / "list.ffconcat").write_text(f"ffconcat version 1.0\nfile '{folder}/secret.ts'\n")
    return folder / "list.ffconcat"


def _folder(folder: Path) -> Path:
    (folder / "folder.mp4").mkdir()
    return folder / "folder.mp4"


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda folder: folder / "missing.mp4", "missing"),
        (lambda folder: folder / "no" / "such" / "folder.mp4", "missing"),
        (_folder, "missing"),
        (lambda folder: "nosuchprotocol://bucket/video.mp4", "unreadable"),
        (lambda folder: "http://127.0.0.1:9/video.mp4", "unreadable"),
        (_saved(b""), "empty"),
        (_saved(b"It was a dark and stormy night.\n" * 99), "not_media"),
        (_saved(bytes(100_000)), "not_media"),
        (_saved(random.Random(0).randbytes(100_000)), "not_media"),
        (_png, "not_media"),
        (_png_called_mp4, "not_media"),
        (_playlist, "not_media"),
        (_concat_script, "not_media"),
        (_no_index, "truncated"),
        (_only_sound, "no_video"),
        (_sound_with_cover, "no_video"),
        (_all_damaged, "undecodable"),
    ],
)
def test_is_a_typed_error(make: Callable[[Path], Path | str], code: str, tmp_path: Path) -> None:
    video = make(tmp_path)
    for attempt in (media.probe, media.normalise, media.open_reader, Recording):
        with pytest.raises(MediaError) as caught:
            attempt(video)
        assert caught.value.code == code
        assert str(video) in str(caught.value)
    assert code in MEDIA_ERROR_CODES


def test_one_frame_is_too_short_for_a_clip(tmp_path: Path) -> None:
    file = write(tmp_path / "one.mp4", 1)
    assert numbers(file) == [0]
    with pytest.raises(MediaError) as caught:
        media.normalise(file)
    assert caught.value.code == "too_short"


def test_cut_off_in_the_data_gives_what_is_there(tmp_path: Path) -> None:
    data = index_first(tmp_path)
    start = data.index(b"mdat")
    got = numbers(data[: start + (len(data) - start) // 2])
    assert 15 <= len(got) < 45
    assert got == list(range(len(got)))


def test_cut_off_transport_stream_gives_what_is_there(tmp_path: Path) -> None:
    data = write(tmp_path / "video.ts", 60, options=CLOSED).read_bytes()
    got = numbers(data[: len(data) // 2])
    assert 15 <= len(got) < 45
    assert got[:-1] == list(range(len(got) - 1))


@pytest.mark.parametrize("container", ["mp4", "ts"])
def test_damage_in_the_middle_is_passed_over(container: str, tmp_path: Path) -> None:
    data = index_first(tmp_path) if container == "mp4" else write(tmp_path / "v.ts", 60, options=CLOSED).read_bytes()
    chaos, damaged = random.Random(1), bytearray(data)
    start = data.index(b"mdat") + 4 if container == "mp4" else 0
    for at in range(start + (len(data) - start) * 4 // 10, start + (len(data) - start) * 5 // 10):
        damaged[at] = chaos.randrange(256)
    got = numbers(bytes(damaged))
    assert got[:20] == list(range(20))
    assert got[-20:] == list(range(40, 60))


def test_damaged_anywhere_never_crashes(tmp_path: Path) -> None:
    """A hundred bytes changed, header and index included: frames or a typed error."""
    data = index_first(tmp_path, frames=20)
    for seed in range(25):
        chaos, damaged = random.Random(seed), bytearray(data)
        for _ in range(100):
            damaged[chaos.randrange(len(data) if seed % 2 else 2000)] = chaos.randrange(256)
        with contextlib.suppress(MediaError):  # anything else fails the test
            assert len(numbers(bytes(damaged))) <= 40


def test_reads_any_fsspec_address(tmp_path: Path) -> None:
    data = write(tmp_path / "video.mp4", 10).read_bytes()
    with fsspec.open("memory://recordings/video.mp4", "wb") as file:
        file.write(data)
    assert numbers("memory://recordings/video.mp4") == list(range(10))
    assert numbers(f"file://{tmp_path}/video.mp4") == list(range(10))
    with pytest.raises(MediaError, match="no such file"):
        media.probe("memory://recordings/other.mp4")


def test_reads_over_http(tmp_path: Path) -> None:
    write(tmp_path / "video.ts", 10)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        assert numbers(f"{address}/video.ts") == list(range(10))
        with pytest.raises(MediaError) as caught:
            media.probe(f"{address}/other.ts")
        assert caught.value.code == "missing"
    finally:
        server.shutdown()
        server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


class _BreaksOff(MemoryFileSystem):
    """Storage whose connection is lost after some bytes."""

    protocol = "breaksoff"
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.rpartition("://")[2].lstrip("/")

    def _open(self, path: str, mode: str = "rb", **options: object) -> object:
        file = super()._open(path, mode, **options)
        whole, size = file.read, file.getbuffer().nbytes

        def read_some(count: int = -1) -> bytes:
            if file.tell() > size // 2:
                raise ConnectionError("connection lost")
            return whole(count)

        file.read = read_some
        return file


def test_storage_that_breaks_off_is_no_short_recording(tmp_path: Path) -> None:
    fsspec.register_implementation("breaksoff", _BreaksOff, clobber=True)
    data = write(tmp_path / "video.ts", 300, size=(640, 360), options={"crf": "5"}).read_bytes()
    with fsspec.open("memory://half.ts", "wb") as file:
        file.write(data)
    with pytest.raises(MediaError, match="connection lost") as caught:
        numbers("breaksoff://half.ts")
    assert caught.value.code == "unreadable"


def test_streams_that_appear_on_the_way_end_nothing(tmp_path: Path) -> None:
    """Sound that sets in late, or another programme: PyAV 18 stumbles over it at the very end of the file."""
    noise, first = np.random.default_rng(0), tmp_path / "first.ts"
    with av.open(str(first), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.codec_context.bit_rate = 640, 360, 40_000_000
        for _ in range(60):
            picture = av.VideoFrame.from_ndarray(noise.integers(0, 256, (360, 640, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    assert first.stat().st_size > 10_000_000  # more than FFmpeg looks ahead
    tables = {"mpegts_start_pid": "600", "mpegts_service_id": "7", "mpegts_pmt_start_pid": "1280"}
    second = write(tmp_path / "second.ts", 10, container_options=tables | {"tables_version": "3"})
    assert len(numbers(first.read_bytes() + second.read_bytes())) == 60


def _with_unknown_colours(folder: Path, *, frames: range) -> bytes:
    """A ProRes recording, the headers of some of whose frames name a colour matrix that there is not."""
    pieces = write(folder / "video.mov", 12, codec="prores_ks", pixel_format="yuv422p10le").read_bytes().split(b"icpf")
    for number in frames:
        pieces[number + 1] = pieces[number + 1][:16] + b"\xc8" + pieces[number + 1][17:]
    return b"icpf".join(pieces)


def test_a_picture_that_cannot_be_converted_is_left_out(tmp_path: Path) -> None:
    left = [0, 1, 2, 3, *range(6, 12)]
    assert numbers(_with_unknown_colours(tmp_path, frames=range(4, 6))) == left
    with pytest.raises(MediaError, match="cannot be converted") as caught:
        numbers(_with_unknown_colours(tmp_path, frames=range(12)))
    assert caught.value.code == "undecodable"
