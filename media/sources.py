"""Opens what a manifest names, which may be a stranger's work: under a policy, with tries, as typed errors."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from media.http import HttpFile, names_private_host
from media.retrying import RetriedFile, may_pass, retry
from schemas.config import SourcesConfig
from schemas.errors import MediaError, OutageError, VvtError

LOCAL = ("file", "local")
PROTOCOLS = frozenset(
    {*LOCAL, "http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "oci", "hf", "memory"}
)
"""fsspec's protocols that read one object of one store. Others unpack, cache, run commands or forward."""
BLOCK = 4 * 1024 * 1024
"""Bytes that are read ahead of a recording in a store."""
IDENTITY_TRIES = 2

_TRUSTING = SourcesConfig(allow_private_addresses=True, allow_local_files=True)
_policy: SourcesConfig | None = None


def hold_to(policy: SourcesConfig | None) -> None:
    """From now on this process opens nothing that `policy` refuses. None, as at first: what it is told is trusted."""
    global _policy
    _policy = policy


@contextmanager
def held_to(policy: SourcesConfig) -> Iterator[None]:
    """`hold_to` for a while."""
    before = _policy
    hold_to(policy)
    try:
        yield
    finally:
        hold_to(before)


def is_local(url: str) -> bool:
    """Whether `url` is a path, or a file:// URL."""
    return _protocols(url) <= {"", *LOCAL}


def refusal(url: str, policy: SourcesConfig) -> str:
    """Why `policy` does not let a manifest name `url`, or "". Names of hosts are looked up only when connecting."""
    if unknown := _protocols(url) - {""} - PROTOCOLS - set(policy.protocols):
        allowed = ", ".join(sorted((PROTOCOLS | set(policy.protocols)) - {"memory"}))
        return f"{', '.join(sorted(unknown))}:// is not allowed (allowed: {allowed}; more by `sources.protocols`)"
    if _is_http(url) and not policy.allow_private_addresses and names_private_host(url):
        return "leads to a private address, which `sources.allow_private_addresses` does not allow"
    return ""


def open_source(url: str) -> tuple[int | None, Any]:
    """Size in bytes, if known, and open binary file of a recording or an image.

    Raises:
        MediaError: missing, empty, refused, unreadable. Reading the file raises it too.
        OutageError: the whole store is away, not just this file. One web server is no such store.

    """
    if _policy and (why := refusal(url, _policy)):
        raise MediaError(f"it {why}", code="refused", where=url)
    file = HttpFile(url, sources=_policy or _TRUSTING) if _is_http(url) else _open_in_store(url)
    return _checked(file, url)


def open_bytes(data: bytes) -> tuple[int | None, Any]:
    """As `open_source`, of a file in memory."""
    return _checked(io.BytesIO(data), f"<{len(data)} bytes>")


def read_source(url: str, *, max_bytes: int) -> bytes:
    """All of a small file.

    Raises:
        MediaError: as `open_source`; too_large, where it has more than `max_bytes`.

    """
    _, file = open_source(url)
    data = bytearray()
    with file:
        while len(data) <= max_bytes and (more := file.read(min(1 << 20, max_bytes + 1 - len(data)))):
            data += more
    if len(data) > max_bytes:
        raise MediaError("the file is too large", code="too_large", where=url, allowed=f"{max_bytes} bytes")
    return bytes(data)


def identity(url: str) -> str | None:
    """What tells one content of `url` from the next without reading it: size, and modification time or ETag.

    None where there is nothing, or nothing that may be opened.

    Raises:
        MediaError: unreadable, where it cannot be told because the storage does not answer.

    """
    if _policy and refusal(url, _policy):
        return None
    if _is_http(url):
        try:
            with HttpFile(url, sources=_policy or _TRUSTING, tries=IDENTITY_TRIES) as file:
                return f"{file.size}:{file.version}"
        except MediaError as error:
            if error.code in ("missing", "refused"):
                return None
            raise
    try:
        filesystem, path = _filesystem(url)
        return stamp(retry(partial(filesystem.info, path), tries=IDENTITY_TRIES))
    except (FileNotFoundError, NotADirectoryError, ValueError, ImportError):
        return None
    except Exception as error:  # every file system has error types of its own
        raise MediaError(f"the storage does not answer: {error}", code="unreadable", where=url) from error


def stamp(info: Mapping[str, Any]) -> str:
    """Size, and modification time or ETag, of what fsspec tells of a file."""
    fields = ("ETag", "etag", "mtime", "LastModified", "last_modified")
    return f"{info.get('size')}:{next((info[field] for field in fields if info.get(field)), '')}"


def _is_http(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))


def _protocols(url: str) -> set[str]:
    """Every protocol that fsspec would use for `url`; "" for a path."""
    if _is_http(url):  # not fsspec's, and "::" may be part of it
        return {"http"}
    links = url.split("::")
    return {link.partition("://")[0].lower() if "://" in link or len(links) > 1 else _scheme(link) for link in links}


def _scheme(url: str) -> str:
    return "data" if url.startswith("data:") else ""


def _filesystem(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    filesystem, path = url_to_fs(url, use_listings_cache=False)
    return filesystem, path


def _open_in_store(url: str) -> Any:
    from fsspec.implementations.local import LocalFileSystem

    try:
        filesystem, path = _filesystem(url)
        if isinstance(filesystem, LocalFileSystem):
            return open(path, "rb")
        return _StoredFile(url, retry(partial(filesystem.open, path, "rb", block_size=BLOCK, cache_type="readahead")))
    except Exception as error:  # every file system has error types of its own
        raise _error_of(url, error) from error


class _StoredFile(RetriedFile):
    """A recording or an image in a store."""

    def __init__(self, url: str, file: Any) -> None:
        super().__init__(file)
        self._url = url

    def read(self, size: int = -1) -> bytes:
        """Raises as `open_source`."""
        try:
            return super().read(size)
        except Exception as error:  # every file system has error types of its own
            raise _error_of(self._url, error) from error


def _error_of(url: str, error: Exception) -> VvtError:
    if isinstance(error, IsADirectoryError):
        return MediaError("this is a folder", code="missing", where=url, remedy="Name one video file")
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return MediaError("there is no such file", code="missing", where=url, remedy="Check the path in the manifest")
    if isinstance(error, PermissionError):
        words, remedy = f"access is denied: {error}", "Check the rights and the credentials"
        return MediaError(words, code="unreadable", where=url, remedy=remedy)
    words = f"reading failed: {type(error).__name__}: {error}"
    if may_pass(error) and _store_is_away(url):
        return OutageError(f"the storage does not answer; {words}", where=url, remedy="Check that it is up")
    return MediaError(words, code="unreadable", where=url)


def _store_is_away(url: str) -> bool:
    """Whether the store does not even say of a file that is not there that it is not there."""
    if is_local(url):
        return False
    filesystem, path = _filesystem(url)
    try:
        filesystem.info(f"{path}.{uuid.uuid4().hex}")
    except Exception as error:  # noqa: BLE001 - every file system has error types of its own
        return may_pass(error)
    return False


def _checked(file: Any, url: str) -> tuple[int | None, Any]:
    size = getattr(file, "size", None)
    if size is None and file.seekable():
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
    if size == 0:
        file.close()
        raise MediaError("the file is empty", code="empty", where=url, remedy="Fetch or record it again")
    return size, file
