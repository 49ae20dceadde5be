"""Questions answered: from the cache, else by the backend, strictly read, with one further try each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from annotators.vlm.answers import Fault
from annotators.vlm.backend import Backend, Refusal, Reply, Request
from annotators.vlm.cache import Cache, content_hash
from annotators.vlm.prompts import Language
from annotators.vlm.questions import repair_request
from schemas.errors import StageError

T = TypeVar("T")


@dataclass(frozen=True)
class Question(Generic[T]):
    """A request, and how its answer is read."""

    request: Request
    read: Callable[[Request, Reply], T | Fault]


@dataclass(frozen=True)
class Unanswered:
    """There is no answer that can be used, after all tries."""

    why: str


Answers = Mapping[str, Any]
"""Key of each request → what its question's `read` made of the answer, or `Unanswered`."""
Talk = Generator[Sequence[Question[Any]], Answers, T]
"""A conversation about a clip: it gives questions, is sent their answers, and so on; returns what came of it."""


class Asker:
    """Asks a backend, through a cache that may be shared.

    Args:
        backend: who answers.
        cache: where answers are kept. Only those that can be used are: what went wrong is asked again another time.
        language: of the further try.

    """

    def __init__(self, backend: Backend, cache: Cache, *, language: Language) -> None:
        self._backend, self._cache, self._language = backend, cache, language

    def hold(self, talks: Iterable[Talk[T]]) -> list[T | Exception]:
        """Hold `talks`, each at its own pace; what one raises is its result. Their keys differ.

        A talk goes on as soon as its own questions are answered. The next begins when the backend has room for more
        questions than those under way have, so that it is never idle, and few clips are in memory.

        Raises:
            OutageError: nothing answers at all. What was answered before is in the cache.
            ConfigError, WeightsError, MissingExtraError: the backend cannot work as it is set.

        """
        meeting = _Meeting(talks, cache=self._cache, identity=self._backend.identity, language=self._language)
        try:
            for reply in self._backend.ask(meeting.requests()):
                meeting.take(reply)
        finally:
            self._cache.flush()
        return meeting.results()

    def ask(self, questions: Sequence[Question[Any]]) -> Answers:
        """An answer to each of `questions`, whose keys differ. Those of one content are asked once."""

        def talk() -> Talk[Answers]:
            answers = yield questions
            return {question.request.key: answers[question.request.key] for question in questions}

        [answers] = self.hold([talk()])
        if isinstance(answers, Exception):
            raise answers
        return answers

    def close(self) -> None:
        """Close the backend."""
        self._backend.close()


@dataclass(eq=False)
class _Held(Generic[T]):
    """A talk under way: which one, what it was answered since it last asked, and how much it still waits for."""

    number: int
    talk: Talk[T]
    answers: dict[str, Any] = field(default_factory=dict)
    missing: int = 0


@dataclass(eq=False)
class _Open:
    """A question without an answer: its content, and the talks that wait for it, each under a key of its own."""

    content: str
    question: Question[Any]
    wanted: list[tuple[_Held[Any], str]] = field(default_factory=list)
    is_repair: bool = False


class _Meeting(Generic[T]):
    """Talks held at once: gives the backend their requests, and them its replies."""

    def __init__(
        self, talks: Iterable[Talk[T]], *, cache: Cache, identity: Mapping[str, str], language: Language
    ) -> None:
        self._talks = enumerate(talks)
        self._cache, self._identity, self._language = cache, identity, language
        self._results: dict[int, T | Exception] = {}
        self._unasked: deque[Request] = deque()
        self._by_content: dict[str, _Open] = {}
        self._by_key: dict[str, _Open] = {}
        self._waits = False

    def requests(self) -> Iterator[Request | None]:
        """As `Backend.ask` takes them: those of talks under way go before those of the next."""
        while True:
            if self._unasked:
                yield self._unasked.popleft()
            elif begun := next(self._talks, None):
                self._go_on(_Held(*begun), None)
            elif not self._by_key:
                return
            elif self._waits:
                left = f"the backend left {len(self._by_key)} request(s) without an answer"
                raise StageError(left, where=next(iter(self._by_key)))
            else:
                self._waits = True
                yield None

    def take(self, reply: Reply | Refusal) -> None:
        """Give `reply` to the talks that wait for it; what cannot be used is asked once more."""
        self._waits = False
        open_ = self._by_key.pop(reply.key, None)
        if open_ is None:
            raise StageError("the backend answers what was not asked, or twice", where=reply.key)
        answer = self._read(open_, reply)
        if isinstance(answer, Fault) and isinstance(reply, Reply) and not open_.is_repair:
            again = repair_request(open_.question.request, reply, answer, language=self._language)
            self._ask(_Open(open_.content, replace(open_.question, request=again), open_.wanted, is_repair=True))
            return
        del self._by_content[open_.content]
        for held, key in open_.wanted:
            held.answers[key] = Unanswered(f"twice: {answer.what}") if isinstance(answer, Fault) else answer
            held.missing -= 1
            if not held.missing:
                self._go_on(held, held.answers)

    def results(self) -> list[T | Exception]:
        """What came of each talk, in their order."""
        return [self._results[number] for number in range(len(self._results))]

    def _go_on(self, held: _Held[T], answers: Answers | None) -> None:
        """Send the talk `answers` (None where it begins), and whatever the cache answers then."""
        while not held.missing:
            try:
                questions = held.talk.send(answers)  # type: ignore[arg-type] # a generator begins with None
            except StopIteration as end:
                self._results[held.number] = end.value
                return
            except Exception as error:  # noqa: BLE001 - one clip fails, no other notices
                self._results[held.number] = error
                return
            answers = held.answers = {}
            self._look_up(held, questions)

    def _look_up(self, held: _Held[T], questions: Sequence[Question[Any]]) -> None:
        contents = [content_hash(question.request, self._identity) for question in questions]
        replies = self._cache.get(content for content in contents if content not in self._by_content)
        for content, question in zip(contents, questions, strict=True):
            reply, key = replies.get(content), question.request.key
            answer = question.read(question.request, replace(reply, key=key)) if reply else None
            if answer is not None and not isinstance(answer, Fault):
                held.answers[key] = answer
                continue
            held.missing += 1
            if content not in self._by_content:
                self._ask(_Open(content, question))
            self._by_content[content].wanted.append((held, key))

    def _ask(self, open_: _Open) -> None:
        request = open_.question.request
        self._by_content[open_.content] = self._by_key[request.key] = open_
        self._unasked.append(request)

    def _read(self, open_: _Open, reply: Reply | Refusal) -> Any:
        if isinstance(reply, Refusal):
            return Unanswered(reply.why)
        answer = open_.question.read(open_.question.request, reply)
        if not isinstance(answer, Fault):
            self._cache.put(open_.content, reply)
        return answer
