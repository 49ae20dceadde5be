"""`vvt build --plan`: what would run and why, while nothing runs and nothing is written."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipelines.build import plan_build
from pipelines.explain import StageWork
from schemas.errors import ManifestError
from tests.pipelines.conftest import Job

STAGES = "tests.pipelines.stages"


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def planned(job: Job, **values: Any) -> tuple[dict[str, str], dict[str, StageWork]]:
    """Reasons by pair and work by stage; fails if planning has touched a file."""
    config = job.config(**values)
    before = listing(job.folder)
    plan, works = plan_build(config)
    assert listing(job.folder) == before
    return plan.reasons, {work.stage: work for work in works}


def stages(**fields: Any) -> dict[str, Any]:
    """A filter, and two stages the second of which takes what the first gives."""
    return {
        "brightness": {"use": f"{STAGES}:Brightness", "bounds": {"brightness": [60, None]}},
        "parsed": {"use": f"{STAGES}:GivesParsing", **fields},
        "label": {"use": f"{STAGES}:TakesParsing"},
    }


def test_of_nothing_every_row_is_new_and_nothing_is_written(job: Job) -> None:
    job.record("a")
    job.add("absent")
    reasons, works = planned(job, stages=stages())
    assert reasons == {"a": "is new", "absent": "is new"}
    assert works == {}
    assert not (job.folder / "out").exists()


def test_a_bad_manifest_is_refused_as_a_build_would(job: Job) -> None:
    job.add("a", part="hat")
    with pytest.raises(ManifestError):
        planned(job)


def test_what_changed_is_named_and_what_follows_from_it(job: Job) -> None:
    for name, brightness in (("a", 120), ("b", 130), ("dark", 20)):
        job.record(name, brightness=brightness)
    job.build(stages=stages())
    assert planned(job, stages=stages()) == ({}, {})

    reasons, works = planned(job, stages=stages(label=3))
    assert reasons == {"a": "1 clip(s) to go on with at parsed", "b": "1 clip(s) to go on with at parsed"}
    assert works["parsed"] == StageWork("parsed", begins=2, runs=Counter({"label: 0 → 3": 2}))
    assert works["label"] == StageWork("label", begins=0, runs=Counter({"takes from parsed, which runs before it": 2}))

    looser = stages()
    looser["brightness"]["bounds"] = {"brightness": [0, None]}
    _, works = planned(job, stages=looser)
    assert works["parsed"] == StageWork("parsed", begins=1, runs=Counter({"has not run on them": 1}))

    added = {**stages(), "nan": {"use": f"{STAGES}:NotFinite"}}
    _, works = planned(job, stages=added)
    assert works == {"nan": StageWork("nan", begins=2, runs=Counter({"has not run on them": 2}))}


def test_a_changed_row_and_a_changed_ingest_say_so(job: Job) -> None:
    job.record("a")
    job.build(stages=stages())
    job.rows[0]["part"] = "dress"
    reasons, works = planned(job, stages=stages())
    assert set(works) == {"brightness", "parsed", "label"}
    assert all("manifest row" in why for work in works.values() for why in work.runs)
    job.rows[0]["part"] = "upper"
    cut_otherwise = {"detector": "pyscenedetect", "min_seconds": 1.0, "max_seconds": 4.0, "crf": 30}
    reasons, works = planned(job, stages=stages(), ingest=cut_otherwise)
    assert reasons == {"a": "ingest is configured otherwise now"}
    assert works["ingest"].runs == Counter({"crf: 18.0 → 30.0": 1})


def test_a_failed_clip_is_planned_only_when_it_is_asked_for(job: Job) -> None:
    job.record("a")
    bad = {"bad": {"use": f"{STAGES}:Misbehaves", "pair_id": "a", "how": "raise"}}
    job.build(stages=bad, run={"max_failed_share": 1})
    assert planned(job, stages=bad)[1] == {}
    _, works = planned(job, stages=bad, run={"retry_failed": True})
    assert works["bad"].runs == Counter({"failed before, and is tried again": 1})


def test_settings_that_nobody_wrote_down_are_called_changed_all_the_same(job: Job) -> None:
    job.record("a")
    job.build(stages=stages())
    (job.folder / "out/work/settings.json").write_text("no json")
    _, works = planned(job, stages=stages(label=3))
    assert works["parsed"].runs == Counter({"its settings, code or weights have changed": 1})


def test_the_command_prints_it_and_starts_no_ray(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.record("a")
    config = tmp_path / "c.yaml"
    config.write_text(job.config().model_dump_json())
    code = (
        "import sys, ray; from pipelines.cli import main\n"
        "ray.init = lambda *a, **k: sys.exit('started Ray')\n"
        f"sys.argv = ['vvt', 'build', {str(config)!r}, '--plan']; main()"
    )
    before = listing(tmp_path)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "is new" in done.stdout
    assert listing(tmp_path) == before
