"""Recordings behind HTTP: cut off, stalled, changed, redirected. Whatever happens, the right bytes or a typed error."""

from __future__ import annotations

import hashlib
import random
import socket
import time
import tracemalloc
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

import media
from media import retrying
from media.http import HttpFile, is_public
from media.sources import held_to, identity, open_source, read_source, refusal
from schemas.config import SourcesConfig
from schemas.errors import MediaError
from tests.media.numbered import write
from tests.media.test_hopeless import CLOSED, numbers, run
from tests.web import Site, served

DATA = random.Random(0).randbytes(700_000)
ANYWHERE = SourcesConfig(allow_private_addresses=True, stall_seconds=0.3)


@pytest.fixture
def site() -> Iterator[Site]:
    with served(Site({"/video.ts": DATA})) as site:
        yield site


def fetch(site: Site, path: str = "/video.ts") -> bytes:
    with held_to(ANYWHERE):
        return read_source(site.address + path, max_bytes=10_000_000)


def test_a_cut_connection_is_taken_up_where_it_broke(site: Site) -> None:
    site.cut_after = 100_000
    assert fetch(site) == DATA
    assert site.requests == [f"bytes={start}-" for start in range(0, 700_000, 100_000)]
    assert site.sent == len(DATA)


def test_a_cut_connection_of_a_server_without_ranges_is_read_again(site: Site) -> None:
    site.ranges, site.cut_after, site.cuts = False, 300_000, 2
    assert fetch(site) == DATA


def test_a_connection_that_is_always_cut_at_once_ends(site: Site) -> None:
    site.cut_after = 0
    with pytest.raises(MediaError, match="reading failed") as caught:
        fetch(site)
    assert caught.value.code == "unreadable"
    assert len(site.requests) <= 2 * retrying.TRIES


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_busy_server_is_asked_again(site: Site, status: int) -> None:
    site.statuses = [status, status]
    assert fetch(site) == DATA


@pytest.mark.parametrize(
    ("status", "code", "requests"),
    [(404, "missing", 1), (410, "missing", 1), (403, "unreadable", 1), (500, "unreadable", retrying.TRIES)],
)
def test_a_refusal_is_a_typed_error(site: Site, status: int, code: str, requests: int) -> None:
    site.statuses = [status] * 20
    with pytest.raises(MediaError) as caught:
        fetch(site)
    assert (caught.value.code, len(site.requests)) == (code, requests)
    assert site.address in str(caught.value)


def test_a_file_that_changes_meanwhile_is_not_patched_together(site: Site) -> None:
    def change(site: Site) -> None:
        site.etag = f'"{len(site.requests)}"'

    site.cut_after, site.before = 100_000, change
    with pytest.raises(MediaError, match="changed on the server") as caught:
        fetch(site)
    assert caught.value.code == "unreadable"


def test_a_file_that_grows_meanwhile_is_not_patched_together(site: Site) -> None:
    def grow(site: Site) -> None:
        site.files["/video.ts"] += b"more"

    site.cut_after, site.before, site.etag = 100_000, grow, ""
    with pytest.raises(MediaError, match="changed on the server"):
        fetch(site)


@pytest.mark.parametrize("how", ["stalls", "drips"])
def test_a_server_that_stalls_is_given_up(site: Site, how: str) -> None:
    site.stall_after, site.drip = (100_000, 0.0) if how == "stalls" else (None, 0.01)
    started = time.monotonic()
    if how == "stalls":  # each request brings something: it goes on, slowly
        assert fetch(site) == DATA
    else:
        with pytest.raises(MediaError, match="stalls"):
            fetch(site)
    assert time.monotonic() - started < 20


def test_an_empty_file_is_empty(site: Site) -> None:
    site.files["/empty"] = b""
    for site.ranges in (True, False):
        with pytest.raises(MediaError) as caught:
            fetch(site, "/empty")
        assert caught.value.code == "empty"


def test_a_length_that_nobody_tells_is_read_to_the_end(site: Site) -> None:
    site.tells_size, site.ranges = False, False
    assert fetch(site) == DATA


def test_seeks_are_range_requests(site: Site) -> None:
    with HttpFile(site.address + "/video.ts", sources=ANYWHERE) as file:
        for position in (650_000, 10, 600_000, 600_100):
            assert file.seek(position) == file.tell() == position
            assert file.read(1000) == DATA[position : position + 1000]
        assert file.seek(0, 2) == file.size == len(DATA)
        assert file.read(10) == b""
    assert len(site.requests) <= 4


def test_a_server_without_ranges_is_not_read_without_end(site: Site) -> None:
    def back_and_forth(file: HttpFile) -> None:
        for _ in range(100):
            file.seek(600_000)
            assert file.read(100) == DATA[600_000:600_100]
            file.seek(0)
            assert file.read(100) == DATA[:100]

    site.ranges = False
    with (
        HttpFile(site.address + "/video.ts", sources=ANYWHERE) as file,
        pytest.raises(MediaError, match="serves no parts of files"),
    ):
        back_and_forth(file)
    assert len(site.requests) < 10


@pytest.mark.parametrize("faststart", [True, False])
def test_a_recording_is_the_same_over_a_bad_line(tmp_path: Path, faststart: bool) -> None:
    whole = write(tmp_path / "whole.mp4", 60, options=CLOSED)
    if faststart:
        import ffmpeg

        whole = run(ffmpeg.input(str(whole)), output=tmp_path / "first.mp4", c="copy", movflags="faststart")
    with served(Site({"/video.mp4": whole.read_bytes()}, cut_after=5_000)) as site, held_to(ANYWHERE):
        assert numbers(f"{site.address}/video.mp4") == list(range(60))
        assert len(site.requests) > 5


def test_memory_is_bounded() -> None:
    data = bytes(100_000_000)
    digest = hashlib.sha256()
    with served(Site({"/large": data}, cut_after=30_000_000)) as site, held_to(ANYWHERE):
        tracemalloc.start()
        _, file = open_source(f"{site.address}/large")
        with file:
            while piece := file.read(1 << 18):
                digest.update(piece)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert digest.digest() == hashlib.sha256(data).digest()
    assert peak < 5_000_000


def test_identity_tells_one_content_from_the_next(site: Site) -> None:
    with held_to(ANYWHERE):
        first = identity(site.address + "/video.ts")
        assert identity(site.address + "/video.ts") == first
        site.etag = '"2"'
        assert identity(site.address + "/video.ts") != first
        assert identity(site.address + "/other.ts") is None
        site.statuses = [500] * 10
        with pytest.raises(MediaError):  # nobody knows: not the same as gone
            identity(site.address + "/video.ts")
    assert site.sent < 5 * len(DATA)


# ---- where it may lead


STRICT = SourcesConfig()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.9.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.100.100.200",
        "0.0.0.0", "168.63.129.16", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fd00:ec2::254",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "2002:7f00:1::", "64:ff9b::a9fe:a9fe", "ff02::1",
    ],
)  # fmt: skip
def test_private_addresses_are_known(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_known(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::1]", "[::ffff:127.0.0.1]", "localhost",
     "x.localhost", "someone@127.0.0.1", "LOCALHOST.", "169.254.169.254"],
)  # fmt: skip
def test_a_private_host_is_refused_in_any_notation(host: str) -> None:
    assert "private" in refusal(f"http://{host}:8080/video.mp4", STRICT)
    with held_to(STRICT), pytest.raises(MediaError) as caught:
        open_source(f"http://{host}:8080/video.mp4")
    assert caught.value.code == "refused"


def test_a_redirect_into_a_private_address_is_refused_at_the_socket(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.redirects["/there"] = f"{site.address}/video.ts"
    public, real = ("public.test", 80), socket.getaddrinfo
    port = int(site.address.rpartition(":")[2])

    def look_up(host: str, *args: object, **options: object) -> object:
        return real("127.0.0.1", port, type=socket.SOCK_STREAM) if host == public[0] else real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)  # a public name that leads here, as an attacker's may
    assert refusal("http://public.test/there", STRICT) == ""
    with held_to(STRICT):
        for url in ("http://public.test/video.ts", f"http://public.test:{port}/there"):
            with pytest.raises(MediaError, match="127.0.0.1, a private address") as caught:
                open_source(url)
            assert caught.value.code == "refused"
            assert identity(url) is None
    assert site.requests == []  # not a byte was sent
    # The first hop may be anywhere; each later one is looked at again.
    answers = iter([True, False])
    monkeypatch.setattr("media.http.is_public", lambda address: bool(ip_address(address)) and next(answers))
    with held_to(STRICT), pytest.raises(MediaError, match="a private address"):
        open_source(f"http://public.test:{port}/there")
    assert site.requests == ["bytes=0-"]


def test_a_redirect_to_a_file_is_refused(site: Site) -> None:
    site.redirects["/there"] = "file:///etc/hostname"
    with held_to(ANYWHERE), pytest.raises(MediaError) as caught:
        open_source(f"{site.address}/there")
    assert caught.value.code == "unreadable"


def test_a_redirect_is_followed(site: Site) -> None:
    site.redirects["/there"] = "/video.ts"
    assert fetch(site, "/there") == DATA


def test_redirects_in_a_circle_end(site: Site) -> None:
    site.redirects["/there"] = "/there"
    with pytest.raises(MediaError):
        fetch(site, "/there")
    assert len(site.requests) < 100


@pytest.mark.parametrize(
    "url",
    ["simplecache::file:///etc/passwd", "zip://a.mp4::s3://bucket/a.zip", "filecache::http://a.test/x", "a::memory://x",
     "reference://x", "github://a:b@main/x", "ssh://host/x", "ftp://host/x", "dask://x", "jupyter://x", "data:,x"],
)  # fmt: skip
def test_other_protocols_are_refused(url: str) -> None:
    assert "not allowed" in refusal(url, STRICT)
    with held_to(STRICT), pytest.raises(MediaError) as caught:
        open_source(url)
    assert caught.value.code == "refused"


def test_a_config_may_allow_more() -> None:
    policy = SourcesConfig(protocols=("zip",), allow_private_addresses=True)
    assert refusal("zip://a.mp4::s3://bucket/a.zip", policy) == ""
    assert refusal("http://localhost/x", policy) == ""
    assert "simplecache" in refusal("simplecache::s3://bucket/a", policy)


def test_what_a_person_names_is_trusted(site: Site, tmp_path: Path) -> None:
    site.files["/video.ts"] = write(tmp_path / "video.ts", 10).read_bytes()
    assert media.probe(f"{site.address}/video.ts").width > 0
