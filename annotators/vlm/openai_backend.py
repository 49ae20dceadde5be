"""Backend that asks an OpenAI-compatible server (vLLM, SGLang, …), with many requests in flight."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from annotators.vlm.backend import Refusal, Reply, Request
from annotators.vlm.openai_settings import OpenAISettings

if TYPE_CHECKING:
    from annotators.vlm.openai_client import Client

Result = TypeVar("Result")


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
        self._lock = threading.Lock()
        self._loop: _ClientLoop | None = None

    @property
    def identity(self) -> Mapping[str, str]:
        """As the settings have it."""
        return self._settings.identity

    def ask(self, requests: Sequence[Request]) -> Iterator[Reply | Refusal]:
        """Answers to `requests`, each exactly once, as they come in. What is open when the caller leaves is cancelled.

        Refusals are of what the server refuses (400, 413, 422…), or fails on at each try though it is there; also of
        replies that are too long, or hold no answer.

        Raises:
            OutageError: the server is away (no connection, 502, 503, or nothing at all), or turns everything away
                (429), through all tries.
            ConfigError: the server denies access, has no such model or address, or is not trusted.
            RuntimeError: the backend was closed meanwhile.

        """
        answers: SimpleQueue[Reply | Refusal | None] = SimpleQueue()
        with self._lock:
            self._loop = self._loop or _ClientLoop(self._settings, self._key)
            asking = self._loop.start(lambda client: _answer_all(client, requests, answers.put))
        asking.add_done_callback(lambda _: answers.put(None))
        try:
            while answer := answers.get():
                yield answer
            asking.result()
        except CancelledError as error:
            raise RuntimeError("the backend was closed while it was asked") from error
        finally:
            asking.cancel()

    def close(self) -> None:
        """Cancel what is open, and end thread and connections. Who asks again opens them anew."""
        with self._lock:
            if self._loop:
                self._loop.close()
            self._loop = None


async def _answer_all(client: Client, requests: Sequence[Request], give: Callable[[Reply | Refusal], None]) -> None:
    """Hand each answer on as it comes; at the first error, cancel the others."""
    tasks = [asyncio.create_task(client.answer(request)) for request in requests]
    try:
        for task in asyncio.as_completed(tasks):
            give(await task)
    finally:
        for open_task in tasks:
            open_task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _ClientLoop:
    """A thread with an event loop in which a client lives."""

    def __init__(self, settings: OpenAISettings, key: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai-backend", daemon=True)
        self._thread.start()
        self._client = self._run(self._open(settings, key)).result()

    def start(self, work: Callable[[Client], Coroutine[None, None, Result]]) -> Future[Result]:
        return self._run(work(self._client))

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
