"""Conversations with a backend: every question has its own answer, once, whatever the backend does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import pytest

from annotators.vlm.answers import CaptionAnswer, read_caption
from annotators.vlm.asking import Asker, Question, Talk, Unanswered
from annotators.vlm.backend import Refusal, Reply, Request
from annotators.vlm.cache import Cache
from annotators.vlm.questions import caption_request
from annotators.vlm.windows import Sampling, plan
from schemas.errors import OutageError, StageError
from tests.annotators.vlm.pictures import noise, times_of

Answer = Reply | Refusal


class Said:
    """A backend that answers as told, and remembers what it was asked."""

    def __init__(self, answer: Callable[[Request], list[Answer]]) -> None:
        self.answer = answer
        self.asked: list[Request] = []

    @property
    def identity(self) -> Mapping[str, str]:
        return {"backend": "said"}

    def ask(self, requests: Sequence[Request]) -> Iterator[Answer]:
        for request in reversed(requests):
            self.asked.append(request)
            yield from self.answer(request)

    def close(self) -> None: ...


def right(request: Request, words: str = "A person stands.") -> Reply:
    own_id = request.schema["properties"]["id"]["const"]
    return Reply(key=request.key, text=f'{{"id": "{own_id}", "caption": "{words}"}}')


def question(number: int, *, clip: str = "clip") -> Question[CaptionAnswer]:
    pictures = plan(noise(2, seed=number), times_of(2, 8), Sampling()).pictures
    return Question(caption_request(f"{clip}-{number:08d}", pictures), read_caption)


def asker(backend: Said) -> Asker:
    return Asker(backend, Cache(), language="en")


def test_answers_go_to_their_questions_in_whatever_order_they_come() -> None:
    backend = Said(lambda request: [right(request, f"A person counts to {request.key[-9]}.")])
    answers = asker(backend).ask([question(number) for number in range(5)])
    assert [answer.caption for answer in answers.values()] == [f"A person counts to {n}." for n in range(5)]


def test_questions_of_one_content_are_asked_once() -> None:
    backend = Said(lambda request: [right(request)])
    same = [question(3, clip=clip) for clip in ("one", "two", "three")]
    one = asker(backend)
    assert len(one.ask(same)) == 3
    assert len(one.ask([question(3, clip="four")])) == 1
    assert len(backend.asked) == 1


def test_a_repair_is_asked_once_and_kept_as_the_answer() -> None:
    backend = Said(lambda request: [right(request, "" if request.key.endswith("#caption") else "A person sits.")])
    one = asker(backend)
    [answer] = one.ask([question(0)]).values()
    assert answer.caption == "A person sits."
    [again] = one.ask([question(0, clip="other")]).values()
    assert again == answer
    assert len(backend.asked) == 2


def test_what_is_wrong_twice_or_refused_is_unanswered_and_asked_again_another_time() -> None:
    backend = Said(lambda request: [right(request, "")])
    one = asker(backend)
    [answer] = one.ask([question(0)]).values()
    assert isinstance(answer, Unanswered)
    assert "it is empty" in answer.why
    backend.answer = lambda request: [Refusal(key=request.key, why="too long")]
    assert [*one.ask([question(0)]).values()] == [Unanswered("too long")]
    backend.answer = lambda request: [right(request)]
    [answer] = one.ask([question(0)]).values()
    assert isinstance(answer, CaptionAnswer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda request: [replace(right(request), key="somebody-00000000#caption")], "not asked"),
        (lambda request: [right(request), right(request)], "twice"),
        (lambda request: [], "without an answer"),
    ],
)
def test_a_backend_that_breaks_its_contract_is_found_out(answer: Callable[[Request], list[Answer]], words: str) -> None:
    with pytest.raises(StageError, match=words):
        asker(Said(answer)).ask([question(0)])


def talk(*numbers: int, fail: bool = False) -> Talk[list[str]]:
    said = []
    for number in numbers:
        asked = question(number)
        answers = yield [asked]
        said.append(answers[asked.request.key].caption)
    if fail:
        raise ValueError("no luck today")
    return said


def test_talks_of_different_lengths_end_each_in_its_own_way() -> None:
    backend = Said(lambda request: [right(request, f"A person counts to {request.key[-9]}.")])
    long, none, broken, short = asker(backend).hold([talk(1, 2, 3), talk(), talk(4, fail=True), talk(5)])
    assert long == [f"A person counts to {n}." for n in (1, 2, 3)]
    assert none == []
    assert isinstance(broken, ValueError)
    assert short == ["A person counts to 5."]


def test_an_outage_ends_all_talks_and_loses_no_answer() -> None:
    def once(request: Request) -> list[Answer]:
        if request.key.startswith("clip-00000002"):
            raise OutageError("the server is away")
        return [right(request)]

    backend = Said(once)
    one = asker(backend)
    with pytest.raises(OutageError):
        one.hold([talk(2), talk(1)])
    backend.answer = lambda request: [right(request)]
    before = len(backend.asked)
    one.hold([talk(2), talk(1)])
    assert len(backend.asked) == before + 1
