"""The backend for OpenAI-compatible servers, over real HTTP."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import logging
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from pydantic import ValidationError

from annotators.vlm.backend import Picture, Refusal, Reply, Request
from annotators.vlm.openai_backend import OpenAIBackend
from annotators.vlm.openai_client import FIRST_WAIT, seconds_of
from annotators.vlm.openai_settings import OpenAISettings
from schemas.errors import ConfigError, OutageError
from tests.annotators.vlm import server as servers
from tests.annotators.vlm.server import Answer, Asked, Behaviour, Labeller, labeller

KEY = "sk-very-secret-0123456789"
CHINESE = '{"id": "clip#1", "frames": [], "words": "拉上拉链 😀"}'


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


@pytest.fixture
def server() -> Iterator[Labeller]:
    with labeller(PERFECT) as running:
        yield running


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


@pytest.fixture
def backend() -> Iterator[Backends]:
    before = set(threading.enumerate())
    made = Backends()
    yield made
    made.close()
    assert set(threading.enumerate()) <= before


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
    ["ftp://host/v1", "host:8000/v1", "http://", "http://me:hidden@host/v1", "https://host/v1?api_key=hidden", ""],
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


# ---- trouble that passes


@pytest.mark.parametrize(
    "trouble",
    [
        servers.cuts, servers.hangs_up, servers.broken_body, servers.busy(), servers.busy(retry_after="0"),
        servers.busy(retry_after="soon"),
        *(servers.busy(status=status) for status in (408, 409, 425, 500, 502, 503, 504)),
        replying(), replying(message=None), replying(message={"content": "{"}, finish_reason="abort"),
        lambda asked: web.json_response([]), lambda asked: web.json_response({"error": {"message": "oops"}}),
        lambda asked: web.json_response({"choices": []}), lambda asked: web.Response(body=b"\xff\xfe"),
        lambda asked: web.Response(text="[" * 100_000), replying(message={"content": "\ud800"}),
        replying(message={"content": 7}), lambda asked: web.Response(text=""),
    ],
)  # fmt: skip
def test_what_may_pass_is_tried_again_and_answered_once(trouble: Behaviour, backend: Backends) -> None:
    with labeller(servers.first(trouble, PERFECT, times=2)) as server:
        answers = list(backend(server.address).ask(questions(6)))
        assert all(isinstance(answer, Reply) for answer in answers)
        assert sorted(answer.key for answer in answers) == [f"clip#{number}" for number in range(6)]
        assert set(server.times.values()) == {3}


def test_a_slow_answer_is_asked_for_again(backend: Backends) -> None:
    with labeller(servers.first(servers.slow(PERFECT, seconds=30), PERFECT, times=1)) as server:
        answer = the_answer(backend(server.address, request_seconds=0.2))
        assert isinstance(answer, Reply)
        assert server.times == {"clip#0": 2}


@pytest.mark.parametrize("form", ["seconds", "date", "none"])
def test_a_server_that_is_asked_too_much_is_left_alone_by_all(form: str, backend: Backends) -> None:
    came: list[float] = []
    quiet_until = 0.0

    async def behave(asked: Asked) -> Answer:
        nonlocal quiet_until
        came.append(time.monotonic())
        if len(came) == 1:
            date = int(time.time() + 2)
            wait = {"seconds": 0.3, "date": date - time.time(), "none": FIRST_WAIT}[form]
            quiet_until = time.monotonic() + wait - 0.01
            header = {"seconds": "0.3", "date": formatdate(date, usegmt=True), "none": "soon"}[form]
            return servers.error(429, "later", {"Retry-After": header})
        await asyncio.sleep(0.05)  # the second may be on its way already
        return PERFECT(asked)  # type: ignore[return-value]

    with labeller(behave) as server:
        made = backend(server.address, longest_wait=5.0, in_flight=2)
        assert {type(answer) for answer in made.ask(questions(6))} == {Reply}
    assert len(came) == 7
    assert min(came[2:]) >= quiet_until


def test_a_retry_after_beyond_the_limit_is_cut_to_it(backend: Backends) -> None:
    with labeller(servers.first(servers.busy(retry_after="86400"), PERFECT, times=1)) as server:
        assert isinstance(the_answer(backend(server.address, longest_wait=0.1)), Reply)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7), ("0.5", 0.5), ("-3", 0), ("", None), ("soon", None), ("nan", None), ("Fri, 99 Foo 2026", None),
     ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("Wed, 21 Oct 99999 07:28:00 GMT", None), ("1e999", float("inf"))],
)  # fmt: skip
def test_forms_of_retry_after(header: str, seconds: float | None) -> None:
    assert seconds_of(header) == seconds


def test_a_rate_limit_turns_many_away_for_long_and_loses_none(backend: Backends) -> None:
    turns = itertools.count()

    def behave(asked: Asked) -> Any:
        return servers.error(429, "later") if next(turns) % 4 else PERFECT(asked)

    with labeller(behave) as server:
        answers = list(backend(server.address, in_flight=16, tries=5, longest_wait=0.005).ask(questions(40)))
        assert {type(answer) for answer in answers} == {Reply}
        assert len(answers) == 40
        assert max(server.times.values()) > 5


def test_a_server_that_comes_back_answers_all(backend: Backends) -> None:
    port = free_port()
    made = backend(f"http://127.0.0.1:{port}/v1", tries=200, longest_wait=0.05)
    got: list[Any] = []
    caller = threading.Thread(target=lambda: got.extend(made.ask(questions(10))))
    caller.start()
    time.sleep(0.2)
    with labeller(PERFECT, port=port):
        caller.join()
    assert {type(answer) for answer in got} == {Reply}
    assert len(got) == 10


# ---- trouble that does not pass


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (servers.cuts, "3 tries failed"), (servers.hangs_up, "3 tries failed"), (servers.broken_body, "not JSON"),
        (servers.busy(status=500), "too many requests"), (replying(), "holds no answer"),
    ],
)  # fmt: skip
def test_what_fails_every_time_is_given_up_alone(trouble: Behaviour, words: str, backend: Backends) -> None:
    def behave(asked: Asked) -> Any:
        return trouble(asked) if asked.id == "clip#0" else PERFECT(asked)

    with labeller(behave) as server:
        answers = {answer.key: answer for answer in backend(server.address).ask(questions(4))}
        assert server.times == {"clip#0": 3, "clip#1": 1, "clip#2": 1, "clip#3": 1}
    bad = answers.pop("clip#0")
    assert isinstance(bad, Refusal)
    assert words in bad.why
    assert {type(answer) for answer in answers.values()} == {Reply}


def test_an_answer_that_comes_too_late_twice_is_not_waited_for_again(backend: Backends) -> None:
    with labeller(servers.slow(PERFECT, seconds=30)) as server:
        why = refusal(backend(server.address, request_seconds=0.2, tries=9))
        assert why == "2 tries failed; the last: no whole answer within 0.2 s"
        assert len(server.asked) == 2


def test_a_server_that_lists_no_models_is_there_all_the_same(backend: Backends) -> None:
    with labeller(servers.busy(status=500)) as server:
        server.models_status = 500
        assert "3 tries failed" in refusal(backend(server.address))
        server.models_status = 503
        with pytest.raises(OutageError):
            the_answer(backend(server.address))


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_what_the_server_refuses_is_not_asked_again(status: int, backend: Backends) -> None:
    with labeller(lambda asked: servers.error(status, "the prompt is too long")) as server:
        why = refusal(backend(server.address))
        assert "the prompt is too long" in why
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "api_key_env"), (403, "api_key_env"), (404, "`model` ('labeller')"), (405, "base_url"), (302, "base_url")],
)
def test_what_the_whole_run_is_set_wrongly_for_is_told(status: int, words: str, backend: Backends) -> None:
    with labeller(lambda asked: servers.error(status, "no", {"Location": "/v1/models"})) as server:
        with pytest.raises(ConfigError) as raised:
            list(backend(server.address).ask(questions(3)))
        assert words in str(raised.value)
        assert server.address in str(raised.value)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_server_that_is_not_there_is_an_outage(backend: Backends) -> None:
    address = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(OutageError) as raised:
        list(backend(address).ask(questions(5)))
    assert address in str(raised.value)


@pytest.mark.parametrize("trouble", [servers.busy(), servers.busy(status=502), servers.busy(status=503)])
def test_a_server_that_turns_all_away_is_an_outage(trouble: Behaviour, backend: Backends) -> None:
    with labeller(trouble) as server:
        with pytest.raises(OutageError, match="too many requests"):
            the_answer(backend(server.address))
        assert len(server.asked) == 3


@pytest.mark.parametrize("trouble", [servers.hangs_up, servers.slow(PERFECT, seconds=30)])
def test_a_server_that_answers_nothing_at_all_is_an_outage(trouble: Behaviour, backend: Backends) -> None:
    with labeller(trouble) as server:
        server.models_status = None
        with pytest.raises(OutageError):
            the_answer(backend(server.address, request_seconds=0.2))


def test_one_that_is_always_turned_away_while_others_are_answered_is_given_up(backend: Backends) -> None:
    async def behave(asked: Asked) -> Answer:
        if asked.id != "clip#0":
            return PERFECT(asked)  # type: ignore[return-value]
        before = server.times["clip#1"]
        while server.times["clip#1"] < before + 2:  # when the second comes, the first has been answered
            await asyncio.sleep(0.001)
        return servers.error(429, "too large for your quota")

    with labeller(behave) as server:
        made = backend(server.address, tries=2, longest_wait=0.004)
        done = threading.Event()

        def keep_it_busy() -> None:
            while not done.is_set():
                list(made.ask([question(1)]))

        other = threading.Thread(target=keep_it_busy)
        other.start()
        try:
            assert "too large for your quota" in refusal(made)
        finally:
            done.set()
            other.join()
        assert server.times["clip#0"] == 20


def test_answers_that_came_before_the_outage_are_handed_on(backend: Backends) -> None:
    def behave(asked: Asked) -> Any:
        return PERFECT(asked) if asked.id in ("clip#0", "clip#1") else servers.error(503, "going down")

    with labeller(behave) as server:
        answers = backend(server.address).ask(questions(4))
        assert {next(answers).key, next(answers).key} == {"clip#0", "clip#1"}
        with pytest.raises(OutageError):
            next(answers)


def own_certificate(folder: Path) -> ssl.SSLContext:
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    pem = folder / "own.pem"
    pem.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(form[0]) + key.private_bytes(*form))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    return context


def test_a_certificate_that_is_not_trusted_is_told(backend: Backends, tmp_path: Path) -> None:
    with labeller(PERFECT, tls=own_certificate(tmp_path)) as server:
        assert server.address.startswith("https:")
        with pytest.raises(ConfigError, match="not trusted"):
            the_answer(backend(server.address))


# ---- replies


def test_an_endless_response_is_cut_off(backend: Backends) -> None:
    with labeller(servers.endless_bytes) as server:
        assert refusal(backend(server.address, max_reply_mb=1)) == "the reply is longer than 1 MB"
        assert len(server.asked) == 1


def test_an_answer_cut_off_at_max_tokens_says_so(backend: Backends) -> None:
    with labeller(servers.endless_text) as server:
        answer = the_answer(backend(server.address))
        assert isinstance(answer, Reply)
        assert answer.ended == "length"


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"message": {"content": ""}, "finish_reason": "stop"}, "answers nothing"),
        ({"message": {"content": None, "reasoning": "Hm"}, "finish_reason": "length"}, "max_tokens"),
        ({"message": {"content": "<think>\nHm"}, "finish_reason": "length"}, "max_tokens"),
        ({"message": {"content": "<think>Hm</think>\n"}, "finish_reason": "stop"}, "answers nothing"),
        ({"message": {"content": None, "refusal": "I may not"}, "finish_reason": "stop"}, "I may not"),
        ({"message": {"content": "{"}, "finish_reason": "content_filter"}, "content_filter"),
    ],
)
def test_replies_without_an_answer_are_refusals(choice: dict[str, Any], words: str, backend: Backends) -> None:
    with labeller(replying(**choice)) as server:
        assert words in refusal(backend(server.address))
        assert len(server.asked) == 1


@pytest.mark.parametrize("opening", ["<think>Hm, </think>", "Hm, </think>", "<think>a</think>b</think>"])
def test_reasoning_is_no_part_of_the_answer(opening: str, backend: Backends) -> None:
    def behave(asked: Asked) -> Any:
        return servers.completion(opening + CHINESE, asked)

    with labeller(behave) as server:
        answer = the_answer(backend(server.address))
    assert isinstance(answer, Reply)
    assert answer.text == CHINESE
    assert "".join(token.text for token in answer.tokens) == CHINESE


def byte_tokens(text: str, *, logprob: float) -> list[dict[str, Any]]:
    """Tokens of three bytes each, whatever characters they cut."""
    data = text.encode()
    pieces = [data[start : start + 3] for start in range(0, len(data), 3)]
    return [
        {"token": piece.decode(errors="replace"), "bytes": list(piece), "logprob": logprob, "top_logprobs": []}
        for piece in pieces
    ]


@pytest.mark.parametrize(
    ("before", "after"), [("", ""), (f"<think>我 {CHINESE}?</think>", ""), ("", "<|im_end|>"), ("Hm. ", "!")]
)
def test_tokens_make_up_the_text(before: str, after: str, backend: Backends) -> None:
    sure, unsure = byte_tokens(CHINESE, logprob=-0.25), [byte_tokens(text, logprob=-9.0) for text in (before, after)]
    logprobs = {"content": [*unsure[0], *sure, *unsure[1]]}
    with labeller(replying(message={"content": CHINESE}, logprobs=logprobs)) as server:
        answer = the_answer(backend(server.address))
    assert isinstance(answer, Reply)
    assert answer.text == CHINESE
    assert "".join(token.text for token in answer.tokens) == CHINESE
    assert {token.logprob for token in answer.tokens} == {-0.25}


def test_probabilities_of_tokens(server: Labeller, backend: Backends) -> None:
    answer = the_answer(backend(server.address), question(pictures=1))
    assert isinstance(answer, Reply)
    assert "".join(token.text for token in answer.tokens) == answer.text
    (label,) = (token for token in answer.tokens if token.text in ("true", "false"))
    assert np.exp(label.logprob) == pytest.approx(0.95)
    assert {text: round(float(np.exp(value)), 3) for text, value in label.others.items()} == {
        "false": 0.95,
        "true": 0.05,
    }
    assert (answer.prompt_tokens, answer.completion_tokens) == (74, len(answer.tokens))


GOOD = {"token": "{}", "logprob": -0.1}


@pytest.mark.parametrize(
    "logprobs",
    [
        None, [], {}, {"content": None}, {"content": []}, {"content": [None]}, {"content": [{}]}, {"content": 3},
        {"content": [GOOD | {"logprob": None}]}, {"content": [GOOD | {"logprob": float("nan")}]},
        {"content": [GOOD | {"token": "something else"}]}, {"content": [GOOD | {"bytes": 10**12}]},
        {"content": [GOOD | {"bytes": [300]}]}, {"content": [GOOD | {"top_logprobs": [{}]}]},
        {"content": [GOOD | {"top_logprobs": 3}]},
    ],
)  # fmt: skip
def test_probabilities_that_are_none_are_left_out(logprobs: Any, backend: Backends) -> None:
    def behave(asked: Asked) -> Any:
        usage = {"prompt_tokens": "many", "completion_tokens": None}
        return web.json_response({"choices": [{"message": {"content": "{}"}, "logprobs": logprobs}], "usage": usage})

    with labeller(behave) as server:
        assert the_answer(backend(server.address)) == Reply(key="clip#0", text="{}")


def test_text_in_parts_is_joined(backend: Backends) -> None:
    parts = [{"type": "thinking", "thinking": []}, {"type": "text", "text": "{"}, {"type": "text", "text": "}"}]
    with labeller(replying(message={"content": parts})) as server:
        assert the_answer(backend(server.address)) == Reply(key="clip#0", text="{}")


@pytest.mark.parametrize(
    ("behave", "changed"),
    [
        (servers.too_few(PERFECT), {"interactive": {"1": False}}),
        (servers.too_few(PERFECT, missing=2), {"interactive": {}}),
        (servers.too_many(PERFECT), {"interactive": {"1": False, "2": True, "3": True}}),
        (servers.wrong_id(PERFECT), {"id": "another"}),
        (servers.noisy(late, share=1.0), {"interactive": {"1": True, "2": False}}),
    ],
)
def test_answers_are_handed_on_as_they_are(behave: Behaviour, changed: dict[str, Any], backend: Backends) -> None:
    right = {"id": "clip#9", "interactive": {"1": False, "2": True}}
    request = replace(question(9), pictures=(picture(0.9), picture(1.1)))
    with labeller(behave) as server:
        made = backend(server.address)
        answer = the_answer(made, request)
        assert isinstance(answer, Reply)
        assert answer.key == request.key
        assert json.loads(answer.text) == right | changed
        server.behave = servers.broken_answer
        answer = the_answer(made, request)
        assert isinstance(answer, Reply)
        assert answer.text == '{"id": "'


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
