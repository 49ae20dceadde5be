"""A real S3-speaking server (moto's) on 127.0.0.1, behind a proxy that loses requests and cuts connections."""

from __future__ import annotations

import http.client
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Proxy:
    """Shares of requests that fail in each of four ways, by a seeded draw; what it did is counted."""

    address: str
    refused: float = 0.0  # 503 SlowDown or 500, the server never hears of it
    lost: float = 0.0  # the server acts, the answer is 500
    cut_up: float = 0.0  # the connection breaks in the middle of the request's body
    cut_down: float = 0.0  # ... of the answer's body
    down: bool = False
    broken: str = ""  # an object whose every request is answered by 500
    done: Counter[str] = field(default_factory=Counter)
    chance: random.Random = field(default_factory=lambda: random.Random(0))

    def set(self, *, refused: float = 0.0, lost: float = 0.0, cut_up: float = 0.0, cut_down: float = 0.0) -> None:
        self.refused, self.lost, self.cut_up, self.cut_down = refused, lost, cut_up, cut_down
        self.done.clear()

    def draw(self) -> str:
        number = self.chance.random()
        for fault in ("refused", "lost", "cut_up", "cut_down"):
            number -= getattr(self, fault)
            if number < 0:
                self.done[fault] += 1
                return fault
        self.done["passed"] += 1
        return ""


SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
BROKEN = b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"


@contextmanager
def faulty_s3() -> Iterator[Proxy]:
    """An empty S3 behind a proxy; both end with the block."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    proxy = Proxy("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            if proxy.down:
                self.close_connection = True
                return
            fault = proxy.draw()
            length = int(self.headers.get("Content-Length", 0))
            if fault == "cut_up":
                self.rfile.read(length // 2)
                self.close_connection = True
                return
            body = self._chunked() if self.headers.get("Transfer-Encoding") == "chunked" else self.rfile.read(length)
            if fault == "refused" or self.path.partition("?")[0] == proxy.broken:
                self._send(*((503, SLOW_DOWN) if proxy.chance.random() < 0.5 else (500, BROKEN)))
                return
            upstream = http.client.HTTPConnection(host, port, timeout=60)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "transfer-encoding"}
            upstream.request(self.command, self.path, body=body, headers={**headers, "Content-Length": str(len(body))})
            response = upstream.getresponse()
            data = response.read()
            upstream.close()
            if fault == "lost":
                self._send(500, BROKEN)
                return
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "date", "server"):
                    self.send_header(name, value)
            if response.getheader("Content-Length") is None:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if fault == "cut_down" else data)
            self.close_connection = fault == "cut_down"

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815 - http.server's names

        def _chunked(self) -> bytes:
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def handle(self) -> None:
            with suppress(OSError):  # the client has gone
                super().handle()

        def log_message(self, *args: object) -> None:
            pass

    front = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    front.daemon_threads = True
    proxy.address = f"http://127.0.0.1:{front.server_port}"
    threading.Thread(target=front.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield proxy
    finally:
        front.shutdown()
        front.server_close()
        server.stop()
