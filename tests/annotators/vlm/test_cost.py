"""What requests cost: beside what a model itself says, and what qwen-vl-utils makes of pictures."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from annotators.vlm import answers, questions
from annotators.vlm.backend import Picture, Reply, Request
from annotators.vlm.cost import Cost, TokenRule, estimated_tokens, expected_answer, rule_for, total
from annotators.vlm.openai_settings import OpenAISettings
from annotators.vlm.transformers_settings import TransformersSettings
from annotators.vlm.windows import Sampling, plan
from schemas.annotation import DEFAULT_CATEGORIES
from schemas.errors import WeightsError
from schemas.manifest import Part
from tests.annotators.vlm.pictures import noise, times_of
from tests.annotators.vlm.tiny_qwen import Kind, build
from weights.torchvision_operators import declare_missing_operators

ABSENT = [name for name in ("transformers", "torchvision", "qwen_vl_utils", "llguidance") if find_spec(name) is None]
needs_extra = pytest.mark.skipif(bool(ABSENT), reason=f"the extra vlm is not installed: {', '.join(ABSENT)}")


def all_kinds(language: questions.Language = "en") -> list[Request]:
    shown = plan(noise(24, size=(90, 60)), times_of(24, 8), Sampling(window=4, stride=4))
    pictures = shown.pictures[:4]
    return [
        *questions.label_requests("a-0", shown, part=Part.UPPER, language=language)[:2],
        questions.category_request(
            "a-0", 0, pictures, part=Part.UPPER, categories=DEFAULT_CATEGORIES, language=language
        ),
        questions.caption_request("a-0", pictures, language=language),
        questions.garment_request("a-0", pictures[0].image, part=Part.UPPER, language=language),
    ]


def served(model: str) -> TokenRule:
    return rule_for(OpenAISettings(base_url="http://127.0.0.1:1/v1", model=model))


READERS = {
    "frames": answers.read_frames,
    "category": answers.read_category,
    "caption": answers.read_caption,
    "garment": answers.read_garment,
}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_expected_answer_to_each_question_could_be_one(language: questions.Language) -> None:
    for request in all_kinds(language):
        reply = Reply(key=request.key, text=expected_answer(request.schema))
        read = READERS[request.key.partition("#")[2].partition("-")[0]](request, reply)
        assert not isinstance(read, answers.Fault), read
        cost = served("qwen2.5-vl").cost(request)
        assert 0 < cost.answer_tokens <= cost.longest_answer_tokens == request.max_tokens


@needs_extra
@pytest.mark.parametrize("kind", ["qwen2_5", "qwen3"])
def test_prompt_tokens_are_to_the_token_what_the_model_in_process_counts(kind: Kind, tmp_path: Path) -> None:
    settings = TransformersSettings(model=str(build(kind, tmp_path)), min_pixels=4_000, max_pixels=20_000)
    rule, model = rule_for(settings), model_of(settings)
    assert rule.exact_text
    words = Request(key="a#words", system="", text="Nothing to see?", max_tokens=5)
    for request in [*all_kinds(), *all_kinds("zh"), words]:
        told = model._inputs([model.prompt(request)])["attention_mask"].sum()
        assert rule.cost(request).prompt_tokens == told, request.key


def model_of(settings: TransformersSettings) -> Any:
    from annotators.vlm.transformers_model import Model

    return Model(settings)


@needs_extra
@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([28, 32]), st.integers(1, 40), st.integers(0, 300))
def test_pictures_are_scaled_as_qwen_vl_utils_scales_them(
    height: int, width: int, side: int, least: int, more: int
) -> None:
    declare_missing_operators()
    from qwen_vl_utils.vision_process import smart_resize

    assume(max(height, width) / min(height, width) <= 200)
    limits = {"min_pixels": least * side * side, "max_pixels": (least + more) * side * side}
    rows, columns = (max(1, length // side) for length in smart_resize(height, width, factor=side, **limits))
    rule = TokenRule(side=side, text=len, origin="here", **limits)
    assert rule.picture_tokens(height, width) == rows * columns + 2


def test_the_family_of_a_served_model_is_told_by_its_name() -> None:
    assert served("Qwen/Qwen2.5-VL-7B-Instruct").side == 28
    assert served("qwen3-vl-8b").side == 32
    assert "not known" in served("labeller").origin
    rule = served("qwen3-vl-8b")
    assert rule.picture_tokens(448, 252) == 14 * 8 + 2
    assert rule.picture_tokens(2048, 1024) == rule.picture_tokens(1024, 512) == 32 * 16 + 2  # sent at 1024 px at most


def test_text_is_counted_about_as_qwen_does() -> None:
    """Right-hand sides: by Qwen's own vocabulary of 151,643 tokens."""
    frames = '{"id":"0a1b2c3d","interactive":{' + ",".join(f'"{n}":false' for n in range(1, 17)) + "}}"
    labels = "".join(f"Frame {number + 1} at {number / 8 + 3.2:.3f} s:" for number in range(16))
    true_counts = {frames: 85, labels: 199}
    for (language, name), count in {
        ("en", "frames"): 514, ("en", "category"): 387, ("en", "caption"): 230, ("en", "garment"): 226,
        ("zh", "frames"): 532, ("zh", "category"): 413, ("zh", "caption"): 226, ("zh", "garment"): 217,
    }.items():  # fmt: skip
        true_counts[questions_of(language)[name]] = count  # type: ignore[index]
    for text, count in true_counts.items():
        assert estimated_tokens(text) == pytest.approx(count, rel=0.12), text[:60]
    assert estimated_tokens("") == 0


def questions_of(language: questions.Language) -> dict[str, str]:
    """The texts whose tokens were counted: 16 pictures from 0 to 1.875 s."""
    shown = plan(noise(16, size=(8, 8)), times_of(16, 8), Sampling())
    part = Part.UPPER
    category = questions.category_request(
        "k", 0, shown.pictures, part=part, categories=DEFAULT_CATEGORIES, language=language
    )
    return {
        "frames": questions.label_requests("k", shown, part=part, language=language)[0].text,
        "category": category.text,
        "caption": questions.caption_request("k", shown.pictures, language=language).text,
        "garment": questions.garment_request("k", shown.pictures[0].image, part=part, language=language).text,
    }


def test_costs_add_up_and_a_second_try_costs_more() -> None:
    rule = served("qwen2.5-vl")
    requests = all_kinds()
    costs = total(map(rule.cost, requests))
    assert (costs.requests, costs.pictures) == (len(requests), sum(len(request.pictures) for request in requests))
    assert (costs * 3).prompt_tokens == 3 * costs.prompt_tokens
    assert total([]) == Cost()
    for request in requests:
        once, again = rule.cost(request), rule.repair_cost(request)
        assert again.picture_tokens == once.picture_tokens
        assert again.text_tokens > once.text_tokens + rule.text(expected_answer(request.schema)) / 2


def test_a_folder_without_the_models_files_says_which(tmp_path: Path) -> None:
    settings = TransformersSettings(model=str(tmp_path))
    with pytest.raises(WeightsError, match=r"config\.json"):
        rule_for(settings)
    (tmp_path / "config.json").write_text(json.dumps({"vision_config": {"patch_size": 14, "spatial_merge_size": 2}}))
    with pytest.raises(WeightsError, match=r"tokenizer\.json"):
        rule_for(settings)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"tokenizer\.json"):
        rule_for(settings)


def test_a_strip_of_a_picture_still_counts() -> None:
    assert served("qwen2.5-vl").cost(one_picture(1, 900)).picture_tokens >= 3
    assert served("qwen2.5-vl").cost(one_picture(900, 1)).picture_tokens >= 3


def one_picture(height: int, width: int) -> Request:
    return Request(key="a#x", system="s", text="t", pictures=(Picture(np.zeros((height, width, 3), np.uint8), 0.0),))
