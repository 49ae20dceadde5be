"""A file behind HTTP(S) as one seekable stream: taken up again where a connection broke, in constant memory."""

from __future__ import annotations

import asyncio
import errno
import io
import ipaddress
import re
import socket
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from media.retrying import TRIES, retry
from schemas.config import SourcesConfig
from schemas.errors import MediaError

if TYPE_CHECKING:
    import aiohttp

CONNECT_SECONDS = 15.0
CHUNK = 64 * 1024
"""Bytes that have to come within `stall_seconds`, and that one read asks for at least."""
SKIPPED = 1024 * 1024
"""A seek ahead by no more than this reads on: cheaper than another request."""
MOST_REREAD = 3
"""A server without ranges sends all from the start at each seek back. Files read over this many times are given up."""

_METADATA = {ipaddress.ip_address("168.63.129.16")}  # Azure's, the only one that lies in no private range
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(address: str | Address) -> bool:
    """Whether an IP address is of the open internet: not private, loopback, link-local, nor a cloud's metadata."""
    ip = ipaddress.ip_address(address.partition("%")[0]) if isinstance(address, str) else address
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ipaddress.ip_address(int(ip) & 2**32 - 1) if ip in _NAT64 else None)
        if inner is not None:
            return is_public(inner)
    return ip.is_global and not ip.is_multicast and ip not in _METADATA


def names_private_host(url: str) -> bool:
    """Whether the host of `url` is, without looking it up, this machine or a private address, in whatever notation."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return not is_public(host)
    except ValueError:
        pass
    try:
        return not is_public(socket.inet_ntoa(socket.inet_aton(host)))  # 2130706433, 0x7f.1, 0177.0.0.1
    except (OSError, UnicodeError):
        return False


class HttpFile(io.RawIOBase):
    """Reads a file behind HTTP(S) from one streaming response; seeks and broken connections make range requests.

    Each hop's address is checked on the socket that is about to connect, so neither redirects nor DNS lead past
    `sources`.

    Args:
        url: http:// or https://.
        sources: whether private addresses are allowed, and how long a server may be silent.
        tries: requests in a row without any progress before giving up.

    Attributes:
        size: in bytes; None where the server does not say. Without it there is no seeking.
        version: ETag, or else time of the last change; "" where the server tells neither.

    Raises:
        MediaError: missing; refused, where a private address is not allowed; unreadable, where the server denies
            access, stays away, or serves another file than a moment ago. Reading raises it too.

    """

    def __init__(self, url: str, *, sources: SourcesConfig, tries: int = TRIES) -> None:
        from fsspec.asyn import get_loop

        super().__init__()
        self.url, self._sources, self._tries = url, sources, tries
        self.size: int | None = None
        self.version = ""
        self._loop = get_loop()
        self._session: aiohttp.ClientSession | None = None
        self._response: aiohttp.ClientResponse | None = None
        self._position = self._streamed = self._discarded = 0
        self._ranges = True
        self._opened = False
        try:
            self._retried(partial(self._run, self._request, 0))
        except BaseException:  # Ctrl-C too: the connection and its thread would stay
            self.close()
            raise

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Where the size is known."""
        return self.size is not None

    def tell(self) -> int:
        """Position of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move without asking the server; the next read does."""
        if self.size is None:
            raise io.UnsupportedOperation("the server does not say how long the file is")
        self._position = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence])
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` as far as one chunk goes. Raises `MediaError`, code unreadable."""
        if self.size is not None and self._position >= self.size:
            return 0
        data: bytes = self._retried(partial(self._run, self._receive, len(buffer)))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        """Let go of the connection."""
        if not self.closed and self._session is not None:
            self._run(self._disconnect)
        super().close()

    # ---- on the caller's thread

    def _run(self, action: Any, *args: Any) -> Any:
        from fsspec.asyn import sync

        return sync(self._loop, action, *args)

    def _retried(self, action: Any) -> Any:
        import aiohttp

        try:
            return retry(action, tries=self._tries)
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, PermissionError):
                raise self._error(str(error.os_error.strerror), "refused", _HOW_TO_ALLOW) from error
            raise self._error(f"cannot be reached: {error}") from error
        except TimeoutError as error:
            words = f"the server stalls: not {CHUNK // 1024} kB came in {self._sources.stall_seconds:g} s"
            raise self._error(words, remedy="Try again later, or raise `sources.stall_seconds`") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._error(f"reading failed: {error or type(error).__name__}") from error

    def _error(self, what: str, code: str = "unreadable", remedy: str = "") -> MediaError:
        return MediaError(what, code=code, where=self.url, remedy=remedy)

    # ---- in the loop of fsspec

    async def _disconnect(self) -> None:
        if self._response is not None:
            self._response.close()
        if self._session is not None:
            await self._session.close()
        self._session = self._response = None

    async def _request(self, start: int) -> None:
        """Have the server send the file from byte `start` on, or from its first byte where it knows no ranges."""
        import aiohttp

        await self._disconnect()
        anywhere, stall = self._sources.allow_private_addresses, self._sources.stall_seconds
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(socket_factory=None if anywhere else _public_socket),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=stall),
            auto_decompress=False,
        )
        headers = {"Accept-Encoding": "identity", "Range": f"bytes={start}-"}
        self._response = response = await self._session.get(self.url, headers=headers)
        if response.status == 416 and start == 0:  # an empty file has no range
            self.size = 0
            return
        self._check_status(response.status)
        response.raise_for_status()
        self._streamed = self._check_headers(response, start)

    def _check_status(self, status: int) -> None:
        if status in (404, 410):
            raise self._error("there is no such file", "missing", "Check the address in the manifest")
        if status in (401, 403):
            raise self._error(f"the server denies access ({status})", remedy="Sign the address anew, or allow reading")
        if status == 416:
            raise self._error("the file became shorter on the server while it was read", remedy="Try again")

    def _check_headers(self, response: aiohttp.ClientResponse, start: int) -> int:
        """Position at which `response` begins. Raises `MediaError` if it is of another file than those before."""
        headers = response.headers
        position, size = 0, response.content_length
        if response.status == 206:
            match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
            if match is None or int(match[1] or -1) != start:
                raise self._error(f"the server sends another range than asked for ({headers.get('Content-Range')})")
            position, size = start, None if match[2] == "*" else int(match[2])
        else:
            self._ranges = False
        version = headers.get("ETag") or headers.get("Last-Modified") or ""
        if self._opened and (version, size) != (self.version, self.size):
            raise self._error("the file changed on the server while it was read", remedy="Try again")
        self.version, self.size, self._opened = version, size, True
        return position

    async def _receive(self, size: int) -> bytes:
        """Bytes from the wanted position: up to `size`, a whole chunk if it comes in time; none at the end."""
        try:
            ahead = self._position - self._streamed
            if self._response is None or ahead < 0 or (ahead > SKIPPED and self._ranges):
                await self._request(self._position)
            await self._skip(self._position - self._streamed)
            return await self._read(min(size, CHUNK))
        except BaseException:  # whatever it was, what comes next on this connection is not what was asked for
            await self._disconnect()
            raise

    async def _skip(self, count: int) -> None:
        self._discarded += count if not self._ranges else 0
        if self._discarded > MOST_REREAD * (self.size or 0):
            raise self._error(
                "the server serves no parts of files, and this one has to be read back and forth",
                remedy="Download it, or have it served with range requests",
            )
        while count:
            count -= len(await self._read(min(count, CHUNK)))

    async def _read(self, size: int) -> bytes:
        """`size` bytes, fewer where connection or file ends. Raises `TimeoutError` where they come too slowly."""
        import aiohttp

        assert self._response is not None
        data = bytearray()
        try:
            async with asyncio.timeout(self._sources.stall_seconds):
                while len(data) < size and (more := await self._response.content.read(size - len(data))):
                    data += more
        except aiohttp.ClientError as error:  # what came before counts as progress
            if not data or isinstance(error, TimeoutError):
                raise
        if not data and self.size is not None and self._streamed < self.size:
            raise aiohttp.ClientPayloadError("the connection ended early")
        self._streamed += len(data)
        return bytes(data)


_HOW_TO_ALLOW = "If it is meant, set `sources.allow_private_addresses: true`"


def _public_socket(address: Any) -> socket.socket:
    """Socket for an address that was looked up a moment ago and is connected to next."""
    family, kind, protocol, _, place = address
    if not is_public(place[0]):
        raise PermissionError(errno.EACCES, f"it leads to {place[0]}, a private address")
    return socket.socket(family, kind, protocol)
