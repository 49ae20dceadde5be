"""Backend that asks an OpenAI-compatible server (vLLM, SGLang, …), with many requests in flight."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from itertools import chain
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from annotators.vlm.backend import Refusal, Reply, Request
from annotators.vlm.openai_messages import Bodies
from annotators.vlm.openai_settings import OpenAISettings

if TYPE_CHECKING:
    from annotators.vlm.openai_client import Client

Result = TypeVar("Result")
Answer = asyncio.Task[Reply | Refusal]

AHEAD = 0.5
"""Requests kept ready, as a share of those in flight, so that places are filled while the caller decodes a clip."""


class OpenAIBackend:
    """Asks a server over HTTP, from a thread of its own that lives from the first question to `close`.

    Several threads may ask at once: together they have no more than `in_flight` requests open, over connections that
    are used again. A request is tried again where that may help (connection cut, time over, 408, 409, 425, 429, 5xx,
    broken JSON), with back-off, full jitter and Retry-After.

    Raises:
        ConfigError: the environment holds no key, where one is wanted.

    """

    def __init__(self, settings: OpenAISettings) -> None:
        self._settings, self._key = settings, settings.api_key()
        self._bodies = Bodies(settings)
        self._room = settings.in_flight + max(1, int(AHEAD * settings.in_flight))
        self._lock = threading.Lock()
        self._loop: _ClientLoop | None = None

    @property
    def identity(self) -> Mapping[str, str]:
        """As the settings have it."""
        return self._settings.identity

    def ask(self, requests: Iterable[Request | None]) -> Iterator[Reply | Refusal]:
        """Answers to `requests`, each exactly once, as they come in. What is open when the caller leaves is cancelled.

        Refusals are of what the server refuses (400, 413, 422…), or fails on at each try though it is there; also of
        replies that are too long, or hold no answer.

        Raises:
            OutageError: the server is away (no connection, 502, 503, or nothing at all), or turns everything away
                (429), through all tries.
            ConfigError: the server denies access, has no such model or address, or is not trusted.
            RuntimeError: the backend was closed meanwhile.

        """
        waiting, open_ = iter(requests), 0
        if (first := next(waiting, None)) is None:
            return
        waiting = chain([first], waiting)
        with self._lock:
            self._loop = self._loop or _ClientLoop(self._settings, self._key)
            asking = self._loop.asking()
        try:
            while True:
                while open_ < self._room and (request := next(waiting, None)) is not None:
                    body = self._bodies.of(request)
                    with self._lock:  # nothing is put into a loop that is being closed
                        asking.put(request.key, body)
                    open_ += 1
                if not open_:
                    return
                yield asking.get()
                open_ -= 1
        finally:
            asking.cancel()

    def close(self) -> None:
        """Cancel what is open, and end thread and connections. Who asks again opens them anew."""
        with self._lock:
            if self._loop:
                self._loop.close()
            self._loop = None


class _Asking:
    """The open requests of one caller, answered in the loop's thread."""

    def __init__(self, client: Client, loop: asyncio.AbstractEventLoop) -> None:
        self._client, self._loop = client, loop
        self._tasks: set[Answer] = set()
        self._answered: SimpleQueue[Answer] = SimpleQueue()

    def put(self, key: str, body: bytes) -> None:
        self._loop.call_soon_threadsafe(self._begin, key, body)

    def get(self) -> Reply | Refusal:
        """The next answer, or its error."""
        task = self._answered.get()
        if task.cancelled():
            raise RuntimeError("the backend was closed while it was asked")
        return task.result()

    def cancel(self) -> None:
        with suppress(RuntimeError):  # closed: all is cancelled
            self._loop.call_soon_threadsafe(self._cancel)

    def _begin(self, key: str, body: bytes) -> None:
        task = self._loop.create_task(self._client.answer(key, body))
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: Answer) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # counts as looked at, also where the caller has left
        self._answered.put(task)

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()


class _ClientLoop:
    """A thread with an event loop in which a client lives."""

    def __init__(self, settings: OpenAISettings, key: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai-backend", daemon=True)
        self._thread.start()
        self._client = self._run(self._open(settings, key)).result()

    def asking(self) -> _Asking:
        return _Asking(self._client, self._loop)

    def close(self) -> None:
        self._run(self._end()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[None, None, Result]) -> Future[Result]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _open(self, settings: OpenAISettings, key: str) -> Client:
        from annotators.vlm.openai_client import Client

        return Client(settings, key=key)

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.close()
        await self._loop.shutdown_default_executor()
