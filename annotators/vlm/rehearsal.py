"""A conversation about a clip held without the model, to see what would be asked.

What is asked next depends on what was answered. Where the cache has no answer, one is made up: frames are labelled by
contact evidence, everything else gets an answer of usual length.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from annotators.smoothing import Smoothing, as_labels, smooth
from annotators.vlm.answers import Fault
from annotators.vlm.asking import Question, Talk, Unanswered
from annotators.vlm.backend import Reply, Request
from annotators.vlm.cache import Cache, content_hash
from annotators.vlm.cost import expected_answer
from schemas.clip import Clip
from schemas.conditions import Contact

Handled = Callable[[float], bool]
"""Whether the garment is taken to be handled, so many seconds into the clip."""


@dataclass(frozen=True)
class Asked:
    """A question that would come up.

    Attributes:
        question: and how its answer is read.
        content: hash of all that its answer depends on.
        known: whether the cache has an answer that can be used.

    """

    question: Question[Any]
    content: str
    known: bool

    @property
    def request(self) -> Request:
        """What would be sent."""
        return self.question.request

    @property
    def kind(self) -> str:
        """frames, boundary, category, caption or garment."""
        return self.request.key.rpartition("#")[2].partition("-")[0]


def rehearse(talk: Talk[Any], *, handled: Handled, cache: Cache, identity: Mapping[str, str]) -> Iterator[Asked]:
    """All questions of `talk`, in the order in which they would be asked.

    Args:
        talk: the conversation; it is held to its end.
        handled: in place of the model's labels.
        cache: answers given before; they are taken as they are.
        identity: of the backend.

    """
    answers: dict[str, Any] | None = None
    while True:
        try:
            questions = talk.send(answers)  # type: ignore[arg-type] # a generator begins with None
        except StopIteration:
            return
        said = _known(questions, cache, identity)
        answers = {}
        for question, (content, answer) in zip(questions, said, strict=True):
            yield Asked(question, content, answer is not None)
            read = answer or question.read(question.request, made_up(question.request, handled=handled))
            answers[question.request.key] = Unanswered(read.what) if isinstance(read, Fault) else read


def _known(questions: Sequence[Question[Any]], cache: Cache, identity: Mapping[str, str]) -> list[tuple[str, Any]]:
    """Content of each question, and its answer in the cache, or None."""
    contents = [content_hash(question.request, identity) for question in questions]
    replies = cache.get(contents)
    known = []
    for question, content in zip(questions, contents, strict=True):
        reply = replies.get(content)
        answer = reply and question.read(question.request, replace(reply, key=question.request.key))
        known.append((content, None if isinstance(answer, Fault) else answer))
    return known


def made_up(request: Request, *, handled: Handled) -> Reply:
    """An answer that fits `request`: frames are labelled as `handled` says."""
    answer = json.loads(expected_answer(request.schema))
    if "interactive" in answer:
        labels = {str(number): handled(picture.seconds) for number, picture in enumerate(request.pictures, 1)}
        answer["interactive"] = labels
    return Reply(key=request.key, text=json.dumps(answer))


def handled_in(clip: Clip) -> Handled:
    """By the contact evidence of `clip`; without any, its middle third stands for an interaction."""
    contact: Contact | None = clip.artifacts.get("contact")
    fps, frames = float(clip.span.fps), clip.span.frames
    if contact is None:
        return lambda seconds: 1 / 3 <= seconds * fps / frames < 2 / 3
    found = smooth(contact.probability.max(axis=1), fps=fps, smoothing=Smoothing())
    labels = as_labels(found, frames)
    return lambda seconds: labels[min(round(seconds * fps), frames - 1)]
