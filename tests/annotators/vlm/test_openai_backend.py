"""The backend for OpenAI-compatible servers, over real HTTP: what it sends, how many at once, what it leaves."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from annotators.vlm.backend import Picture, Reply, Request
from annotators.vlm.openai_backend import OpenAIBackend
from annotators.vlm.openai_settings import OpenAISettings
from schemas.errors import ConfigError
from tests.annotators.vlm import server as servers
from tests.annotators.vlm.asking import PERFECT, Backends, picture, question, questions, the_answer
from tests.annotators.vlm.server import Answer, Asked, Labeller, labeller

KEY = "sk-very-secret-0123456789"


# ---- what is sent


def test_frames_are_sent_with_their_numbers_and_times_before_the_question(server: Labeller, backend: Backends) -> None:
    request = question(7, pictures=3, max_tokens=77)
    reply = the_answer(backend(server.address), request)
    (asked,) = server.asked
    system, user = asked.body["messages"]
    assert system == {"role": "system", "content": [{"type": "text", "text": "A."}]}
    texts = [part.get("text") for part in user["content"]]
    assert texts == ["Frame 1 at 0.700 s:", None, "Frame 2 at 0.733 s:", None, "Frame 3 at 0.767 s:", None, "B?"]
    assert [image.shape for image in asked.pictures] == [(32, 24, 3)] * 3
    assert np.abs(asked.pictures[0].astype(int) - request.pictures[0].image).max() < 12
    assert asked.http.headers["Content-Type"] == "application/json"
    assert "Authorization" not in asked.http.headers
    assert (asked.body["model"], asked.body["max_tokens"], asked.body["temperature"]) == ("labeller", 77, 0)
    assert isinstance(reply, Reply)
    assert json.loads(reply.text)["id"] == reply.key == request.key


def test_a_question_about_words_alone_needs_no_picture(server: Labeller, backend: Backends) -> None:
    the_answer(backend(server.address), Request(key="k", system="", text="Why?"))
    (asked,) = server.asked
    assert asked.body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}]
    assert not {"response_format", "guided_json", "structured_outputs"} & set(asked.body)


@pytest.mark.parametrize(
    ("size", "sent"), [((90, 40), (60, 27)), ((30, 61), (30, 60)), ((1, 60), (1, 60)), ((1, 600), (1, 60))]
)
def test_large_pictures_are_scaled_down(
    server: Labeller, backend: Backends, size: tuple[int, int], sent: tuple[int, int]
) -> None:
    pictures = (picture(0, height=size[0], width=size[1]),)
    the_answer(backend(server.address, max_picture_side=60), Request(key="k", system="", text="?", pictures=pictures))
    assert server.asked[0].pictures[0].shape[:2] == sent


@pytest.mark.parametrize("way", ["json_schema", "structured_outputs", "guided_json", "none"])
def test_the_schema_is_told_in_the_way_that_the_server_knows(server: Labeller, backend: Backends, way: str) -> None:
    request = question()
    the_answer(backend(server.address, structured=way), request)
    assert server.asked[0].schema == ({} if way == "none" else request.schema)


def test_more_fields_go_along_and_null_leaves_one_out(server: Labeller, backend: Backends) -> None:
    extra = {"chat_template_kwargs": {"enable_thinking": False}, "temperature": None}
    the_answer(backend(server.address, extra_body=extra, logprobs=False))
    body = server.asked[0].body
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert not {"temperature", "logprobs", "top_logprobs"} & set(body)


# ---- the key


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(
    server: Labeller, backend: Backends, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("TEST_KEY", KEY)
    made = backend(server.address, api_key_env="TEST_KEY", tries=1)
    the_answer(made)
    assert server.asked[0].http.headers["Authorization"] == f"Bearer {KEY}"
    said = [repr(vars(made.identity)) if hasattr(made.identity, "__dict__") else repr(made.identity), repr(made)]
    for status in (400, 401, 404, 500):
        server.behave = lambda asked, status=status: servers.error(status, f"the key {KEY} is not known")
        try:
            said.append(repr(the_answer(made)))
        except ConfigError as error:
            said += [repr(error), repr(error.__cause__), repr(error.__context__)]
        assert "the key ***" in said[-1] or "the key ***" in said[-3]
    assert KEY not in " ".join([*said, caplog.text])


def test_a_key_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = OpenAISettings(base_url="http://127.0.0.1:1/v1", model="m", api_key_env="TEST_KEY")
    monkeypatch.delenv("TEST_KEY", raising=False)
    with pytest.raises(ConfigError, match="TEST_KEY holds no key"):
        OpenAIBackend(settings)
    monkeypatch.setenv("TEST_KEY", "secret\r\nX-Other: 1")
    with pytest.raises(ConfigError, match="characters that no key has") as raised:
        OpenAIBackend(settings)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "address",
    [
        "ftp://host/v1",
        "host:8000/v1",
        "http://",
        "http://me:hidden@host/v1",
        "https://host/v1?api_key=hidden",
        "",
        "http://host:99999/v1",
        "http://host:port/v1",
        "http://[::1/v1",
    ],
)
def test_addresses_that_are_none_or_hold_secrets_are_refused(address: str) -> None:
    with pytest.raises(ValidationError) as raised:
        OpenAISettings(base_url=address, model="m")
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize("field", ["messages", "model", "stream", "n"])
def test_extra_fields_may_not_change_the_question(field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        OpenAISettings(base_url="http://host/v1", model="m", extra_body={field: 2})


def test_the_identity_changes_with_what_changes_answers() -> None:
    given = {"base_url": "http://host/v1", "model": "m"}
    plain = OpenAIBackend(OpenAISettings(**given)).identity
    changes: list[dict[str, Any]] = [
        {"model": "n"}, {"temperature": 0.5}, {"max_picture_side": 512}, {"jpeg_quality": 80}, {"logprobs": False},
        {"top_logprobs": 2}, {"structured": "none"}, {"extra_body": {"seed": 1}},
    ]  # fmt: skip
    others = [OpenAIBackend(OpenAISettings(**given | change)).identity for change in changes]
    assert all(other != plain for other in others)
    same = {"base_url": "http://other/v1", "in_flight": 2, "tries": 9, "request_seconds": 3.0, "model": "m"}
    assert OpenAIBackend(OpenAISettings(**same)).identity == plain
    assert all(isinstance(text, str) for pair in plain.items() for text in pair)


# ---- many requests


def test_each_request_is_answered_once_within_the_limit_of_open_ones(server: Labeller, backend: Backends) -> None:
    server.behave = servers.slow(PERFECT, seconds=0.01)
    made = backend(server.address, in_flight=8)
    answers = list(made.ask(questions(100))) + list(made.ask(questions(20)))
    assert Counter(answer.key for answer in answers) == Counter(
        [*(f"clip#{n}" for n in range(100)), *(f"clip#{n}" for n in range(20))]
    )
    for answer in answers:
        assert isinstance(answer, Reply)
        number = int(answer.key.partition("#")[2])
        assert json.loads(answer.text) == {"id": answer.key, "interactive": {"1": number >= 10}}
    assert server.most_open == 8
    assert server.connections == 8  # used again, also by the second call


def test_answers_come_as_they_are_ready(server: Labeller, backend: Backends) -> None:
    held = threading.Event()

    async def behave(asked: Asked) -> Answer:
        if asked.id == "clip#0":
            while not held.is_set():
                await asyncio.sleep(0.005)
        return PERFECT(asked)  # type: ignore[return-value]

    server.behave = behave
    answers = backend(server.address).ask(questions(5))
    assert {next(answers).key for _ in range(4)} == {f"clip#{number}" for number in range(1, 5)}
    held.set()
    assert [answer.key for answer in answers] == ["clip#0"]


def test_callers_share_the_limit_and_get_their_own_answers(server: Labeller, backend: Backends) -> None:
    server.behave = servers.slow(PERFECT, seconds=0.01)
    made, got = backend(server.address, in_flight=4), {}

    def ask(caller: int) -> None:
        got[caller] = Counter(answer.key for answer in made.ask([question(100 * caller + n) for n in range(20)]))

    threads = [threading.Thread(target=ask, args=(caller,)) for caller in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {caller: Counter(f"clip#{100 * caller + n}" for n in range(20)) for caller in range(4)}
    assert server.most_open == 4


def test_no_question_gives_no_answer(backend: Backends) -> None:
    assert list(backend("http://127.0.0.1:1/v1").ask([])) == []


# ---- leaving


def open_sockets() -> int:
    links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
    return sum(os.readlink(link).startswith("socket:") for link in links if link.is_symlink())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts sockets in /proc")
def test_nothing_is_left_open(backend: Backends) -> None:
    gc.collect()
    before, threads = open_sockets(), set(threading.enumerate())
    with labeller(PERFECT) as server:
        made = backend(server.address)
        for _ in range(2):  # it may be asked again after it was closed
            list(made.ask(questions(20)))
            made.close()
            made.close()
    assert open_sockets() == before
    assert set(threading.enumerate()) == threads


@pytest.mark.parametrize("way", ["exception", "break", "closed"])
def test_what_is_open_is_cancelled_when_the_caller_leaves(way: str, server: Labeller, backend: Backends) -> None:
    cancelled = threading.Event()

    async def behave(asked: Asked) -> Answer:
        if asked.id == "clip#0":
            return PERFECT(asked)  # type: ignore[return-value]
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()
        return "{}"

    server.behave = behave
    made = backend(server.address, in_flight=3)
    answers = made.ask(questions(50))
    assert next(answers).key == "clip#0"
    while len(server.asked) < 4:
        time.sleep(0.005)
    if way == "exception":
        with pytest.raises(KeyError):
            answers.throw(KeyError())  # type: ignore[attr-defined]
    elif way == "break":
        del answers
    else:
        made.close()
        with pytest.raises(RuntimeError, match="closed"):
            next(answers)
    assert cancelled.wait(5)
    assert len(server.asked) <= 5
    server.behave = PERFECT
    assert isinstance(the_answer(made), Reply)


def test_a_picture_that_is_none_is_the_callers_error(server: Labeller, backend: Backends) -> None:
    empty = Request(key="k", system="", text="?", pictures=(Picture(np.zeros((0, 4, 3), np.uint8), 0.0),))
    made = backend(server.address)
    with pytest.raises(Exception, match=r"."):
        list(made.ask([question(), empty]))
    assert isinstance(the_answer(made), Reply)


def test_importing_the_backend_loads_no_http_library() -> None:
    code = "import sys, annotators.vlm.openai_backend; print(*sys.modules)"
    root = Path(__file__).resolve().parents[3]
    loaded = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    assert not {"aiohttp", "cv2"} & set(loaded.split())
