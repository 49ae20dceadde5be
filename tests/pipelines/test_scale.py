"""What must not grow: memory with the number of clips, requests to the store with the clips of a recording."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from benchmarks import slow_store
from benchmarks.scale import Numbered, Simulated, fill, whole_job
from curation.manifest import Manifest, read_manifest
from pipelines.build import replay, stored_config
from pipelines.chain import Chain
from pipelines.configure import merge_config
from pipelines.dataset import write_dataset
from pipelines.decisions import decide_all
from pipelines.lookahead import in_order
from pipelines.plan import make_plan
from pipelines.report_facts import facts_of
from pipelines.store import ClipStore
from pipelines.tables import DECISIONS, GROUP_ROWS, open_table, table_writer
from schemas.clip import Failure
from schemas.config import BuildConfig
from schemas.errors import DatasetError
from schemas.tables import decisions_schema
from tests.pipelines.conftest import Job


class Stored:
    """A clip store behind requests that are counted, filled as a run would have filled it."""

    def __init__(self, folder: Path, *, recordings: int, clips: int) -> None:
        self.folder = folder
        folder.mkdir()
        rows = [{"pair_id": f"r{n}", "video": f"r{n}.mp4", "garment": None, "part": "upper"} for n in range(recordings)]
        (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.manifest: Manifest = read_manifest(str(folder / "manifest.jsonl"))
        self.chain = Chain(Simulated(), (Numbered(bounds={"number": (None, None)}),))
        self.store = ClipStore(f"slow://{folder}/work")
        fill(self.store, self.manifest, self.chain, clips=clips)

    def requests(self, action: Any) -> Counter[str]:
        slow_store.REQUESTS.clear()
        action()
        return slow_store.REQUESTS.copy()

    def plan(self) -> Any:
        return make_plan(self.manifest.pairs, self.chain, self.store)

    def decide(self) -> dict[str, str]:
        return {d.row["key"]: d.verdict for d in decide_all(self.manifest.pairs, self.chain, self.store)}

    def write(self) -> Any:
        config = BuildConfig(manifest="-", output=str(self.folder / "out"))
        return write_dataset(config, self.chain, self.manifest, self.store, ledgers={}, checkpoint=lambda: None)

    def clip(self, key: str) -> Path:
        return self.folder / "work" / "clips" / key.rpartition("-")[0] / f"{key}.clip"


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return Stored(tmp_path / "job", recordings=2, clips=5)


# ---- requests


def test_once_decided_a_recording_costs_the_same_requests_however_many_its_clips(tmp_path: Path) -> None:
    few, many = (Stored(tmp_path / str(clips), recordings=3, clips=clips) for clips in (4, 40))
    assert few.requests(few.decide)["get"] == 3 * (2 + 4)  # ledger, no copies yet, a head a clip
    assert many.requests(many.decide)["get"] == 3 * (2 + 40)
    assert few.requests(few.plan) == many.requests(many.plan) == {"list": 3, "get": 6}
    assert few.requests(few.decide) == many.requests(many.decide) == {"list": 3, "get": 6}


def test_packing_reads_each_clip_once(stored: Stored) -> None:
    stored.decide()
    assert stored.requests(stored.write) == {"list": 2, "get": 4 + 10}


# ---- copies of records


def test_planning_leaves_no_trace(stored: Stored) -> None:
    before = sorted(stored.folder.rglob("*"))
    stored.plan()
    assert sorted(stored.folder.rglob("*")) == before


def test_a_clip_that_changed_is_read_again_and_no_other(stored: Stored) -> None:
    stored.decide()
    clip = stored.store.get("r1-00000100")
    assert clip
    clip.metrics["number"] = 7.0
    stored.store.put(clip)
    assert stored.requests(lambda: stored.store.records("r1", remember=True))["get"] == 1 + 1
    record = stored.store.records("r1")["r1-00000100"]
    assert record
    assert record.metrics["number"] == 7.0


def test_a_copy_does_not_outlive_its_clip(stored: Stored) -> None:
    stored.decide()
    stored.store.delete("r0-00000000")
    assert stored.decide()["r0-00000000"] == "unfinished"
    assert "1 clip(s) are missing" in stored.plan().reasons["r0"]


@pytest.mark.parametrize("damage", [b"", b"no gzip", gzip.compress(b'{"a": 1}'), gzip.compress(b"{}")[:12]])
def test_damaged_copies_are_made_anew(stored: Stored, damage: bytes) -> None:
    whole = stored.decide()
    path = stored.folder / "work/records/r0.json.gz"
    copies = path.read_bytes()
    path.write_bytes(damage)
    assert stored.decide() == whole
    assert path.read_bytes() == copies


def test_a_record_longer_than_what_is_read_at_first(stored: Stored) -> None:
    clip = stored.store.get("r0-00000100")
    assert clip
    clip.failure = Failure(stage="numbered", cause="it", traceback="é\n" * 20_000)
    stored.store.put(clip)
    record = stored.store.records("r0")["r0-00000100"]
    assert record
    assert record.failure == clip.failure


# ---- clips that power took


@pytest.mark.parametrize("how", ["empty", "torn in the record", "zeros", "other record"])
def test_a_clip_with_a_damaged_record_is_noticed_when_a_build_is_planned(stored: Stored, how: str) -> None:
    path = stored.clip("r0-00000100")
    data = path.read_bytes()
    at = data.index(b'"caption"')
    damaged = {
        "empty": b"",
        "torn in the record": data[:at],
        "zeros": bytes(len(data)),
        "other record": data[:at] + b"_" + data[at + 1 :],
    }
    path.write_bytes(damaged[how])
    plan = stored.plan()
    assert plan.outdated == ("r0-00000100",)
    assert plan.reasons == {"r0": "1 clip(s) are missing from the store"}
    assert stored.decide()["r0-00000100"] == "unfinished"


@pytest.mark.parametrize("how", ["torn", "hole"])
def test_a_clip_that_is_damaged_further_on_is_made_anew_after_packing_found_it(job: Job, how: str) -> None:
    for name in ("a", "b"):
        job.record(name)
    job.build()
    whole = job.shards()
    path = job.folder / "out/work/clips/b/b-00000000.clip"
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:-100] if how == "torn" else data[:middle] + bytes(100) + data[middle + 100 :])
    config = {**stored_config(str(job.folder / "out")), "output": str(job.folder / "again")}
    with pytest.raises(DatasetError, match=r"b-00000000.clip.*damaged.*removed.*`vvt build` makes it anew"):
        replay(merge_config(config, (), where="test"))
    job.build("again", work=str(job.folder / "out/work"))
    assert job.shards("again") == whole


# ---- memory


def test_results_come_in_order_and_only_so_many_wait() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def work(item: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.001 * (item % 3))
        return item

    given: list[int] = []
    for item in in_order(work, iter(range(100)), ahead=4):
        given.append(item)
        with lock:
            running -= 1
    assert given == list(range(100))
    assert 1 < most <= 4


def test_an_error_comes_in_its_place_and_ends_the_work() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise OSError("away")
        return item

    results = in_order(work, range(1000), ahead=4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="away"):
        next(results)
    assert len(begun) < 10


def write_decisions(path: str, clips: int) -> None:
    """Decisions on so many clips, written and counted."""
    chain = Chain(Simulated(), (Numbered(),))
    with table_writer(path, decisions_schema(chain.metrics)) as write:
        for number in range(clips):
            low = float(number % 1000)
            write({
                "key": f"r-{number:08d}", "pair_id": "r", "video": "r.mp4", "verdict": "dropped", "stage": "numbered",
                "metric": "number", "value": low, "bound_low": 1000.0, "words": f"{low} is low", "first_frame": number,
                "start_seconds": 0.0, "end_seconds": 4.0, "frames": 100, "fps": 25.0, "metrics": {"number": low},
            })  # fmt: skip
    with open_table(path) as decisions:
        assert facts_of(decisions, chain).totals.dropped == clips


def memory_taken(path: Path, clips: int) -> int:
    """By how much the resident memory of a fresh process grows at most while it writes so many decisions, in kB."""
    program = (
        "import re, sys; from pathlib import Path; from tests.pipelines.test_scale import write_decisions\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1])\n"
        "write_decisions(sys.argv[1], 1); before = peak()\n"
        "write_decisions(sys.argv[1], int(sys.argv[2])); print(peak() - before)"
    )
    command = [sys.executable, "-c", program, str(path), str(clips)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process its peak since it began")
def test_a_decision_leaves_a_few_numbers_in_memory(tmp_path: Path) -> None:
    path = tmp_path / DECISIONS
    few, many = memory_taken(path, 10_000), memory_taken(path, 50_000)
    assert pq.read_metadata(path).num_row_groups == 50_000 / GROUP_ROWS
    assert (many - few) * 1024 < 150 * 40_000  # a row is some 2,000 bytes


def test_the_columns_of_the_tables_follow_from_the_config_alone(job: Job) -> None:
    job.record("a")
    job.build(stages={"brightness": {"use": "tests.pipelines.stages:Brightness"}})
    job.rows.clear()
    job.add("absent")
    job.build("empty", stages={"brightness": {"use": "tests.pipelines.stages:Brightness"}})
    for table in (DECISIONS, "index.parquet"):
        schemas = [pq.read_schema(job.folder / out / table) for out in ("out", "empty")]
        assert schemas[0] == schemas[1]
        assert "brightness" in {field.name for field in schemas[0].field("metrics").type}


# ---- the benchmark's own job


def test_a_simulated_job_goes_through_the_real_driver(tmp_path: Path, cluster: None) -> None:
    results = whole_job(tmp_path, 300)
    verdicts = pq.read_table(tmp_path / "out" / DECISIONS, columns=["verdict"])["verdict"].to_pylist()
    assert Counter(verdicts) == {"kept": 270, "dropped": 30}
    kept_more = pq.read_metadata(tmp_path / "out-replayed" / "index.parquet")
    assert kept_more.num_rows == 300
    assert 0 < results["run: CPU of the driver"] < results["run"]
