"""Trying again what a network or a store may answer the next time: with back-off, jitter, and an end."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, Self, TypeVar

import tenacity

Result = TypeVar("Result")

TRIES = 6
FIRST_WAIT, LONGEST_WAIT, JITTER = 0.5, 10.0, 0.5
"""Seconds: 0.5, 1, 2, 4 and 8 between six tries, each with up to half a second more. In all 15 to 18 s."""

_PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}
_PASSING_ERRNO = {
    getattr(errno, name)
    for name in (
        "EAGAIN", "EBUSY", "ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "EHOSTDOWN", "EHOSTUNREACH", "EIO",
        "ENETDOWN", "ENETRESET", "ENETUNREACH", "EPIPE", "EREMOTEIO", "ESTALE", "ETIMEDOUT",
    )
    if hasattr(errno, name)
}  # fmt: skip
_PASSING_KINDS = {
    "aiohttp.ClientConnectionError",
    "aiohttp.ClientPayloadError",
    "azure.ServiceRequestError",
    "azure.ServiceResponseError",
    "botocore.ConnectionError",
    "botocore.HTTPClientError",
    "botocore.ResponseParserError",
    "google.TransportError",
    "http.HTTPException",
    "requests.ConnectionError",
    "requests.Timeout",
    "urllib3.HTTPError",
}
"""Package and class of lost connections. By name, for most of these packages are not installed."""


def retry(action: Callable[[], Result], *, tries: int = TRIES) -> Result:
    """What `action` returns, called up to `tries` times while it fails in a way that may pass.

    Raises whatever `action` raised last.
    """
    wait = tenacity.wait_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT) + tenacity.wait_random(0, JITTER)
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(may_pass), stop=tenacity.stop_after_attempt(tries), wait=wait, reraise=True
    )
    return retrying(action)


def may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed later: the server is busy or broken, the connection was cut, time ran out."""
    for field in ("status", "status_code", "code"):  # aiohttp; azure and requests; gcsfs and urllib
        if isinstance(status := getattr(error, field, None), int):
            return status in _PASSING_STATUS
    if isinstance(os_error := getattr(error, "os_error", None), OSError):  # aiohttp could not connect because of it
        error = os_error
    if isinstance(error, PermissionError | FileNotFoundError | IsADirectoryError | NotADirectoryError):
        return False
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_AGAIN
    if isinstance(error, TimeoutError | ConnectionError) or getattr(error, "errno", None) in _PASSING_ERRNO:
        return True
    kinds = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    return bool(kinds & _PASSING_KINDS)


class RetriedFile:
    """An open file of a store, for reading. A read that fails for a reason that may pass is done again.

    fsspec's files keep their position when a read fails.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self.closed = False
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """As of any file."""
        data: bytes = retry(partial(self._file.read, size))
        return data

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """As the file in the store is."""
        return bool(self._file.seekable())

    def close(self) -> None:
        """Let go of the file."""
        self.closed = True
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
