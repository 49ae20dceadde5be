"""Whole builds of small recordings on a real Ray cluster: bad input and bad stages first."""

from __future__ import annotations

import filecmp
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.build import replay, stored_config
from pipelines.configure import merge_config
from schemas.errors import ConfigError, DatasetError, ManifestError, VvtError
from tests.pipelines.conftest import Job

STAGES = "tests.pipelines.stages"


def stage(name: str, **fields: object) -> dict[str, object]:
    return {"use": f"{STAGES}:{name}", **fields}


def test_hopeless_recordings_are_rows_and_the_good_one_is_built(job: Job) -> None:
    job.add("absent")
    (job.folder / "empty.mp4").touch()
    job.add("empty")
    (job.folder / "text.mp4").write_text("no video\n" * 100)
    job.add("text")
    job.record("good")
    summary = job.build()
    assert job.verdicts() == {"absent": "failed", "empty": "failed", "text": "failed", "good-00000000": "kept"}
    codes = {row["key"]: row["error_code"] for row in job.decisions() if row["verdict"] == "failed"}
    assert codes == {"absent": "missing", "empty": "empty", "text": "not_media"}
    assert summary.kept.total() == 1
    assert summary.failures.total() == 3


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [("raise", "error", "no luck today"), ("exit", "crashed", "died"), ("rename", "error", "another key")],
)
def test_a_bad_clip_ends_as_one_row_and_its_neighbours_are_kept(job: Job, how: str, code: str, words: str) -> None:
    for name in ("a", "b", "c"):
        job.record(name)
    job.build(stages={"bad": stage("Misbehaves", pair_id="b", how=how)}, run={"workers": 2})
    rows = {row["key"]: row for row in job.decisions()}
    assert {key: row["verdict"] for key, row in rows.items()} == {
        "a-00000000": "kept",
        "b-00000000": "failed",
        "c-00000000": "kept",
    }
    bad = rows["b-00000000"]
    assert (bad["stage"], bad["error_code"]) == ("bad", code)
    assert words in bad["error"]
    assert bad["traceback"]
    assert "b-00000000" not in {row["key"] for row in pq.read_table(job.folder / "out/index.parquet").to_pylist()}


def test_wrong_data_from_a_stage_is_caught_where_it_was_made(job: Job) -> None:
    job.record("a")
    job.build(stages={"short": stage("WrongShape")})
    job.build("out2", stages={"nan": stage("NotFinite")})
    assert "source_pts" in job.decisions()[0]["error"]
    assert "not finite" in job.decisions("out2")[0]["error"]


def test_a_stage_that_cannot_be_set_up_stops_the_run_with_its_reason(job: Job) -> None:
    job.record("a")
    with pytest.raises(VvtError, match="does not fit"):
        job.build(stages={"big": stage("CannotSetUp")})


def test_a_chain_that_cannot_work_is_refused_before_anything_starts(job: Job) -> None:
    job.record("a")
    with pytest.raises(ConfigError, match="'needy' needs 'pose'"):
        job.build(stages={"needy": stage("NeedsPose")})
    with pytest.raises(ConfigError, match="did you mean 'blurr'|there is no stage"):
        job.build(stages={"bluur": {}})
    with pytest.raises(ConfigError, match="no Stage called"):
        job.build(stages={"x": stage("Nobody")})
    with pytest.raises(ConfigError, match="no metric contrast in Brightness"):
        job.build(stages={"x": stage("Brightness", bounds={"contrast": [0, 1]})})
    assert not (job.folder / "out").exists()


def test_a_bad_manifest_is_refused_with_all_its_lines(job: Job) -> None:
    job.add("a", part="hat")
    job.add("a b")
    with pytest.raises(ManifestError) as caught:
        job.build()
    assert [(problem.line, problem.field) for problem in caught.value.problems] == [(1, "part"), (2, "pair_id")]


def test_a_second_run_does_no_work(job: Job) -> None:
    job.record("a")
    job.record("b", brightness=20)
    (job.folder / "seen").mkdir()
    stages = {
        "brightness": stage("Brightness", bounds={"brightness": [60, None]}),
        "counted": stage("Counted", folder=str(job.folder / "seen")),
    }
    first = job.build(stages=stages)
    shards = job.shards()
    second = job.build(stages=stages)
    assert not first.unchanged
    assert second.unchanged
    assert second.recordings_read == 0
    assert job.shards() == shards
    assert {path.name: path.read_text() for path in (job.folder / "seen").iterdir()} == {"a-00000000": "x"}


def test_a_changed_field_runs_that_stage_and_no_video_is_read_again(job: Job) -> None:
    job.record("a")
    (job.folder / "seen").mkdir()
    folder = str(job.folder / "seen")
    job.build(stages={"counted": stage("Counted", folder=folder)})
    (job.folder / "a.mp4").touch()  # another time is another recording
    summary = job.build(stages={"counted": stage("Counted", folder=folder)})
    assert summary.recordings_read == 1
    summary = job.build(stages={"counted": stage("Counted", folder=folder, salt=1)})
    assert summary.recordings_read == 0
    assert (job.folder / "seen/a-00000000").read_text() == "xxx"


def test_new_and_removed_rows_change_only_themselves(job: Job) -> None:
    job.record("a")
    job.record("b")
    (job.folder / "seen").mkdir()
    stages = {"counted": stage("Counted", folder=str(job.folder / "seen"))}
    job.build(stages=stages)
    job.rows.pop(0)
    job.record("c")
    summary = job.build(stages=stages)
    assert summary.recordings_read == 1
    assert job.verdicts() == {"b-00000000": "kept", "c-00000000": "kept"}
    assert (job.folder / "seen/b-00000000").read_text() == "x"


def test_one_and_two_workers_write_the_same_bytes(job: Job) -> None:
    for index in range(5):
        job.record(f"r{index}", brightness=60 + 20 * index, seconds=2.0 + index)
    stages = {"brightness": stage("Brightness")}
    shards = {"max_samples": 2}
    job.build("one", stages=stages, shards=shards, run={"workers": 1})
    job.build("two", stages=stages, shards=shards, run={"workers": 2})
    assert len(job.shards("one")) >= 3
    assert job.shards("one") == job.shards("two")
    for name in ("index.parquet", "dataset.json", "README.md"):
        assert filecmp.cmp(job.folder / "one" / name, job.folder / "two" / name, shallow=False), name


def test_replay_tightens_without_a_video_and_says_what_loosening_needs(job: Job) -> None:
    job.record("bright", brightness=160)
    job.record("dim", brightness=100)
    job.record("dark", brightness=30)
    (job.folder / "seen").mkdir()
    stages = {
        "brightness": stage("Brightness", bounds={"brightness": [60, None]}),
        "counted": stage("Counted", folder=str(job.folder / "seen")),
    }
    job.build(stages=stages)
    for video in job.folder.glob("*.mp4"):
        video.unlink()

    def replayed(bound: str, to: str):
        config = {**stored_config(str(job.folder / "out")), "output": str(job.folder / to)}
        return replay(merge_config(config, [f"stages.brightness.bounds.brightness={bound}"], where="test"))

    tighter = replayed("[130,null]", "tight")
    assert tighter.kept.total() == 1
    assert tighter.drops == {"brightness.brightness": 2}
    assert job.verdicts("tight")["dim-00000000"] == "dropped"
    looser = replayed("[0,null]", "loose")
    assert looser.unfinished == 1
    assert job.verdicts("loose")["dark-00000000"] == "unfinished"
    assert set(job.verdicts().values()) == {"kept", "dropped"}  # the first dataset is as it was


def test_replay_of_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no built dataset"):
        stored_config(str(tmp_path))


def test_split_groups_stay_together(job: Job) -> None:
    job.record("a")
    for index in range(12):
        job.add(f"a{index}", "a.mp4", start=0, split_group=f"g{index}")
    job.build(split={"test_share": 0.5})
    assert len({row["split"] for row in pq.read_table(job.folder / "out/index.parquet").to_pylist()}) == 1


def test_the_written_card_has_no_path_of_this_machine(job: Job) -> None:
    job.record("a")
    job.build()
    written = (job.folder / "out/dataset.json").read_text() + (job.folder / "out/README.md").read_text()
    assert str(job.folder) not in written
    assert str(job.folder).encode() not in (job.folder / "out/shards/train-000000.tar").read_bytes()
    assert json.loads((job.folder / "out/dataset.json").read_text())["splits"]["train"]["samples"] == 1
