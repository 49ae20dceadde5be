"""Answers kept by what was asked: a question with the same words and pictures, to the same model, is asked once.

CACHE/abc/def….z     one answer a file, named by the hash of its question; deflated JSON

Any number of workers and runs may share a folder: a file is written whole or not at all, and two that write the same
one write the same. A damaged file is no answer; the next one takes its place.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from annotators.vlm.backend import Reply, Request
from media.retrying import may_pass, retry
from schemas.errors import ConfigError, OutageError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Result = TypeVar("Result")

REMEMBERED = 4096
"""Answers kept in memory, those used last: some 8 kB each where they come with probabilities."""
_WRITERS = 8
"""Files written at once: to a store, one takes some 30 ms."""
_DEFLATE = 1
_LONGEST = 2**26
"""Bytes of a file, far more than any has."""
_NOT_THERE = (FileNotFoundError, NotADirectoryError)


def content_hash(request: Request, identity: Mapping[str, str]) -> str:
    """Hash, 40 hex digits, of all that an answer depends on: words, pictures and their times, form, model.

    The key of the request is none of it.
    """
    shown = [(picture.digest, round(picture.seconds, 3)) for picture in request.pictures]
    asked = [dict(identity), request.system, request.text, shown, request.schema, request.max_tokens]
    return hashlib.blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=20).hexdigest()


class Cache:
    """Replies by `content_hash`: in memory, and in a folder or fsspec URL where one is given.

    Raises:
        ConfigError: there is no such file system or bucket, or access is denied.
        OutageError: disk or store do not answer, or are full.

    """

    def __init__(self, url: str = "") -> None:
        self._url = url
        self._files = _files_at(url) if url else None
        self._remembered: OrderedDict[str, bytes] = OrderedDict()
        self._writer = ThreadPoolExecutor(_WRITERS, thread_name_prefix="answers") if url else None
        self._writing: list[Future[None]] = []

    def get(self, hashes: Iterable[str]) -> dict[str, Reply]:
        """The replies that are there, by hash. Their keys are those of the requests that were answered then."""
        wanted = list(dict.fromkeys(hashes))
        stored = {each: self._remembered[each] for each in wanted if each in self._remembered}
        if self._files:
            missing = [each for each in wanted if each not in stored]
            read = zip(missing, self._guarded(partial(self._files.read, missing)), strict=True)
            stored |= {each: data for each, data in read if data is not None}
        found = {each: reply for each, data in stored.items() if (reply := _decode(each, data))}
        for each in found:
            self._remember(each, stored[each])
        return found

    def put(self, content: str, reply: Reply) -> None:
        """Keep `reply` under the hash `content`. It is written meanwhile: `flush` waits for that."""
        data = _encode(content, reply)
        self._remember(content, data)
        if self._files and self._writer:
            write = partial(self._files.write, content, data)
            self._writing.append(self._writer.submit(self._guarded, write))

    def flush(self) -> None:
        """Return when all is written."""
        writing, self._writing = self._writing, []
        for future in writing:
            future.result()

    def _remember(self, content: str, data: bytes) -> None:
        self._remembered[content] = data
        self._remembered.move_to_end(content)
        if len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)

    def _guarded(self, action: Callable[[], Result]) -> Result:
        """What `action` returns; every store has error types of its own."""
        try:
            return retry(action)
        except PermissionError as error:
            raise ConfigError(f"the cache of answers denies access: {error}", where=self._url) from error
        except (*_NOT_THERE, FileExistsError) as error:  # no such bucket, or a file where the folder should be
            raise ConfigError(f"the cache of answers cannot be there: {error}", where=self._url) from error
        except Exception as error:
            if isinstance(error, OSError) or may_pass(error):
                raise OutageError(
                    f"the cache of answers cannot be used: {type(error).__name__}: {error}",
                    where=self._url,
                    remedy="Make room, or check that it is up; without it, answers would be paid for twice",
                ) from error
            raise


@dataclass(frozen=True)
class _Entry:
    """What a file holds: the hash of the question, and the answer."""

    __pydantic_config__ = ConfigDict(ser_json_inf_nan="constants")  # a token may be impossible
    of: str
    reply: Reply


_ENTRY = TypeAdapter(_Entry)  # reads three times, writes forty times as fast as json and the classes themselves


def _encode(content: str, reply: Reply) -> bytes:
    return zlib.compress(_ENTRY.dump_json(_Entry(content, reply)), _DEFLATE)


def _decode(content: str, data: bytes) -> Reply | None:
    """The reply, unless `data` is damaged (deflated data bears a checksum), or that of another question."""
    try:
        entry = _ENTRY.validate_json(zlib.decompress(data))
    except (zlib.error, ValidationError):
        return None
    return entry.reply if entry.of == content else None


def _files_at(url: str) -> _LocalFiles | _StoreFiles:
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    try:
        fs, path = url_to_fs(os.path.expanduser(url), use_listings_cache=False)
    except (ValueError, ImportError) as error:
        raise ConfigError(f"no file system can be had: {error}", where=url) from error
    return _LocalFiles(path) if isinstance(fs, LocalFileSystem) else _StoreFiles(fs, path)


def _name(content: str) -> str:
    """4,096 folders keep each of them small where there are millions of answers."""
    return f"{content[:3]}/{content[3:]}.z"


class _LocalFiles:
    """Files of a folder, without fsspec's detour, which takes as long as all else about a hit."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def read(self, names: Sequence[str]) -> list[bytes | None]:
        return [self._read_one(name) for name in names]

    def _read_one(self, name: str) -> bytes | None:
        try:
            with open(os.path.join(self._folder, _name(name)), "rb") as file:
                return file.read()
        except _NOT_THERE:
            return None

    def write(self, name: str, data: bytes) -> None:
        path = os.path.join(self._folder, _name(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = f"{path}.{uuid.uuid4().hex[:8]}.part"
        try:
            with open(temporary, "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        except BaseException:  # a full disk, or Ctrl-C: the half-written file would stay
            with suppress(OSError):
                os.unlink(temporary)
            raise


class _StoreFiles:
    """Files of a store: those that are wanted together are read together."""

    def __init__(self, fs: AbstractFileSystem, folder: str) -> None:
        self._fs, self._folder = fs, folder.rstrip("/")

    def read(self, names: Sequence[str]) -> list[bytes | None]:
        if not names:
            return []
        paths = [self._path(name) for name in names]
        found = self._fs.cat_ranges(
            paths, 0, _LONGEST, on_error="return"
        )  # as ranges: a whole file takes S3 three calls
        for data in found:
            if isinstance(data, PermissionError) or (isinstance(data, BaseException) and may_pass(data)):
                raise data
        return [None if isinstance(data, BaseException) else data for data in found]

    def write(self, name: str, data: bytes) -> None:
        self._fs.pipe_file(self._path(name), data)

    def _path(self, name: str) -> str:
        return f"{self._folder}/{_name(name)}"
