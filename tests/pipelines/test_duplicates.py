"""Re-runs of real footage in whole builds: the best copy stays, whatever the order, and both are on one side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.build import replay
from tests.clips import shared
from tests.curation.reels import ffmpeg
from tests.pipelines.conftest import Job

STAGES = {"duplicates": {"use": "curation.duplicates.signature:Duplicates"}}
LOGO = "drawbox=x=iw*0.7:y=ih*0.05:w=iw*0.25:h=ih*0.08:color=white:t=fill"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dancer; the same re-run: smaller, coarser, with a logo, at another rate, begun later; and somebody else."""
    folder = tmp_path_factory.mktemp("recordings")
    man, woman = shared("clips/dance_man.mp4"), shared("clips/dance_woman.mp4")
    ffmpeg("-i", man, "-an", "-vf", "scale=-2:480", "-crf", "20", folder / "first.mp4")
    ffmpeg(
        "-ss", "0.7", "-i", man, "-an", "-vf", f"fps=25,{LOGO},scale=-2:360", "-crf", "30", folder / "rerun.mp4"
    )  # fmt: skip
    ffmpeg("-t", "6", "-i", woman, "-an", "-vf", "scale=-2:480", folder / "other.mp4")
    return folder


def add(job: Job, recordings: Path, *names: str, **fields: Any) -> None:
    for name in names:
        job.add(name, video=str(recordings / f"{name}.mp4"), **fields)


def told(job: Job, out: str) -> dict[str, Any]:
    """What was decided, without how long it took."""
    return {row["key"]: {**row, "seconds": 0} for row in job.decisions(out)}


def test_a_rerun_is_dropped_naming_the_better_copy_in_any_order(job: Job, recordings: Path) -> None:
    add(job, recordings, "first", "rerun", "other")
    job.build(stages=STAGES, run={"workers": 1})
    rows = told(job, "out")
    kept = {row["pair_id"] for row in rows.values() if row["verdict"] == "kept"}
    assert kept == {"first", "other"}
    reruns = [row for row in rows.values() if row["pair_id"] == "rerun"]
    assert len(reruns) >= 2
    for row in reruns:
        assert (row["verdict"], row["stage"], row["metric"]) == ("dropped", "duplicates", "duplicate_share")
        assert rows[row["duplicate_of"]]["verdict"] == "kept"
        assert row["duplicate_of"] in row["words"]
        assert row["value"] == row["metrics"]["duplicate_share"] > 0.5
    assert {rows[key]["metrics"]["duplicate_share"] for key in rows if rows[key]["verdict"] == "kept"} == {0.0}
    job.rows.reverse()
    job.build("reversed", stages=STAGES, run={"workers": 2})
    assert told(job, "reversed") == rows
    assert job.shards("reversed") == job.shards("out")


def test_replay_with_another_bound_keeps_the_copies_on_one_side(job: Job, recordings: Path) -> None:
    add(job, recordings, "first", "rerun", "other")
    job.build(stages=STAGES)
    off = {"duplicates": {**STAGES["duplicates"], "bounds": {"duplicate_share": None}}}
    sides = {}
    for seed in range(8):
        split = {"test_share": 0.5, "seed": seed}
        replay(job.config("linked", work=str(job.folder / "out/work"), stages=off, split=split))
        replay(job.config("apart", work=str(job.folder / "out/work"), stages={}, split=split))
        sides[seed] = [split_of_pairs(job.shards(out)) for out in ("linked", "apart")]
    assert set(job.verdicts("linked").values()) == {"kept"}
    assert any(row["duplicate_of"] for row in job.decisions("linked"))
    assert all(linked["first"] == linked["rerun"] for linked, _ in sides.values())
    assert any(apart["first"] != apart["rerun"] for _, apart in sides.values()), "nothing that links would be seen"
    assert len({linked["first"] == linked["other"] for linked, _ in sides.values()}) == 2, "others are dealt apart"


def split_of_pairs(shards: dict[str, dict[str, str]]) -> dict[str, str]:
    """Pair id → the one side that its samples are on."""
    sides = {(name.rpartition("-")[0], shard.partition("-")[0]) for shard in shards for name in shards[shard]}
    found = {pair: side for pair, side in sides if pair}
    assert len(found) == len([pair for pair, _ in sides if pair]), "a pair on both sides"
    return found


def test_one_footage_for_two_garments_is_two_samples_on_one_side(job: Job, recordings: Path) -> None:
    add(job, recordings, "first", part="upper")
    job.add("trousers", video=str(recordings / "rerun.mp4"), part="lower")
    job.build(stages=STAGES, split={"test_share": 0.5})
    assert set(job.verdicts().values()) == {"kept"}
    sides = split_of_pairs(job.shards())
    assert sides["first"] == sides["trousers"]


def test_a_recording_named_twice_is_kept_once(job: Job, recordings: Path) -> None:
    add(job, recordings, "first", end=8)
    job.add("again", video=str(recordings / "first.mp4"), end=8)
    job.build(stages=STAGES)
    verdicts = {(row["pair_id"], row["verdict"]) for row in job.decisions()}
    assert verdicts == {("again", "kept"), ("first", "dropped")}, "of equal copies the first key stays"


def test_still_pictures_are_nobodys_copies(job: Job) -> None:
    for name in ("card", "same-card"):
        ffmpeg(
            "-f", "lavfi", "-i", "smptebars=size=160x120:rate=24", "-t", "3", "-pix_fmt", "yuv420p",
            job.folder / f"{name}.mp4",
        )  # fmt: skip
        job.add(name)
    job.build(stages=STAGES)
    assert set(job.verdicts().values()) == {"kept"}
    assert all(row["metrics"]["duplicate_share"] is None for row in job.decisions()), "nothing to measure"
