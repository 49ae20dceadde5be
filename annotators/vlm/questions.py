"""What the model is asked about a clip: requests, ready for a backend. `answers` reads what comes back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotators.vlm import answers, prompts
from annotators.vlm.answers import NONE_OF_THESE, Fault, Verdict
from annotators.vlm.backend import Picture, Reply, Request
from annotators.vlm.prompts import Language
from annotators.vlm.windows import Plan, scaled
from schemas.manifest import Part

GARMENTS: dict[Language, dict[Part, str]] = {
    "en": {
        Part.UPPER: "upper garment (top, shirt, sweater, jacket or the like)",
        Part.LOWER: "lower garment (trousers, skirt or the like)",
        Part.DRESS: "dress or one-piece garment",
        Part.INNER: "inner upper garment (worn under another)",
        Part.OUTER: "outer garment (coat, jacket or cardigan worn over another)",
    },
    "zh": {
        Part.UPPER: "上装（上衣、衬衫、毛衣、外套等）",
        Part.LOWER: "下装（裤子、裙子等）",
        Part.DRESS: "连衣裙或连体服装",
        Part.INNER: "内搭上衣（穿在另一件衣服里面）",
        Part.OUTER: "外套（穿在另一件衣服外面的大衣、夹克或开衫）",
    },
}
_TOKENS_PER_FRAME = 12
"""Of an answer, also where the model puts each frame on a line of its own."""
_TOKENS_BESIDE = 64
_TOKENS_OF_CAPTION = 256
_LONGEST_QUOTE = 2000
"""Characters of an unusable answer that are shown to the model again."""


VERDICTS = tuple(Verdict)


def label_requests(clip_key: str, plan: Plan, *, part: Part, language: Language = "en") -> list[Request]:
    """In which pictures is the garment of `part` handled? A request for each window of `plan`, in their order.

    `answers.read_frames` reads the replies; `votes.join` takes their probabilities.
    """
    return [
        _request(
            f"{clip_key}#frames-{number:04d}",
            "frames",
            [plan.pictures[index] for index in window.shown],
            fields=answers.frames_fields(len(window.shown)),
            max_tokens=_TOKENS_BESIDE + _TOKENS_PER_FRAME * len(window.shown),
            language=language,
            count=len(window.shown),
            garment=GARMENTS[language][part],
        )
        for number, window in enumerate(plan.windows)
    ]


def category_request(
    clip_key: str,
    number: int,
    pictures: Sequence[Picture],
    *,
    part: Part,
    categories: Sequence[str],
    garment_parts: Mapping[str, bool] | None = None,
    language: Language = "en",
) -> Request:
    """What is done in segment `number`, which `pictures` show, and can it be done to this garment?

    Args:
        clip_key: of the clip.
        number: of the segment in the clip; names the request.
        pictures: some of the segment, in order of time.
        part: which part of the outfit the garment is.
        categories: allowed ones, in the order shown; "none of these" is added where it is not among them.
        garment_parts: `GarmentAnswer.parts` of the garment image, where that was looked at.
        language: of the question.

    """
    allowed = _with_none(categories)
    return _request(
        f"{clip_key}#category-{number:04d}",
        "category",
        pictures,
        fields=answers.category_fields(allowed),
        max_tokens=_TOKENS_OF_CAPTION,
        language=language,
        times=_times(pictures),
        garment=GARMENTS[language][part],
        categories=allowed,
        nothing=NONE_OF_THESE,
        features=None if garment_parts is None else dict(garment_parts),
    )


def garment_request(
    clip_key: str, image: NDArray[np.uint8], *, part: Part, max_side: int = 448, language: Language = "en"
) -> Request:
    """Which parts has the garment of (H, W, 3) uint8 RGB `image`, shown at `max_side` px at most?"""
    return _request(
        f"{clip_key}#garment",
        "garment",
        [Picture(scaled(image, max_side=max_side), 0.0)],
        fields=answers.garment_fields(),
        max_tokens=_TOKENS_OF_CAPTION,
        language=language,
        garment=GARMENTS[language][part],
    )


def caption_request(clip_key: str, pictures: Sequence[Picture], *, language: Language = "en") -> Request:
    """What does the person do in the clip, from which `pictures` are spread evenly, in order of time?"""
    return _request(
        f"{clip_key}#caption",
        "caption",
        pictures,
        fields=answers.caption_fields(),
        max_tokens=_TOKENS_OF_CAPTION,
        language=language,
        times=_times(pictures),
    )


def judge_request(
    clip_key: str,
    number: int,
    pictures: Sequence[Picture],
    *,
    part: Part,
    category: str,
    description: str,
    categories: Sequence[str],
    verdicts: Sequence[Verdict] = VERDICTS,
    language: Language = "en",
) -> Request:
    """Is interaction `number` of the clip, told by `category` and `description`, carried out in `pictures`?

    Nothing says whether the video is real or made. `categories` and `verdicts` are shown in the order given, so that
    a leaning of the judge to early or late ones can be measured; "none of these" is added as in `category_request`.
    """
    allowed = _with_none(categories)
    return _request(
        f"{clip_key}#judge-{number:04d}",
        "judge",
        pictures,
        fields=answers.judge_fields(allowed, verdicts),
        max_tokens=_TOKENS_OF_CAPTION,
        language=language,
        times=_times(pictures),
        garment=GARMENTS[language][part],
        category=category,
        description=description,
        categories=allowed,
        nothing=NONE_OF_THESE,
        verdicts=[str(verdict) for verdict in verdicts],
    )


def repair_request(request: Request, reply: Reply, fault: Fault, *, language: Language = "en") -> Request:
    """The one further try at `request`, after `reply` with `fault`: same pictures, same form, same id."""
    text = prompts.render(
        "repair", language=language, question=request.text, answer=reply.text[:_LONGEST_QUOTE], fault=fault.what
    )
    return replace(request, key=f"{request.key}-repair", text=text)


def answer_id(name: str, pictures: Sequence[Picture], values: Mapping[str, Any], *, language: Language) -> str:
    """Id that the answer to a question has to bear, 8 hex digits: a hash of all that is asked and shown.

    Of the content, not of the clip's key, which every reply has beside it: so the same question is the same text
    whatever the clip is called, and a cache finds its answer again.
    """
    shown = [(picture.digest, round(picture.seconds, 3)) for picture in pictures]
    asked = [name, language, prompts.fingerprint("system", name, language=language), shown, values]
    return hashlib.blake2b(json.dumps(asked).encode(), digest_size=4).hexdigest()


def _request(
    key: str,
    name: prompts.Name,
    pictures: Sequence[Picture],
    *,
    fields: answers.Fields,
    max_tokens: int,
    language: Language,
    **values: Any,
) -> Request:
    """The question of prompt `name` with `values`, about `pictures`, to be answered in `fields`."""
    if not pictures:
        raise ValueError(f"{key}: there are no pictures to ask about")
    own_id = answer_id(name, pictures, values, language=language)
    return Request(
        key=key,
        system=prompts.render("system", language=language),
        text=prompts.render(name, language=language, id=own_id, **values),
        pictures=tuple(pictures),
        schema=answers.schema(own_id, fields),
        max_tokens=max_tokens,
    )


def _times(pictures: Sequence[Picture]) -> list[float]:
    return [picture.seconds for picture in pictures]


def _with_none(categories: Sequence[str]) -> list[str]:
    return [*categories, *([] if NONE_OF_THESE in categories else [NONE_OF_THESE])]
