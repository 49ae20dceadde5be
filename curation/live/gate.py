"""The way out for ffmpeg: a proxy on this machine that connects to nothing private, whatever a playlist says.

FFmpeg opens what a playlist names and follows redirects by itself. It is told to use this proxy for http and https, so
that each address is looked up and checked here, on the socket that is connected next.
"""

from __future__ import annotations

import os
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from media.http import is_public
from schemas.config import SourcesConfig
from schemas.errors import MediaError

CONNECT_SECONDS = 15.0
_HEAD_BYTES = 64 * 1024
_CHUNK = 64 * 1024


@contextmanager
def open_gate(address: str, sources: SourcesConfig) -> Iterator[dict[str, str]]:
    """Environment for an ffmpeg that is to read `address`, and goes only where `sources` allow.

    An RTMP server is looked up and checked once, before the first connection: FFmpeg has no proxy for it.

    Raises:
        MediaError: refused, where the server of `address` is a private one and that is not allowed.

    """
    environment = dict(os.environ) | _certificates()
    if sources.allow_private_addresses:
        yield environment
        return
    if urlsplit(address).scheme == "rtmp":
        _refuse_private(address)
    with _Server(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="gate", daemon=True)
        thread.start()
        proxy = f"http://127.0.0.1:{server.server_address[1]}"
        names = {name for name in environment if name.lower() in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")}
        try:
            yield {name: value for name, value in environment.items() if name not in names} | {"http_proxy": proxy}
        finally:
            server.shutdown()
            thread.join()


def _certificates() -> dict[str, str]:
    """Where this machine keeps the certificates it trusts: the binary was built on another one."""
    paths = ssl.get_default_verify_paths()
    places = {"SSL_CERT_FILE": paths.cafile, "SSL_CERT_DIR": paths.capath}
    return {name: place for name, place in places.items() if place}


def _refuse_private(address: str) -> None:
    parts = urlsplit(address)
    try:
        places = socket.getaddrinfo(parts.hostname, parts.port or 1935, type=socket.SOCK_STREAM)
    except OSError:  # ffmpeg will say so
        return
    if private := [place[4][0] for place in places if not is_public(str(place[4][0]))]:
        raise MediaError(f"it leads to {private[0]}, a private address", code="refused", where=address, remedy=_HOW)


_HOW = "If it is meant, set `sources.allow_private_addresses: true`"


def _connect(host: str, port: int) -> socket.socket:
    """A connection to the first public address of `host`. Raises `OSError`."""
    refused: OSError = PermissionError(13, f"{host} leads to a private address")
    for family, kind, protocol, _, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        if not is_public(str(place[0])):
            continue
        way = socket.socket(family, kind, protocol)
        try:
            way.settimeout(CONNECT_SECONDS)
            way.connect(place)
            way.settimeout(None)
        except OSError as error:
            way.close()
            refused = error
        else:
            return way
    raise refused


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False  # their ends are ffmpeg's, which is gone


class _Handler(socketserver.StreamRequestHandler):
    """One request of ffmpeg: a tunnel for https, or one exchange of http, after which the connection is closed."""

    def handle(self) -> None:
        method, target, version, headers = self._head()
        try:
            parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
            way = _connect(parts.hostname or "", parts.port or (443 if method == "CONNECT" else 80))
        except PermissionError as error:
            self._answer(f"403 Forbidden: {error.strerror}")
            return
        except (OSError, ValueError):
            self._answer("502 Bad Gateway")
            return
        with way:
            if method == "CONNECT":
                self._answer("200 Connection established")
            else:
                path = parts._replace(scheme="", netloc="").geturl() or "/"
                kept = [line for line in headers if not line.lower().startswith((b"connection:", b"proxy-"))]
                lines = [f"{method} {path} {version}".encode("latin-1"), *kept, b"Connection: close", b"", b""]
                way.sendall(b"\r\n".join(lines))
            threading.Thread(target=_pump, args=(self.connection, way), daemon=True).start()
            _pump(way, self.connection)

    def _head(self) -> tuple[str, str, str, list[bytes]]:
        """Method, target, version and header lines of the request."""
        lines: list[bytes] = []
        while (line := self.rfile.readline(_HEAD_BYTES).rstrip(b"\r\n")) and len(lines) < 100:
            lines.append(line)
        first = lines[0].decode("latin-1").split() if lines else []
        method, target, version = first if len(first) == 3 else ("GET", "", "HTTP/1.1")
        return method, target, version, lines[1:]

    def _answer(self, status: str) -> None:
        self.wfile.write(f"HTTP/1.1 {status}\r\n\r\n".encode())


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Pass on bytes until one of both is closed."""
    try:
        while data := source.recv(_CHUNK):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass
