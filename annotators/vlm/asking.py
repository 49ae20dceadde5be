"""Questions answered: from the cache, else by the backend, strictly read, with one further try each."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
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
        self._identity = backend.identity

    def hold(self, talks: Sequence[Talk[T]]) -> list[T | Exception]:
        """Hold all `talks` at once, so that their questions are asked together. What a talk raises is its result.

        Raises:
            OutageError: nothing answers at all. What was answered before is in the cache.
            ConfigError, WeightsError, MissingExtraError: the backend cannot work as it is set.

        """
        results: dict[int, T | Exception] = {}
        answers: dict[int, Answers | None] = dict.fromkeys(range(len(talks)))
        while answers:
            asked: dict[int, Sequence[Question[Any]]] = {}
            for index, known in answers.items():
                try:
                    asked[index] = talks[index].send(known)  # type: ignore[arg-type] # a generator begins with None
                except StopIteration as end:
                    results[index] = end.value
                except Exception as error:  # noqa: BLE001 - one clip fails, no other notices
                    results[index] = error
            said = self.ask([question for questions in asked.values() for question in questions])
            answers = {
                index: {question.request.key: said[question.request.key] for question in questions}
                for index, questions in asked.items()
            }
        return [results[index] for index in range(len(talks))]

    def ask(self, questions: Sequence[Question[Any]]) -> Answers:
        """An answer to each of `questions`, whose keys differ. Those of one content are asked once."""
        alike: dict[str, list[Question[Any]]] = {}
        for question in questions:
            alike.setdefault(content_hash(question.request, self._identity), []).append(question)
        firsts = {content: same[0] for content, same in alike.items()}
        replies = {content: self._known(firsts[content], reply) for content, reply in self._cache.get(alike).items()}
        answers: dict[str, Any] = {content: answer for content, answer in replies.items() if answer is not None}
        try:
            answers |= self._asked({content: first for content, first in firsts.items() if content not in answers})
        finally:
            self._cache.flush()
        return {question.request.key: answers[content] for content, same in alike.items() for question in same}

    def close(self) -> None:
        """Close the backend."""
        self._backend.close()

    def _known(self, question: Question[T], reply: Reply) -> T | None:
        answer = question.read(question.request, replace(reply, key=question.request.key))
        return None if isinstance(answer, Fault) else answer

    def _asked(self, questions: Mapping[str, Question[Any]]) -> dict[str, Any]:
        """Content → answer, by the backend. What cannot be used is asked once more."""
        answers: dict[str, Any] = {}
        repairs: dict[str, Question[Any]] = {}
        for content, reply in self._replies(questions):
            question = questions[content]
            answer = self._read(content, question, reply)
            if isinstance(answer, Fault) and isinstance(reply, Reply):
                again = repair_request(question.request, reply, answer, language=self._language)
                repairs[content] = replace(question, request=again)
            else:
                answers[content] = answer
        for content, reply in self._replies(repairs):
            answer = self._read(content, repairs[content], reply)
            answers[content] = Unanswered(f"twice: {answer.what}") if isinstance(answer, Fault) else answer
        return answers

    def _read(self, content: str, question: Question[T], reply: Reply | Refusal) -> T | Fault | Unanswered:
        if isinstance(reply, Refusal):
            return Unanswered(reply.why)
        answer = question.read(question.request, reply)
        if not isinstance(answer, Fault):
            self._cache.put(content, reply)
        return answer

    def _replies(self, questions: Mapping[str, Question[Any]]) -> Generator[tuple[str, Reply | Refusal]]:
        """Content and reply, as they come in; each of `questions` has exactly one."""
        open_ = {question.request.key: content for content, question in questions.items()}
        if not open_:
            return
        for reply in self._backend.ask([question.request for question in questions.values()]):
            content = open_.pop(reply.key, None)
            if content is None:
                raise StageError("the backend answers what was not asked, or twice", where=reply.key)
            yield content, reply
        if open_:
            raise StageError(f"the backend left {len(open_)} request(s) without an answer", where=next(iter(open_)))
