"""A store of local files that answers like an object store: each request takes its time, many may be under way.

Addresses are `slow:///absolute/path`. `REQUESTS` counts requests by kind; `LATENCY` is what each takes, in seconds.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import fsspec
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.local import LocalFileSystem

REQUESTS: Counter[str] = Counter()
LATENCY = 0.0


class SlowStore(AsyncFileSystem):
    protocol = "slow"
    root_marker = "/"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._files = LocalFileSystem(auto_mkdir=True)

    async def _answer(self, kind: str) -> None:
        REQUESTS[kind] += 1
        await asyncio.sleep(LATENCY)

    async def _info(self, path: str, **_: Any) -> dict[str, Any]:
        await self._answer("head")
        info: dict[str, Any] = self._files.info(path)
        return info

    async def _ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        await self._answer("list")
        found: list[Any] = self._files.ls(path, detail=detail)
        return found

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        await self._answer("get")
        data: bytes = self._files.cat_file(path, start=start, end=end)
        return data

    async def _pipe_file(self, path: str, value: bytes, **_: Any) -> None:
        await self._answer("put")
        self._files.pipe_file(path, value)

    async def _put_file(self, lpath: str, rpath: str, **_: Any) -> None:
        await self._answer("put")
        self._files.put_file(lpath, rpath)

    async def _rm_file(self, path: str, **_: Any) -> None:
        await self._answer("delete")
        self._files.rm_file(path)


fsspec.register_implementation("slow", SlowStore, clobber=True)
