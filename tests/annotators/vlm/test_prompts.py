"""Prompts: complete in both languages, exact about their values, and shown in the docs as they are."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from annotators.vlm import prompts
from annotators.vlm.answers import NONE_OF_THESE, GarmentAnswer, Verdict
from annotators.vlm.backend import Picture, Request
from annotators.vlm.prompts import LANGUAGES, NAMES, Language, fingerprint, page, render, version
from annotators.vlm.questions import (
    GARMENTS,
    caption_request,
    category_request,
    garment_request,
    judge_request,
    label_requests,
)
from annotators.vlm.windows import Sampling, plan
from schemas.errors import ConfigError
from schemas.manifest import Part
from tests.annotators.vlm.pictures import noise, times_of

ROOT = Path(__file__).resolve().parents[3]
CATEGORIES = ("adjusting the collar", "adjusting the hem")
KEY = "pair-00000000"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the prompts that may be changed."""
    shutil.copytree(ROOT / "annotators/vlm/prompts", tmp_path / "prompts")
    caches = (prompts._text, prompts._template, prompts.fingerprint)
    with monkeypatch.context() as patch:
        patch.setattr(prompts, "_FOLDER", tmp_path / "prompts")
        for cache in caches:
            cache.cache_clear()
        yield tmp_path / "prompts"
    for cache in caches:
        cache.cache_clear()


def pictures(count: int = 3) -> list[Picture]:
    return [Picture(image, index / 8) for index, image in enumerate(noise(count))]


def questions(language: Language, part: Part = Part.LOWER) -> dict[str, Request]:
    """One of each."""
    made = plan(noise(5), times_of(5, 8), Sampling())
    (frames,) = label_requests(KEY, made, part=part, language=language)
    return {
        "frames": frames,
        "category": category_request(
            KEY, 1, pictures(), part=part, categories=CATEGORIES, garment_parts={"zip": False}, language=language
        ),
        "garment": garment_request(KEY, noise(1)[0], part=part, language=language),
        "caption": caption_request(KEY, pictures(), language=language),
        "judge": judge_request(
            KEY, 1, pictures(), part=part, category=CATEGORIES[0], description="pulls the collar",
            categories=CATEGORIES, language=language,
        ),
    }  # fmt: skip


def test_the_docs_show_the_prompts_as_they_are() -> None:
    assert (ROOT / "docs/prompts.md").read_text() == page(), "stale: run `python -m pipelines.reference`"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", NAMES)
def test_every_prompt_is_there_in_every_language(name: prompts.Name, language: Language) -> None:
    assert version(name, language) >= 1
    assert version(name, language) == version(name, "en"), "the languages are to ask for the same"


def test_there_is_no_other_prompt() -> None:
    files = {file.name for file in (ROOT / "annotators/vlm/prompts").iterdir()}
    assert files == {f"{name}.{language}.txt" for name in NAMES for language in LANGUAGES}


def test_what_is_not_there_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"no prompt 'frame'.*category, frames|no prompt 'frame'.*caption"):
        render("frame", language="en")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"in 'fr'.*en, zh"):
        render("system", language="fr")  # type: ignore[arg-type]


def test_values_that_lack_or_are_too_many_are_an_error() -> None:
    values = {"question": "q", "answer": "a", "fault": "f"}
    assert "q" in render("repair", language="en", **values)
    with pytest.raises(ConfigError, match=r"given answer, question, but uses answer, fault, question"):
        render("repair", language="en", question="q", answer="a")
    with pytest.raises(ConfigError, match=r"repair\.zh\.txt.*given answer, fault, more, question"):
        render("repair", language="zh", **values, more=1)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("no version\n", "no version"),
        ("version: x\ntext", "no version"),
        ("version: 1\n\n{{ question ", r"repair\.en\.txt, line 3: the prompt is no template"),
        ("version: 1\n{{ question }} {{ anser }} {{ fault }}", "uses anser"),
    ],
)
def test_a_broken_prompt_says_where(folder: Path, text: str, match: str) -> None:
    (folder / "repair.en.txt").write_text(text)
    with pytest.raises(ConfigError, match=match):
        render("repair", language="en", question="q", answer="a", fault="f")


@pytest.mark.parametrize("hole", ["{{ question.nothing }}", "{{ question / 2 }}"])
def test_a_prompt_that_wants_of_a_value_what_it_has_not_says_so(folder: Path, hole: str) -> None:
    (folder / "repair.en.txt").write_text("version: 1\n{{ answer }} {{ fault }} " + hole)
    with pytest.raises(ConfigError, match=r"repair\.en\.txt: the prompt cannot be filled in"):
        render("repair", language="en", question="q", answer="a", fault="f")


def test_a_file_that_is_no_text_says_so(folder: Path) -> None:
    (folder / "system.en.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"system\.en\.txt: the prompt cannot be read"):
        version("system", "en")


def test_the_fingerprint_follows_the_text(folder: Path) -> None:
    before = fingerprint(), fingerprint("judge"), fingerprint("frames"), fingerprint("frames", language="zh")
    file = folder / "frames.en.txt"
    file.write_text(file.read_text().replace("on purpose", "deliberately"))
    prompts._text.cache_clear()
    fingerprint.cache_clear()
    after = fingerprint(), fingerprint("judge"), fingerprint("frames"), fingerprint("frames", language="zh")
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, True, False, True]


def test_what_a_prompt_is_given_stays_as_it_is() -> None:
    text = render("repair", language="en", question="{{ fault }} <b> & {% x", answer="```", fault="'")
    assert "{{ fault }} <b> & {% x" in text


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("part", Part)
def test_questions_name_garment_frames_and_times(language: Language, part: Part) -> None:
    for name, request in questions(language, part).items():
        assert request.key.startswith(KEY + "#"), name
        assert request.system == render("system", language=language)
        assert "{{" not in request.text
        if name != "caption":
            assert GARMENTS[language][part] in request.text
    frames, caption = (questions(language, part)[name].text for name in ("frames", "caption"))
    assert re.findall(r"\b5\b", frames)
    assert re.findall(r"\d+\.\d+", caption) == ["0.000", "0.250"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_form_that_a_prompt_shows_is_the_one_that_is_read(language: Language) -> None:
    for name, request in questions(language).items():
        fields = request.schema["properties"]
        assert fields["id"]["const"] in request.text.splitlines()[-1]
        assert re.findall(r'"(\w+)":', re.sub(r"\{[^{}]*\}(?=\})", "", request.text.splitlines()[-1])) == list(
            fields
        ), name
        for field in fields.values():
            assert all(word in request.text for word in field.get("enum", ())), name
    shown = questions(language)["garment"]
    assert set(json.loads(shown.text.splitlines()[-1])) == set(GarmentAnswer.model_fields)


def test_both_languages_ask_for_the_same_answer() -> None:
    english, chinese = questions("en"), questions("zh")
    for name in english:
        one, other = (dict(asked[name].schema["properties"]) for asked in (english, chinese))
        assert one.pop("id") != other.pop("id")
        assert one == other
        assert english[name].max_tokens == chinese[name].max_tokens


def test_none_of_these_may_always_be_chosen() -> None:
    for name in ("category", "judge"):
        assert questions("en")[name].schema["properties"]["category"]["enum"] == [*CATEGORIES, NONE_OF_THESE]
    request = category_request(KEY, 0, pictures(), part=Part.UPPER, categories=[NONE_OF_THESE, "x"])
    assert request.schema["properties"]["category"]["enum"] == [NONE_OF_THESE, "x"]


def test_the_judge_sees_the_options_in_the_order_given() -> None:
    request = judge_request(
        KEY, 0, pictures(), part=Part.UPPER, category="b", description="does it", categories=["b", "a"],
        verdicts=[Verdict.NOT, Verdict.PARTLY, Verdict.PERFORMED],
    )  # fmt: skip
    places = [request.text.index(f"- {word}") for word in ("b\n", "a\n", "not:", "partly:", "performed:")]
    assert places == sorted(places)
    assert not re.search(r"generat|real video|synthetic|fake|model", request.text + request.system)


def test_captions_leave_the_look_of_the_garment_out() -> None:
    for name in ("caption", "category"):
        assert re.search(r"no colour, pattern, print.*brand or logo", questions("en")[name].text)
        assert re.search(r"不写.*颜色、花纹、印花.*品牌或标志", questions("zh")[name].text)


def test_the_same_question_has_the_same_id_and_another_another() -> None:
    def id_of(shown: list[Picture], *, key: str = KEY, part: Part = Part.UPPER, categories: Any = CATEGORIES) -> str:
        request = category_request(key, 0, shown, part=part, categories=categories)
        return request.schema["properties"]["id"]["const"]

    own = id_of(pictures())
    assert re.fullmatch(r"[0-9a-f]{8}", own)
    assert id_of(pictures()) == id_of(pictures(), key="another-00000000") == own
    later = [Picture(picture.image, picture.seconds + 0.001) for picture in pictures()]
    others = [
        id_of(pictures(), part=Part.LOWER),
        id_of(pictures(), categories=("x",)),
        id_of(pictures(2)),
        id_of(later),
    ]
    assert len({own, *others}) == 5
    plans = [plan(noise(5), times_of(5, 8) + start, Sampling()) for start in (0.0, 0.0, 1.0)]
    asked = [label_requests(KEY, made, part=Part.UPPER)[0].schema for made in plans]
    assert [form == asked[0] for form in asked] == [True, True, False]


def test_there_is_no_question_without_a_picture() -> None:
    with pytest.raises(ValueError, match="no pictures"):
        caption_request(KEY, [])
