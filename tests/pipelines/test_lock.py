"""Two drivers on one folder: the second is refused by name, and a dead one's lock is recognised."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import s3fs

from media import retrying
from pipelines import lock as locks
from pipelines.lock import LOCK, DriverLock, Holder, read_holder
from schemas.errors import LockedError
from tests.s3 import faulty_s3

HOLD = """
import sys, time
from pipelines.lock import DriverLock
with DriverLock(sys.argv[1], beat_seconds=0.2):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "SETTLE_SECONDS", 0.2)


def driver(folder: Path, seconds: float = 60.0) -> subprocess.Popen[str]:
    """Another process that holds `folder`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def elsewhere(folder: Path, *, beat: float) -> Holder:
    """A lock that another machine left in `folder`."""
    folder.mkdir(exist_ok=True)
    holder = Holder(
        host="far-away", machine="far-away 1", pid=1, command="vvt build", started=beat - 100, beat=beat, token="theirs"
    )
    (folder / LOCK).write_text(holder.model_dump_json())
    return holder


def test_the_second_driver_is_refused_and_the_first_is_named(tmp_path: Path) -> None:
    first = driver(tmp_path)
    try:
        with (
            pytest.raises(LockedError, match=rf"process {first.pid} on .*since .* UTC") as caught,
            DriverLock(tmp_path),
        ):
            pass
        assert str(tmp_path) in str(caught.value)
        assert read_holder(str(tmp_path / LOCK)).pid == first.pid  # type: ignore[union-attr]
    finally:
        first.kill()
        first.wait()


@pytest.mark.parametrize("zombie", [True, False])
def test_a_killed_drivers_lock_is_taken_over_and_said_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, zombie: bool
) -> None:
    first = driver(tmp_path)
    (tmp_path / f"status.json.{socket.gethostname()}.{first.pid}.0b5e55ed.part").touch()
    first.kill()
    if not zombie:
        first.wait()
    time.sleep(0.2)
    with DriverLock(tmp_path):
        assert f"process {first.pid}" in caplog.text
        assert "taken over" in caplog.text
    first.wait()
    assert not [name for name in os.listdir(tmp_path) if not (zombie and name.endswith(".part"))]


def test_a_process_that_took_the_dead_ones_number_is_not_the_driver(tmp_path: Path) -> None:
    with DriverLock(tmp_path):
        left = (tmp_path / LOCK).read_text()
    long_ago = {**json.loads(left), "beat": 1000.0, "started": 900.0}  # this process began later than that
    (tmp_path / LOCK).write_text(json.dumps(long_ago))
    with DriverLock(tmp_path):
        pass


@pytest.mark.parametrize("rest", ["", '{"host": "a", "pid"'])
def test_a_half_written_lock_of_a_dead_driver_does_not_shut_the_folder(tmp_path: Path, rest: str) -> None:
    (tmp_path / LOCK).write_text(rest)
    with DriverLock(tmp_path):
        assert read_holder(str(tmp_path / LOCK))


def test_another_machines_lock_holds_while_it_is_renewed_and_not_after(tmp_path: Path) -> None:
    elsewhere(tmp_path, beat=time.time())
    with pytest.raises(LockedError, match="far-away.*try again in"), DriverLock(tmp_path):
        pass
    elsewhere(tmp_path, beat=time.time() - 61)
    with DriverLock(tmp_path, beat_seconds=0.2):
        pass


def test_a_machine_whose_clock_is_slow_keeps_its_lock(tmp_path: Path) -> None:
    slow = elsewhere(tmp_path, beat=time.time() - 3600)
    renewed = slow.model_copy(update={"beat": slow.beat + 10})
    timer = threading.Timer(0.3, lambda: (tmp_path / LOCK).write_text(renewed.model_dump_json()))
    timer.start()
    with pytest.raises(LockedError, match="far-away"), DriverLock(tmp_path, beat_seconds=0.5):
        pass
    timer.join()


def test_a_driver_that_was_away_learns_that_it_lost_the_folder(tmp_path: Path) -> None:
    with DriverLock(tmp_path, beat_seconds=0.05) as lock:
        lock.check()
        elsewhere(tmp_path, beat=time.time())
        time.sleep(0.5)
        with pytest.raises(LockedError, match="far-away"):
            lock.check()
    assert read_holder(str(tmp_path / LOCK)).token == "theirs"  # type: ignore[union-attr]  # it is not ours to remove


def test_two_outputs_do_not_share_a_clip_store_at_the_same_time(tmp_path: Path) -> None:
    with DriverLock(tmp_path / "a", tmp_path / "work"):
        with pytest.raises(LockedError, match="work"), DriverLock(tmp_path / "b", tmp_path / "work"):
            pass
        assert not os.listdir(tmp_path / "b")  # refused at the second, the first is let go
    assert not os.listdir(tmp_path / "work")


def test_of_many_that_come_at_once_one_gets_in(tmp_path: Path) -> None:
    elsewhere(tmp_path / "left", beat=time.time() - 3600)
    for url in (str(tmp_path / "new"), str(tmp_path / "left"), "memory://locks"):
        inside, done = [], threading.Barrier(9)

        def come(url: str, inside: list[int], done: threading.Barrier) -> None:
            try:
                with DriverLock(url, beat_seconds=0.2):
                    inside.append(1)
                    done.wait(20)
            except LockedError:
                done.wait(20)

        threads = [threading.Thread(target=come, args=(url, inside, done)) for _ in range(8)]
        for thread in threads:
            thread.start()
        done.wait(20)
        for thread in threads:
            thread.join()
        assert len(inside) == 1


def test_a_password_in_an_address_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["vvt", "build", "manifest=https://anna:secret@example.org/m.jsonl"])
    with DriverLock(tmp_path):
        assert "secret" not in (tmp_path / LOCK).read_text()
        assert "example.org" in (tmp_path / LOCK).read_text()


def test_in_a_bucket_over_a_bad_line_one_driver_gets_in_and_learns_of_no_ghost(
    aws_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty_s3() as server:
        aws_config.write_text(
            "[default]\nregion = us-east-1\naws_access_key_id = test\naws_secret_access_key = test\n"
            f"endpoint_url = {server.address}\nmax_attempts = 1\n"
        )
        monkeypatch.setattr(retrying, "FIRST_WAIT", 0.01)
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("locks")
        try:
            server.set(lost=0.4)  # the lock is made, but the answer never comes: the next try meets our own
            with DriverLock("s3://locks/out") as lock:
                assert read_holder(f"s3://locks/out/{LOCK}") == lock.holder
                with pytest.raises(LockedError, match=str(os.getpid())), DriverLock("s3://locks/out"):
                    pass
            server.set()
            assert read_holder(f"s3://locks/out/{LOCK}") is None
        finally:
            s3fs.S3FileSystem.clear_instance_cache()
