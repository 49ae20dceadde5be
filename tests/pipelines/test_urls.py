"""Files appear whole or not at all, on disk and in a store."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines import urls
from schemas.errors import ConfigError, OutageError

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["disk", "store"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "folder/file") if request.param == "disk" else f"memory://{tmp_path.name}/folder/file"


def test_a_write_that_breaks_off_leaves_what_was_there(url: str) -> None:
    def broken() -> None:
        with urls.open_whole(url) as stream:
            stream.write(b"half")
            raise ConnectionError

    with pytest.raises(ConnectionError):
        broken()
    assert urls.read(url) is None
    urls.write_whole(url, b"whole")
    with pytest.raises(ConnectionError):
        broken()
    assert urls.read(url) == b"whole"


@pytest.mark.parametrize(
    ("number", "said"), [(errno.ENOSPC, "disk is full"), (errno.EDQUOT, "disk is full"), (errno.ESTALE, "not answer")]
)
def test_a_disk_that_is_full_or_away_is_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    urls.write_whole(f"{tmp_path}/file", b"before")

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutageError, match=said):
        urls.write_whole(f"{tmp_path}/file", b"after")
    assert urls.read(f"{tmp_path}/file") == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_other_errors_of_a_disk_are_no_outage(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for url in (f"{tmp_path}/file/below", f"{tmp_path}/{'x' * 300}"):
        with pytest.raises(OSError, match=r"Not a directory|File exists|too long"):
            urls.write_whole(url, b"")
        with pytest.raises(ConfigError, match="nothing can be written here"):
            urls.check_writable(url)


_WRITER = """
import sys, time
from pipelines import urls
with urls.open_whole(sys.argv[1] + "/clips/a.clip", unfinished=sys.argv[1] + "/unfinished") as stream:
    stream.write(bytes(1000))
    stream.flush()
    print("writing", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_writer_left_is_swept_and_a_living_ones_is_not(tmp_path: Path) -> None:
    unfinished = tmp_path / "unfinished"
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"writing\n"
    elsewhere = [unfinished / f"b.clip.other-machine.1.{age}.part" for age in ("new", "old")]
    for file in elsewhere:
        file.write_bytes(b"half")
    os.utime(elsewhere[1], (time.time() - 2 * urls.DAY,) * 2)
    urls.sweep(str(unfinished))
    assert len(list(unfinished.iterdir())) == 2
    assert not elsewhere[1].exists()
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    urls.sweep(str(unfinished))
    assert list(unfinished.iterdir()) == elsewhere[:1]
    assert list((tmp_path / "clips").iterdir()) == []
    urls.sweep(f"{tmp_path}/no/such/folder")
