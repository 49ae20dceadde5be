"""Capture of live streams from a real server: what is broken, hostile or interrupted first.

The frames that were captured are decoded and told by their pictures: each at most once, in order.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import ffmpeg
import psutil
import pytest

from curation.live import Before, Capture, Closed, Ending, Gap, Segment, gate, open_gate
from schemas.config import LiveConfig, SourcesConfig
from schemas.errors import MediaError
from tests.live_server import FFMPEG, FRAMES, LENGTH, WINDOW, LiveServer, as_flv, live_server, write_stream
from tests.media.numbered import write

FAST = LiveConfig(segment_seconds=6, stall_seconds=0.8, give_up_seconds=1, backoff_seconds=0.1)
PATIENT = FAST.model_copy(update={"give_up_seconds": 3})
HOPELESS = FAST.model_copy(update={"stall_seconds": 0.4, "give_up_seconds": 0.4})
HELD = 3  # last pictures that FFmpeg may hold back until more comes
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return write_stream(tmp_path_factory.mktemp("stream"))


@pytest.fixture
def server(stream: list[bytes]) -> Iterator[LiveServer]:
    with live_server(stream) as server:
        yield server


def pictures(data: Path) -> list[int]:
    with av.open(str(data)) as container:
        return [hash(frame.to_ndarray().tobytes()) for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def number_of(stream: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> dict[int, int]:
    whole = tmp_path_factory.mktemp("whole") / "whole.ts"
    whole.write_bytes(b"".join(stream))
    numbers = {picture: number for number, picture in enumerate(pictures(whole))}
    assert len(numbers) == LENGTH * FRAMES
    return numbers


@dataclass
class Taken:
    """What a capture gave."""

    folder: Path
    segments: list[Segment] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    ending: Ending | None = None
    trouble: str = ""
    connections: int = 0
    tail: tuple[str, ...] = ()

    def frames(self, number_of: dict[int, int]) -> list[int]:
        return [number_of[picture] for file in self.files for picture in pictures(file)]


def take(
    address: str,
    folder: Path,
    *,
    before: Before = Before(),
    stop: threading.Event | None = None,
    environment: dict[str, str] | None = None,
    config: LiveConfig = FAST,
    **limits: float,
) -> Taken:
    unfinished = folder / "unfinished"
    unfinished.mkdir(exist_ok=True)
    capture = Capture(
        address,
        folder=unfinished,
        config=config,
        max_seconds=limits.get("max_seconds"),
        max_bytes=limits.get("max_bytes"),
        before=before,
        environment=environment or dict(os.environ),
        stop=stop or threading.Event(),
    )
    taken = Taken(folder)
    for item in capture.run():
        if isinstance(item, Closed):
            taken.segments.append(item.segment)
            taken.files.append(item.file.rename(folder / f"{before.segments + len(taken.files)}.ts"))
        elif isinstance(item, Gap):
            taken.gaps.append(item)
        else:
            taken.ending, taken.trouble = item.ending, item.trouble
    taken.connections, taken.tail = capture.connections, capture.tail.until(float("inf"))
    assert not list(unfinished.iterdir())
    return taken


def meanwhile(script: Callable[[], None]) -> None:
    threading.Thread(target=script, daemon=True).start()


def is_increasing(numbers: list[int]) -> bool:
    return all(a < b for a, b in itertools.pairwise(numbers))


def holes(numbers: list[int]) -> list[tuple[int, int]]:
    return [(a, b) for a, b in itertools.pairwise(numbers) if b != a + 1]


@pytest.fixture
def silent_address() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/live.m3u8"


def test_an_address_that_never_answers_is_given_up(silent_address: str, tmp_path: Path) -> None:
    taken = take(silent_address, tmp_path, config=HOPELESS)
    assert (taken.ending, taken.files) == (Ending.SILENCE, [])


def test_pages_that_are_no_stream_are_given_up_with_the_reason(server: LiveServer, tmp_path: Path) -> None:
    server.pages["/page"] = b"<html><body>We are back at eight.</body></html>"
    for path, words in (("/page", "Invalid data"), ("/absent.m3u8", "404")):
        taken = take(server.url + path, tmp_path, config=HOPELESS)
        assert (taken.ending, taken.files) == (Ending.SILENCE, [])
        assert words in taken.trouble


@pytest.mark.parametrize("scheme", ["file:", "file://", "concat:", "subfile,,start,0,end,0,,:", ""])
def test_a_playlist_cannot_have_local_files_read(
    server: LiveServer, stream: list[bytes], tmp_path: Path, scheme: str
) -> None:
    secret = tmp_path / "secret.ts"
    secret.write_bytes(stream[0])
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXT-X-MEDIA-SEQUENCE:0", "#EXTINF:1.0,", f"{scheme}{secret}"]
    server.pages["/hostile.m3u8"] = "\n".join([*lines, "#EXT-X-ENDLIST", ""]).encode()
    assert take(server.url + "/hostile.m3u8", tmp_path, config=HOPELESS).files == []


def test_a_script_of_ffmpeg_behind_an_address_is_not_run(
    server: LiveServer, stream: list[bytes], tmp_path: Path
) -> None:
    secret = tmp_path / "secret.ts"
    secret.write_bytes(stream[0])
    server.pages["/script"] = f"ffconcat version 1.0\nfile '{secret}'\n".encode()
    assert take(server.url + "/script", tmp_path, config=HOPELESS).files == []


def test_video_that_cannot_be_copied_ends_with_the_reason(server: LiveServer, tmp_path: Path) -> None:
    vp9 = write(tmp_path / "vp9.webm", 100, codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"})
    server.endless["/live.webm"] = vp9.read_bytes()
    with pytest.raises(MediaError, match=r"H\.264, HEVC or MPEG video"):
        take(server.url + "/live.webm", tmp_path)


def test_a_server_that_dies_leaves_all_that_it_sent(
    server: LiveServer, tmp_path: Path, number_of: dict[int, int]
) -> None:
    server.stop_at(10)
    meanwhile(lambda: (server.wait_for(10), time.sleep(0.8), setattr(server, "gone", True)))
    taken = take(server.url + "/live.m3u8", tmp_path)
    frames = taken.frames(number_of)
    assert holes(frames) == []
    assert frames[-1] >= 10 * FRAMES - 1 - HELD
    assert taken.ending is Ending.SILENCE
    assert "404" in taken.trouble


def test_a_playlist_that_nobody_writes_any_more_is_not_captured_over_and_over(
    server: LiveServer, tmp_path: Path, number_of: dict[int, int]
) -> None:
    server.stop_at(6)
    taken = take(server.url + "/live.m3u8", tmp_path, config=PATIENT)
    frames = taken.frames(number_of)
    assert taken.connections > 1
    assert is_increasing(frames)
    assert frames[-1] >= 6 * FRAMES - 1 - HELD
    assert taken.ending is Ending.SILENCE


def test_a_stall_ends_and_nothing_is_lost_without_a_word(
    server: LiveServer, tmp_path: Path, number_of: dict[int, int]
) -> None:
    def script() -> None:
        server.wait_for(8)
        server.stalled = True
        time.sleep(1.5)
        server.stalled = False
        server.wait_for(LENGTH)
        server.finished = True

    meanwhile(script)
    taken = take(server.url + "/live.m3u8", tmp_path, config=PATIENT)
    frames = taken.frames(number_of)
    assert is_increasing(frames)
    assert frames[-1] == LENGTH * FRAMES - 1
    assert taken.gaps or not holes(frames)
    assert taken.connections > 1
    assert taken.ending is Ending.STREAM


def test_a_media_sequence_that_begins_anew_is_followed(
    server: LiveServer, tmp_path: Path, number_of: dict[int, int]
) -> None:
    def script() -> None:
        server.wait_for(10)
        server.first_number = 0
        server.wait_for(LENGTH)
        server.finished = True

    server.first_number = 100
    meanwhile(script)
    taken = take(server.url + "/live.m3u8", tmp_path, config=PATIENT)
    frames = taken.frames(number_of)
    assert is_increasing(frames)
    assert frames[-1] == LENGTH * FRAMES - 1
    assert taken.gaps or not holes(frames)
    assert taken.connections > 1
    assert taken.ending is Ending.STREAM


def test_an_endless_response_that_is_cut_is_taken_up_again(
    server: LiveServer, tmp_path: Path, number_of: dict[int, int]
) -> None:
    def script() -> None:
        server.wait_for(10)
        server.cut = True
        server.wait_for(LENGTH)
        time.sleep(0.3)
        server.gone = True

    meanwhile(script)
    taken = take(server.url + "/live.ts", tmp_path)
    frames = taken.frames(number_of)
    assert is_increasing(frames)
    assert frames[-1] >= LENGTH * FRAMES - 1 - HELD
    assert taken.gaps or not holes(frames)
    assert taken.connections > 1
    assert taken.ending is Ending.SILENCE


def test_flv_is_captured_and_what_a_server_sends_again_is_left_out(
    server: LiveServer, stream: list[bytes], tmp_path: Path, number_of: dict[int, int]
) -> None:
    server.endless["/live.flv"] = as_flv(stream[:6])
    taken = take(server.url + "/live.flv", tmp_path, config=PATIENT)
    assert taken.frames(number_of) == list(range(len(taken.frames(number_of))))
    assert len(taken.frames(number_of)) >= 6 * FRAMES - HELD
    assert taken.connections > 1


def test_limits_end_a_capture(server: LiveServer, tmp_path: Path) -> None:
    for name in ("by_seconds", "by_size"):
        (tmp_path / name).mkdir()
    by_seconds = take(server.url + "/live.m3u8", tmp_path / "by_seconds", max_seconds=10)
    assert by_seconds.ending is Ending.SECONDS
    assert 9.5 <= sum(segment.seconds for segment in by_seconds.segments) < 20
    by_size = take(server.url + "/live.m3u8", tmp_path / "by_size", max_bytes=100_000)
    assert by_size.ending is Ending.SIZE
    assert 100_000 <= sum(file.stat().st_size for file in by_size.files) < 400_000


def test_a_capture_that_is_stopped_goes_on_in_the_next(
    server: LiveServer, tmp_path: Path, number_of: dict[int, int]
) -> None:
    stop = threading.Event()
    meanwhile(lambda: (server.wait_for(8), stop.set()))
    first = take(server.url + "/live.m3u8", tmp_path, stop=stop)
    assert first.ending is None
    assert first.files
    meanwhile(lambda: (server.wait_for(LENGTH), setattr(server, "finished", True)))
    before = Before(
        segments=len(first.segments),
        seconds=sum(segment.seconds for segment in first.segments),
        ended=first.segments[-1].ended,
        tail=first.tail,
    )
    second = take(server.url + "/live.m3u8", tmp_path, before=before, config=PATIENT)
    frames = [*first.frames(number_of), *second.frames(number_of)]
    assert is_increasing(frames)
    assert frames[-1] == LENGTH * FRAMES - 1
    assert second.segments[0].at_seconds >= before.seconds


CHILD = """
import os, sys, threading
from pathlib import Path
from curation.live import Before, Capture
from schemas.config import LiveConfig

capture = Capture(
    sys.argv[1], folder=Path(sys.argv[2]), config=LiveConfig(segment_seconds=600), max_seconds=None, max_bytes=None,
    before=Before(), environment=os.environ, stop=threading.Event(),
)
for item in capture.run():
    print(item)
"""


def test_a_capture_that_is_killed_leaves_no_ffmpeg_and_its_segment_is_taken_up(
    server: LiveServer, tmp_path: Path, number_of: dict[int, int]
) -> None:
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    address = server.url + "/live.m3u8"
    child = subprocess.Popen([sys.executable, "-c", CHILD, address, str(unfinished)], cwd=ROOT)
    server.wait_for(10)
    while not list(unfinished.glob("*.ts")):
        time.sleep(0.02)
    time.sleep(0.5)
    (copying,) = psutil.Process(child.pid).children()
    child.send_signal(signal.SIGKILL)
    child.wait()
    _, alive = psutil.wait_procs([copying], timeout=5)
    assert not alive
    meanwhile(lambda: (server.wait_for(LENGTH), setattr(server, "finished", True)))
    taken = take(address, tmp_path, config=PATIENT)
    frames = taken.frames(number_of)
    assert taken.segments[0].seconds > 3
    assert is_increasing(frames)
    assert frames[-1] == LENGTH * FRAMES - 1


@pytest.fixture
def only_server_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing beyond this machine can be reached in tests: 127.0.0.1 stands for the open internet."""
    monkeypatch.setattr(gate, "is_public", lambda address: address == "127.0.0.1")


@pytest.mark.usefixtures("only_server_is_public")
def test_a_stream_is_captured_through_the_gate(server: LiveServer, tmp_path: Path) -> None:
    server.finished = True
    server.stop_at(3)
    with open_gate(server.url + "/live.m3u8", SourcesConfig()) as environment:
        taken = take(server.url + "/live.m3u8", tmp_path, environment=environment)
    assert taken.ending is Ending.STREAM
    assert sum(segment.seconds for segment in taken.segments) == pytest.approx(6)


@pytest.mark.usefixtures("only_server_is_public")
def test_neither_playlists_nor_redirects_lead_to_private_addresses(server: LiveServer, tmp_path: Path) -> None:
    port = server.url.rpartition(":")[2]
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXT-X-MEDIA-SEQUENCE:0", "#EXTINF:1.0,"]
    lines += [f"http://localhost.localdomain:{port}/0.ts", "#EXTINF:1.0,", f"http://127.0.0.2:{port}/1.ts"]
    server.pages["/hostile.m3u8"] = "\n".join([*lines, "#EXT-X-ENDLIST", ""]).encode()
    server.redirects["/moved.ts"] = f"http://127.0.0.2:{port}/2.ts"
    for path in ("/hostile.m3u8", "/moved.ts"):
        with open_gate(server.url + path, SourcesConfig()) as environment:
            assert take(server.url + path, tmp_path, config=HOPELESS, environment=environment).files == []
    assert {"/hostile.m3u8", "/moved.ts"} == set(server.requests)


def test_rtmp_servers_at_private_addresses_are_refused() -> None:
    with (
        pytest.raises(MediaError, match=r"127\.0\.0\.1, a private address"),
        open_gate("rtmp://localhost/app/stream", SourcesConfig()),
    ):
        pass


def test_a_stream_that_ended_while_nobody_looked_is_captured_as_far_as_it_is_there(
    server: LiveServer, tmp_path: Path, number_of: dict[int, int]
) -> None:
    stop = threading.Event()
    meanwhile(lambda: (server.wait_for(5), stop.set()))
    first = take(server.url + "/live.m3u8", tmp_path, stop=stop)
    server.wait_for(LENGTH)
    server.finished = True
    before = Before(segments=len(first.segments), seconds=10, ended=first.segments[-1].ended, tail=first.tail)
    second = take(server.url + "/live.m3u8", tmp_path, before=before, config=PATIENT)
    assert second.frames(number_of) == list(range((LENGTH - WINDOW) * FRAMES, LENGTH * FRAMES))
    assert [gap.at_seconds for gap in second.gaps] == [10]
    assert second.ending is Ending.STREAM


def test_rtmp_is_captured(stream: list[bytes], tmp_path: Path, number_of: dict[int, int]) -> None:
    (tmp_path / "show.flv").write_bytes(as_flv(stream[:8]))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"rtmp://127.0.0.1:{listener.getsockname()[1]}/app/show"
    show = ffmpeg.input(str(tmp_path / "show.flv"), readrate=12).output(address, c="copy", f="flv", listen=1)
    server = show.run_async(cmd=FFMPEG, quiet=True)
    try:
        taken = take(address, tmp_path, config=FAST.model_copy(update={"stall_seconds": 5}))
    finally:
        server.kill()
        server.communicate()
    assert taken.frames(number_of) == list(range(8 * FRAMES))
    assert not taken.gaps
    assert taken.ending is Ending.SILENCE
