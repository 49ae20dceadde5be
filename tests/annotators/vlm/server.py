"""An OpenAI-compatible server that labels as told: perfectly, with noise, slowly, or not as it should at all.

    with labeller(perfect(lambda seconds: 1.0 <= seconds < 2.0)) as server:
        OpenAIBackend(OpenAISettings(base_url=server.address, model="labeller"))

A behaviour gets what was asked (`Asked`) and returns the text of the answer, or a whole response of its own. Behaviours
that do wrong wrap one that does right: `busy(perfect(…), times=1)`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import random
import re
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from aiohttp import web
from numpy.typing import NDArray

_ID = re.compile(r'"id": ?"([^"]+)"')
_TIME = re.compile(r"at (-?\d+\.\d+) s")


@dataclass(frozen=True)
class Asked:
    """A request as it came.

    Attributes:
        http: the request itself, for those who answer in their own way.
        body: its JSON.

    """

    http: web.Request
    body: dict[str, Any]

    @cached_property
    def parts(self) -> list[dict[str, Any]]:
        """Of the user's message, in order."""
        content = self.body["messages"][-1]["content"]
        return content if isinstance(content, list) else [{"type": "text", "text": content}]

    @cached_property
    def pictures(self) -> list[NDArray[np.uint8]]:
        """(H, W, 3) uint8 RGB each."""
        urls = [part["image_url"]["url"] for part in self.parts if part["type"] == "image_url"]
        return [_picture(url) for url in urls]

    @cached_property
    def seconds(self) -> list[float]:
        """Times of the pictures, as the text before each says."""
        pairs = zip(self.parts, self.parts[1:], strict=False)
        return [float(_TIME.search(text["text"])[1]) for text, image in pairs if image["type"] == "image_url"]  # type: ignore[index]

    @property
    def question(self) -> str:
        return str(self.parts[-1]["text"])

    @cached_property
    def schema(self) -> dict[str, Any]:
        """That the answer has to fit, however it was told; empty where it was not."""
        told = self.body.get("response_format", {}).get("json_schema", {}).get("schema")
        return told or self.body.get("structured_outputs", {}).get("json") or self.body.get("guided_json") or {}

    @cached_property
    def id(self) -> str:
        """The id that the answer has to bear, by the schema or the question; "" if they name none."""
        const = self.schema.get("properties", {}).get("id", {}).get("const")
        told = _ID.findall(self.question)
        return const or (told[-1] if told else "")


Answer = str | web.StreamResponse
Behaviour = Callable[[Asked], Answer | Awaitable[Answer]]


def _picture(url: str) -> NDArray[np.uint8]:
    data = base64.b64decode(url.removeprefix("data:image/jpeg;base64,"), validate=True)
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


@dataclass
class Labeller:
    """The server, and what it saw.

    Attributes:
        behave: how it answers; may be changed while it runs.
        asked: what came, in order.
        most_open: requests that were open at once, at most.
        connections: of how many clients' sockets they came.
        models_status: of /v1/models; None cuts the connection.

    """

    behave: Behaviour
    address: str = ""
    asked: list[Asked] = field(default_factory=list)
    most_open: int = 0
    models_status: int | None = 200
    _open: int = 0
    _sockets: set[Any] = field(default_factory=set)

    @property
    def connections(self) -> int:
        return len(self._sockets)

    @property
    def times(self) -> Counter[str]:
        """How often each id was asked for."""
        return Counter(asked.id for asked in self.asked)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2**30)
        app.add_routes([web.post("/v1/chat/completions", self._complete), web.get("/v1/models", self._models)])
        return app

    async def _models(self, request: web.Request) -> web.StreamResponse:
        if self.models_status is None:
            return await cut(request)
        listed = {"object": "list", "data": [{"id": "labeller", "object": "model"}]}
        return web.json_response(listed, status=self.models_status)

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        self._open += 1
        self.most_open = max(self.most_open, self._open)
        self._sockets.add(request.transport)
        try:
            asked = Asked(request, await request.json())
            self.asked.append(asked)
            answer = self.behave(asked)
            if not isinstance(answer, str | web.StreamResponse):
                answer = await answer
            return completion(answer, asked) if isinstance(answer, str) else answer
        finally:
            self._open -= 1


@contextmanager
def labeller(behave: Behaviour, *, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[Labeller]:
    """A server on 127.0.0.1, in a thread of its own."""
    server, loop = Labeller(behave), asyncio.new_event_loop()
    runner = web.AppRunner(server.app(), handler_cancellation=True, shutdown_timeout=0.1)

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
        return int(runner.addresses[0][1])

    async def stop() -> None:
        for site in list(runner.sites):
            await site.stop()
        await asyncio.sleep(0.01)  # connections just taken become known, so that the next line closes them too
        await runner.cleanup()
        await asyncio.sleep(0.01)  # which they are in the loop's next turns

    thread = threading.Thread(target=loop.run_forever, name="labeller", daemon=True)
    thread.start()
    bound = asyncio.run_coroutine_threadsafe(start(), loop).result()
    server.address = f"{'https' if tls else 'http'}://127.0.0.1:{bound}/v1"
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


# ---- responses


def completion(text: str, asked: Asked, *, finish: str = "stop", certainty: float = 0.95) -> web.Response:
    """A whole response with `text` as its answer; with probabilities of tokens where they were asked for."""
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    pieces = re.findall(r"\w+|\W", text)
    if asked.body.get("logprobs"):
        choice["logprobs"] = {"content": [token(piece, certainty) for piece in pieces]}
    usage = {"prompt_tokens": 10 + 64 * len(asked.seconds), "completion_tokens": len(pieces)}
    return web.json_response({"object": "chat.completion", "choices": [choice], "usage": usage})


_OPPOSITES = {"true": "false", "false": "true", "yes": "no", "no": "yes", "1": "0", "0": "1"}


def token(text: str, certainty: float) -> dict[str, Any]:
    """A token with its probability, and the one it might have been."""
    other = _OPPOSITES.get(text)
    likely = {text: certainty, other: 1 - certainty} if other else {text: 1.0}
    tops = [_with_probability(each, value) for each, value in likely.items()]
    return {**_with_probability(text, likely[text]), "top_logprobs": tops}


def _with_probability(text: str, value: float) -> dict[str, Any]:
    return {"token": text, "logprob": math.log(max(value, 1e-9)), "bytes": list(text.encode())}


def error(status: int, words: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"message": words}}, status=status, headers=headers)


async def cut(request: web.Request, *, after: bytes = b"") -> web.StreamResponse:
    """The connection ends, with part of a response on it or without any."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    if after:
        await response.prepare(request)
        await response.write(after)
        await asyncio.sleep(0.01)  # else the end may overtake it
    assert request.transport
    request.transport.abort()
    return response


# ---- behaviours


def perfect(truth: Callable[[float], bool], **words: Any) -> Behaviour:
    """Labels each frame by its time; answers other questions with `words`, by the names of their properties.

    A word may be a function of what was asked. What is neither there nor a label is made up so as to fit the schema.
    """
    return lambda asked: json.dumps(_answer(asked, [truth(seconds) for seconds in asked.seconds], words))


def noisy(truth: Callable[[float], bool], *, share: float, seed: int = 0, **words: Any) -> Behaviour:
    """Like `perfect`, with this share of labels turned over, the same ones each time."""

    def behave(asked: Asked) -> str:
        chance = random.Random(f"{seed} {asked.id}")
        labels = [truth(seconds) != (chance.random() < share) for seconds in asked.seconds]
        return json.dumps(_answer(asked, labels, words))

    return behave


def _answer(asked: Asked, labels: list[bool], words: Mapping[str, Any]) -> dict[str, Any]:
    properties = asked.schema.get("properties") or {}
    if "interactive" in properties or set(properties) <= {"id"}:
        return {"id": asked.id, "interactive": {str(number): label for number, label in enumerate(labels, 1)}}
    said = {name: word(asked) if callable(word) else word for name, word in words.items() if name in properties}
    return {name: said[name] if name in said else _fitting(schema) for name, schema in properties.items()}


def _fitting(schema: Mapping[str, Any]) -> Any:
    """A value that fits a simple schema."""
    if "const" in schema:
        return schema["const"]
    return (
        schema["enum"][0] if "enum" in schema else {"boolean": True, "integer": 1}.get(schema.get("type", ""), "words")
    )


def slow(behave: Behaviour, *, seconds: float) -> Behaviour:
    """Takes its time."""

    async def answer(asked: Asked) -> Answer:
        await asyncio.sleep(seconds)
        return await _of(behave, asked)

    return answer


def first(wrong: Behaviour, then: Behaviour, *, times: int) -> Behaviour:
    """`wrong` the first `times` that each id is asked for, `then` right."""
    seen: Counter[str] = Counter()

    def behave(asked: Asked) -> Answer | Awaitable[Answer]:
        seen[asked.id] += 1
        return (wrong if seen[asked.id] <= times else then)(asked)

    return behave


def cuts(asked: Asked) -> Awaitable[Answer]:
    """Cuts the connection within its response."""
    return cut(asked.http, after=b'{"choices": [')


def hangs_up(asked: Asked) -> Awaitable[Answer]:
    """Cuts the connection without a response."""
    return cut(asked.http)


def busy(*, retry_after: str | None = None, status: int = 429) -> Behaviour:
    """Turns every request away."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return lambda asked: error(status, "too many requests", headers)


def broken_body(asked: Asked) -> Answer:
    """The response is cut JSON."""
    return web.Response(text='{"choices": [{"message": {"content": "{', content_type="application/json")


def broken_answer(asked: Asked) -> Answer:
    """The response is whole, but the answer in it is cut JSON."""
    return completion('{"id": "', asked)


async def endless_bytes(asked: Asked) -> Answer:
    """A response without end."""
    response = web.StreamResponse()
    await response.prepare(asked.http)
    await response.write(b'{"choices": [{"message": {"content": "')
    while True:
        await response.write(b"and so on, " * 5000)


def endless_text(asked: Asked) -> Answer:
    """Text up to max_tokens, as a model gives that does not find its end."""
    return completion("and so on, " * (asked.body["max_tokens"] // 3), asked, finish="length")


def too_few(behave: Behaviour, *, missing: int = 1) -> Behaviour:
    """The last frames are not answered for."""
    return _changed(behave, lambda frames: dict([*frames.items()][:-missing]))


def too_many(behave: Behaviour) -> Behaviour:
    """One frame more is answered for than there is."""
    return _changed(behave, lambda frames: frames | {str(len(frames) + 1): True})


def wrong_id(behave: Behaviour) -> Behaviour:
    """Answers in the name of another question."""
    return _changed(behave, lambda frames: frames, id="another")


def _changed(behave: Behaviour, change: Callable[[dict[str, bool]], dict[str, bool]], **more: str) -> Behaviour:
    async def answer(asked: Asked) -> Answer:
        text = await _of(behave, asked)
        assert isinstance(text, str)
        whole = json.loads(text)
        frames = {"interactive": change(whole["interactive"])} if "interactive" in whole else {}
        return json.dumps(whole | frames | more)

    return answer


async def _of(behave: Behaviour, asked: Asked) -> Answer:
    answer = behave(asked)
    return answer if isinstance(answer, str | web.StreamResponse) else await answer
