"""Answers are read to the letter or not at all; probabilities come from the tokens, however those are cut."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import pytest

from annotators.vlm.answers import (
    NONE_OF_THESE,
    CaptionAnswer,
    CategoryAnswer,
    Fault,
    FaultKind,
    FrameLabels,
    GarmentAnswer,
    JudgeAnswer,
    Verdict,
    read_caption,
    read_category,
    read_frames,
    read_garment,
    read_judge,
)
from annotators.vlm.backend import Picture, Reply, Request, Token
from annotators.vlm.questions import (
    caption_request,
    category_request,
    garment_request,
    judge_request,
    label_requests,
    repair_request,
)
from annotators.vlm.windows import Sampling, plan
from schemas.annotation import DEFAULT_CATEGORIES
from schemas.manifest import Part
from tests.annotators.vlm.pictures import noise, times_of

KEY = "pair-00000012"


def window(frames: int = 3) -> Request:
    made = plan(noise(frames), times_of(frames, 8), Sampling())
    (request,) = label_requests(KEY, made, part=Part.UPPER)
    return request


def pictures() -> list[Picture]:
    return [Picture(image, index / 8) for index, image in enumerate(noise(2))]


def category() -> Request:
    return category_request(KEY, 0, pictures(), part=Part.UPPER, categories=DEFAULT_CATEGORIES)


def judge() -> Request:
    return judge_request(
        KEY, 0, pictures(), part=Part.UPPER, category="adjusting the hem", description="pulls the hem down",
        categories=DEFAULT_CATEGORIES,
    )  # fmt: skip


def id_of(request: Request) -> str:
    return request.schema["properties"]["id"]["const"]


def answer(request: Request, **fields: Any) -> Reply:
    return Reply(key=request.key, text=json.dumps({"id": id_of(request), **fields}))


def labels(*values: bool) -> dict[str, bool]:
    return {str(number): value for number, value in enumerate(values, 1)}


def fault(found: object) -> FaultKind:
    assert isinstance(found, Fault)
    assert found.what
    return found.kind


# ---- what is no answer


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", FaultKind.NOT_JSON),
        ("null", FaultKind.WRONG_FIELDS),
        ("[]", FaultKind.WRONG_FIELDS),
        ("true", FaultKind.WRONG_FIELDS),
        ('{"id": "ID", "interactive": {"1": true, "2": false, "3": tr', FaultKind.NOT_JSON),
        ('Here you are: {"id": "ID", "interactive": {"1": true, "2": false, "3": true}}', FaultKind.NOT_JSON),
        ('{"id": "ID", "interactive": {"1": true, "2": false, "3": true}} I hope this helps', FaultKind.NOT_JSON),
        ('{"id": "ID", "interactive": {"1": true, "2": false, "3": true}}' * 2, FaultKind.NOT_JSON),
        ('```json\n{"id": "ID", "interactive": {}}\n```\nDone.', FaultKind.NOT_JSON),
        ("{'id': 'ID', 'interactive': {'1': True}}", FaultKind.NOT_JSON),
        ("[" * 100_000, FaultKind.NOT_JSON),
        ("1" * 10_000, FaultKind.NOT_JSON),
        ('{"id": "another", "interactive": {"1": true, "2": false, "3": true}}', FaultKind.OTHER_QUESTION),
        ('{"interactive": {"1": true, "2": false, "3": true}}', FaultKind.WRONG_FIELDS),
        ('{"id": "ID"}', FaultKind.WRONG_FIELDS),
        ('{"id": "ID", "interactive": {"1": true, "2": false, "3": true}, "sure": 1}', FaultKind.WRONG_FIELDS),
        ('{"id": "ID", "interactive": [true, false, true]}', FaultKind.WRONG_FIELDS),
        ('{"id": "ID", "interactive": {"1": true, "2": false, "3": "true"}}', FaultKind.WRONG_FIELDS),
        ('{"id": "ID", "interactive": {"1": true, "2": false, "3": 1}}', FaultKind.WRONG_FIELDS),
        ('{"id": "ID", "interactive": {"1": true, "2": false, "3": null}}', FaultKind.WRONG_FIELDS),
        ('{"id": "ID", "interactive": {"1": true, "2": false, "3": NaN}}', FaultKind.WRONG_FIELDS),
        ('{"id": "ID", "interactive": {"1": true, "2": false, "2": true, "3": true}}', FaultKind.WRONG_FIELDS),
        ('{"id": "ID", "id": "ID", "interactive": {"1": true, "2": false, "3": true}}', FaultKind.WRONG_FIELDS),
        ('{"id": "ID", "interactive": {"1": true, "2": false}}', FaultKind.WRONG_FRAMES),
        ('{"id": "ID", "interactive": {}}', FaultKind.WRONG_FRAMES),
        ('{"id": "ID", "interactive": {"1": true, "2": false, "3": true, "4": true}}', FaultKind.WRONG_FRAMES),
        ('{"id": "ID", "interactive": {"0": true, "1": false, "2": true}}', FaultKind.WRONG_FRAMES),
        ('{"id": "ID", "interactive": {"1": true, "2": false, "03": true}}', FaultKind.WRONG_FRAMES),
    ],
)
def test_an_answer_that_does_not_fit_is_none(text: str, kind: FaultKind) -> None:
    request = window()
    assert fault(read_frames(request, Reply(key=request.key, text=text.replace("ID", id_of(request))))) is kind


def test_a_reply_to_another_request_is_no_answer() -> None:
    request = window()
    right = answer(request, interactive=labels(True, True, True))
    assert isinstance(read_frames(request, right), FrameLabels)
    assert (
        fault(read_frames(request, Reply(key="pair-00000013#frames-0000", text=right.text))) is FaultKind.OTHER_QUESTION
    )


def test_the_fault_says_what_to_mend() -> None:
    request = window(12)
    found = read_frames(request, answer(request, interactive=labels(*[True] * 10)))
    assert isinstance(found, Fault)
    assert found.what == "it has no answer for frame 11, 12"
    found = read_frames(request, answer(request, interactive=labels(*[True] * 9) | {"9" * 50: True}))
    assert isinstance(found, Fault)
    assert "frame 10, 11, 12" in found.what
    assert len(found.what) < 150


def test_an_answer_cut_off_is_told_from_a_broken_one() -> None:
    request = window()
    endless = Reply(key=request.key, text="and so on, " * 100, ended="length")
    assert fault(read_frames(request, endless)) is FaultKind.CUT_OFF
    whole = answer(request, interactive=labels(True, False, True))
    assert isinstance(read_frames(request, Reply(key=whole.key, text=whole.text, ended="length")), FrameLabels)


def test_damaged_answers_never_raise_and_never_mean_something_else() -> None:
    request, random = window(), Random(5)
    right = answer(request, interactive=labels(True, False, True)).text
    bits = ["", " ", "\n", '"', "{", "}", "[", ",", ":", "1", "2", "true", "false", "null", "\\", "\\ud83d", "é", "```"]
    understood = 0
    for _ in range(3000):
        text = right
        for _ in range(random.randint(1, 3)):
            place = random.randrange(len(text) + 1)
            text = text[:place] + random.choice(bits) + text[place + random.choice([0, 1, 4]) :]
        tokens = tuple(Token(text=piece, logprob=-0.1) for piece in re.findall(r"\w+|\W", text))
        found = read_frames(request, Reply(key=request.key, text=text, tokens=tokens))
        if isinstance(found, Fault):
            assert found.what.encode()
            assert repair_request(request, Reply(key=request.key, text=text), found).text
        else:
            understood += 1
            assert json.loads(text) == {"id": id_of(request), "interactive": labels(*found.interactive)}
    assert 0 < understood < 1000  # a space more does no harm


# ---- what is one


@pytest.mark.parametrize("form", ["{}", "```json\n{}\n```", "```\n{}\n```", " \n{}\n\n", "```json  \n\n{}\n  ```\n"])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_right_answer_is_read_as_it_may_be_written(form: str, indent: int | None) -> None:
    request = window()
    text = json.dumps({"interactive": {"3": True, "1": True, "2": False}, "id": id_of(request)}, indent=indent)
    found = read_frames(request, Reply(key=request.key, text=form.replace("{}", text)))
    assert found == FrameLabels((True, False, True), (1.0, 0.0, 1.0))


def test_the_other_questions_are_read() -> None:
    request = category()
    found = read_category(
        request, answer(request, category="adjusting the hem", feasible=True, description=" pulls the\nhem down ")
    )
    assert isinstance(found, CategoryAnswer)
    assert (found.category, found.feasible, found.description) == ("adjusting the hem", True, "pulls the hem down")
    request = caption_request(KEY, pictures())
    found_caption = read_caption(request, answer(request, caption="A person turns."))
    assert isinstance(found_caption, CaptionAnswer)
    assert found_caption.caption == "A person turns."
    request = judge()
    found_judge = read_judge(request, answer(request, category=NONE_OF_THESE, verdict="partly"))
    assert isinstance(found_judge, JudgeAnswer)
    assert found_judge.verdict is Verdict.PARTLY


def test_a_garment_has_parts_or_has_not() -> None:
    request = garment_request(KEY, noise(1)[0], part=Part.OUTER)
    parts = dict.fromkeys([name for name in request.schema["properties"] if name != "id"], False) | {"zip": True}
    found = read_garment(request, answer(request, **parts))
    assert isinstance(found, GarmentAnswer)
    assert [name for name, there in found.parts.items() if there] == ["zip"]
    assert "other fastening" in found.parts
    del parts["collar"]
    assert fault(read_garment(request, answer(request, **parts))) is FaultKind.WRONG_FIELDS


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"category": "Adjusting the hem"}, FaultKind.WRONG_WORDS),
        ({"category": "dancing"}, FaultKind.WRONG_WORDS),
        ({"category": None}, FaultKind.WRONG_FIELDS),
        ({"feasible": "yes"}, FaultKind.WRONG_FIELDS),
        ({"description": "  "}, FaultKind.WRONG_WORDS),
        ({"description": "pulls at the Red hem"}, FaultKind.WRONG_WORDS),
        ({"description": "smooths the striped fabric"}, FaultKind.WRONG_WORDS),
        ({"description": "整理衣领"}, FaultKind.WRONG_WORDS),
        ({"description": "pulls \x00 the hem"}, FaultKind.WRONG_WORDS),
        ({"description": "pulls \ud83d the hem"}, FaultKind.WRONG_FIELDS),  # half a character
        ({"description": "x" * 601}, FaultKind.WRONG_WORDS),
        ({"id": "00000000"}, FaultKind.OTHER_QUESTION),
    ],
)
def test_words_have_to_be_allowed_ones(changed: dict[str, Any], kind: FaultKind) -> None:
    request = category()
    right = {"category": "adjusting the hem", "feasible": True, "description": "gathers the hem, bored, in credit"}
    assert isinstance(read_category(request, answer(request, **right)), CategoryAnswer)
    assert fault(read_category(request, answer(request, **right | changed))) is kind


def test_a_judge_says_one_of_three_things() -> None:
    request = judge()
    for verdict in ("", "Performed", "not performed", True):
        assert isinstance(read_judge(request, answer(request, category=NONE_OF_THESE, verdict=verdict)), Fault)


# ---- one try to mend it


def test_the_one_repair_shows_question_answer_and_fault_again() -> None:
    request = window()
    reply = Reply(key=request.key, text="I see " + "a person " * 5000)
    found = read_frames(request, reply)
    assert isinstance(found, Fault)
    again = repair_request(request, reply, found)
    assert again.key != request.key
    assert again.key.startswith(KEY + "#")
    assert (again.pictures, again.schema, again.system) == (request.pictures, request.schema, request.system)
    assert request.text in again.text
    assert found.what in again.text
    assert len(again.text) < len(request.text) + 3000
    assert isinstance(read_frames(again, answer(again, interactive=labels(True, False, True))), FrameLabels)


# ---- probabilities


Pieces = list[tuple[str, dict[str, float]]]
"""Tokens, each with the probabilities of those that are likely at its place."""

CUTS: dict[str, Callable[[str, str, str], Pieces]] = {
    "a word is a token": lambda before, word, other: [(before, {}), (word, {word: 0.7, other: 0.2, "maybe": 0.1})],
    "with the space before it": lambda before, word, other: [
        (before.rstrip(), {}),
        (f" {word}", {f" {word}": 0.7, f" {other}": 0.2}),
    ],
    "with the colon before it": lambda before, word, other: [
        (before.rstrip(": "), {}),
        (f": {word}", {f": {word}": 0.7, f": {other}": 0.2, ":": 0.1}),
    ],
    "space or none": lambda before, word, other: [(before, {}), (word, {word: 0.4, f" {word}": 0.3, other: 0.2})],
    "in two": lambda before, word, other: [
        (before, {}),
        (word[:2], {word[:2]: 0.7, other[:3]: 0.2}),
        (word[2:], {word[2:]: 1.0}),
    ],
    "letter by letter": lambda before, word, other: [
        *((letter, {}) for letter in before),
        (word[0], {word[0]: 0.7, other[0]: 0.2}),
        *((letter, {}) for letter in word[1:]),
    ],
}
"""How the text before a label and its word, of which the other has 0.2 against its 0.7, may be made of tokens."""


def cut_up(text: str, cut: Callable[[str, str, str], Pieces]) -> list[Token]:
    found: list[Token] = []
    for before, word in re.findall(r"(.*?)(true|false|$)", text, re.DOTALL):
        pieces = cut(before, word, {"true": "false", "false": "true"}[word]) if word else [(before, {})]
        for piece, likely in pieces:
            others = {each: math.log(value) for each, value in likely.items()}
            found += [Token(text=piece, logprob=others.get(piece, 0.0), others=others)] if piece else []
    return found


@pytest.mark.parametrize("name", CUTS)
@pytest.mark.parametrize("form", ["{}", "```json\n{}\n```"])
def test_probabilities_come_from_the_tokens_however_they_are_cut(name: str, form: str) -> None:
    request = window()
    text = form.replace("{}", answer(request, interactive={"3": True, "1": True, "2": False}).text)
    tokens = cut_up(text, CUTS[name])
    assert "".join(token.text for token in tokens) == text
    found = read_frames(request, Reply(key=request.key, text=text, tokens=tuple(tokens)))
    assert isinstance(found, FrameLabels)
    assert found.probabilities == pytest.approx([7 / 9, 2 / 9, 7 / 9])


def with_tokens(*labelled: tuple[str, float, Mapping[str, float]]) -> Sequence[float]:
    """Probabilities read from an answer whose labels are these tokens."""
    request = window(len(labelled))
    head = f'{{"id":"{id_of(request)}","interactive":{{'
    tokens = [Token(text=head, logprob=0.0)]
    for number, (word, logprob, others) in enumerate(labelled, 1):
        tokens += [Token(text=f'{"," * (number > 1)}"{number}":', logprob=0.0)]
        tokens += [Token(text=word, logprob=logprob, others=others)]
    tokens += [Token(text="}}", logprob=0.0)]
    text = "".join(token.text for token in tokens)
    found = read_frames(request, Reply(key=request.key, text=text, tokens=tuple(tokens)))
    assert isinstance(found, FrameLabels)
    return found.probabilities


def test_without_the_other_word_the_answer_decides() -> None:
    nothing: dict[str, float] = {}
    assert with_tokens(("true", -0.1, nothing), ("false", -2.0, {"false": -2.0, "x": -0.2})) == (1.0, 0.0)


def test_a_word_that_was_not_the_likeliest_keeps_its_probability() -> None:
    assert with_tokens(("true", math.log(0.1), {"false": math.log(0.9)})) == pytest.approx((0.1,))


def test_numbers_that_are_none_leave_it_to_the_answer() -> None:
    nan, never = float("nan"), -math.inf
    assert with_tokens(
        ("true", never, {"false": never}), ("true", nan, {"false": -1.0}), ("false", -1.0, {"true": nan})
    ) == (1.0, 1.0, 0.0)
    assert with_tokens(("true", 1e9, {"false": 1e9})) == (0.5,)


def test_tokens_that_are_not_those_of_the_text_are_left_alone() -> None:
    request = window(1)
    right = answer(request, interactive=labels(True))
    tokens = (Token(text=right.text[:-3], logprob=0.0, others={"false": 0.0}),)
    found = read_frames(request, Reply(key=right.key, text=right.text, tokens=tokens))
    assert found == FrameLabels((True,), (1.0,))
