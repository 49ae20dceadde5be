"""What a vision-language model is asked and what it answers: one protocol, whoever answers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Picture:
    """A frame as the model sees it.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        seconds: its time in the clip.

    """

    image: NDArray[np.uint8]
    seconds: float

    @cached_property
    def digest(self) -> str:
        """Hash of size and pixels, 32 hex digits: pictures of one digest are the same."""
        digest = hashlib.blake2b(str(self.image.shape).encode(), digest_size=16)
        digest.update(np.ascontiguousarray(self.image).data)
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """One question about some pictures.

    Attributes:
        key: names it among all requests of a run: the clip's key, "#", and which question about it.
        system: what the model is, and how it answers.
        text: the question; the pictures go before it, each after its number and time.
        pictures: in order of time; none for a question about words alone.
        schema: JSON schema that the answer has to fit. Its property `id` is the `const` that `answer_id` gives, so
            that an answer to another question is seen as such.
        max_tokens: of the answer.

    """

    key: str
    system: str
    text: str
    pictures: tuple[Picture, ...] = ()
    schema: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int = 512


@dataclass(frozen=True, kw_only=True)
class Token:
    """One token of an answer.

    Attributes:
        text: as it stands in the answer.
        logprob: natural logarithm of its probability.
        others: text → logprob of the likeliest tokens at its place, itself included.

    """

    text: str
    logprob: float
    others: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer.

    Attributes:
        key: of the request.
        text: all of it, as it came.
        tokens: with probabilities, where the backend gives them; their texts make up `text`.
        prompt_tokens, completion_tokens: what it cost; 0 where the backend does not say.
        ended: "stop", or "length" where it was cut off at `max_tokens`.

    """

    key: str
    text: str
    tokens: tuple[Token, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ended: str = "stop"


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """No answer, and there will be none to this request: the server refuses it, or every try failed."""

    key: str
    why: str


class Backend(Protocol):
    """Something that answers requests."""

    @property
    def identity(self) -> Mapping[str, str]:
        """What its answers depend on beside the request: model, precision, sampling. Part of the cache's keys."""
        ...

    def ask(self, requests: Iterable[Request | None]) -> Iterator[Reply | Refusal]:
        """Answers to `requests`, each exactly once, in the order in which they come in.

        Requests are taken when there is room for them: answers may lead to more. None says that for now there are no
        more, until another answer was given.

        Raises:
            OutageError: nothing answers at all: the server is away, and the clips are to wait.
            ConfigError, WeightsError, MissingExtraError: it cannot work as it is set.

        """
        ...

    def close(self) -> None:
        """Give back connections and memory."""
        ...


def batches(requests: Iterable[Request | None], *, most: int) -> Iterator[list[Request]]:
    """Requests, as `Backend.ask` takes them, as many together as can be had, `most` at most."""
    batch: list[Request] = []
    for request in requests:
        if request is not None:
            batch.append(request)
        if request is None or len(batch) == most:
            yield batch
            batch = []
    if batch:
        yield batch
