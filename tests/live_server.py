"""A live stream on 127.0.0.1, as HLS and as an endless response, in time that runs faster."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import ffmpeg
import imageio_ffmpeg

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
WINDOW = 8  # segments in the playlist
LENGTH = 18  # segments of the whole stream, of two seconds each: FFmpeg looks at five before it begins
FRAMES = 24  # in a segment
EVERY = 0.15  # seconds after which another one is released: the stream runs faster than it shows


def write_stream(folder: Path) -> list[bytes]:
    """Moving pictures, no two alike, as segments of MPEG-TS of two seconds."""
    encoder = {"c:v": "libx264", "preset": "ultrafast", "pix_fmt": "yuv420p", "g": FRAMES, "sc_threshold": 0, "bf": 2}
    segments = {"f": "hls", "hls_time": 2, "hls_list_size": 0, "hls_segment_filename": str(folder / "%03d.ts")}
    pictures = ffmpeg.input(f"testsrc2=size=160x120:rate={FRAMES // 2}:duration={2 * LENGTH}", f="lavfi")
    pictures.output(str(folder / "all.m3u8"), **encoder, **segments).run(cmd=FFMPEG, quiet=True)
    return [path.read_bytes() for path in sorted(folder.glob("*.ts"))]


def as_flv(segments: list[bytes]) -> bytes:
    command = ffmpeg.input("pipe:").output("pipe:", c="copy", f="flv")
    flv, _ = command.run(cmd=FFMPEG, input=b"".join(segments), quiet=True)
    return flv


class LiveServer:
    """Serves /live.m3u8, and /live.ts that goes on for ever. The stream begins with the first request.

    Attributes:
        released: how many segments exist by now.
        first_number: media sequence number of the stream's first segment.
        stalled: nothing is added any more.
        finished: the playlist says that nothing will be added.
        gone: everything answers 404.
        pages: other paths and what they answer.
        redirects: other paths and where they lead.
        endless: other paths whose answer is followed by silence, until `cut`.
        requests: paths that were asked for.

    """

    def __init__(self, segments: list[bytes], *, every: float) -> None:
        self._segments, self._every = segments, every
        self.released, self.first_number = 3, 0
        self.stalled = self.finished = self.gone = self.cut = False
        self.pages: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.endless: dict[str, bytes] = {}
        self.requests: list[str] = []
        self._asked, self._closing = threading.Event(), threading.Event()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None: ...

            def do_GET(self) -> None:
                server.requests.append(self.path)
                server._asked.set()
                if self.path in server.redirects:
                    self.send_response(302)
                    self.send_header("Location", server.redirects[self.path])
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                elif not server.gone and self.path in {"/live.ts", *server.endless}:
                    self._go_on()
                else:
                    self._answer(None if server.gone else server._page(self.path))

            def _answer(self, body: bytes | None) -> None:
                if body is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _go_on(self) -> None:
                self.close_connection = True
                self.send_response(200)
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(server.endless.get(self.path, b""))
                server.cut = False
                at = max(0, server.released - 2)  # what it has in store
                while not (server.cut or server.gone or server._closing.is_set()):
                    if self.path == "/live.ts" and at < server.released:
                        self.wfile.write(server._segments[at])
                        at += 1
                    time.sleep(0.01)

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None: ...  # a client that is killed

        self._http = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        serve = partial(self._http.serve_forever, poll_interval=0.02)
        self._threads = [threading.Thread(target=work) for work in (serve, self._release)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._closing.set()
        self._asked.set()
        self._http.shutdown()
        for thread in self._threads:
            thread.join()
        self._http.server_close()

    def wait_for(self, released: int) -> None:
        while self.released < released and not self._closing.is_set():
            time.sleep(0.01)

    def stop_at(self, released: int) -> None:
        """Release no more than this."""
        self._segments = self._segments[:released]

    def _release(self) -> None:
        self._asked.wait()
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
        last = self.released
        first = max(0, last - WINDOW)
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1"]
        lines += [f"#EXT-X-MEDIA-SEQUENCE:{self.first_number + first}"]
        for number in range(first, last):
            lines += [f"#EXTINF:{EVERY},", f"{number}.ts"]
        return "\n".join([*lines, *(["#EXT-X-ENDLIST"] if self.finished else []), ""])


@contextmanager
def live_server(segments: list[bytes], *, every: float = EVERY) -> Iterator[LiveServer]:
    server = LiveServer(segments, every=every)
    try:
        yield server
    finally:
        server.close()
