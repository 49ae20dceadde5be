"""What is done to the garment: a category and words for each segment, held against the garment's picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from annotators.captions import FASTENING
from annotators.smoothing import Segment
from annotators.vlm.answers import (
    NONE_OF_THESE,
    CaptionAnswer,
    CategoryAnswer,
    GarmentAnswer,
    read_caption,
    read_category,
    read_garment,
)
from annotators.vlm.asking import Question, Talk, Unanswered
from annotators.vlm.footage import Footage
from annotators.vlm.prompts import Language
from annotators.vlm.questions import caption_request, category_request, garment_request
from annotators.vlm.windows import spread
from schemas.annotation import ActionCaption, Doubt

FASTENINGS = ("zip", "buttons", "other fastening")
PARTS = tuple(name.replace("_", " ") for name in GarmentAnswer.model_fields if name != "id")
"""Parts of a garment that the model is asked for."""
REQUIRED_PARTS: dict[str, tuple[str, ...]] = {FASTENING: FASTENINGS}
"""Category → parts of which a garment has to have one. What is not here is done to any garment, or to hidden parts."""


@dataclass(frozen=True)
class Rules:
    """What is made of an answer about a segment.

    Attributes:
        categories: those that may be given.
        fallback: given to what is "none of these"; None drops it.
        required_parts: category → parts, of which a garment has to have one.
        contradictions: "drop" segments whose category the garment does not allow, or keep them for "review".

    """

    categories: tuple[str, ...]
    fallback: str | None
    required_parts: Mapping[str, tuple[str, ...]]
    contradictions: Literal["drop", "review"]


@dataclass(frozen=True)
class Described:
    """What became of one segment.

    Attributes:
        action: what is said of it; None where it is no action.
        doubt: why somebody should look at it; None where nothing speaks for that.
        unlabelled: something is done there, but nobody knows what.

    """

    action: ActionCaption | None = None
    doubt: Doubt | None = None
    unlabelled: bool = False


def garment_question(
    footage: Footage, image: NDArray[np.uint8], *, max_side: int, language: Language
) -> Question[GarmentAnswer]:
    """Which parts has the garment of (H, W, 3) uint8 RGB `image`?"""
    request = garment_request(footage.key, image, part=footage.part, max_side=max_side, language=language)
    return Question(request, read_garment)


def caption_question(footage: Footage, *, pictures: int, language: Language) -> Question[CaptionAnswer]:
    """What does the person do in the clip, by so many pictures at most?"""
    shown = footage.pictures(spread(0, len(footage) - 1, count=pictures))
    return Question(caption_request(footage.key, shown, language=language), read_caption)


def describe(
    footage: Footage,
    found: Sequence[Segment],
    *,
    garment: GarmentAnswer | None,
    rules: Rules,
    pictures: int,
    language: Language,
) -> Talk[list[Described]]:
    """What is done in each segment, by so many pictures of each at most."""
    questions = [
        Question(
            category_request(
                footage.key,
                number,
                footage.pictures(spread(*segment, count=pictures)),
                part=footage.part,
                categories=rules.categories,
                garment_parts=garment.parts if garment else None,
                language=language,
            ),
            read_category,
        )
        for number, segment in enumerate(found)
    ]
    said = (yield questions) if questions else {}
    return [
        judged(segment, said[question.request.key], garment=garment, rules=rules)
        for segment, question in zip(found, questions, strict=True)
    ]


def judged(
    segment: Segment, answer: CategoryAnswer | Unanswered, *, garment: GarmentAnswer | None, rules: Rules
) -> Described:
    """What becomes of `segment` after `answer`."""
    start, end = segment
    if isinstance(answer, Unanswered):
        why = f"no usable answer to what is done: {answer.why}"
        return Described(doubt=Doubt(start_frame=start, end_frame=end, why=why), unlabelled=True)

    def doubt(why: str) -> Doubt:
        said = {"category": answer.category, "caption": answer.description}
        return Doubt(**said, start_frame=start, end_frame=end, why=why)

    category = answer.category
    if category == NONE_OF_THESE and category not in rules.categories:
        why = "no interaction that has a category, when looked at as a whole"
        if rules.fallback is None:
            return Described(doubt=doubt(why))
        return Described(_action(segment, rules.fallback, answer), doubt(why))
    if why := contradiction(answer, garment=garment, rules=rules):
        if rules.contradictions == "drop":
            return Described(doubt=doubt(why), unlabelled=True)
        return Described(_action(segment, category, answer), doubt(why))
    return Described(_action(segment, category, answer))


def contradiction(answer: CategoryAnswer, *, garment: GarmentAnswer | None, rules: Rules) -> str:
    """Why what `answer` says cannot be done to the garment; "" where it can."""
    wanted = rules.required_parts.get(answer.category, ())
    if garment and wanted and not any(garment.parts[part] for part in wanted):
        return f"the garment's picture shows no {' or '.join(wanted)}"
    return "" if answer.feasible else "the model says that this garment does not allow it"


def _action(segment: Segment, category: str, answer: CategoryAnswer) -> ActionCaption:
    return ActionCaption(category=category, caption=answer.description, start_frame=segment[0], end_frame=segment[1])
