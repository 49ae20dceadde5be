"""When the garment is handled: asked at a labelling rate, then again, frame by frame, around each boundary.

Shapes: T frames of the clip.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from annotators.smoothing import Segment, Smoothing, smooth
from annotators.vlm.answers import FrameLabels, read_frames
from annotators.vlm.asking import Question, Talk, Unanswered
from annotators.vlm.footage import Footage
from annotators.vlm.prompts import Language
from annotators.vlm.questions import label_requests
from annotators.vlm.votes import INTERACTIVE, FrameEvidence, join, upsample
from annotators.vlm.windows import Plan, Sampling
from schemas.errors import StageError

Probabilities = NDArray[np.float64]


def window_questions(
    footage: Footage, made: Plan, *, language: Language, name: str = "frames"
) -> list[Question[FrameLabels]]:
    """A question for each window of the plan."""
    requests = label_requests(footage.key, made, part=footage.part, language=language)
    return [
        Question(replace(request, key=f"{footage.key}#{name}-{number:04d}"), read_frames)
        for number, request in enumerate(requests)
    ]


def evidence_of(
    footage: Footage, made: Plan, answers: Sequence[FrameLabels | Unanswered], *, longest_unknown: float
) -> FrameEvidence:
    """What the answers to `window_questions` say of each frame. As `votes.upsample`.

    Raises:
        StageError: not a single window has an answer that can be used.

    """
    failed = [answer for answer in answers if isinstance(answer, Unanswered)]
    if len(failed) == len(answers):
        words = f"none of {len(answers)} windows has an answer that can be used; the first: {failed[0].why}"
        raise StageError(words, where=footage.key)
    return upsample(
        footage.times, labelled=made.times, probabilities=_votes(made, answers), longest_unknown=longest_unknown
    )


def segments_in(evidence: FrameEvidence, *, fps: float, smoothing: Smoothing) -> list[Segment]:
    """Segments of what the model says; frames of which nothing is known begin none."""
    return smooth(np.where(evidence.known, evidence.probability, np.nan), fps=fps, smoothing=smoothing)


@dataclass(frozen=True)
class Boundary:
    """Where a segment begins or ends.

    Attributes:
        segment: its number.
        begins: whether it begins here.
        frame: the first one after the boundary: the segment's first, or the one after its last.
        asked: frames about which the model is asked again; the boundary is sought within them.

    """

    segment: int
    begins: bool
    frame: int
    asked: range


def boundaries(found: Sequence[Segment], *, frames: int, reach: int) -> Iterator[Boundary]:
    """Boundaries within the clip, each with up to `reach` frames before it and `reach` from it on.

    No further than to the middle of the segment, and of the gap to the next one.
    """
    between = [0, *((one[1] + other[0]) // 2 for one, other in pairwise(found)), *([frames] if found else [])]
    for number, ((start, end), (before, after)) in enumerate(zip(found, pairwise(between), strict=True)):
        middle = (start + end) // 2 + 1
        if start > 0:
            yield Boundary(number, True, start, range(max(before, start - reach), min(middle, start + reach)))
        if end < frames - 1:
            first = max(middle - 1, end + 1 - reach)
            yield Boundary(number, False, end + 1, range(first, min(after + (after < frames), end + 1 + reach)))


def look_closer(
    footage: Footage, around: Sequence[Boundary], *, sampling: Sampling, language: Language
) -> Talk[Probabilities]:
    """Ask about each frame around these boundaries.

    Returns:
        (T,) probabilities in 0..1, NaN for frames that were not asked about, or have no answer.

    """
    plans = [footage.plan(sampling, frames=boundary.asked) for boundary in around]
    questions = [
        window_questions(footage, made, language=language, name=f"boundary-{number:04d}")
        for number, made in enumerate(plans)
    ]
    said = (yield [question for some in questions for question in some]) if around else {}
    told = np.full(len(footage), np.nan)
    for boundary, made, some in zip(around, plans, questions, strict=True):
        votes = _votes(made, [said[question.request.key] for question in some])
        frames = boundary.asked.start + made.frames
        told[frames] = np.where(np.isnan(votes), told[frames], votes)
    return told


def settle(found: Sequence[Segment], around: Sequence[Boundary], told: Probabilities) -> list[Segment]:
    """Segments whose boundaries are those that (T,) `told` is clear about; NaN: nothing is known of the frame.

    It is clear where, over the frames asked about, it knows each and changes once, in the right direction.
    """
    ends = [list(segment) for segment in found]
    for boundary in around:
        votes = told[boundary.asked.start : boundary.asked.stop]
        changes = np.flatnonzero(np.diff(votes >= INTERACTIVE)) + 1
        if not np.isnan(votes).any() and len(changes) == 1 and (votes[0] < INTERACTIVE) == boundary.begins:
            frame = boundary.asked.start + int(changes[0])
            ends[boundary.segment][0 if boundary.begins else 1] = frame if boundary.begins else frame - 1
    return [(start, end) for start, end in ends]


def _votes(made: Plan, answers: Sequence[FrameLabels | Unanswered]) -> Probabilities:
    return join(made, [None if isinstance(answer, Unanswered) else answer.probabilities for answer in answers])
