"""What labelling by a vision-language model would cost, before anything is spent.

A sample of the clips is decoded, and the conversation about each held without the model (`annotators.vlm.rehearsal`).
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields
from itertools import islice

from annotators.vlm.asking import Asker, Unanswered
from annotators.vlm.backend import Backend, Refusal, Reply, Request
from annotators.vlm.backends import open_backend
from annotators.vlm.cost import Cost, TokenRule, rule_for, total
from annotators.vlm.rehearsal import Asked
from pipelines.label_survey import Survey, Unread, Waiting
from schemas.errors import ArtifactError, DatasetError, MediaError

KINDS = ("frames", "boundary", "category", "caption", "garment")
"""Kinds of questions, in the order in which they are told."""
SAMPLE = 200
"""Clips that are decoded, at most."""
REPAIRS = 0.05
"""Share of the answers that cannot be used, and are asked for once more: an assumption."""
FIRST = 10
"""Requests on the page of a dry run."""
LOOKED_THROUGH = 10
"""Clips in which a dry run looks for questions of each kind."""
_SEED = 0
_UNUSABLE = (ArtifactError, DatasetError, MediaError)


@dataclass(frozen=True, kw_only=True)
class KindCost:
    """What the questions of one kind come to.

    Attributes:
        asked: those that would be sent.
        again: were each of these asked twice, what the second try would cost.
        known: those that the cache answers.
        repeats: those with the content of another, which are asked with it.

    """

    asked: Cost = field(default_factory=Cost)
    again: Cost = field(default_factory=Cost)
    known: Cost = field(default_factory=Cost)
    repeats: Cost = field(default_factory=Cost)

    def __add__(self, other: KindCost) -> KindCost:
        return KindCost(
            **{part.name: getattr(self, part.name) + getattr(other, part.name) for part in fields(KindCost)}
        )

    def __mul__(self, factor: float) -> KindCost:
        return KindCost(**{part.name: getattr(self, part.name) * factor for part in fields(KindCost)})


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What labelling would cost.

    Attributes:
        rule: how tokens are counted.
        waiting: stored clips to be labelled.
        sampled: how many of them were looked at.
        damaged: how many could not be.
        without_contact: of those looked at, how many have no contact evidence.
        kinds: cost of all waiting clips by kind of question, scaled up from the sample.
        repair_share: of the answers, those that are asked for once more.
        unread: recordings that are still to be read.

    """

    rule: TokenRule
    waiting: Sequence[Waiting]
    sampled: int
    damaged: int
    without_contact: int
    kinds: Mapping[str, KindCost]
    repair_share: float
    unread: Unread

    @property
    def seconds(self) -> float:
        """Length of the waiting clips."""
        return sum(clip.seconds for clip in self.waiting)

    @property
    def exact(self) -> bool:
        """Whether every waiting clip was looked at."""
        return self.sampled == len(self.waiting)

    @property
    def repairs(self) -> Cost:
        """Of second tries."""
        return total(kind.again for kind in self.kinds.values()) * self.repair_share

    @property
    def later(self) -> Cost:
        """Of the clips of recordings that are still to be read: as much a second as without a cache, second tries too.

        Nothing is known of it where no clip was looked at.
        """
        all_of_them = total(kind.asked + kind.known for kind in self.kinds.values()) + self.repairs
        return all_of_them * (self.unread.seconds * self.unread.share / self.seconds) if self.sampled else Cost()

    @property
    def total(self) -> Cost:
        """Of all that would be sent."""
        return total([*(kind.asked for kind in self.kinds.values()), self.repairs, self.later])


def estimate(survey: Survey, *, sample: int = SAMPLE, repair_share: float = REPAIRS) -> Estimate:
    """Count what labelling the clips of `survey` would ask, from `sample` of them at most.

    Raises:
        WeightsError: the files of a model in process are not there.

    """
    rule = rule_for(survey.stage.backend)
    chosen = sorted(random.Random(_SEED).sample(range(len(survey.waiting)), min(sample, len(survey.waiting))))
    kinds: defaultdict[str, KindCost] = defaultdict(KindCost)
    seen: set[str] = set()
    looked_at: list[Waiting] = []
    without_contact = 0
    for place in chosen:
        clip = survey.waiting[place]
        try:
            rehearsed = survey.rehearsal(clip)
            questions = list(rehearsed.questions)
        except _UNUSABLE:  # the build will say so of each
            continue
        looked_at.append(clip)
        without_contact += not rehearsed.has_contact
        for asked in questions:
            kinds[asked.kind] += _cost(asked, rule, seen)
    return Estimate(
        rule=rule,
        waiting=survey.waiting,
        sampled=len(looked_at),
        damaged=len(chosen) - len(looked_at),
        without_contact=without_contact,
        kinds={kind: kinds[kind] * _factor(kind, survey.waiting, looked_at) for kind in KINDS if kind in kinds},
        repair_share=repair_share,
        unread=survey.unread,
    )


def _cost(asked: Asked, rule: TokenRule, seen: set[str]) -> KindCost:
    """Of one question; its content joins those `seen`."""
    cost = rule.cost(asked.request)
    if asked.content in seen:
        return KindCost(repeats=cost)
    seen.add(asked.content)
    return KindCost(known=cost) if asked.known else KindCost(asked=cost, again=rule.repair_cost(asked.request))


def _factor(kind: str, all_clips: Sequence[Waiting], sample: Sequence[Waiting]) -> float:
    """By how much the questions of `sample` are multiplied: captions go by clips, garments by pairs, others by time."""
    if kind == "caption":
        return len(all_clips) / len(sample)
    if kind == "garment":
        return _pairs(all_clips) / _pairs(sample)
    return sum(clip.seconds for clip in all_clips) / sum(clip.seconds for clip in sample)


def _pairs(clips: Sequence[Waiting]) -> int:
    return len({clip.pair_id for clip in clips})


def first_questions(survey: Survey, *, count: int = FIRST) -> Iterator[Asked]:
    """The first `count` questions that would be sent, and of kinds that are not among them, the first each.

    Clips that cannot be looked at are passed over. Further kinds are sought in the first `LOOKED_THROUGH` clips.
    """
    told: set[str] = set()
    clips: set[str] = set()
    given = 0
    for asked in _unknown(survey):
        clips.add(asked.request.key.rpartition("#")[0])
        if given < count or asked.kind not in told:
            told.add(asked.kind)
            given += 1
            yield asked
        if given >= count and (told >= set(KINDS) or len(clips) > LOOKED_THROUGH):
            return


def _unknown(survey: Survey) -> Iterator[Asked]:
    """Questions that the cache does not answer, clip by clip, each content once; of `SAMPLE` clips at most."""
    seen: set[str] = set()
    for clip in survey.waiting[:SAMPLE]:
        try:
            questions = list(survey.rehearsal(clip).questions)
        except _UNUSABLE:
            continue
        for asked in questions:
            if not asked.known and asked.content not in seen:
                seen.add(asked.content)
                yield asked


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What really asking some requests showed.

    Attributes:
        requests: how many were sent, second tries included.
        seconds: from the first to the last answer.
        refused: how many got no answer.
        second_tries: how many were asked once more.
        unusable: how many questions have no usable answer in the end.
        prompt_tokens, completion_tokens: as the backend counts them; 0 where it does not.
        expected: what the estimate says of the same questions, without second tries.

    """

    requests: int
    seconds: float
    refused: int
    second_tries: int
    unusable: int
    prompt_tokens: int
    completion_tokens: int
    expected: Cost

    @property
    def requests_per_second(self) -> float:
        """Of one worker."""
        return self.requests / self.seconds


class _Metered:
    """A backend, and what it was asked and answered."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.asked: list[Request] = []
        self.answers: list[Reply | Refusal] = []

    @property
    def identity(self) -> Mapping[str, str]:
        return self._backend.identity

    def ask(self, requests: Iterable[Request | None]) -> Iterator[Reply | Refusal]:
        for answer in self._backend.ask(map(self._noted, requests)):
            self.answers.append(answer)
            yield answer

    def close(self) -> None:
        self._backend.close()

    def _noted(self, request: Request | None) -> Request | None:
        self.asked += [request] if request else []
        return request


def probe(survey: Survey, count: int) -> Probe | None:
    """Ask the first `count` questions, all at once, as one worker of a build would. None where there are none to ask.

    Answers that can be used stay in the cache of the config, so that they are not paid for twice.

    Raises:
        OutageError: nothing answers at all.
        ConfigError, WeightsError, MissingExtraError: the backend cannot work as it is set.

    """
    questions = [asked.question for asked in islice(_unknown(survey), count)]
    if not questions:
        return None
    rule = rule_for(survey.stage.backend)
    with closing(_Metered(open_backend(survey.stage.backend))) as backend:
        started = time.perf_counter()
        said = Asker(backend, survey.cache, language=survey.stage.language).ask(questions)
        seconds = time.perf_counter() - started
    replies = [answer for answer in backend.answers if isinstance(answer, Reply)]
    return Probe(
        requests=len(backend.asked),
        seconds=seconds,
        refused=len(backend.answers) - len(replies),
        second_tries=len(backend.asked) - len(questions),
        unusable=sum(isinstance(answer, Unanswered) for answer in said.values()),
        prompt_tokens=sum(reply.prompt_tokens for reply in replies),
        completion_tokens=sum(reply.completion_tokens for reply in replies),
        expected=total(rule.cost(question.request) for question in questions),
    )
