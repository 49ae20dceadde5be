"""What users get wrong, and what they find on their disks: sentences, not tracebacks; rows, not lost runs."""

from __future__ import annotations

import filecmp
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console
from typer import Exit

from pipelines.build import Summary, replay, stored_config
from pipelines.cli import probe
from pipelines.configure import load_config, merge_config
from pipelines.summary import print_summary
from schemas.errors import ConfigError, StageError
from tests.pipelines.conftest import Job

HOSTILE = "tests.pipelines.hostile_stages"
ROOT = Path(__file__).resolve().parents[2]


def stage(name: str, /, **fields: object) -> dict[str, object]:
    return {"use": f"{HOSTILE}:{name}", **fields}


def only(job: Job, out: str = "out") -> dict[str, Any]:
    (row,) = job.decisions(out)
    return row


def replayed(job: Job, out: str, to: str, *overrides: str) -> Any:
    config = {**stored_config(str(job.folder / out)), "output": str(job.folder / to)}
    return replay(merge_config(config, overrides, where="test"))


# ---- stages


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("none", "returned NoneType, not a dict"),
        ("list", "returned list, not a dict"),
        ("text", "'1' for x, which is no number"),
        ("array", "which is no number"),
        ("huge", "which is no number"),
    ],
)
def test_a_filter_that_returns_no_numbers_fails_its_clip_in_words(job: Job, how: str, words: str) -> None:
    job.record("a")
    job.build(stages={"f": stage("Returns", how=how)})
    assert only(job)["verdict"] == "failed"
    assert words in only(job)["error"]


@pytest.mark.parametrize("how", ["float32", "bool"])
def test_numbers_of_numpy_are_numbers(job: Job, how: str) -> None:
    job.record("a")
    job.build(stages={"f": stage("Returns", how=how, bounds={"x": [2, None]})})
    assert (only(job)["verdict"], only(job)["value"], only(job)["bound_high"]) == ("dropped", 1.0, None)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("type", "expected Pose, got ndarray"),
        ("undeclared", "changed video, which Breaks.gives does not name"),
        ("removed", "changed video, which Breaks.gives does not name"),
        ("metric", "only a Filter measures"),
        ("surrogate", "bad \\udcff name"),
        ("mute", "MuteError: <its message cannot be read>"),
        ("endless", "xxx … xxx"),
    ],
)
def test_whatever_a_stage_leaves_behind_one_clip_fails_and_the_run_ends(job: Job, how: str, words: str) -> None:
    job.record("a")
    job.build(stages={"bad": stage("Breaks", how=how)})
    assert (only(job)["verdict"], only(job)["stage"]) == ("failed", "bad")
    assert words in only(job)["error"]
    assert len(only(job)["error"]) + len(only(job)["traceback"]) < 30_000
    assert job.build(stages={}).kept.total() == 1  # the stored clip is as it was before that stage


def test_a_setup_that_fails_names_its_stage_and_line(job: Job) -> None:
    job.record("a")
    with pytest.raises(StageError, match=r"big: setup\(\) failed: KeyError: 'model' \(.*hostile_stages.py:\d+\)"):
        job.build(stages={"big": stage("CannotBeSetUp")})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NoMetrics", "a filter without `metrics`"),
        ("ListOfMetrics", "`metrics` is to be a dict"),
        ("NoMeasure", r"defines no measure\(\)"),
        ("NoProcess", r"defines no process\(\)"),
        ("GivesUnknown", "there is no artifact 'posture'"),
        ("NeedsText", "`needs` is 'video'"),
    ],
)
def test_an_incomplete_stage_is_refused_when_the_config_is_read(job: Job, name: str, words: str) -> None:
    job.record("a")
    with pytest.raises(ConfigError, match=words):
        job.build(stages={"x": stage(name)})


# ---- config


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise RuntimeError('boom')", r"RuntimeError: boom \(.*mine_0.py:1\)"),
        ("def (", "SyntaxError"),
        ("import not_there", "No module named 'not_there'"),
    ],
)
def test_a_module_that_cannot_be_imported_says_why(
    job: Job, monkeypatch: pytest.MonkeyPatch, source: str, words: str
) -> None:
    monkeypatch.syspath_prepend(str(job.folder))
    name = f"mine_{['raise', 'def (', 'impor'].index(source[:5])}"
    (job.folder / f"{name}.py").write_text(source)
    with pytest.raises(ConfigError, match=words):
        job.build(stages={"x": {"use": f"{name}:Mine"}})


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ({"ingest": stage("Returns", how="bool")}, "cannot be called 'ingest'"),
        ({"inputs": stage("Returns", how="bool")}, "cannot be called 'inputs'"),
        ({"x": stage("Returns", how="bool", name="y")}, "named by its key"),
        ({"x": {"use": ".here:X"}}, "names no class"),
        ({"x": stage("Returns", how="bool", bounds={"x": [float("nan"), None]})}, "a bound is no number"),
    ],
)
def test_names_and_bounds_that_cannot_be(job: Job, stages: dict[str, Any], words: str) -> None:
    job.record("a")
    with pytest.raises(ConfigError, match=words):
        job.build(stages=stages)


def test_removing_a_stage_that_others_need_names_it(job: Job) -> None:
    job.record("a")
    with pytest.raises(ConfigError, match="'body' gives it, but the config removes it"):
        job.build(tier="embedded", stages={"body": None})


@pytest.mark.parametrize(
    ("text", "words"),
    [("- a\n", "this is a list"), ("", "manifest is missing; output is missing"), ("a: [1\n", "this is no YAML")],
)
def test_a_config_file_that_is_none(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_config(str(tmp_path / "c.yaml"))


def test_empty_sections_are_defaults_and_unknown_protocols_an_error(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("manifest: m.csv\noutput: out\nstages:\nrun:\n")
    assert load_config(str(tmp_path / "c.yaml"), ["name=a=b"]).name == "a=b"
    with pytest.raises(ConfigError, match="'=5' is no override"):
        load_config(str(tmp_path / "c.yaml"), ["=5"])
    with pytest.raises(ConfigError, match="no file system"):
        load_config("bogus://c.yaml")


# ---- what lies on the disk


def test_an_output_that_cannot_be_written_is_refused_before_any_work(job: Job) -> None:
    job.record("a")
    (job.folder / "file").touch()
    for out in ("file", "file/below"):
        with pytest.raises(ConfigError, match="nothing can be written here"):
            job.build(out)
    with pytest.raises(ConfigError, match="nothing can be written here"):
        job.build(work=str(job.folder / "file"))
    with pytest.raises(ConfigError, match="memory:// of its own"):
        job.build(work="memory://work")


@pytest.mark.parametrize("damage", ["dataset", "version", "ledger", "clip", "shard", "index"])
def test_a_damaged_output_is_mended_to_the_same_bytes(job: Job, damage: str) -> None:
    job.record("a")
    job.record("b")
    job.build()
    names = ("dataset.json", "index.parquet", "README.md", "shards/train-000000.tar")
    out = job.folder / "out"
    whole = {name: (out / name).read_bytes() for name in names}
    described = json.loads(whole["dataset.json"])
    {
        "dataset": lambda: (out / "dataset.json").write_text("{"),
        "version": lambda: (out / "dataset.json").write_text(json.dumps({**described, "schema_version": 99})),
        "ledger": lambda: (out / "work/ledgers/a.json").write_text("{"),
        "clip": lambda: (out / "work/clips/a/a-00000000.clip").write_bytes(b"PK"),
        "shard": lambda: (out / "shards/train-000000.tar").unlink(),
        "index": lambda: (out / "index.parquet").write_bytes(b"PAR1"),
    }[damage]()
    assert not job.build().unchanged
    assert [name for name in names if (out / name).read_bytes() != whole[name]] == []
    assert job.build().unchanged


def test_the_card_follows_the_bounds_even_where_the_samples_stay(job: Job) -> None:
    job.record("bright", brightness=160)
    job.record("dark", brightness=30)
    bright = {"use": "tests.pipelines.stages:Brightness"}
    job.build(stages={"b": {**bright, "bounds": {"brightness": [60, None]}}})
    shards = job.shards()
    summary = job.build(stages={"b": {**bright, "bounds": {"brightness": [90, None]}}})
    described = json.loads((job.folder / "out/dataset.json").read_text())
    assert described["stages"]["b"]["bounds"]["brightness"] == [90, None]
    assert not summary.unchanged
    assert job.shards() == shards


# ---- replay


def test_replay_says_what_only_a_build_can_do(job: Job) -> None:
    job.record("a")
    job.build(stages={"f": stage("Returns", how="bool")})
    with pytest.raises(ConfigError, match="`ingest` differs"):
        replayed(job, "out", "cut", "ingest.max_seconds=2")
    summary = replayed(job, "out", "changed", "stages.f.how=float32")
    assert (summary.waiting, summary.kept.total()) == ({"f": 1}, 0)
    assert "`vvt build` runs it" in only(job, "changed")["words"]
    job.record("new")
    job.config()  # writes the manifest
    summary = replayed(job, "out", "more")
    assert (summary.waiting, summary.kept.total()) == ({"ingest": 1}, 1)
    assert job.verdicts("more")["new"] == "unfinished"


def test_a_dataset_that_was_moved_is_replayed_from_where_it_is(job: Job) -> None:
    job.record("a")
    job.build()
    (job.folder / "out").rename(job.folder / "moved")
    assert replayed(job, "moved", "again").kept.total() == 1
    assert job.shards("again") == job.shards("moved")


# ---- the command


def session_of(process: psutil.Process) -> int | None:
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else os.getsid(process.pid)
    except (psutil.Error, OSError):
        return None


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_build_that_was_stopped_goes_on_and_ends_in_the_same_bytes(job: Job, how: signal.Signals) -> None:
    for name in ("a", "b", "c"):
        job.record(name, seconds=3)
    values = {"stages": {"slow": stage("Slow")}}
    (job.folder / "config.json").write_text(job.config("stopped", **values).model_dump_json())
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", "build", "config.json"],
        cwd=job.folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    deadline = time.monotonic() + 90
    while not any(job.folder.glob("stopped/work/clips/*/*.clip")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(how)
    said = process.communicate(timeout=60)[0]
    assert not (job.folder / "stopped/dataset.json").exists()
    if how != signal.SIGKILL:
        assert process.returncode == 128 + how
        assert "the same command goes on from here" in said
    for _ in range(300):  # Ray's agents notice a dead raylet within a minute or two; nothing else may stay
        left = [other for other in psutil.process_iter() if session_of(other) == process.pid]
        if all("Agent" in other.name() for other in left):
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"left behind: {left}")
    job.build("whole", **values)
    assert job.build("stopped", **values).kept.total() == 3
    for name in ("dataset.json", "index.parquet", "README.md", "shards/train-000000.tar"):
        assert filecmp.cmp(job.folder / "stopped" / name, job.folder / "whole" / name, shallow=False), name


def test_names_with_brackets_and_long_paths_are_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(markup=False)
    print_summary(Summary(output="/data/" + "long/" * 30 + "[red]out", kept=Counter(train=1)), console)
    said = capsys.readouterr().out
    assert "long/" * 30 + "[red]out/decisions.parquet" in said
    with pytest.raises(Exit):
        probe(["[red]absent.mp4"])
    assert "[red]absent.mp4" in capsys.readouterr().out
