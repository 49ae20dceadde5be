"""The stage from clip to annotation, against the tests' own server: what it makes of good answers, and of bad ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from annotators.boundaries import Refinement
from annotators.smoothing import VLM_SMOOTHING
from annotators.vlm.answers import NONE_OF_THESE
from annotators.vlm.openai_settings import OpenAISettings
from annotators.vlm.stage import VlmLabels
from annotators.vlm.windows import Sampling
from schemas.annotation import DEFAULT_CATEGORIES
from schemas.clip import Clip
from schemas.conditions import Contact, Pose
from schemas.errors import ConfigError, OutageError, StageError
from tests.annotators.vlm import server as servers
from tests.annotators.vlm.filmed import Stages, Truth, film, found, label, truth_of
from tests.annotators.vlm.pictures import RATES
from tests.annotators.vlm.server import Asked, Behaviour, Labeller, completion, first, labeller, perfect

FPS = 30
FASTENING = "opening or closing a fastening"
PARTS = ("collar", "hem", "sleeves", "zip", "buttons", "other_fastening", "pockets", "waistband")
LABELS = np.zeros(150, bool)
LABELS[40:93] = True
TRUTH = Truth(LABELS, FPS)
RIGHT = perfect(TRUTH)


@pytest.fixture
def stage() -> Iterator[Stages]:
    made = Stages()
    yield made
    made.close()


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return film(tmp_path_factory.mktemp("film") / "clip.mp4", frames=len(LABELS))


@pytest.fixture
def clip(filmed: Clip) -> Clip:
    return replace(filmed, artifacts={**filmed.artifacts, "pose": no_pose(len(LABELS))})


def no_pose(frames: int) -> Pose:
    return Pose(np.zeros((frames, 133, 2), np.float32), np.zeros((frames, 133), np.float16))


def contact_on(start: int, end: int) -> Contact:
    """Contact of the left hand on these frames, both inclusive."""
    probability = np.zeros((len(LABELS), 2), np.float32)
    probability[start : end + 1, 0] = 0.9
    return Contact(probability, np.full((len(LABELS), 2, 2), 0.5, np.float32))


def about(asked: Asked) -> str:
    """Which question this is: the field that its answer has beside the id."""
    return next(name for name in asked.schema["properties"] if name != "id")


def windows(server: Labeller) -> int:
    return sum(about(asked) == "interactive" for asked in server.asked)


def only_for(question: str, wrong: Behaviour, right: Behaviour = RIGHT) -> Behaviour:
    return lambda asked: (wrong if about(asked) == question else right)(asked)


# ---- a labeller that knows the truth


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("seed", range(3))
def test_actions_are_the_truth_to_the_frame(name: str, seed: int, stage: Stages, tmp_path: Path) -> None:
    frames, fps = 200 + 17 * seed, RATES[name]
    truth = Truth(truth_of(frames, float(fps), seed=seed), float(fps))
    clip = film(tmp_path / "clip.mp4", frames=frames, fps=Fraction(fps), seed=seed)
    with labeller(perfect(truth)) as server:
        annotation = label(stage(server.address), clip)
    assert found(annotation) == truth.segments != []
    assert annotation.labels == tuple(truth.labels.tolist())
    assert (annotation.unlabelled, annotation.doubts) == ((), ())


def test_what_the_model_says_is_in_the_annotation(stage: Stages, clip: Clip) -> None:
    said = {"caption": "A person stands.", "category": DEFAULT_CATEGORIES[1], "description": "pulls the hem down"}
    with labeller(perfect(TRUTH, **said)) as server:
        annotation = label(stage(server.address, model="some/model-7B"), clip)
    [action] = annotation.actions
    assert annotation.global_caption == "A person stands."
    assert (action.category, action.caption) == (DEFAULT_CATEGORIES[1], "pulls the hem down")
    assert annotation.labeller.startswith("some/model-7B, prompts en ")
    assert np.array(annotation.probabilities)[LABELS] == pytest.approx(0.95, abs=1e-3)
    assert np.array(annotation.probabilities)[~LABELS] == pytest.approx(0.05, abs=1e-3)


def test_in_chinese_questions_have_the_same_answers(stage: Stages, clip: Clip) -> None:
    with labeller(RIGHT) as server:
        annotation = label(stage(server.address, language="zh"), clip)
    assert found(annotation) == TRUTH.segments
    assert "prompts zh" in annotation.labeller


def test_the_whole_clip_and_none_of_it(stage: Stages, clip: Clip) -> None:
    for value, expected in ((True, [(0, len(LABELS) - 1)]), (False, [])):
        with labeller(perfect(lambda _, value=value: value)) as server:
            assert found(label(stage(server.address), clip)) == expected


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_clips_of_a_few_frames(frames: int, stage: Stages, tmp_path: Path) -> None:
    with labeller(perfect(lambda _: True)) as server:
        annotation = label(stage(server.address, smoothing={"shortest": 0}), film(tmp_path / "c.mp4", frames=frames))
    assert len(annotation.labels) == frames


# ---- boundaries


def test_boundaries_come_of_a_second_question_about_every_frame(stage: Stages, clip: Clip) -> None:
    with labeller(RIGHT) as server:
        label(stage(server.address), clip)
        closer = [asked for asked in server.asked if about(asked) == "interactive" and step(asked) < 0.05]
        assert len(closer) == 2
        label(stage(server.address, frame_by_frame=False), clip)
        assert sum(about(asked) == "interactive" and step(asked) < 0.05 for asked in server.asked) == 2


def step(asked: Asked) -> float:
    return asked.seconds[1] - asked.seconds[0]


def test_contact_moves_boundaries_that_the_model_leaves_open(stage: Stages, clip: Clip) -> None:
    clip.artifacts["contact"] = contact_on(43, 90)
    unsure: Behaviour = lambda asked: (RIGHT if step(asked) > 0.05 else servers.broken_answer)(asked)  # noqa: E731
    with labeller(only_for("interactive", unsure)) as server:
        assert found(label(stage(server.address), clip)) == [(43, 90)]
        left_alone = found(label(stage(server.address, refinement=None), clip))
    assert left_alone != [(43, 90)]
    assert np.abs(np.array(left_alone) - [(40, 92)]).max() <= 2


def test_contact_moves_no_boundary_that_the_model_is_clear_about(stage: Stages, clip: Clip) -> None:
    clip.artifacts["contact"] = contact_on(43, 90)
    with labeller(RIGHT) as server:
        assert found(label(stage(server.address), clip)) == TRUTH.segments


# ---- what is done


def test_what_has_no_category_is_dropped_or_falls_back(stage: Stages, clip: Clip) -> None:
    with labeller(perfect(TRUTH, category=NONE_OF_THESE)) as server:
        dropped = label(stage(server.address), clip)
        kept = label(stage(server.address, fallback=DEFAULT_CATEGORIES[-1]), clip)
    assert (dropped.actions, dropped.unlabelled) == ((), ())
    assert [action.category for action in kept.actions] == [DEFAULT_CATEGORIES[-1]]
    for annotation in (dropped, kept):
        [doubt] = annotation.doubts
        assert (doubt.start_frame, doubt.end_frame, doubt.category) == (40, 92, NONE_OF_THESE)


def with_garment(clip: Clip) -> Clip:
    image = np.random.default_rng(1).integers(0, 256, (60, 40, 3), dtype=np.uint8)
    return replace(clip, artifacts={**clip.artifacts, "garment": image})


@pytest.mark.parametrize("fastening", ["zip", "buttons", "other_fastening", None])
def test_a_fastening_is_only_opened_where_the_garment_has_one(fastening: str | None, stage: Stages, clip: Clip) -> None:
    parts = {part: part == fastening for part in PARTS}
    with labeller(perfect(TRUTH, category=FASTENING, **parts)) as server:
        annotation = label(stage(server.address), with_garment(clip))
        reviewed = label(stage(server.address, contradictions="review"), with_garment(clip))
    assert len(reviewed.actions) == 1
    if fastening:
        assert (len(annotation.actions), annotation.doubts) == (1, ())
    else:
        assert annotation.actions == ()
        assert annotation.unlabelled == ((40, 92),)
        assert annotation.doubts == reviewed.doubts
        assert "no zip or buttons or other fastening" in annotation.doubts[0].why


def test_the_model_itself_may_find_that_the_garment_does_not_allow_it(stage: Stages, clip: Clip) -> None:
    with labeller(perfect(TRUTH, feasible=False)) as server:
        annotation = label(stage(server.address), clip)
    assert (annotation.actions, annotation.unlabelled) == ((), ((40, 92),))


def test_the_garment_is_asked_about_once_for_all_clips(stage: Stages, clip: Clip) -> None:
    with labeller(RIGHT) as server:
        made = stage(server.address)
        made.process_batch([with_garment(clip), replace(with_garment(clip), key="other-00000000")])
        made.process(replace(with_garment(clip), key="third-00000000"))
    assert sum(about(asked) == "collar" for asked in server.asked) == 1


def test_segments_without_a_usable_description_are_no_actions_and_not_taken_for_idle(stage: Stages, clip: Clip) -> None:
    with labeller(only_for("category", servers.broken_answer)) as server:
        annotation = label(stage(server.address), clip)
    assert (annotation.actions, annotation.unlabelled) == ((), ((40, 92),))
    assert "no usable answer" in annotation.doubts[0].why


def test_where_the_model_gives_no_caption_the_pose_tells(stage: Stages, clip: Clip) -> None:
    with labeller(only_for("caption", servers.broken_answer)) as server:
        assert label(stage(server.address), clip).global_caption == "No person is clearly visible."
        del clip.artifacts["pose"]
        with pytest.raises(StageError, match="what happens in the clip"):
            label(stage(server.address), clip)


# ---- bad answers


@pytest.mark.parametrize(
    "wrong",
    [
        servers.cuts,
        servers.hangs_up,
        servers.busy(retry_after="0"),
        servers.busy(status=500),
        servers.broken_body,
        servers.broken_answer,
        servers.endless_text,
        servers.too_few(RIGHT),
        servers.too_many(RIGHT),
        servers.wrong_id(RIGHT),
    ],
    ids=lambda wrong: wrong.__qualname__.split(".")[0],
)
def test_what_goes_wrong_once_leaves_no_trace(wrong: Behaviour, stage: Stages, clip: Clip) -> None:
    with labeller(first(wrong, RIGHT, times=1)) as server:
        annotation = label(stage(server.address), clip)
        assert max(server.times.values()) == 2
    assert found(annotation) == TRUTH.segments
    assert (annotation.unlabelled, annotation.doubts) == ((), ())


def test_a_slow_server_and_a_noisy_one(stage: Stages, clip: Clip) -> None:
    with labeller(servers.slow(RIGHT, seconds=0.2)) as server:
        assert found(label(stage(server.address), clip)) == TRUTH.segments
    with labeller(servers.noisy(TRUTH, share=0.1)) as server:
        (segment,) = found(label(stage(server.address), clip))
    assert np.abs(np.array(segment) - (40, 92)).max() <= 4


FOR_EVER: dict[str, Behaviour] = {
    "cuts": servers.cuts,
    "broken_body": servers.broken_body,
    "broken_answer": servers.broken_answer,
    "endless_bytes": servers.endless_bytes,
    "endless_text": servers.endless_text,
    "too_few": servers.too_few(RIGHT),
    "too_many": servers.too_many(RIGHT),
    "wrong_id": servers.wrong_id(RIGHT),
    "refused": lambda asked: servers.error(400, "too many pictures"),
}


@pytest.mark.parametrize("name", FOR_EVER)
def test_one_window_that_never_works_is_unlabelled_not_guessed(name: str, stage: Stages, clip: Clip) -> None:
    """Windows do not overlap here: nobody else labels its frames."""

    def behave(asked: Asked) -> Any:
        lost = about(asked) == "interactive" and asked.seconds[0] == pytest.approx(32 / FPS, abs=1e-3)
        return (FOR_EVER[name] if lost else RIGHT)(asked)

    sampling = Sampling(rate=15, window=16, stride=16)
    with labeller(behave) as server:
        annotation = label(stage(server.address, sampling=sampling, frame_by_frame=False), clip)
        assert max(server.times.values()) <= 6  # three tries each of the question, and of the second one about it
    assert np.abs(np.array(annotation.unlabelled) - [(32, 63)]).max() <= 1  # frames between two labels are either's
    assert np.abs(np.array(found(annotation)) - [(64, 92)]).max() <= 1


@pytest.mark.parametrize("name", FOR_EVER)
def test_a_clip_without_any_usable_answer_fails_and_says_why(name: str, stage: Stages, clip: Clip) -> None:
    with labeller(only_for("interactive", FOR_EVER[name])) as server:
        with pytest.raises(StageError, match="none of 9 windows has an answer that can be used; the first: ."):
            label(stage(server.address), clip)
        assert windows(server) <= 9 * 6
    assert "annotation" not in clip.artifacts


@pytest.mark.parametrize("wrong", [servers.busy(), servers.busy(status=503)], ids=["429", "503"])
def test_a_server_that_turns_everything_away_is_an_outage_of_no_clip(
    wrong: Behaviour, stage: Stages, clip: Clip
) -> None:
    with labeller(wrong) as server, pytest.raises(OutageError):
        label(stage(server.address), clip)


def test_answers_given_before_an_outage_are_not_asked_for_again(stage: Stages, clip: Clip) -> None:
    with labeller(only_for("category", servers.busy(status=503))) as server:
        made = stage(server.address)
        with pytest.raises(OutageError):
            label(made, clip)
        before = windows(server)
        server.behave = RIGHT
        assert found(label(made, clip)) == TRUTH.segments
        assert windows(server) == before


def test_a_server_that_denies_access_is_an_error_of_the_config(stage: Stages, clip: Clip) -> None:
    with labeller(lambda asked: servers.error(401, "no key")) as server, pytest.raises(ConfigError, match="denies"):
        label(stage(server.address), clip)


def test_endless_thinking_is_cut_off(stage: Stages, clip: Clip) -> None:
    thinks: Behaviour = lambda asked: completion("<think>" + "well, " * 50, asked, finish="length")  # noqa: E731
    with labeller(thinks) as server, pytest.raises(StageError, match="max_tokens"):
        label(stage(server.address), clip)


# ---- several clips


def test_clips_are_asked_about_together_and_told_apart(stage: Stages, tmp_path: Path) -> None:
    clips, truths = [], []
    for seed in range(4):
        clip = film(tmp_path / f"clip{seed}.mp4", frames=150, seed=seed)
        clips.append(clip)
        truths.append(Truth(truth_of(150, FPS, seed=seed), FPS))
    whose = {picture.tobytes(): truth for clip, truth in zip(clips, truths, strict=True) for picture in shown(clip)}

    def behave(asked: Asked) -> Any:
        return perfect(nearest_truth(asked, whose))(asked)

    with labeller(servers.slow(behave, seconds=0.05)) as server:
        stage(server.address).process_batch(clips)
        assert server.most_open > 2 * 6
    assert [found(clip.artifacts["annotation"]) for clip in clips] == [truth.segments for truth in truths]


def shown(clip: Clip) -> list[np.ndarray]:
    import media

    return [image[8::16, 8::16] // 64 for image in media.frames(clip).images]


def nearest_truth(asked: Asked, whose: dict[bytes, Truth]) -> Callable[[float], bool]:
    """Of the clip that most of the pictures come from; JPEG changes them a little."""
    known = np.array([np.frombuffer(key, np.uint8) for key in whose]).astype(int)
    seen = [picture[8::16, 8::16].ravel() // 64 for picture in asked.pictures]
    votes = [list(whose.values())[np.abs(known - picture).sum(1).argmin()] for picture in seen]
    return max(set(votes), key=votes.count)


def test_a_clip_that_fails_takes_nothing_from_the_others(stage: Stages, clip: Clip, tmp_path: Path) -> None:
    broken = replace(clip, key="broken-00000000", artifacts={**clip.artifacts, "video": b"no video"})
    with labeller(RIGHT) as server:
        made = stage(server.address)
        with pytest.raises(Exception, match=r"."):
            made.process_batch([clip, broken])
        before = len(server.asked)
        made.process(clip)  # as the engine does: all again, alone
        assert len(server.asked) == before > 0
    assert found(clip.artifacts["annotation"]) == TRUTH.segments


# ---- the cache, and what the output depends on


def test_another_threshold_asks_nothing(stage: Stages, clip: Clip, tmp_path: Path) -> None:
    with labeller(RIGHT) as server:
        label(stage(server.address, cache=str(tmp_path / "answers")), clip)
        before = len(server.asked)
        smoothing = VLM_SMOOTHING.model_copy(update={"high": 0.6, "gap": 0.3})
        annotation = label(stage(server.address, cache=str(tmp_path / "answers"), smoothing=smoothing), clip)
        assert len(server.asked) == before
        label(stage(server.address, model="another", cache=str(tmp_path / "answers")), clip)
        assert len(server.asked) == 2 * before
    assert found(annotation) == TRUTH.segments


def test_what_the_fingerprint_depends_on() -> None:
    def fingerprint(backend: dict[str, Any] | None = None, **fields: Any) -> str:
        settings = {"base_url": "http://127.0.0.1:1/v1", "model": "m", **(backend or {})}
        return VlmLabels(backend=OpenAISettings(**settings), **fields).own_fingerprint()

    same = fingerprint()
    assert fingerprint({"base_url": "http://127.0.0.1:2/v1", "in_flight": 3, "api_key_env": "KEY"}) == same
    assert fingerprint(cache="elsewhere", batch_clips=9, time_limit=5) == same
    others = [
        fingerprint({"model": "n"}),
        fingerprint({"temperature": 0.5}),
        fingerprint(language="zh"),
        fingerprint(sampling=Sampling(rate=4)),
        fingerprint(smoothing={"high": 0.9}),
        fingerprint(refinement=None),
        fingerprint(refinement=Refinement(within=0.1)),
        fingerprint(categories=("folding",)),
        fingerprint(fallback=DEFAULT_CATEGORIES[0]),
        fingerprint(contradictions="review"),
        fingerprint(frame_by_frame=False),
    ]
    assert len({same, *others}) == 1 + len(others)


def test_the_fingerprint_depends_on_the_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    made = VlmLabels(backend=OpenAISettings(base_url="http://127.0.0.1:1/v1", model="m"))
    before = made.own_fingerprint()
    monkeypatch.setattr("annotators.vlm.prompts.fingerprint", lambda *_, **__: "other")
    assert made.own_fingerprint() != before


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"backend": {"kind": "oracle"}}, "oracle"),
        ({"backend": {"base_url": "http://127.0.0.1/v1", "model": "m"}}, "kind"),
        ({"backend": {"kind": "openai", "model": "m"}}, "base_url"),
        ({"fallback": "unheard of"}, "unheard of"),
        ({"required_parts": {FASTENING: ["velcro"]}}, "velcro"),
        ({"categories": []}, "categories"),
        ({"language": "fr"}, "language"),
    ],
)
def test_fields_that_cannot_work(fields: dict[str, Any], words: str) -> None:
    backend = {"kind": "openai", "base_url": "http://127.0.0.1/v1", "model": "m"}
    with pytest.raises(ValidationError, match=words):
        VlmLabels(**{"backend": backend, **fields})
