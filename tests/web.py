"""A small web server that misbehaves as told."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """Files by path, and how they are served. `before` may change anything when a request comes in."""

    files: dict[str, bytes]
    ranges: bool = True
    tells_size: bool = True
    etag: str = '"1"'
    cut_after: int | None = None  # bytes of the body after which the connection is closed
    cuts: int = 1_000_000  # how many responses that happens to
    stall_after: int | None = None
    drip: float = 0.0  # seconds between two bytes
    statuses: list[int] = field(default_factory=list)  # answers to the first requests
    redirects: dict[str, str] = field(default_factory=dict)
    before: Callable[[Site], None] = lambda site: None
    requests: list[str] = field(default_factory=list)
    sent: int = 0
    address: str = ""


@contextmanager
def served(site: Site) -> Iterator[Site]:
    """`site` on 127.0.0.1; its `address` is set."""
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            site.requests.append(self.headers.get("Range", ""))
            site.before(site)
            if site.statuses and (status := site.statuses.pop(0)) != 200:
                return self._head(status, {"Content-Length": "0"})
            if self.path in site.redirects:
                return self._head(302, {"Location": site.redirects[self.path], "Content-Length": "0"})
            if self.path not in site.files:
                return self._head(404, {"Content-Length": "0"})
            data, start = site.files[self.path], 0
            match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            headers = {"ETag": site.etag} if site.etag else {}
            if match and site.ranges:
                start = int(match[1])
                if start >= len(data):  # none of an empty file
                    return self._head(416, {"Content-Range": f"bytes */{len(data)}", "Content-Length": "0"})
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            if site.tells_size:
                headers["Content-Length"] = str(len(data) - start)
            self._head(206 if match and site.ranges else 200, headers)
            self._body(memoryview(data)[start:])
            return None

        def _head(self, status: int, headers: dict[str, str]) -> None:
            self.close_connection = not site.tells_size
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def _body(self, data: memoryview) -> None:
            try:
                if site.drip:
                    for index in range(len(data)):
                        self.wfile.write(data[index : index + 1])
                        if done.wait(site.drip):
                            return
                elif site.cut_after is not None and site.cuts > 0 and len(data) > site.cut_after:
                    site.cuts -= 1
                    self.wfile.write(data[: site.cut_after])
                    site.sent += site.cut_after
                    time.sleep(0.01)  # else the end may overtake what aiohttp has not handed on yet
                    self.close_connection = True
                elif site.stall_after is not None:
                    self.wfile.write(data[: site.stall_after])
                    done.wait(30)
                else:
                    self.wfile.write(data)
                    site.sent += len(data)
            except OSError:  # the reader has gone
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    site.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield site
    finally:
        done.set()
        server.shutdown()
        server.server_close()
