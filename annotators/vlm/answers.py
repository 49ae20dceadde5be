"""The form of the model's answers: a JSON schema of each, and how an answer is read, strictly.

An answer is used only if it fits its form to the letter and bears the id of its question. Otherwise it is a `Fault`,
which says what is wrong, so that the model may be asked once more (`questions.repair_request`). Nothing is guessed.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from annotators.vlm.backend import Reply, Request, Token

NONE_OF_THESE = "none of these"
"""Category of what is no interaction, or none of the configured ones."""
MAX_CAPTION = 600
"""Characters of a caption or description, at most."""


class Verdict(StrEnum):
    """What became of an interaction in a generated video."""

    PERFORMED = "performed"
    PARTLY = "partly"
    NOT = "not"


class FaultKind(StrEnum):
    """What may be wrong with an answer."""

    OTHER_QUESTION = "other_question"
    CUT_OFF = "cut_off"
    NOT_JSON = "not_json"
    WRONG_FIELDS = "wrong_fields"
    WRONG_FRAMES = "wrong_frames"
    WRONG_WORDS = "wrong_words"


@dataclass(frozen=True)
class Fault:
    """Why an answer cannot be used. `what` says it in words that the model can act on."""

    kind: FaultKind
    what: str


@dataclass(frozen=True)
class FrameLabels:
    """Answer for a window of N pictures, in their order.

    Attributes:
        interactive: N labels, as the model says them.
        probabilities: N values in 0..1 that the frame is interactive: from the probabilities of the tokens where the
            backend gives them, else 1 or 0, as the label says.

    """

    interactive: tuple[bool, ...]
    probabilities: tuple[float, ...]


# ---- what the captions may say

_COLOURS = re.compile(
    r"\b(black|white|gr[ae]y|red|blue|green|yellow|orange|purple|violet|pink|brown|beige|navy|khaki|maroon|turquoise|"
    r"burgundy|(?:multi-?)?colou?r(?:ed|ful)|striped?s?|plaid|chequered|checkered|tartan|floral|polka|camouflage)\b",
    re.IGNORECASE,
)
_EAST_ASIAN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uff00-\uffef]")


def _caption(text: str) -> str:
    """One line in English, without the look of the garment, which the target garment replaces."""
    text = " ".join(text.split())
    if not text:
        raise ValueError("it is empty")
    if not text.isprintable():
        raise ValueError("it holds characters that cannot be shown")
    if _EAST_ASIAN.search(text):
        raise ValueError("it is not in English")
    if found := _COLOURS.search(text):
        raise ValueError(f"it names a colour or pattern ({found[0]!r})")
    return text


_Caption = Annotated[str, Field(max_length=MAX_CAPTION), AfterValidator(_caption)]


# ---- the forms


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: str


class _Frames(_Answer):
    interactive: dict[str, bool]


class CategoryAnswer(_Answer):
    """What is done in a segment: a category asked for or `NONE_OF_THESE`, whether the garment allows it, in words."""

    category: str
    feasible: bool
    description: _Caption


class CaptionAnswer(_Answer):
    """What the person does in the whole clip."""

    caption: _Caption


class GarmentAnswer(_Answer):
    """Which parts the garment has."""

    collar: bool
    hem: bool
    sleeves: bool
    zip: bool
    buttons: bool
    other_fastening: bool
    pockets: bool
    waistband: bool

    @property
    def parts(self) -> dict[str, bool]:
        """Part, in words → whether the garment has it."""
        return {name.replace("_", " "): there for name, there in self.model_dump(exclude={"id"}).items()}


class JudgeAnswer(_Answer):
    """What the hands really do, and what became of the interaction that was wanted."""

    category: str
    verdict: Annotated[Verdict, Field(strict=False)]


Fields = dict[str, dict[str, Any]]
"""Name of each field of an answer → JSON schema of its value."""


def schema(answer_id: str, fields: Fields) -> dict[str, Any]:
    """JSON schema of the answer that bears `answer_id` and has these fields."""
    return _object({"id": {"type": "string", "const": answer_id}, **fields})


def frames_fields(count: int) -> Fields:
    """Of the answer for a window of `count` pictures: {"interactive": {"1": false, "2": true, …}}.

    An object with a name for each picture, not a list: constrained to it, a model can leave none out and give none
    twice, and has half the tokens to write.
    """
    return {"interactive": _object({str(number): _BOOLEAN for number in range(1, count + 1)})}


def category_fields(categories: Sequence[str]) -> Fields:
    """Of a `CategoryAnswer` with one of `categories`."""
    return {"category": _one_of(categories), "feasible": _BOOLEAN, "description": _TEXT}


def garment_fields() -> Fields:
    """Of a `GarmentAnswer`."""
    return {part: _BOOLEAN for part in GarmentAnswer.model_fields if part != "id"}


def caption_fields() -> Fields:
    """Of a `CaptionAnswer`."""
    return {"caption": _TEXT}


def judge_fields(categories: Sequence[str], verdicts: Sequence[Verdict]) -> Fields:
    """Of a `JudgeAnswer` with one of `categories` and one of `verdicts`."""
    return {"category": _one_of(categories), "verdict": _one_of(verdicts)}


_BOOLEAN = {"type": "boolean"}
_TEXT = {"type": "string", "minLength": 1, "maxLength": MAX_CAPTION}


def _one_of(values: Sequence[str]) -> dict[str, Any]:
    return {"type": "string", "enum": [str(value) for value in values]}


def _object(fields: Fields) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": [*fields], "additionalProperties": False}


# ---- reading


def read_frames(request: Request, reply: Reply) -> FrameLabels | Fault:
    """Labels of the pictures of `request`: each of them once, whatever the order in which the answer has them."""
    answer = _read(request, reply, _Frames)
    if isinstance(answer, Fault):
        return answer
    said, numbers = answer.interactive, [str(number) for number in range(1, len(request.pictures) + 1)]
    if set(said) != set(numbers):
        return Fault(FaultKind.WRONG_FRAMES, _wrong_numbers(said, numbers))
    places = {match[1]: match.start(2) for match in _LABEL.finditer(reply.text)}
    likely = _likelihoods(reply, places, said)
    return FrameLabels(tuple(said[number] for number in numbers), tuple(likely[number] for number in numbers))


def read_category(request: Request, reply: Reply) -> CategoryAnswer | Fault:
    """Answer to a `questions.category_request`."""
    return _read(request, reply, CategoryAnswer)


def read_garment(request: Request, reply: Reply) -> GarmentAnswer | Fault:
    """Answer to a `questions.garment_request`."""
    return _read(request, reply, GarmentAnswer)


def read_caption(request: Request, reply: Reply) -> CaptionAnswer | Fault:
    """Answer to a `questions.caption_request`."""
    return _read(request, reply, CaptionAnswer)


def read_judge(request: Request, reply: Reply) -> JudgeAnswer | Fault:
    """Answer to a `questions.judge_request`."""
    return _read(request, reply, JudgeAnswer)


_Form = TypeVar("_Form", bound=_Answer)
_FENCED = re.compile(r"\s*```(?:json)?[ \t]*\n(.*)\n[ \t]*```\s*", re.DOTALL)
_LABEL = re.compile(r'"(\d+)"\s*:\s*(true|false)')


def _read(request: Request, reply: Reply, form: type[_Form]) -> _Form | Fault:
    """The answer in `form`, bearing the id of `request`, with no words but those of its schema."""
    if reply.key != request.key:
        return Fault(FaultKind.OTHER_QUESTION, f"it answers {reply.key!r}, not {request.key!r}")
    fenced = _FENCED.fullmatch(reply.text)
    try:
        content = json.loads(fenced[1] if fenced else reply.text, object_pairs_hook=_well_named)
    except _BadNameError as error:
        return Fault(FaultKind.WRONG_FIELDS, str(error))
    except (ValueError, RecursionError) as error:
        if reply.ended == "length":
            return Fault(FaultKind.CUT_OFF, f"it was cut off after {len(reply.text)} characters; be brief")
        return Fault(FaultKind.NOT_JSON, f"it is not one JSON object and nothing else ({error!s:.100})")
    try:
        answer = form.model_validate(content)
    except ValidationError as error:
        return _fault_of(error)
    for name, allowed in request.schema["properties"].items():
        value = getattr(answer, name)
        if "const" in allowed and value != allowed["const"]:
            return Fault(FaultKind.OTHER_QUESTION, f"its {name} is {value!r:.60}, not {allowed['const']!r}")
        if "enum" in allowed and value not in allowed["enum"]:
            return Fault(
                FaultKind.WRONG_WORDS, f"{value!r:.100} is no {name}; allowed are {', '.join(allowed['enum'])}"
            )
    return answer


class _BadNameError(Exception):
    """A name in an object that cannot be meant."""


def _well_named(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _BadNameError(f"the name {name!r:.60} stands twice in one object")
        if not name.isprintable():
            raise _BadNameError(f"there is no field {name!r:.60}")
        found[name] = value
    return found


def _fault_of(error: ValidationError) -> Fault:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    words = all(problem["type"] in _WORDING for problem in problems)
    told = [f"{'.'.join(map(str, problem['loc'])) or 'answer'}: {problem['msg']}"[:200] for problem in problems[:3]]
    return Fault(FaultKind.WRONG_WORDS if words else FaultKind.WRONG_FIELDS, "; ".join(told))


_WORDING = {"value_error", "string_too_long", "enum"}
"""pydantic's names of faults that lie in what a text says, not in the form of the answer."""


def _wrong_numbers(said: Iterable[str], numbers: Sequence[str]) -> str:
    missing = [number for number in numbers if number not in said]
    wrong = [number for number in said if number not in numbers]
    parts = [f"it has no answer for frame {_few(missing)}"] if missing else []
    parts += [f"it answers for frame {_few(wrong)}, but there are 1 to {len(numbers)}"] if wrong else []
    return "; ".join(parts)


def _few(numbers: Sequence[str]) -> str:
    return ", ".join(f"{number:.20}" for number in numbers[:10]) + (" …" if len(numbers) > 10 else "")


# ---- probabilities


def _likelihoods(reply: Reply, places: Mapping[str, int], said: Mapping[str, bool]) -> dict[str, float]:
    """Probability of "true" for each of the labels `said`, which begin at the characters `places` of the answer."""
    likelihoods = {number: float(label) for number, label in said.items()}
    if "".join(token.text for token in reply.tokens) != reply.text:
        return likelihoods
    starts = list(accumulate((len(token.text) for token in reply.tokens), initial=0))
    for number, place in places.items():
        index = bisect_right(starts, place) - 1
        likelihoods[number] = _likelihood(reply.tokens[index], place - starts[index], label=said[number])
    return likelihoods


def _likelihood(token: Token, place: int, *, label: bool) -> float:
    """Probability of "true" against "false" where, `place` characters into `token`, one of them begins.

    All tokens count that may stand there and begin either word, however they are cut and with or without a space. Of a
    word of several tokens, the first decides.
    """
    before = token.text[:place].strip()
    weight = {True: 0.0, False: 0.0}
    for text, logprob in {**token.others, token.text: token.logprob}.items():
        word = _leading_word(text, before)
        for value, name in ((True, "true"), (False, "false")):
            if word and name.startswith(word):
                weight[value] += math.exp(min(logprob, 0.0))
    total = weight[True] + weight[False]
    return weight[True] / total if total > 0 else float(label)  # NaN is not above 0 either


def _leading_word(text: str, before: str) -> str:
    """Letters that follow `before` in `text`; none where the text begins otherwise."""
    text = text.strip()
    match = re.match(r"\s*([a-z]*)", text[len(before) :], re.IGNORECASE) if text.startswith(before) else None
    return match[1].lower() if match else ""
