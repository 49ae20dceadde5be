"""The backend for OpenAI-compatible servers, over real HTTP: servers in trouble, and servers that make it."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from annotators.vlm.backend import Refusal, Reply
from annotators.vlm.openai_client import FIRST_WAIT, seconds_of
from schemas.errors import ConfigError, OutageError
from tests.annotators.vlm import server as servers
from tests.annotators.vlm.asking import PERFECT, Backends, free_port, question, questions, refusal, replying, the_answer
from tests.annotators.vlm.server import Answer, Asked, Behaviour, labeller

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
