"""Conversations held without the model: what stands in for its answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from annotators.vlm.answers import Fault, GarmentAnswer, read_frames
from annotators.vlm.cache import Cache
from annotators.vlm.openai_settings import OpenAISettings
from annotators.vlm.rehearsal import Asked, handled_in, made_up, rehearse
from annotators.vlm.stage import VlmLabels
from schemas.clip import Clip
from schemas.conditions import Contact
from tests.annotators.vlm.filmed import film

FRAMES = 150
IDENTITY: Mapping[str, str] = {"model": "none"}


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return film(tmp_path_factory.mktemp("film") / "clip.mp4", frames=FRAMES)


def with_contact(clip: Clip, *handled: tuple[int, int]) -> Clip:
    probability = np.zeros((FRAMES, 2), np.float32)
    for start, end in handled:
        probability[start : end + 1, 1] = 0.9
    contact = Contact(probability, np.zeros((FRAMES, 2, 2), np.float32))
    return replace(clip, artifacts={**clip.artifacts, "contact": contact})


def asked_about(clip: Clip, *, garment: bool = False, cache: Cache | None = None) -> list[Asked]:
    stage = VlmLabels(backend=OpenAISettings(base_url="http://127.0.0.1:1/v1", model="none"))
    if garment:
        image = np.random.default_rng(0).integers(0, 255, (64, 48, 3), dtype=np.uint8)
        clip = replace(clip, artifacts={**clip.artifacts, "garment": image})
    held = rehearse(stage.talk(clip), handled=handled_in(clip), cache=cache or Cache(), identity=IDENTITY)
    return list(held)


def count(asked: list[Asked]) -> dict[str, int]:
    kinds = [each.kind for each in asked]
    return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}


def test_categories_are_asked_of_each_stretch_with_contact(filmed: Clip) -> None:
    none, one, two = (
        count(asked_about(with_contact(filmed, *handled))) for handled in ((), ((30, 60),), ((20, 50), (90, 120)))
    )
    assert "category" not in none
    assert "boundary" not in none
    assert (one["category"], two["category"]) == (1, 2)
    assert two["boundary"] == 2 * one["boundary"] > 0
    assert none["frames"] == one["frames"] == two["frames"]


def test_without_contact_one_interaction_is_assumed(filmed: Clip) -> None:
    handled = handled_in(filmed)
    assert [handled(seconds) for seconds in (0.0, 1.5, 1.8, 3.2, 3.5, 5.0)] == [False, False, True, True, False, False]
    assert count(asked_about(filmed))["category"] == 1


def test_the_last_moment_of_a_clip_is_one_of_it(filmed: Clip) -> None:
    assert handled_in(with_contact(filmed, (100, FRAMES - 1)))(FRAMES / 30)


def test_what_the_cache_knows_is_taken_for_true(filmed: Clip) -> None:
    clip, cache = with_contact(filmed), Cache()
    for asked in asked_about(clip):
        assert not asked.known
        if asked.kind == "frames":  # the model said otherwise: handled from 2 to 3 s
            cache.put(asked.content, made_up(asked.request, handled=lambda seconds: 2 <= seconds < 3))
    again = asked_about(clip, cache=cache)
    assert {asked.kind: asked.known for asked in again} == {
        "frames": True, "caption": False, "boundary": False, "category": False,
    }  # fmt: skip
    assert count(again)["category"] == 1


def test_an_answer_in_the_cache_that_cannot_be_read_is_none(filmed: Clip) -> None:
    clip, cache = with_contact(filmed), Cache()
    first = asked_about(clip)[0]
    cache.put(first.content, replace(made_up(first.request, handled=lambda seconds: True), text="no JSON"))
    assert not asked_about(clip, cache=cache)[0].known


def test_made_up_answers_can_be_read(filmed: Clip) -> None:
    for asked in asked_about(with_contact(filmed, (30, 60)), garment=True):
        reply = made_up(asked.request, handled=lambda seconds: seconds > 1)
        answer = asked.question.read(asked.request, reply)
        assert not isinstance(answer, Fault)
        if asked.question.read is read_frames:
            assert answer.interactive == tuple(picture.seconds > 1 for picture in asked.request.pictures)
        if asked.kind == "garment":
            assert isinstance(answer, GarmentAnswer)


def test_a_clip_of_one_frame_is_asked_about(tmp_path: Path) -> None:
    asked = asked_about(film(tmp_path / "short.mp4", frames=1))
    assert count(asked)["frames"] == 1
