"""Clips that break their stage, their worker or their time: one row each, and nobody else notices."""

from __future__ import annotations

import threading
import time

import pytest

from schemas.errors import OutageError, StageError
from tests.pipelines.conftest import Job

FAULTY = "tests.pipelines.faulty_stages"


def stage(name: str, /, **fields: object) -> dict[str, object]:
    return {"use": f"{FAULTY}:{name}", **fields}


def failures(job: Job, out: str = "out") -> dict[str, tuple[str, str]]:
    return {
        row["pair_id"]: (row["stage"], row["error_code"]) for row in job.decisions(out) if row["verdict"] == "failed"
    }


def test_every_fault_is_one_row_and_the_neighbours_are_kept(job: Job) -> None:
    faults = {
        "raises": ("raise", "error", "RuntimeError: on purpose"),
        "sleeps": ("sleep", "time_limit", "longer than the 4 s"),
        "holds": ("hold", "time_limit", "longer than the 4 s"),
        "eats": ("eat", "memory", "MemoryError"),
        "exits": ("exit", "crashed", "worker died"),
        "segfaults": ("segfault", "crashed", "Segmentation fault"),
        "misshapes": ("shape", "error", "Pose has 2 frames"),
        "nans": ("nan", "error", "pose"),
        "renames": ("key", "error", "another key"),
    }
    for name in faults:
        job.record(name, seconds=1)
    for name in ("fine", "good"):
        job.record(name, seconds=1)
    how = {name: fault for name, (fault, _, _) in faults.items()}
    # Both in one group: a neighbour that ran before in the same worker must not be blamed.
    stages = {
        "before": stage("Faulty"),
        "faulty": stage("Faulty", how=how, time_limit=4),
    }
    summary = job.build(stages=stages, run={"worker_memory_mb": 3000})
    assert failures(job) == {name: ("faulty", code) for name, (_, code, _) in faults.items()}
    rows = {row["pair_id"]: row for row in job.decisions()}
    assert {name: words for name, (_, _, words) in faults.items() if words not in rows[name]["words"]} == {}
    assert {name for name in faults if not rows[name]["traceback"]} == set()
    assert "faulty_stages.py" in rows["holds"]["traceback"]
    assert "faulty_stages.py" in rows["segfaults"]["traceback"]
    assert summary.kept.total() == 2
    assert {rows["fine"]["verdict"], rows["good"]["verdict"]} == {"kept"}
    assert job.build(stages=stages, run={"worker_memory_mb": 3000}).unchanged


def test_of_clips_that_run_together_only_those_fail_that_are_at_fault(job: Job) -> None:
    faults = {"raises": "error", "segfaults": "crashed", "nans": "error"}
    for name in (*faults, *"abcdefghi"):
        job.record(name, seconds=1)
    job.build()  # so that all clips wait when the stage begins
    log = job.folder / "batches"
    how = {"raises": "raise", "segfaults": "segfault", "nans": "nan"}
    stages = {"faulty": stage("Faulty", how=how, log=str(log), batch_clips=4), "after": stage("Faulty")}
    summary = job.build(stages=stages, run={"workers": 1})
    assert failures(job) == {name: ("faulty", code) for name, code in faults.items()}
    assert summary.kept.total() == 9
    sizes = [int(size) for size in log.read_text().split()]
    assert sizes[:3] == [4, 1, 1]  # a batch that a clip made fail, then its clips one by one
    assert max(sizes[sizes.index(1) :]) == 4
    one_by_one = {name: {**fields, "batch_clips": 1} for name, fields in stages.items()}
    job.build(stages=one_by_one)
    assert len(log.read_text().split()) == len(sizes)  # the size of a batch changes no result: nothing ran again


def test_clips_that_run_together_are_decoded_once_for_the_stages_between(job: Job) -> None:
    for name in ("raises", *"abcde"):
        job.record(name, seconds=1)
    job.build()  # so that all clips wait when the stages begin
    stages: dict[str, object] = {"together": stage("Faulty", batch_clips=6, log=str(job.folder / "batches"))}
    for name in ("one", "two", "three"):
        how = {"raises": "raise"} if name == "two" else {}
        stages[name] = stage("Looks", how=how, seen=str(job.folder / name))
    job.build(stages=stages, run={"workers": 1})
    assert (job.folder / "batches").read_text().split() == ["6"]
    seen = [(job.folder / name).read_text().splitlines() for name in ("one", "two", "three")]
    one, two, three = (dict(line.split() for line in lines) for lines in seen)
    assert len(one) == 6
    assert one == two
    assert three == {key: frames for key, frames in one.items() if not key.startswith("raises")}
    assert failures(job) == {"raises": ("two", "error")}


def test_a_clip_whose_worker_was_killed_by_chance_is_kept_however_many_stages_that_befalls(job: Job) -> None:
    job.record("a", seconds=1)
    stages = {}
    for name in ("one", "two", "three"):
        (job.folder / name).mkdir()
        stages[name] = stage("DiesOnce", folder=str(job.folder / name))
    assert job.build(stages=stages).kept.total() == 1
    assert {name: len(list((job.folder / name).iterdir())) for name in stages} == {"one": 1, "two": 1, "three": 1}


def test_a_stage_that_fails_on_most_clips_stops_the_run_and_says_why(job: Job) -> None:
    job.record("a", seconds=50)
    ingest = {"detector": "pyscenedetect", "min_seconds": 1, "max_seconds": 2}
    with pytest.raises(StageError, match="failed on 20 of 20 clips.*nobody listens.*Is the server") as caught:
        job.build(stages={"asks": stage("AlwaysRaises")}, ingest=ingest)
    assert caught.value.where == "stages.asks"
    # Once it is mended, what failed is tried again where the user says so.
    summary = job.build(stages={"asks": stage("Faulty")}, ingest=ingest)
    assert (summary.kept.total(), summary.failures.total()) == (25, 0)


def test_an_outage_pauses_with_growing_intervals_and_loses_nothing(job: Job) -> None:
    for name in ("a", "b", "c"):
        job.record(name, seconds=1)
    back, asked = job.folder / "back", job.folder / "asked"
    threading.Thread(target=lambda: (time.sleep(5), back.touch())).start()
    summary = job.build(stages={"asks": stage("Away", back=str(back), asked=str(asked))})
    assert (summary.kept.total(), summary.failures.total()) == (3, 0)
    assert len(asked.read_text().splitlines()) < 11  # 13 and more if the intervals did not grow


def test_an_outage_that_lasts_stops_the_run_and_the_next_one_goes_on(job: Job) -> None:
    job.record("a", seconds=1)
    back, asked = job.folder / "back", job.folder / "asked"
    values = {"stages": {"asks": stage("Away", back=str(back), asked=str(asked))}, "run": {"outage_seconds": 2}}
    with pytest.raises(OutageError, match="still away after .*the server is away.*goes on from here"):
        job.build(**values)
    assert not (job.folder / "out/dataset.json").exists()
    back.touch()
    assert job.build(**values).kept.total() == 1
