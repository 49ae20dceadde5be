"""The judge and the interaction success rate: real videos, real shards, real HTTP, and judges of every kind."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotators.vlm.answers import NONE_OF_THESE, Verdict
from annotators.vlm.asking import Asker
from annotators.vlm.cache import Cache
from schemas.annotation import DEFAULT_CATEGORIES, ActionCaption, Annotation
from schemas.errors import ConfigError, DatasetError, OutageError
from tests.annotators.vlm import server as servers
from tests.annotators.vlm.asking import Backends, free_port
from tests.annotators.vlm.server import Asked, Behaviour, Labeller, labeller
from tests.training.build import FPS, DatasetBuilder, artifacts, members, mp4
from training.annotated import read_samples
from training.evaluate import IsrReport, JudgeConfig, evaluate, main, read_config, read_yaml
from training.isr import EvaluationError, Judged, Outcome, score, scores
from training.judge import Judge
from training.judging import Judging
from training.quality_settings import QualitySettings

COLLAR, HEM = DEFAULT_CATEGORIES[:2]
FRAMES = 48
ACTIONS = ((COLLAR, 6, 17), (HEM, 30, 41))
MARKS = {Verdict.PERFORMED: (20, 220, 20), Verdict.PARTLY: (220, 20, 20), Verdict.NOT: (20, 20, 220)}
"""Colour of the frames in which something is done, so, or not."""
IDLE = (128, 128, 128)
REAL = np.uint8(15)
"""By how much the real videos are brighter."""
PERFORMED, PARTLY, NOT = Verdict


def film(*verdicts: Verdict, frames: int = FRAMES) -> np.ndarray:
    """Grey, but in the frames of each action, which have the colour of what becomes of it."""
    images = np.full((frames, 64, 48, 3), IDLE, np.uint8)
    for (_, start, end), verdict in zip(ACTIONS, verdicts, strict=True):
        images[start : end + 1] = MARKS[verdict]
    return images


def sample(key: str, *, labels: int = FRAMES, actions: tuple[tuple[str, int, int], ...] = ACTIONS) -> dict[str, bytes]:
    shown = [any(start <= t <= end for _, start, end in actions) for t in range(labels)]
    annotation = Annotation(
        global_caption="A person shows a shirt.",
        actions=tuple(
            ActionCaption(category=category, caption=f"is {category} with both hands", start_frame=start, end_frame=end)
            for category, start, end in actions
        ),
        probabilities=tuple(float(label) for label in shown),
        labels=tuple(shown),
        labeller="test",
    )
    values = artifacts(frames=labels) | {"annotation": annotation, "video": mp4(film(PERFORMED, PERFORMED) + REAL)}
    return members(values, key=key)


TRUTH = {  # key → what becomes of the two interactions in the generated video
    "shirt-0": (PERFORMED, PERFORMED),
    "shirt-1": (PERFORMED, NOT),
    "shirt-2": (PARTLY, NOT),
    "shirt-3": (NOT, PERFORMED),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four test samples of two interactions, and one of another split."""
    builder = DatasetBuilder(tmp_path_factory.mktemp("dataset"))
    builder.shard({"other-0": sample("other-0")}, split="train")
    builder.shard({key: sample(key) for key in TRUTH}, split="test")
    return str(builder.index())


@pytest.fixture(scope="module")
def films() -> dict[str, bytes]:
    """The generated videos, by their names."""
    return {f"{key}.mp4": mp4(film(*verdicts)) for key, verdicts in TRUTH.items()}


@pytest.fixture
def generated(films: dict[str, bytes], tmp_path: Path) -> Path:
    folder = tmp_path / "generated"
    folder.mkdir()
    for name, data in films.items():
        (folder / name).write_bytes(data)
    return folder


def seen(asked: Asked) -> Verdict:
    """What the middle picture shows, by its colour."""
    colour = asked.pictures[len(asked.pictures) // 2].reshape(-1, 3).mean(axis=0)
    return min(MARKS, key=lambda verdict: float(np.abs(np.subtract(MARKS[verdict], colour)).sum()))


def is_real(asked: Asked) -> bool:
    return bool(asked.pictures[0].min() >= 28)


def supposed(asked: Asked) -> str:
    """The annotated category, from the words of the question."""
    match = re.search(r"^\".*\" \((.*)\)$", asked.question, re.MULTILINE)
    assert match
    return match[1]


def category_seen(asked: Asked) -> str:
    return supposed(asked) if seen(asked) == PERFORMED else NONE_OF_THESE


KNOWING = servers.perfect(lambda _: False, verdict=lambda asked: seen(asked), category=category_seen)


def options(asked: Asked, field: str) -> list[str]:
    return list(asked.schema["properties"][field]["enum"])


def choosing(place: int) -> Behaviour:
    """Always takes what stands at `place` of either list."""
    return servers.perfect(
        lambda _: False,
        verdict=lambda asked: options(asked, "verdict")[place],
        category=lambda asked: options(asked, "category")[place],
    )


@pytest.fixture
def server() -> Iterator[Labeller]:
    with labeller(KNOWING) as running:
        yield running


@pytest.fixture
def backend() -> Iterator[Backends]:
    made = Backends()
    yield made
    made.close()


Run = Callable[..., list[Judged]]


@pytest.fixture
def run(dataset: str, generated: Path, server: Labeller, backend: Backends) -> Run:
    """Judges the generated videos; arguments of `Judge` and `Judging` may be given."""

    def judge(
        *,
        reference: bool = False,
        allow_missing: bool = False,
        cache: Any = "",
        model: str = "labeller",
        **judging: Any,
    ) -> list[Judged]:
        settings = Judging(**{"context": 0.0} | judging)
        asker = Asker(backend(server.address, model=model), Cache(str(cache)), language="en")
        asking = Judge(asker=asker, judging=settings, allow_missing=allow_missing)
        return asking(read_samples(dataset, settings), str(generated), reference=reference)

    return judge


def outcomes(judged: list[Judged], kind: str = "generated") -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for each in judged:
        if each.video == kind:
            found[each.key] = (*found.get(each.key, ()), str(each.outcome))
    return found


# ---- videos that are not there


def test_what_is_missing_is_named_before_anything_is_asked(run: Run, generated: Path, server: Labeller) -> None:
    (generated / "shirt-0.mp4").unlink()
    (generated / "shirt-1.mp4").write_bytes(b"no video at all")
    (generated / "shirt-2.mp4").write_bytes(b"")
    for seed in range(4):  # also where the one that is there would come first
        with pytest.raises(EvaluationError) as caught:
            run(seed=seed, together=1)
        assert "6 interaction(s)" in str(caught.value)
        assert all(f"shirt-{number} {action}" in str(caught.value) for number in (0, 1, 2) for action in (0, 1))
    assert "--allow-missing" in str(caught.value)
    assert not server.asked


def test_what_is_missing_counts_as_not_performed_where_that_is_allowed(run: Run, generated: Path) -> None:
    (generated / "shirt-0.mp4").unlink()
    (generated / "shirt-3.mp4").write_bytes(mp4(film(NOT, PERFORMED))[:1500])
    judged = run(allow_missing=True)
    assert outcomes(judged)["shirt-0"] == outcomes(judged)["shirt-3"] == ("missing", "missing")
    found = score(judged, seed=0)
    assert found.isr
    assert found.isr.value == 1 / 8
    assert found.outcomes[Outcome.MISSING] == 4
    assert next(each.missing for each in judged if each.key == "shirt-0") == "there is no such file"


def test_a_video_that_ends_before_an_interaction_begins_does_not_show_it(run: Run, generated: Path) -> None:
    (generated / "shirt-0.mp4").write_bytes(mp4(film(PERFORMED, PERFORMED)[:24]))
    with pytest.raises(EvaluationError, match=r"shirt-0 1 \(it ends at 0.96 s; this begins at 1.25 s"):
        run()
    assert outcomes(run(allow_missing=True))["shirt-0"] == ("performed", "missing")


def test_frames_that_break_only_when_they_are_decoded_are_missing_too(run: Run, generated: Path) -> None:
    data = bytearray((generated / "shirt-0.mp4").read_bytes())
    start = data.index(b"mdat") + 4
    data[start:] = bytes(len(data) - start)
    (generated / "shirt-0.mp4").write_bytes(data)
    assert outcomes(run(allow_missing=True))["shirt-0"] == ("missing", "missing")


# ---- answers that cannot be used


def test_an_answer_that_cannot_be_used_is_asked_for_once_more(run: Run, server: Labeller) -> None:
    server.behave = servers.first(servers.broken_answer, KNOWING, times=1)
    assert outcomes(run()) == TRUTH
    assert set(server.times.values()) == {2}


@pytest.mark.parametrize(
    ("wrong", "asked"),
    [
        (servers.broken_answer, 2),
        (servers.wrong_id(KNOWING), 2),
        (servers.endless_text, 2),
        (servers.perfect(lambda _: False, verdict="superb", category=HEM), 2),
        (lambda asked: servers.error(400, "no such picture"), 1),
    ],
    ids=["broken", "other_question", "endless", "other_words", "refused"],
)
def test_what_is_left_unjudged_is_an_error_that_says_why(
    run: Run, server: Labeller, wrong: Behaviour, asked: int
) -> None:
    server.behave = wrong
    with pytest.raises(EvaluationError, match=r"8 of 8 interactions .*shirt-0 0 \("):
        run()
    assert set(server.times.values()) == {asked}


def test_the_unjudged_are_counted_and_nobodys_success(run: Run, server: Labeller) -> None:
    def fails_on_hems(asked: Asked) -> Any:
        return (servers.broken_answer if supposed(asked) == HEM else KNOWING)(asked)

    server.behave = fails_on_hems
    judged = run(max_unjudged=0.5)
    found = scores(judged, categories=7, seed=0)
    assert found.categories[HEM].isr is None
    assert found.categories[HEM].outcomes[Outcome.UNJUDGED] == 4
    assert found.categories[COLLAR].isr == found.overall.isr
    assert found.overall.isr
    assert found.overall.isr.value == 0.5
    with pytest.raises(EvaluationError, match="4 of 8"):
        run(max_unjudged=0.49)


def test_real_videos_do_not_hide_the_unjudged_among_the_generated(run: Run, server: Labeller) -> None:
    def fails_on_the_generated(asked: Asked) -> Any:
        return (KNOWING if is_real(asked) else servers.broken_answer)(asked)

    server.behave = fails_on_the_generated
    with pytest.raises(EvaluationError, match="8 of 8 interactions in the generated videos"):
        run(reference=True, max_unjudged=0.6)


def test_half_an_answer_is_none(run: Run, server: Labeller) -> None:
    def fails_backwards(asked: Asked) -> Any:
        forward = options(asked, "category").index(HEM) < options(asked, "category").index(COLLAR)
        return (KNOWING if forward else servers.broken_answer)(asked)

    server.behave = fails_backwards
    assert {each.outcome for each in run(max_unjudged=1)} == {Outcome.UNJUDGED}


def test_a_hopeless_judge_is_not_asked_to_the_end(run: Run, server: Labeller) -> None:
    server.behave = lambda asked: servers.error(400, "no")
    with pytest.raises(EvaluationError):
        run(together=1)
    assert len(server.asked) == 4


def test_a_judge_that_is_away_is_an_outage(dataset: str, generated: Path, backend: Backends) -> None:
    asker = Asker(backend(f"http://127.0.0.1:{free_port()}/v1"), Cache(), language="en")
    with pytest.raises(OutageError):
        Judge(asker=asker, judging=Judging())(read_samples(dataset, Judging()), str(generated))


# ---- judges


def test_a_judge_that_knows_the_truth_gives_it(run: Run) -> None:
    judged = run(reference=True)
    assert outcomes(judged) == TRUTH
    assert outcomes(judged, "reference") == dict.fromkeys(TRUTH, ("performed", "performed"))
    made = scores([each for each in judged if each.video == "generated"], categories=7, seed=0)
    assert made.overall.isr
    assert made.overall.lenient
    assert (made.overall.isr.value, made.overall.lenient.value) == (0.5, 4.5 / 8)
    assert made.overall.outcomes == {
        Outcome.PERFORMED: 4, Outcome.PARTLY: 1, Outcome.NOT: 3,
        Outcome.SPLIT: 0, Outcome.MISSING: 0, Outcome.UNJUDGED: 0,
    }  # fmt: skip
    assert made.confusion == {COLLAR: {COLLAR: 4, NONE_OF_THESE: 4}, HEM: {HEM: 4, NONE_OF_THESE: 4}}
    for positions in (made.verdict_positions, made.category_positions):
        assert (positions.questions, positions.changed) == (8, 0.0)
        assert positions.chosen == pytest.approx(positions.chosen[::-1])


@pytest.mark.parametrize(("place", "changed"), [(0, 1.0), (-1, 1.0), (1, 0.0)], ids=["first", "last", "middle"])
def test_a_judge_that_goes_by_position_is_found_out(run: Run, server: Labeller, place: int, changed: float) -> None:
    server.behave = choosing(place)
    found = scores(run(), categories=7, seed=0)
    assert found.verdict_positions.changed == changed
    assert found.verdict_positions.chosen[place] == 1.0
    assert found.category_positions.changed == 1.0
    assert found.category_positions.chosen[place] == 1.0
    assert found.overall.outcomes[Outcome.SPLIT] == 8 * changed


def test_a_judge_that_guesses_has_no_leaning_and_changes_its_mind(run: Run, server: Labeller) -> None:
    server.behave = servers.perfect(
        lambda _: False,
        verdict=lambda asked: random.Random(asked.id).choice(options(asked, "verdict")),
        category=lambda asked: random.Random(asked.id).choice(options(asked, "category")),
    )
    found = scores([each for seed in range(6) for each in run(seed=seed)], categories=7, seed=0)
    assert found.verdict_positions.changed == pytest.approx(2 / 3, abs=0.25)
    assert found.verdict_positions.chosen == pytest.approx((1 / 3,) * 3, abs=0.2)


@pytest.mark.skipif(
    not all(map(find_spec, ("transformers", "torchvision", "qwen_vl_utils", "llguidance"))),
    reason="the extra vlm is not installed",
)
def test_a_model_in_process_judges(dataset: str, generated: Path, tmp_path: Path) -> None:
    """A tiny one of random weights: its verdicts mean nothing, but all of them are read."""
    from tests.annotators.vlm.tiny_qwen import build

    model = build("qwen3", tmp_path / "model")
    told = {"backend": {"kind": "transformers", "model": str(model)}, "judging": {"frames": 12, "pictures": 2}}
    (tmp_path / "judge.yaml").write_text(json.dumps(told))
    (generated / "other-0.mp4").write_bytes((generated / "shirt-0.mp4").read_bytes())
    report = evaluate(dataset, str(generated), config=read_config(tmp_path / "judge.yaml"), split="train")
    assert [len(each.answers) for each in report.interactions] == [2]
    assert report.judge["backend"] == "transformers"


# ---- what the judge sees


def test_the_judge_is_blind(run: Run, server: Labeller) -> None:
    run(reference=True, together=1)
    assert len(server.asked) == 2 * 2 * 8
    for asked in server.asked:
        words = json.dumps(asked.body).lower()
        assert not re.search(r"generat|shirt-|reference|real video|mp4|synthe|fake", re.sub(r'"data:[^"]*"', "", words))
    real = [is_real(asked) for asked in server.asked]
    assert (sum(real), sum(real[:16]) in (0, 16)) == (16, False)
    orders = {tuple(options(asked, "category")) for asked in server.asked}
    assert len(orders) > 8
    assert all(order[::-1] in orders and set(order) == {*DEFAULT_CATEGORIES, NONE_OF_THESE} for order in orders)
    verdicts = Counter(tuple(options(asked, "verdict")) for asked in server.asked)
    assert all(verdicts[order] == verdicts[order[::-1]] for order in verdicts)
    for asked in server.asked:
        shown = re.findall(r"^- (.*?)(?::.*)?$", asked.question, re.MULTILINE)
        assert shown == options(asked, "category") + options(asked, "verdict")


def test_orders_depend_on_the_seed(run: Run, server: Labeller) -> None:
    first, again, other = [], [], []
    for found, seed in ((first, 1), (again, 1), (other, 2)):
        server.asked.clear()
        run(seed=seed)
        found += [tuple(options(asked, "category")) for asked in server.asked]
    assert Counter(first) == Counter(again) != Counter(other)


def times_shown(server: Labeller) -> set[tuple[float, ...]]:
    return {tuple(asked.seconds) for asked in server.asked}


def test_pictures_are_of_the_interaction_and_a_little_around_it(run: Run, server: Labeller) -> None:
    run(pictures=100)
    assert times_shown(server) == {tuple(round(t / FPS, 3) for t in range(s, e + 1)) for _, s, e in ACTIONS}
    server.asked.clear()
    run(pictures=100, context=2 / FPS)
    assert times_shown(server) == {tuple(round(t / FPS, 3) for t in range(s - 2, e + 3)) for _, s, e in ACTIONS}
    server.asked.clear()
    run(pictures=4)
    assert {len(times) for times in times_shown(server)} == {4}


def test_another_rate_goes_by_time(run: Run, generated: Path, server: Labeller) -> None:
    for key, verdicts in TRUTH.items():
        (generated / f"{key}.mp4").write_bytes(mp4(film(*verdicts)[::2], fps=FPS // 2))
    assert outcomes(run(pictures=100)) == TRUTH
    assert times_shown(server) == {tuple(round(t / FPS, 3) for t in range(s, e + 1, 2)) for _, s, e in ACTIONS}


def test_as_many_frames_are_the_same_frames_whatever_the_file_says(run: Run, generated: Path, server: Labeller) -> None:
    for key, verdicts in TRUTH.items():
        (generated / f"{key}.mp4").write_bytes(mp4(film(*verdicts), fps=16))
    assert outcomes(run(pictures=100)) == TRUTH
    assert times_shown(server) == {tuple(round(t / FPS, 3) for t in range(s, e + 1)) for _, s, e in ACTIONS}


def test_only_what_begins_in_the_window_is_judged(run: Run, generated: Path, server: Labeller) -> None:
    for key, verdicts in TRUTH.items():
        (generated / f"{key}.mp4").write_bytes(mp4(film(*verdicts)[:12]))
    judged = run(frames=12, pictures=100, context=0.2, reference=True)
    assert outcomes(judged) == {key: (str(verdicts[0]),) for key, verdicts in TRUTH.items()}
    assert all(max(times) < 12 / FPS for times in times_shown(server))  # of the real video, too


# ---- going on


def test_what_was_answered_is_not_asked_again(run: Run, server: Labeller, tmp_path: Path, generated: Path) -> None:
    judged = run(cache=tmp_path / "kept")
    server.asked.clear()
    assert run(cache=tmp_path / "kept") == judged
    assert not server.asked
    (generated / "shirt-0.mp4").write_bytes(mp4(film(NOT, PERFORMED)))
    assert outcomes(run(cache=tmp_path / "kept"))["shirt-0"] == ("not", "performed")
    assert 0 < len(server.asked) <= 4


def test_what_came_before_the_end_is_kept(run: Run, server: Labeller, tmp_path: Path) -> None:
    def fails_on_hems(asked: Asked) -> Any:
        return (servers.broken_answer if supposed(asked) == HEM else KNOWING)(asked)

    server.behave = fails_on_hems
    with pytest.raises(EvaluationError):
        run(cache=tmp_path / "kept")
    server.behave = KNOWING
    server.asked.clear()
    assert outcomes(run(cache=tmp_path / "kept")) == TRUTH
    assert {supposed(asked) for asked in server.asked} == {HEM}


def test_another_judge_is_asked_anew(run: Run, server: Labeller, tmp_path: Path) -> None:
    run(cache=tmp_path / "kept")
    run(cache=tmp_path / "kept", model="another")
    assert len(server.asked) == 32


# ---- datasets


def test_a_category_that_the_judge_is_not_shown_is_an_error(dataset: str) -> None:
    with pytest.raises(ConfigError, match=HEM):
        read_samples(dataset, Judging(categories=(COLLAR,)))


def test_there_has_to_be_something_to_judge(dataset: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no annotated interaction"):
        read_samples(dataset, Judging(frames=3))
    with pytest.raises(DatasetError, match="no sample in split 'valid'"):
        read_samples(dataset, Judging(), split="valid")
    with pytest.raises(DatasetError, match="no index"):
        read_samples(str(tmp_path), Judging())


# ---- the command line


def config(file: Path, address: str, **judging: Any) -> Path:
    told = {
        "backend": {"kind": "openai", "base_url": address, "model": "labeller", "tries": 1},
        "judging": {"context": 0.0} | judging,
    }
    file.write_text(json.dumps(told))
    return file


def test_command_line(
    dataset: str,
    generated: Path,
    server: Labeller,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: Any,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "scores" / "isr.json"
    judge = config(tmp_path / "judge.yaml", server.address)
    words = ["evaluate", "isr", "--dataset", dataset, "--generated", str(generated), "--judge", str(judge)]
    monkeypatch.setattr("sys.argv", [*words, "--out", str(out), "--reference"])
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        report = IsrReport.model_validate_json(out.read_text())
        assert (report.version, report.samples, len(report.interactions)) == (1, 4, 16)
        assert report.judge["model"] == "labeller"
        assert set(report.prompts) == {"system", "judge", "repair"}
        assert report.scores["generated"].overall.isr
        assert report.scores["generated"].overall.isr.value == 0.5
        assert report.scores["reference"].categories[HEM].lenient
        printed = capsys.readouterr().out
        assert re.search(r"^all +0\.500 \[0\.\d{3}, [01]\.\d{3}\] +0\.562 \[", printed, re.MULTILINE)
        assert re.search(r"^all +8 +4 +1 +3 +0 +0 +0$", printed, re.MULTILINE)
        assert "0.0% of answers change" in printed
        assert "Reference videos" in printed
    assert len(server.asked) == 32  # nothing was asked the second time


def test_the_command_line_says_what_is_wrong(
    dataset: str, tmp_path: Path, server: Labeller, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    judge = config(tmp_path / "judge.yaml", server.address)
    out = tmp_path / "isr.json"
    words = ["evaluate", "isr", "--dataset", dataset, "--generated", str(tmp_path), "--judge", str(judge)]
    monkeypatch.setattr("sys.argv", [*words, "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "EvaluationError: 8 interaction(s) are not in the generated videos" in capsys.readouterr().err
    assert not out.exists()
    assert not server.asked


def test_missing_videos_are_told_in_the_report(dataset: str, generated: Path, server: Labeller, tmp_path: Path) -> None:
    (generated / "shirt-0.mp4").unlink()
    report = evaluate(
        dataset,
        str(generated),
        config=read_config(config(tmp_path / "judge.yaml", server.address)),
        allow_missing=True,
    )
    assert [each.key for each in report.interactions if each.missing] == ["shirt-0", "shirt-0"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "config: "),
        ("a: [", "no YAML"),
        ("judging: {}", "backend: "),
        ("backend: {kind: oracle}", "backend: "),
        ("backend: {kind: openai, base_url: 'ftp://a', model: m}", "backend.openai.base_url"),
        ("backend: {kind: openai, base_url: 'http://a/v1', model: m}\njudging: {colour: red}", "judging.colour"),
        ("backend: {kind: openai, base_url: 'http://a/v1', model: m}\njudging: {frames: 0}", "judging.frames"),
    ],
)
def test_a_wrong_config_is_told(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "judge.yaml").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(words)):
        read_config(tmp_path / "judge.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "absent.yaml")


PAGE = Path(__file__).resolve().parents[2] / "docs/evaluation.md"


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL))
def test_examples_of_the_page_are_configs(example: str, tmp_path: Path) -> None:
    (tmp_path / "it.yaml").write_text(example)
    if "backend:" in example:
        read_yaml(tmp_path / "it.yaml", JudgeConfig)
    else:  # all settings, as they are where nothing is said
        assert read_yaml(tmp_path / "it.yaml", QualitySettings) == QualitySettings()
        assert set(re.findall(r"^(\w+):", example, re.MULTILINE)) == set(QualitySettings.model_fields)


def test_the_page_lists_every_setting() -> None:
    assert set(re.findall(r"^\| `judging\.(\w+)` \|", PAGE.read_text(), re.MULTILINE)) == set(Judging.model_fields)
