"""Questions and short-tempered backends for the tests of the OpenAI backend."""

from __future__ import annotations

import socket
from typing import Any

import numpy as np
from aiohttp import web

from annotators.vlm.backend import Picture, Refusal, Reply, Request
from annotators.vlm.openai_backend import OpenAIBackend
from annotators.vlm.openai_settings import OpenAISettings
from tests.annotators.vlm import server as servers
from tests.annotators.vlm.server import Behaviour


def late(seconds: float) -> bool:
    """The truth of these tests."""
    return seconds >= 1.0


PERFECT = servers.perfect(late)


def picture(seconds: float, *, height: int = 32, width: int = 24) -> Picture:
    return Picture(np.full((height, width, 3), (200, 30, 90), np.uint8), seconds)


def question(number: int = 0, *, pictures: int = 2, max_tokens: int = 64) -> Request:
    key = f"clip#{number}"
    schema = {"type": "object", "properties": {"id": {"const": key}}, "required": ["id"], "additionalProperties": False}
    frames = tuple(picture(number / 10 + index / 30) for index in range(pictures))
    return Request(key=key, system="A.", text="B?", pictures=frames, schema=schema, max_tokens=max_tokens)


def questions(count: int) -> list[Request]:
    return [question(number, pictures=1) for number in range(count)]


class Backends:
    """Makes backends, which are closed in the end. Waits are short."""

    def __init__(self) -> None:
        self._made: list[OpenAIBackend] = []

    def __call__(self, address: str, **settings: Any) -> OpenAIBackend:
        settings = {"model": "labeller", "tries": 3, "longest_wait": 0.02, "request_seconds": 20.0} | settings
        self._made.append(OpenAIBackend(OpenAISettings(base_url=address, **settings)))
        return self._made[-1]

    def close(self) -> None:
        for backend in self._made:
            backend.close()


def the_answer(backend: OpenAIBackend, request: Request | None = None) -> Reply | Refusal:
    (answer,) = backend.ask([request or question()])
    return answer


def refusal(backend: OpenAIBackend) -> str:
    answer = the_answer(backend)
    assert isinstance(answer, Refusal)
    assert answer.key == "clip#0"
    return answer.why


def replying(**message: Any) -> Behaviour:
    """A server whose choice is this."""
    return lambda asked: web.json_response({"choices": [message]})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
