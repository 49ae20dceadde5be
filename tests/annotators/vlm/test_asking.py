"""Conversations with a backend: every question has its own answer, once, whatever the backend does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

import pytest

from annotators.vlm.answers import CaptionAnswer, read_caption
from annotators.vlm.asking import Asker, Question, Talk, Unanswered
from annotators.vlm.backend import Refusal, Reply, Request, batches
from annotators.vlm.cache import Cache
from annotators.vlm.questions import caption_request
from annotators.vlm.windows import Sampling, plan
from schemas.errors import OutageError, StageError
from tests.annotators.vlm.pictures import noise, times_of

Answer = Reply | Refusal


class Said:
    """A backend that answers as told, and remembers what it was asked."""

    def __init__(self, answer: Callable[[Request], list[Answer]], *, room: int = 1000) -> None:
        self.answer, self.room = answer, room
        self.asked: list[Request] = []

    @property
    def identity(self) -> Mapping[str, str]:
        return {"backend": "said"}

    def ask(self, requests: Iterable[Request | None]) -> Iterator[Answer]:
        for batch in batches(requests, most=self.room):
            for request in reversed(batch):
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


def test_a_talk_goes_on_while_others_wait_and_the_next_begins_when_there_is_room() -> None:
    """The backend has room for two: the first answer to come lets its own talk go on, not a third one begin."""
    begun: list[int] = []

    def begins(*numbers: int) -> Talk[list[str]]:
        begun.append(numbers[0])
        return (yield from talk(*numbers))

    class Slow(Said):
        def ask(self, requests: Iterable[Request | None]) -> Iterator[Answer]:
            open_, requests = [], iter(requests)
            while True:
                while len(open_) < 2 and (request := next(requests, None)):
                    self.asked.append(request)
                    open_.append(request)
                if not open_:
                    return
                yield from self.answer(open_.pop())  # the first talk waits until all others are over

    backend = Slow(lambda request: [right(request)])
    results = asker(backend).hold(begins(*numbers) for numbers in ((1, 2), (3, 4, 5), (6,), (7, 8)))
    assert [len(result) for result in results if isinstance(result, list)] == [2, 3, 1, 2]
    asked = [int(request.key[5:13]) for request in backend.asked]
    assert asked == [1, 3, 4, 5, 6, 7, 8, 2]
    assert begun == [1, 3, 6, 7]


def test_a_question_under_way_is_not_asked_again_by_a_talk_that_comes_to_it_later() -> None:
    backend = Said(lambda request: [right(request)], room=1)
    results = asker(backend).hold([talk(1, 2), talk(2, 1)])
    assert [len(result) for result in results if isinstance(result, list)] == [2, 2]
    assert len(backend.asked) == 2
