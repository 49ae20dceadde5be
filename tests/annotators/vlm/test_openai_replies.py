"""The backend for OpenAI-compatible servers, over real HTTP: what is taken for an answer, and what is not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from annotators.vlm.backend import Reply
from tests.annotators.vlm import server as servers
from tests.annotators.vlm.asking import PERFECT, Backends, late, picture, question, refusal, replying, the_answer
from tests.annotators.vlm.server import Asked, Behaviour, Labeller, labeller

CHINESE = '{"id": "clip#1", "frames": [], "words": "拉上拉链 😀"}'


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
