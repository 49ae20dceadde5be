"""`vvt label`: what would be asked is what is asked, and telling so asks and changes nothing."""

from __future__ import annotations

import base64
import io
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from pipelines.build import build
from pipelines.cli import app
from pipelines.label import label
from pipelines.label_estimate import estimate, first_questions, probe
from pipelines.label_survey import Survey
from pipelines.label_view import Rates
from pipelines.store import ClipStore
from schemas.config import BuildConfig
from schemas.errors import ConfigError
from tests.annotators.vlm.asking import free_port
from tests.annotators.vlm.server import Labeller, broken_answer, labeller, perfect
from tests.pipelines.conftest import Job
from tests.pipelines.test_plan import listing

SECONDS = 3.0
DEAD = f"http://127.0.0.1:{free_port()}/v1"


def middle_third(seconds: float) -> bool:
    """What is assumed of clips without contact evidence."""
    return SECONDS / 3 <= seconds < 2 * SECONDS / 3


@pytest.fixture
def server() -> Iterator[Labeller]:
    with labeller(perfect(middle_third)) as running:
        yield running


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, cluster: None) -> Job:
    """A build without labels of two recordings of one clip each."""
    job = Job(tmp_path_factory.mktemp("built"))
    for name, brightness in (("a", 120), ("b", 150)):
        job.record(name, brightness=brightness, seconds=SECONDS)
    job.build()
    return job


@pytest.fixture
def job(built: Job, tmp_path: Path) -> Job:
    """The same recordings, and a copy of what was built of them."""
    made = Job(built.folder)
    made.rows = [{**row} for row in built.rows]
    shutil.copytree(built.folder / "out", tmp_path / "out")
    return made


def config(job: Job, out: Path, address: str = DEAD, **fields: Any) -> BuildConfig:
    backend = {"kind": "openai", "base_url": address, "model": "qwen2.5-vl", "tries": 2, "longest_wait": 0.01}
    stage = {"use": "annotators.vlm.stage:VlmLabels", "backend": backend, "sampling": {"window": 8, "stride": 4}}
    return job.config(str(out / "out"), stages={"labels": stage | fields})


def printed(settings: BuildConfig, **options: Any) -> str:
    stream = io.StringIO()
    label(settings, console=Console(file=stream, markup=False, width=100), **options)
    return stream.getvalue()


def test_what_is_estimated_is_what_a_build_asks(job: Job, tmp_path: Path, server: Labeller) -> None:
    settings = config(job, tmp_path, server.address, cache=str(tmp_path / "cache"))
    before = listing(tmp_path)
    found = estimate(Survey(settings))
    assert listing(tmp_path) == before
    assert not server.asked
    assert found.exact
    assert (len(found.waiting), found.sampled, found.without_contact) == (2, 2, 2)
    assert found.kinds["caption"].asked.requests == found.kinds["category"].asked.requests == 2
    assert {clip.next for clip in found.waiting} == {True}

    build(settings)
    assert sum(kind.asked.requests for kind in found.kinds.values()) == len(server.asked)
    assert sum(kind.asked.pictures for kind in found.kinds.values()) == sum(len(each.pictures) for each in server.asked)

    assert "No stored clip waits for labels." in printed(settings)
    otherwise = config(job, tmp_path, cache=str(tmp_path / "cache"), longest_unknown=0.6)
    again = estimate(Survey(otherwise))
    assert len(again.waiting) == 2
    assert again.total.requests == 0
    assert sum(kind.known.requests for kind in again.kinds.values()) == len(server.asked)
    assert not list(first_questions(Survey(otherwise)))


def test_a_sample_is_scaled_up(job: Job, tmp_path: Path) -> None:
    survey = Survey(config(job, tmp_path))
    whole, part = estimate(survey), estimate(survey, sample=1)
    assert not part.exact
    assert part.sampled == 1
    assert part.kinds["caption"].asked.requests == 2
    assert part.total.prompt_tokens == pytest.approx(whole.total.prompt_tokens, rel=0.1)
    assert part.repairs.requests == pytest.approx(part.repair_share * part.total.requests / (1 + part.repair_share))
    text = printed(config(job, tmp_path), sample=1)
    assert "scaled up" in text
    assert "counted on 1 clips" in text


def test_what_is_asked_of_two_clips_counts_once(job: Job, tmp_path: Path) -> None:
    store = ClipStore(str(tmp_path / "out/work"))
    (key,) = store.keys("a")
    clip, ledger = store.get(key), store.ledger("a")
    assert clip
    assert ledger
    pair = clip.pair.model_copy(update={"pair_id": "twin"})
    store.put(replace(clip, key="twin-00000000", pair=pair))
    store.put_ledger(replace(ledger, pair=pair, keys=("twin-00000000",)))
    alone = estimate(Survey(config(job, tmp_path)))
    job.add("twin", "a.mp4")
    both = estimate(Survey(config(job, tmp_path)))
    assert (len(alone.waiting), len(both.waiting)) == (2, 3)
    assert both.total == alone.total
    assert both.kinds["caption"].repeats.requests == 1
    assert not any(asked.request.key.startswith("twin") for asked in first_questions(Survey(config(job, tmp_path))))


def test_unread_recordings_are_extrapolated_and_those_of_unknown_length_told(job: Job, tmp_path: Path) -> None:
    job.rows[1]["start"] = 0.5  # what was read of it is another clip now
    job.add("absent", end=7.0)
    job.add("unknown")
    found = estimate(Survey(config(job, tmp_path)))
    assert (found.unread.recordings, found.unread.unknown) == (3, 1)
    assert found.unread.seconds == pytest.approx(SECONDS - 0.5 + 7.0, abs=0.1)
    assert found.unread.share == pytest.approx(1, abs=0.05)
    alone = found.total.requests - found.later.requests
    assert found.later.requests / alone == pytest.approx(found.unread.seconds / SECONDS, rel=0.1)
    text = printed(config(job, tmp_path))
    assert "3 recording(s) are still to be read" in text
    assert "1 of unknown length, which are not counted" in text


def test_of_an_empty_store_it_says_what_to_do(job: Job, tmp_path: Path) -> None:
    text = printed(config(job, tmp_path / "nothing"), rates=Rates(requests_per_second=5, price_in=1, price_out=1))
    assert "2 recording(s) are still to be read, 0.1 min" in text
    assert "Build a few rows" in text
    assert not (tmp_path / "nothing").exists()


def test_a_damaged_clip_is_left_out_and_counted(job: Job, tmp_path: Path) -> None:
    settings = config(job, tmp_path)
    file = next((tmp_path / "out/work/clips/a").iterdir())
    data = file.read_bytes()
    middle = data.index(b"mdat")
    file.write_bytes(data[: middle + 4] + bytes(len(data) - middle - 4))
    found = estimate(Survey(settings))
    assert (found.sampled, found.damaged) == (1, 1)
    assert found.kinds["caption"].asked.requests == 2
    assert {asked.request.key[0] for asked in first_questions(Survey(settings))} == {"b"}


def test_a_config_without_a_model_is_refused(job: Job, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="asks a vision-language model"):
        Survey(job.config(str(tmp_path / "out")))


def test_the_page_shows_the_first_requests_as_they_would_be_sent(job: Job, tmp_path: Path, server: Labeller) -> None:
    page = tmp_path / "page.html"
    settings = config(job, tmp_path, server.address)
    assert "nothing was asked" in printed(settings, page=str(page), counted=False)
    assert not server.asked
    text = page.read_text()
    shown = list(first_questions(Survey(settings)))
    assert {asked.kind for asked in shown} == {"frames", "boundary", "category", "caption"}
    assert text.count("<section>") == len(shown) >= 10
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", text)
    assert "<script" not in text
    words, pictures = unescape(text), re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert len(pictures) == sum(len(asked.request.pictures) for asked in shown)
    assert Image.open(io.BytesIO(base64.b64decode(pictures[0]))).size == (160, 120)
    for asked in shown:
        assert asked.request.text in words
        assert asked.request.key in words

    survey = Survey(settings)
    assert probe(survey, len(shown)) is not None
    sent = {each.question for each in server.asked}
    certain = [asked.request.text for asked in shown if asked.kind in ("frames", "caption")]
    assert set(certain) <= sent  # word by word what the server got


def test_a_probe_asks_just_so_many_and_keeps_the_answers(job: Job, tmp_path: Path, server: Labeller) -> None:
    settings = config(job, tmp_path, server.address, cache=str(tmp_path / "cache"))
    text = printed(settings, probed=5)
    assert len(server.asked) == 5
    assert "Asked: 5 request(s)" in text
    assert "answers are in the cache" in text
    assert sum(kind.known.requests for kind in estimate(Survey(settings)).kinds.values()) == 5
    server.behave = broken_answer
    measured = probe(Survey(settings), 3)
    assert measured is not None
    assert (measured.requests, measured.second_tries, measured.unusable) == (6, 3, 3)
    assert "answers are lost" in printed(config(job, tmp_path, server.address), probed=1)


def test_the_command_estimates_unless_told_otherwise(job: Job, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(config(job, tmp_path).model_dump_json())
    options = ["--requests-per-second", "2", "--price-in", "1", "--price-out", "2"]
    done = CliRunner().invoke(app, ["label", str(file), *options])
    assert done.exit_code == 0, done.output
    for words in ("2 stored clip(s)", "At 2 requests a second", "Price:", "Nothing was asked"):
        assert words in done.output
    page = tmp_path / "requests.html"
    done = CliRunner().invoke(app, ["label", str(file), "--dry-run", "--out", str(page)])
    assert done.exit_code == 0, done.output
    assert page.exists()
    assert "tokens in" not in done.output
