"""`report.html`: inert whatever the input says, small whatever its size, and true to the decisions."""

from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.build import replay, stored_config
from pipelines.chain import Chain, make_chain
from pipelines.configure import merge_config
from pipelines.histogram import HEIGHT, WIDTH, histogram
from pipelines.pack import pack
from pipelines.report import REPORT, write_report
from pipelines.report_facts import facts_of
from pipelines.store import ClipStore
from pipelines.tables import DECISIONS, table_writer
from schemas.annotation import ActionCaption
from schemas.artifacts import ARTIFACTS
from schemas.clip import Clip
from schemas.config import BuildConfig, ShardsConfig
from schemas.tables import decisions_schema
from tests.pipelines.conftest import Job
from tests.training.build import artifacts, meta

HOSTILE = "</style><script>alert(1)</script><img src=http://evil.test/x onerror=alert(2)>\"'&{{ 7 * 7 }}\u202e\x00"
BRIGHTNESS = {"use": "tests.pipelines.stages:Brightness", "bounds": {"brightness": [60, None]}}
NOT_LOADED = {"script", "link", "iframe", "object", "embed", "base", "form", "video", "audio", "source"}


class Page(HTMLParser):
    """A page as a browser takes it: its tags with attributes, and the words between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))

    @property
    def pictures(self) -> list[str]:
        return [attributes["src"] or "" for tag, attributes in self.tags if tag == "img"]


def page_of(out: Path) -> Page:
    return Page((out / REPORT).read_bytes().decode("utf-8"))


def chain(**stages: Any) -> Chain:
    return make_chain(BuildConfig(manifest="-", output="-", tier="none", stages={"brightness": BRIGHTNESS, **stages}))


def row(number: int = 0, verdict: str = "kept", **fields: Any) -> dict[str, Any]:
    return {
        "key": f"pair-{number:08d}", "pair_id": "pair", "video": "live.mp4", "verdict": verdict, "stage": None,
        "metric": None, "value": None, "bound_low": None, "bound_high": None, "words": None, "error_code": None,
        "error": None, "first_frame": number, "start_seconds": 1.0, "end_seconds": 4.0, "frames": 72, "fps": 24.0,
        "metrics": {"brightness": 120.0}, **fields,
    }  # fmt: skip


def dropped(number: int = 0, value: float = 40.0, **fields: Any) -> dict[str, Any]:
    decided = {"stage": "brightness", "metric": "brightness", "value": value, "bound_low": 60.0, "words": "too dark"}
    return row(number, "dropped", **{**decided, "metrics": {"brightness": value}, **fields})


def failed(number: int = 0, **fields: Any) -> dict[str, Any]:
    return row(number, "failed", **{"stage": "ingest", "error_code": "empty", "error": "no bytes", **fields})


def description(kept: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "name": "Streams", "code_version": "1", "contents": "0", "clips": {"kept": kept}, "models": [],
        "splits": {"train": {"samples": kept, "frames": 0, "interactive_frames": 0, "actions": 0, "hours": 0.0}},
        **fields,
    }  # fmt: skip


def pack_samples(out: Path, samples: dict[str, dict[str, Any]]) -> None:
    """Shards and index of clips with these artifacts, as a build packs them."""
    store = ClipStore(str(out / "work"))
    for key, values in samples.items():
        given = meta(values, key=key)
        store.put(
            Clip(
                key=key, pair=given.pair, source=given.source, span=given.span, artifacts=values, metrics=given.metrics
            )
        )
    pack(
        store,
        {"train": list(samples)},
        output=str(out),
        config=ShardsConfig(),
        members=[kind.member for kind in ARTIFACTS.values() if kind.shared],
        stages=[],
        metrics=["interactive_share"],
        as_written=lambda u: u,
    )


def write_decisions(out: Path, rows: list[dict[str, Any]]) -> pq.ParquetFile:
    """`decisions.parquet` as a build writes it."""
    with table_writer(str(out / DECISIONS), decisions_schema(chain().metrics)) as write:
        for each in rows:
            write(each)
    return pq.ParquetFile(out / DECISIONS)


def report(out: Path, described: dict[str, Any], rows: list[dict[str, Any]]) -> Page:
    write_decisions(out, rows)
    write_report(str(out), described, chain=chain())
    return page_of(out)


def test_hostile_words_are_shown_and_do_nothing(tmp_path: Path) -> None:
    values = artifacts()
    action = ActionCaption(category=HOSTILE, caption=HOSTILE, start_frame=2, end_frame=4)
    values["annotation"] = values["annotation"].model_copy(update={"actions": (action,), "global_caption": HOSTILE})
    pack_samples(tmp_path, {"pair-00000000": values})
    rows = [
        row(),
        dropped(1, key=HOSTILE, pair_id=HOSTILE, video=HOSTILE, words=HOSTILE, stage=HOSTILE, metric=HOSTILE),
        failed(2, key=HOSTILE, error=HOSTILE, error_code=HOSTILE, stage=HOSTILE),
    ]
    models = [{"name": HOSTILE, "licence": HOSTILE, "sha256": HOSTILE}]
    page = report(tmp_path, description(1, name=HOSTILE + "\ud800", models=models), rows)

    assert not NOT_LOADED & {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert all(picture.startswith("data:image/jpeg;base64,") for picture in page.pictures)
    assert not [a["href"] for tag, a in page.tags if tag == "a" and not (a["href"] or "").startswith("#")]
    assert "<script>alert(1)</script><img src=http://evil.test/x onerror=alert(2)>" in page.text
    assert "{{ 7 * 7 }}\\u202e\\u0000" in page.text
    assert not re.search("[\u202e\x00]", page.text)


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    report(tmp_path, description(), [dropped()])
    html = (tmp_path / REPORT).read_text()

    assert not re.search(r"(https?:)?//\w|@import|url\(", html)
    policies = [a["content"] for _, a in page_of(tmp_path).tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies
    assert (policies[0] or "").startswith("default-src 'none'")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "No recording gave a single clip"),
        ([failed(first_frame=None, metrics={}, frames=None, fps=None)], "1 whole recording(s)"),
        ([dropped()], "Most clips were dropped by brightness (1 of 1)"),
        ([row(verdict="unfinished")], "goes on with them"),
    ],
    ids=["no clips", "failed recording", "dropped", "unfinished"],
)
def test_a_dataset_without_samples_says_so(tmp_path: Path, rows: list[dict[str, Any]], words: str) -> None:
    text = report(tmp_path, description(), rows).text

    assert "Nothing was kept." in text
    assert words in text


def test_a_damaged_sample_costs_its_picture_only(tmp_path: Path) -> None:
    pack_samples(tmp_path, {"pair-00000000": {**artifacts(), "video": b"no video"}, "pair-00000001": artifacts()})
    page = report(tmp_path, description(2), [row(0), row(1)])

    assert "member video.mp4 does not decode" in page.text
    assert len(page.pictures) == 3  # two frames and the garment of the sound one


def test_many_clips_make_a_small_page(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(120, 60, 100_000)
    rows = [
        row(n, metrics={"brightness": v}) if v >= 60 else dropped(n, v, words=f"too dark: {v}")
        for n, v in enumerate(values)
    ]
    rows += [failed(n, error=f"worker {n} died" + "x" * 5000, error_code=f"code {n % 7}") for n in range(2000)]
    report(tmp_path, description(), rows)

    assert (tmp_path / REPORT).stat().st_size < 200_000
    assert "102,000 clip(s)" in page_of(tmp_path).text


def test_the_funnel_loses_every_clip_once(tmp_path: Path) -> None:
    rows = [row(n) for n in range(4)]
    rows += [dropped(10), dropped(11, stage="shots", metric="shot_seconds", value=0.5), dropped(12, stage="gone")]
    rows += [failed(20, first_frame=None), failed(21, stage="brightness"), row(30, "unfinished")]
    steps = facts_of(write_decisions(tmp_path, rows), chain()).steps

    assert [(step.stage, step.reached, step.ended) for step in steps] == [
        ("gone", 9, 1), ("ingest", 8, 1), ("shots", 7, 1), ("brightness", 6, 2),
    ]  # fmt: skip
    assert steps[-1].reached - steps[-1].ended == 4


def test_examples_go_from_the_closest_call_to_the_clearest(tmp_path: Path) -> None:
    rows = [dropped(n, value) for n, value in enumerate((10.0, 59.9, 30.0, 50.0, 20.0))]
    (reason,) = facts_of(write_decisions(tmp_path, rows), chain()).reasons

    assert reason.count == 5
    assert [example.value for example in reason.examples] == [59.9, 30.0, 10.0]


def test_failures_are_told_apart_by_stage_code_and_cause(tmp_path: Path) -> None:
    rows = [failed(n, error="rare" if n == 3 else "often") for n in range(4)]
    rows += [failed(9, stage="brightness", error_code="crashed", error="died")]
    groups = facts_of(write_decisions(tmp_path, rows), chain()).failures

    assert [(group.stage, group.code, group.count) for group in groups] == [
        ("ingest", "empty", 4), ("brightness", "crashed", 1),
    ]  # fmt: skip
    assert [(cause.words, cause.count) for cause in groups[0].causes] == [("often", 3), ("rare", 1)]


def test_a_metric_counts_all_clips_under_the_bounds_of_now(tmp_path: Path) -> None:
    rows = [row(n, metrics={"brightness": float(n)}) for n in range(100)]
    metrics = {metric.name: metric for metric in facts_of(write_decisions(tmp_path, rows), chain()).metrics}
    drawn = metrics["brightness"].histogram

    assert metrics["brightness"].setting == "stages.brightness.bounds.brightness"
    assert drawn is not None
    assert (drawn.measured, drawn.outside) == (100, 60)
    assert metrics["cut_score"].histogram is None


@pytest.mark.parametrize(
    "values",
    [[0.0] * 9, [7.0], [-3.0, 5.0], [0.0] * 999 + [1e12], [1e-9, 2e-9], [1e300, -1e300], list(range(40))],
    ids=["zeros", "one", "negative", "far outlier", "tiny", "huge", "integers"],
)
@pytest.mark.parametrize("bound", [(None, None), (0.5, None), (None, 1e6), (-1.0, 3.0)], ids=str)
def test_a_histogram_holds_every_value_within_its_frame(values: list[float], bound: Any) -> None:
    drawn = histogram(values, bound=bound)

    assert drawn is not None
    assert sum(int(bar.words.rpartition(": ")[2].split()[0].replace(",", "")) for bar in drawn.bars) == len(values)
    assert all(0 <= bar.x <= WIDTH and 0 < bar.inside + bar.outside <= HEIGHT + 1.5 for bar in drawn.bars)
    assert all(0 <= mark.x <= WIDTH for mark in drawn.marks)
    assert len(drawn.marks) == sum(side is not None for side in bound)
    low, high = bound
    broken = sum((low is not None and value < low) or (high is not None and value > high) for value in values)
    assert drawn.outside == broken
    assert any(bar.outside for bar in drawn.bars) == bool(broken)


def test_a_far_bound_does_not_squeeze_the_values() -> None:
    drawn = histogram(list(np.linspace(0, 1, 500)), bound=(None, 1000.0))

    assert drawn is not None
    assert len(drawn.bars) > 20
    assert [(mark.x, mark.beyond) for mark in drawn.marks] == [(WIDTH, True)]


def test_the_axis_shows_nothing_that_cannot_be() -> None:
    drawn = histogram([0.0, 0.4, 1.0], limits=(0, 1), bound=(None, 1.0))

    assert drawn is not None
    assert (drawn.low, drawn.high) == (0, 1)
    assert [(mark.x, mark.beyond) for mark in drawn.marks] == [(WIDTH, False)]


def test_interactions_and_samples_come_from_the_shards(tmp_path: Path) -> None:
    still = artifacts(grey=60)
    still["annotation"] = still["annotation"].model_copy(update={"actions": (), "labels": (False,) * 6})
    pack_samples(tmp_path, {f"pair-{n:08d}": artifacts() if n < 2 else still for n in range(3)})
    page = report(tmp_path, description(3), [row(n) for n in range(3)])

    assert "adjusting the hem" in page.text
    assert "1 of 3 have none" in page.text
    assert "A person stands and adjusts the hem." in page.text
    assert Counter(a["alt"] for tag, a in page.tags if tag == "img") == {
        "frame 0": 1, "frame 2": 3, "frame 3": 2, "garment": 3,
    }  # fmt: skip


def test_every_build_and_replay_writes_it_and_a_second_run_leaves_it(job: Job) -> None:
    job.record("bright", brightness=160)
    job.record("dim", brightness=100)
    job.add("absent")
    stages = {"brightness": BRIGHTNESS}
    job.build("one", stages=stages, run={"workers": 1})
    job.build("two", stages=stages, run={"workers": 2})
    report = job.folder / "one" / REPORT
    first, written = report.read_bytes(), report.stat().st_mtime_ns

    assert first == (job.folder / "two" / REPORT).read_bytes()
    assert len(page_of(job.folder / "one").pictures) == 4
    job.build("one", stages=stages)
    assert report.stat().st_mtime_ns == written

    config = {**stored_config(str(job.folder / "one")), "output": str(job.folder / "tight")}
    replay(merge_config(config, ["stages.brightness.bounds.brightness=[130,null]"], where="test"))
    text = page_of(job.folder / "tight").text
    assert "brightness of brightness: 1 clip(s), 33% of all" in text
    assert "≥ 130" in text


def test_a_bound_that_drops_nobody_else_is_shown_all_the_same(job: Job) -> None:
    job.record("a", brightness=120)
    job.build(stages={"brightness": BRIGHTNESS})
    contents = json.loads((job.folder / "out/dataset.json").read_text())["contents"]
    job.build(stages={"brightness": {**BRIGHTNESS, "bounds": {"brightness": [61, None]}}})

    assert json.loads((job.folder / "out/dataset.json").read_text())["contents"] == contents
    assert "≥ 61" in page_of(job.folder / "out").text
