"""What a run shows of itself: status from another shell, the log, Prometheus metrics, the profile."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from io import StringIO
from pathlib import Path
from typing import Any

import fsspec
import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from typer.testing import CliRunner

from pipelines import event_log
from pipelines.cli import app
from pipelines.event_log import EventLog
from pipelines.interruption import Interrupted
from pipelines.lock import LOCK, DriverLock
from pipelines.observer import Load
from pipelines.profile import PoolProfile, Profile, StageProfile, advice, print_profile
from pipelines.status import RunStatus, StatusFile, is_dead, read_status
from pipelines.tally import Durations, Tally
from pipelines.worker import Outcome, Pulled
from schemas.errors import DatasetError, LockedError, VvtError
from tests.pipelines.conftest import Job

STAGES = "tests.pipelines.stages"
OWN_LABELS = ("verdict", "result", "stage", "pool")
SLOW = {"slow": {"use": f"{STAGES}:Sleeps", "seconds": 0.6}}


def log_of(out: Path) -> list[dict[str, Any]]:
    (file,) = (out / "work/log").glob("*.jsonl")
    return [json.loads(line, parse_constant=pytest.fail) for line in file.read_text().splitlines()]


def status_words(out: Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["status", str(out)])
    return done.exit_code, done.output


def test_status_of_nothing_and_of_a_damaged_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nothing was ever run"):
        read_status(str(tmp_path))
    (tmp_path / "work").mkdir()
    (tmp_path / "work/status.json").write_text('{"state": "running"')
    with pytest.raises(DatasetError, match="no status"):
        read_status(str(tmp_path))


def test_a_killed_run_is_told_from_a_live_one(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pipelines.lock import DriverLock; from pipelines.status import StatusFile\n"
        "from pipelines.tally import Tally\n"
        "with DriverLock(sys.argv[1]) as lock, StatusFile(sys.argv[1] + '/work', Tally(), driver=lock.holder):\n"
        "    print('up', flush=True); time.sleep(60)"
    )
    run = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert run.stdout
    assert run.stdout.readline() == "up\n"
    assert status_words(tmp_path)[0] == 0
    run.kill()
    run.wait()
    code_, words = status_words(tmp_path)
    assert code_ == 1
    assert f"DEAD: process {run.pid}" in words
    assert "the same command goes on" in words.replace("\n", " ")
    with DriverLock(tmp_path):  # another run is alive there, but has not said anything yet
        assert is_dead(str(tmp_path), read_status(str(tmp_path)))


def test_a_run_is_seen_while_it_goes_on_and_after(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(StatusFile.__init__.__kwdefaults__, "every_seconds", 0.2)
    for name in ("a", "b", "c"):
        job.record(name)
    job.add("absent")
    seen: list[RunStatus] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            try:
                seen.append(read_status(str(job.folder / "out")))
            except DatasetError:
                continue

    looker = threading.Thread(target=look)
    looker.start()
    try:
        job.build(stages=SLOW, run={"workers": 1})
    finally:
        over.set()
        looker.join()
    running = [status for status in seen if status.state == "running"]
    assert any(call.stage == "slow" and call.seconds > 0 for status in running for call in status.working)
    assert any(status.workers.get("ingest") == 1 for status in running)
    assert all(status.driver.pid for status in running)
    last = read_status(str(job.folder / "out"))
    assert (last.state, last.kept, last.recordings_done, last.source_failures) == ("finished", 3, 4, {"missing": 1})
    assert last.stages["slow"].clips == 3
    assert last.stages["slow"].seconds == pytest.approx(1.8, rel=0.3)
    assert (last.workers, last.working, last.seconds_left) == ({}, (), None)
    exit_code, words = status_words(job.folder / "out")
    assert exit_code == 0
    assert words.startswith("finished")
    as_json = CliRunner().invoke(app, ["status", str(job.folder / "out"), "--json"])
    assert json.loads(as_json.output)["dead"] is False
    assert not list((job.folder / "out").rglob("*.part"))
    assert not list((job.folder / "out").rglob(LOCK))


def test_a_run_that_fails_leaves_its_cause(job: Job) -> None:
    job.record("a")
    with pytest.raises(VvtError):
        job.build(stages={"big": {"use": f"{STAGES}:CannotSetUp"}})
    status = read_status(str(job.folder / "out"))
    assert status.state == "failed"
    assert "does not fit" in status.cause
    assert status_words(job.folder / "out")[0] == 1
    last = log_of(job.folder / "out")[-1]
    assert last["event"] == "run_failed"
    assert "Traceback" in last["traceback"]


def test_an_interrupted_run_is_no_failed_one(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        DriverLock(tmp_path) as lock,
        EventLog(str(tmp_path / "work"), name="run"),
        StatusFile(str(tmp_path / "work"), Tally(), driver=lock.holder),
    ):
        raise Interrupted(signal.SIGTERM)
    status = read_status(str(tmp_path))
    assert (status.state, status.cause) == ("interrupted", "SIGTERM")
    assert status_words(tmp_path)[0] == 1
    assert log_of(tmp_path)[-1]["event"] == "run_interrupted"


def test_a_pause_shows_its_cause_until_it_is_over(tmp_path: Path) -> None:
    tally = Tally()
    with (
        DriverLock(tmp_path) as lock,
        StatusFile(str(tmp_path / "work"), tally, driver=lock.holder, every_seconds=0.02) as status,
    ):
        tally.paused("the disk is full", 1.5)
        status.load(Load())
        time.sleep(0.2)
        assert "paused: the disk is full" in status_words(tmp_path)[1]
        time.sleep(1.4)
        tally.load(Load(workers={"ingest": 2}))
        status.load(Load())
        time.sleep(0.2)
        exit_code, words = status_words(tmp_path)
        assert words.startswith("running (process")
        assert "2 in pool `ingest`" in words
        assert exit_code == 0


def test_a_run_that_lost_its_output_stops_and_leaves_it_to_the_other(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c", "d"):
        job.record(name)
    monkeypatch.setitem(DriverLock.__init__.__kwdefaults__, "beat_seconds", 0.1)
    lock = job.folder / "out" / LOCK

    def take_over() -> None:
        while not (job.folder / "out/work/clips").exists():
            time.sleep(0.1)
        while (held := json.loads(lock.read_text()))["token"] != "theirs":  # a beat under way may write over it
            lock.write_text(json.dumps({**held, "token": "theirs", "machine": "far-away"}))
            time.sleep(0.3)

    other = threading.Thread(target=take_over)
    other.start()
    with pytest.raises(LockedError):
        job.build(stages=SLOW, run={"workers": 1})
    other.join()
    assert json.loads(lock.read_text())["token"] == "theirs"
    assert not (job.folder / "out/dataset.json").exists()


def test_a_run_that_lost_its_output_while_it_packs_leaves_no_dataset_half_new(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        job.record(name)
    job.build()
    checks = Counter[str]()

    def lost(lock: DriverLock) -> None:
        checks["all"] += 1
        if checks["all"] > 3:  # both rows were decided, one sample is packed
            raise LockedError("another driver is at work here")

    monkeypatch.setattr(DriverLock, "check", lost)
    with pytest.raises(LockedError):
        job.build(name="Other")
    assert not (job.folder / "out/dataset.json").exists()  # no dataset that is half of one and half of the other
    assert not list((job.folder / "out").rglob("*.part"))


def test_a_second_build_is_refused_while_the_first_is_at_work(job: Job) -> None:
    job.record("a")
    with DriverLock(job.folder / "elsewhere", job.folder / "work"), pytest.raises(LockedError, match="work: another"):
        job.build(work=str(job.folder / "work"))
    job.build(work=str(job.folder / "work"))
    assert job.verdicts() == {"a-00000000": "kept"}


def test_the_log_tells_of_every_clip_and_why(job: Job) -> None:
    for name, brightness in (("good", 120), ("dark", 20), ("killer", 120), ("raiser", 120)):
        job.record(name, brightness=brightness)
    job.record("short", seconds=0.5)
    job.add("absent")
    job.build(
        stages={
            "brightness": {"use": f"{STAGES}:Brightness", "bounds": {"brightness": [60, None]}},
            "kill": {"use": f"{STAGES}:Misbehaves", "pair_id": "killer", "how": "exit"},
            "raise": {"use": f"{STAGES}:Misbehaves", "pair_id": "raiser", "how": "raise"},
        },
        run={"max_failed_share": 1},
    )
    events = log_of(job.folder / "out")
    assert [events[0]["event"], events[-1]["event"]] == ["run_started", "run_finished"]
    assert all(event["time"].endswith("Z") for event in events)
    done = {event["key"]: event for event in events if event["event"] == "clip_done"}
    rows = {row["key"]: row for row in job.decisions() if row["key"] != "absent"}
    assert {key: event["verdict"] for key, event in done.items()} == {key: row["verdict"] for key, row in rows.items()}
    assert done["dark-00000000"]["reason"] == "brightness.brightness"
    assert done["dark-00000000"]["stage"] == "brightness"
    assert done["raiser-00000000"]["stage"] == "raise"
    assert "no luck today" in done["raiser-00000000"]["traceback"]
    assert next(event["key"] for event in events if event["event"] == "retried") == "killer-00000000"
    ran = [event for event in events if event["event"] == "clip_ran" and event["key"] == "good-00000000"]
    assert set(ran[0]["stages"]) == {"brightness", "kill", "raise"}
    (failed,) = (event for event in events if event["event"] == "recording_failed")
    assert (failed["pair_id"], failed["reason"]) == ("absent", "missing")


def test_the_log_survives_what_json_cannot_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with EventLog(str(tmp_path), name="run", echo=True) as log:
        log.event("odd", seconds=float("nan"), value=float("-inf"), cause="line\nbreak \udcff \x00", stages={"a": 1.0})
        log.finished(
            Outcome(key="k", pair_id="p", next_stage=None, verdict="failed", reason="x: error", cause="\ud800")
        )
        logging.getLogger("pipelines.lock").warning("the lock was not renewed")
    lines = (tmp_path / "log/run.jsonl").read_text().splitlines()
    odd, done, warning, _ = (json.loads(line, parse_constant=pytest.fail) for line in lines)
    assert (odd["seconds"], odd["value"]) == (None, None)
    assert odd["cause"].startswith("line\nbreak")
    assert done["stage"] == "x"
    assert warning["cause"] == "the lock was not renewed"
    assert capsys.readouterr().err.splitlines() == lines


def test_a_store_that_cannot_append_gets_closed_parts_and_a_disk_in_trouble_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "PART_BYTES", 2000)
    monkeypatch.setattr(event_log, "FLUSH_SECONDS", 0.02)
    with EventLog("memory://watched", name="run") as log:
        for number in range(100):
            log.event("tick", number=number)
            time.sleep(0.005)
    fs = fsspec.filesystem("memory")
    parts = sorted(fs.ls("/watched/log", detail=False))
    assert len(parts) > 2
    ticks = [json.loads(line) for part in parts for line in fs.cat_file(part).splitlines()]
    assert [tick["number"] for tick in ticks if tick["event"] == "tick"] == list(range(100))

    (tmp_path / "log").write_text("a file where the folder should be")
    with EventLog(str(tmp_path), name="run") as log:
        log.event("first")
        time.sleep(0.1)
        (tmp_path / "log").unlink()
    lines = (tmp_path / "log/run.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["event"] == "first"
    assert "not being written" in lines[1]


def test_log_json_takes_the_place_of_progress(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    job.record("a")
    job.build(run={"log_json": True, "log_every_seconds": 0.01})
    lines = capsys.readouterr().err.splitlines()
    assert {json.loads(line)["event"] for line in lines} >= {"run_started", "clip_cut", "clip_done", "run_finished"}


def test_prometheus_reads_the_run_from_a_ray_node(job: Job) -> None:
    job.record("good", seconds=8)
    job.record("dark", brightness=20)
    job.add("absent")
    (port,) = {node["MetricsExportPort"] for node in ray.nodes() if node["Alive"]}
    seen: dict[tuple[str, str], float] = {}  # (metric, value of its own label) → last value; gauges end with the run
    counted = {
        ("clips_total", "kept"): 2, ("clips_total", "dropped"): 1, ("recordings_total", "read"): 2,
        ("recordings_total", "missing"): 1, ("stage_seconds_count", "slow"): 2, ("stage_seconds_count", "ingest"): 3,
    }  # fmt: skip
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(0.3):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as page:
                families = text_string_to_metric_families(page.read().decode())
            for sample in (sample for family in families for sample in family.samples):
                if sample.labels.get("output") == str(job.folder / "out"):
                    own = next((sample.labels[name] for name in OWN_LABELS if name in sample.labels), "")
                    seen[sample.name.removeprefix("ray_vvt_"), own] = sample.value
            if counted.items() <= seen.items():
                return

    scraper = threading.Thread(target=scrape)
    scraper.start()
    try:
        stages = {"brightness": {"use": f"{STAGES}:Brightness", "bounds": {"brightness": [60, None]}}, **SLOW}
        job.build(stages=stages)
        scraper.join(30)
    finally:
        over.set()
        scraper.join()
    assert {key: seen.get(key) for key in counted} == counted
    gauges = {("workers", "ingest"), ("unread_recordings", ""), ("open_recordings", ""), ("bytes_in_flight", "")}
    assert gauges <= seen.keys()
    assert 6 < seen["recording_seconds_total", ""] <= 10  # of 8 and 2 seconds; what follows a last clip is not counted
    assert not {"good", "good-00000000"} & {own for _, own in seen}


def test_the_profile_names_the_bottleneck_and_what_to_do(job: Job) -> None:
    for name in ("a", "b", "c"):
        job.record(name)
    slow = {"use": f"{STAGES}:Sleeps", "seconds": 0.8, "resources": {"cpus": 0.5}}
    profile = job.build(stages={"slow": slow, "quick": {"use": f"{STAGES}:Brightness"}}, run={"workers": 1}).profile
    assert profile is not None
    stages = {stage.stage: stage for stage in profile.stages}
    assert stages["slow"].clips == 3
    assert stages["slow"].mean == pytest.approx(0.8, rel=0.2)
    assert stages["slow"].p95 == pytest.approx(0.8, rel=0.2)
    assert (stages["slow"].pool, stages["quick"].pool) == ("slow", "ingest")
    busy = {pool.pool: pool.busy for pool in profile.pools}
    assert busy["slow"] > busy["ingest"]
    assert 0 < profile.driver < 0.6
    console = Console(file=StringIO(), width=120)
    print_profile(profile, console)
    words = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(name in words for name in ("slow", "quick", "ingest", "p95 s", "driver: busy"))


@pytest.mark.parametrize(
    ("driver", "busy", "words"),
    [(0.9, 0.9, "the driver"), (0.1, 0.3, "No bottleneck"), (0.1, 0.9, "stages.slow.resources.gpus")],
)
def test_advice_follows_what_was_measured(driver: float, busy: float, words: str) -> None:
    stage = StageProfile(stage="slow", pool="ingest", clips=10, seconds=10.0, mean=1.0, p95=1.2)
    pool = PoolProfile(pool="ingest", workers=1.0, busy=busy)
    assert words in advice(Profile(seconds=12.0, driver=driver, stages=(stage,), pools=(pool,)))


def test_percentiles_in_constant_memory() -> None:
    took = Durations()
    for index in range(1, 1001):
        took.add(index / 1000)
    took.add(0.0)
    assert took.percentile(0.95) == pytest.approx(0.95, rel=0.06)
    assert took.percentile(0.5) == pytest.approx(0.5, rel=0.06)
    assert Durations().percentile(0.95) == 0


def test_time_left_follows_the_recordings() -> None:
    tally = Tally()
    tally.begin(sources=4, clips=0)
    assert tally.seconds_left() is None
    tally.read(Pulled(pair_id="a", position_seconds=50.0, duration_seconds=100.0))
    time.sleep(0.1)
    assert tally.seconds_left() == pytest.approx(7 * tally.seconds, rel=0.05)
