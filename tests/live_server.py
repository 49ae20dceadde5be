"""A live stream on 127.0.0.1, as HLS and as an endless response, in time that runs faster."""

from __future__ import annotations

import http.server
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import imageio_ffmpeg

WINDOW = 5  # segments in the playlist
LENGTH = 20  # segments of the whole stream, a second each


def write_stream(folder: Path) -> list[bytes]:
    """Moving pictures with their number in them, as segments of MPEG-TS of one second."""
    pictures = f"testsrc2=size=160x120:rate=24:duration={LENGTH}"
    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", pictures, "-c:v", "libx264", "-g", "24"]
        + ["-preset", "ultrafast", "-pix_fmt", "yuv420p", "-sc_threshold", "0", "-bf", "2", "-f", "hls"]
        + ["-hls_time", "1", "-hls_list_size", "0", "-hls_segment_filename", str(folder / "%03d.ts")]
        + [str(folder / "all.m3u8")],
        check=True,
    )
    return [path.read_bytes() for path in sorted(folder.glob("*.ts"))]


class LiveServer:
    """Serves /live.m3u8, and /live.ts and /live.flv that go on for ever. Tests turn its screws while it runs.

    Attributes:
        released: how many segments exist by now.
        first_number: media sequence number of the stream's first segment.
        finished: the playlist says that nothing will be added.
        gone: everything answers 404.
        pages: other paths and what they answer.
        requests: paths that were asked for.

    """

    def __init__(self, segments: list[bytes], *, every: float) -> None:
        self._segments, self._every = segments, every
        self.released, self.first_number = 3, 0
        self.finished = self.gone = self.stalled = self.cut = False
        self.pages: dict[str, bytes] = {}
        self.requests: list[str] = []
        self._closing = threading.Event()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None: ...

            def do_GET(self) -> None:
                server.requests.append(self.path)
                if server.gone:
                    self.send_error(404)
                elif self.path == "/live.ts":
                    self._endless()
                else:
                    self._answer(server._page(self.path))

            def _answer(self, body: bytes | None) -> None:
                if body is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _endless(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "video/mp2t")
                self.send_header("Connection", "close")
                self.end_headers()
                self.close_connection = True
                server.cut = False
                at = max(0, server.released - 1)  # the group of pictures it has in store
                while not (server.cut or server.gone or server._closing.is_set()):
                    if at < server.released:
                        self.wfile.write(server._segments[at])
                        at += 1
                    time.sleep(0.02)

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._threads = [threading.Thread(target=work) for work in (self._http.serve_forever, self._release)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._closing.set()
        self._http.shutdown()
        for thread in self._threads:
            thread.join()
        self._http.server_close()

    def wait_for(self, released: int) -> None:
        while self.released < released:
            time.sleep(0.01)

    def _release(self) -> None:
        while not self._closing.wait(self._every):
            if not self.stalled and self.released < len(self._segments):
                self.released += 1

    def _page(self, path: str) -> bytes | None:
        if path in self.pages:
            return self.pages[path]
        if path == "/live.m3u8":
            return self._playlist().encode()
        number = path.strip("/").removesuffix(".ts")
        return self._segments[int(number)] if number.isdigit() and int(number) < self.released else None

    def _playlist(self) -> str:
        first = max(0, self.released - WINDOW)
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1"]
        lines += [f"#EXT-X-MEDIA-SEQUENCE:{self.first_number + first}"]
        for number in range(first, self.released):
            lines += ["#EXTINF:1.0,", f"{number}.ts"]
        return "\n".join([*lines, *(["#EXT-X-ENDLIST"] if self.finished else []), ""])


@contextmanager
def live_server(segments: list[bytes], *, every: float = 0.25) -> Iterator[LiveServer]:
    server = LiveServer(segments, every=every)
    try:
        yield server
    finally:
        server.close()
