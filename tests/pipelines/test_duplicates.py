"""Re-runs of real footage in whole builds: the best copy stays, whatever the order, and both are on one side."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.build import replay
from tests.clips import shared
from tests.curation.reels import ffmpeg
from tests.pipelines.conftest import Job

STAGES = {"duplicates": {"use": "curation.duplicates.signature:Duplicates"}}
LOGO = "drawbox=x=iw*0.7:y=ih*0.05:w=iw*0.25:h=ih*0.08:color=white:t=fill"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, cluster: None) -> Job:
    """A dancer, named twice; a re-run of it, for two garments: begun later, smaller, coarser, at another rate, with a
    logo; somebody else; and a test card, twice.
    """
    job = Job(tmp_path_factory.mktemp("job"))
    man, woman = shared("clips/dance_man.mp4"), shared("clips/dance_woman.mp4")
    worse = ("-an", "-vf", f"fps=25,{LOGO},scale=-2:240", "-crf", "28", "-preset", "veryfast")
    ffmpeg("-t", "8", "-i", man, "-an", "-vf", "scale=-2:320", "-preset", "veryfast", job.folder / "first.mp4")
    ffmpeg("-ss", "0.7", "-t", "7.3", "-i", man, *worse, job.folder / "rerun.mp4")
    ffmpeg("-t", "4", "-i", woman, "-an", "-vf", "scale=-2:320", "-preset", "veryfast", job.folder / "other.mp4")
    ffmpeg("-f", "lavfi", "-i", "smptebars=size=160x120:rate=24", "-t", "3", job.folder / "card.mp4")
    for name, video in {"first": "first", "rerun": "rerun", "other": "other", "again": "first"}.items():
        job.add(name, f"{video}.mp4")
    job.add("trousers", "rerun.mp4", part="lower")
    job.add("card")
    job.add("same-card", "card.mp4", split_group="apart")
    job.build(stages=STAGES, run={"workers": 1})
    return job


def told(job: Job, out: str = "out") -> dict[str, dict[str, Any]]:
    """What was decided, without how long it took."""
    return {row["key"]: {**row, "seconds": 0} for row in job.decisions(out)}


def of(rows: dict[str, dict[str, Any]], pair_id: str) -> list[dict[str, Any]]:
    return [row for row in rows.values() if row["pair_id"] == pair_id]


def sides(job: Job, out: str) -> dict[str, str]:
    """Pair id → the one side that its samples are on."""
    found = {
        (member.rpartition("-")[0], shard.partition("-")[0])
        for shard, members in job.shards(out).items()
        for member in members
        if "-" in member
    }
    assert len(dict(found)) == len(found), "a pair on both sides"
    return dict(found)


def test_a_rerun_is_dropped_naming_the_better_copy(built: Job) -> None:
    rows = told(built)
    reruns = of(rows, "rerun")
    assert len(reruns) >= 2
    for row in reruns:
        assert (row["verdict"], row["stage"], row["metric"]) == ("dropped", "duplicates", "duplicate_share")
        assert rows[row["duplicate_of"]]["verdict"] == "kept"
        assert row["duplicate_of"] in row["words"]
        assert row["value"] == row["metrics"]["duplicate_share"] > 0.5
    (other,) = of(rows, "other")
    assert (other["verdict"], other["metrics"]["duplicate_share"], other["duplicate_of"]) == ("kept", 0.0, None)


def test_of_equal_copies_the_first_key_stays(built: Job) -> None:
    rows = told(built)
    assert {row["verdict"] for row in of(rows, "again")} == {"kept"}
    assert {row["verdict"] for row in of(rows, "first")} == {"dropped"}


def test_one_footage_for_two_garments_is_two_samples(built: Job) -> None:
    assert {row["verdict"] for row in of(told(built), "trousers")} == {"kept"}


def test_still_pictures_are_nobodys_copies(built: Job) -> None:
    rows = told(built)
    cards = of(rows, "card") + of(rows, "same-card")
    assert {row["verdict"] for row in cards} == {"kept"}
    assert {row["metrics"]["duplicate_share"] for row in cards} == {None}, "nothing to measure"


def test_order_and_workers_change_nothing(built: Job) -> None:
    shuffled = Job(built.folder)
    shuffled.rows = built.rows[::-1]
    shuffled.build("shuffled", stages=STAGES, run={"workers": 2})
    assert told(shuffled, "shuffled") == told(built)
    assert shuffled.shards("shuffled") == built.shards()


def test_another_bound_is_a_replay_and_copies_stay_on_one_side(built: Job) -> None:
    off = {"duplicates": {**STAGES["duplicates"], "bounds": {"duplicate_share": None}}}
    linked, apart = [], []
    for seed in range(6):
        values = {"work": str(built.folder / "out/work"), "split": {"test_share": 0.5, "seed": seed}}
        replay(built.config("linked", **values, stages=off))
        replay(built.config("apart", **values, stages={}))
        linked.append(sides(built, "linked"))
        apart.append(sides(built, "apart"))
    assert set(built.verdicts("linked").values()) == {"kept"}
    assert all(row["duplicate_of"] for row in of(told(built, "linked"), "rerun")), "it is said all the same"
    assert all(side["first"] == side["rerun"] == side["trousers"] for side in linked)
    assert any(side["first"] != side["rerun"] for side in apart), "else nothing could be seen here"
    assert any(side["first"] != side["other"] for side in linked), "others are dealt apart"
