"""Everything in an S3 bucket: the dataset that it is on disk, over a bad line too, and no object half-written."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import ffmpeg
import pytest
import s3fs

from curation.manifest import read_manifest
from media import retrying
from media.recording import Recording
from media.sources import hold_to
from pipelines import urls
from pipelines.build import build, replay
from pipelines.chain import make_chain
from pipelines.store import ClipStore
from pipelines.validate import validate
from pipelines.worker import Row, Worker
from schemas.config import BuildConfig
from schemas.errors import ConfigError, ManifestError, MediaError, OutageError
from tests.media.cases import FFMPEG
from tests.pipelines.conftest import Job, shard_digests
from tests.s3 import Proxy, faulty_s3
from training.shards import read_index, read_members

BUCKET = "s3://dataset"
CONFIG = """[default]
region = us-east-1
aws_access_key_id = test
aws_secret_access_key = test
endpoint_url = {address}
max_attempts = 1
"""


@pytest.fixture(scope="module")
def server(aws_config: Path) -> Iterator[Proxy]:
    with faulty_s3() as proxy:
        aws_config.write_text(CONFIG.format(address=proxy.address))
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("dataset")
        yield proxy
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def store(server: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The bucket, empty, over a line without faults."""
    for name in ("FIRST_WAIT", "JITTER"):
        monkeypatch.setattr(retrying, name, 0.01)
    server.set()
    fs = s3fs.S3FileSystem()
    fs.invalidate_cache()
    fs.rm(list(fs.find("dataset")) or ["dataset/none"])
    yield server
    server.set()
    server.down, server.broken = False, ""


def objects(prefix: str = "dataset") -> dict[str, str]:
    fs = s3fs.S3FileSystem()
    fs.invalidate_cache()
    return {path: info["ETag"] for path, info in fs.find(prefix, detail=True).items()}


def digests(out: str) -> dict[str, dict[str, str]]:
    """As `shard_digests`."""
    found = {}
    for name in sorted(urls.files_in(f"{out}/shards")):
        data = urls.read(f"{out}/shards/{name}") or b""
        with tarfile.open(fileobj=BytesIO(data)) as tar:
            members = {member.name: tar.extractfile(member) for member in tar}
            found[name] = {key: hashlib.sha256(file.read()).hexdigest() for key, file in members.items() if file}
        found[name]["the whole tar"] = hashlib.sha256(data).hexdigest()
    return found


def on_s3(job: Job, out: str = "out", **values: object) -> BuildConfig:
    """The job's config with manifest, recordings, work and output in the bucket."""
    local = job.config(**values)
    for file in [*job.folder.glob("*.mp4"), *job.folder.glob("*.jsonl")]:
        urls.write_whole(f"{BUCKET}/in/{file.name}", file.read_bytes())
    return local.model_copy(update={"manifest": f"{BUCKET}/in/manifest.jsonl", "output": f"{BUCKET}/{out}"})


def test_a_dataset_in_a_bucket_is_the_one_on_disk(job: Job, store: Proxy) -> None:
    job.record("a")
    job.record("b", brightness=60, seconds=4.0)
    job.build()
    config = on_s3(job)
    summary = build(config)
    assert (summary.kept.total(), summary.unchanged) == (2, False)
    assert digests(f"{BUCKET}/out") == shard_digests(job.folder / "out")
    before = objects()
    assert not [path for path in before if ".part" in path or ".writable" in path]
    again = build(config)
    assert (again.unchanged, again.recordings_read) == (True, 0)
    assert replay(config).kept.total() == 2
    changed = [path for path, etag in objects().items() if before.get(path) != etag]
    assert all(path.startswith(("dataset/out/work/status", "dataset/out/work/log/")) for path in changed), changed
    assert "test" not in json.loads(urls.read(f"{BUCKET}/out/config.json") or b"").values()  # no credentials
    assert validate(f"{BUCKET}/out", workers=1) == validate(str(job.folder / "out"), workers=1)
    keys = [entry.key for entry in read_index(f"{BUCKET}/out")]
    assert len(keys) == 2
    assert "video.mp4" in read_members(next(iter(read_index(f"{BUCKET}/out"))))


def test_a_bad_line_changes_no_byte(job: Job, store: Proxy) -> None:
    job.record("a", seconds=4.0)
    job.record("b", brightness=60)
    job.build()
    config = on_s3(job)
    store.set(refused=0.08, lost=0.04, cut_up=0.04, cut_down=0.04)
    summary = build(config)
    done = store.done.copy()
    store.set()
    assert min(done[fault] for fault in ("refused", "lost", "cut_up", "cut_down")) > 0, done
    assert summary.failures.total() == 0
    assert digests(f"{BUCKET}/out") == shard_digests(job.folder / "out")
    assert build(config).unchanged


# ---- one file at a time


def test_reads_and_writes_are_tried_again(store: Proxy) -> None:
    data = os.urandom(300_000)
    store.set(refused=0.15, lost=0.05, cut_up=0.05, cut_down=0.1)
    for index in range(15):
        urls.write_whole(f"{BUCKET}/x/{index}", data)
        assert hashlib.sha256(urls.read(f"{BUCKET}/x/{index}") or b"").digest() == hashlib.sha256(data).digest()
    assert sorted(urls.files_in(f"{BUCKET}/x")) == sorted(map(str, range(15)))
    with urls.open_read(f"{BUCKET}/x/3") as file:
        file.seek(200_000)
        assert file.read(10) == data[200_000:200_010]
    assert urls.read_heads([f"{BUCKET}/x/1", f"{BUCKET}/x/none"], 9) == [data[:9], None]
    urls.delete(f"{BUCKET}/x/1")
    urls.delete(f"{BUCKET}/x/1")
    assert (urls.size(f"{BUCKET}/x/1"), urls.size(f"{BUCKET}/x/2")) == (None, 300_000)


def test_a_recording_is_read_over_a_bad_line(job: Job, store: Proxy) -> None:
    job.record("a", seconds=4.0)
    on_s3(job)
    store.set(refused=0.15, cut_down=0.3)
    with Recording(f"{BUCKET}/in/a.mp4") as recording:
        assert sum(1 for _ in recording) == 96


def test_a_store_that_is_away_is_an_outage(store: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    urls.write_whole(f"{BUCKET}/x", b"x")
    store.down = True
    for call in (
        lambda: urls.read(f"{BUCKET}/x"),
        lambda: urls.write_whole(f"{BUCKET}/x", b"y"),
        lambda: urls.files_in(BUCKET),
        lambda: urls.check_writable(BUCKET),
        lambda: Recording(f"{BUCKET}/x"),
    ):
        with pytest.raises(OutageError, match="does not answer") as caught:
            call()
        assert BUCKET in str(caught.value)
    store.down = False
    assert urls.read(f"{BUCKET}/x") == b"x"
    store.broken = "/dataset/x"  # this one only: no reason to wait
    with pytest.raises(MediaError) as caught:
        Recording(f"{BUCKET}/x")
    assert caught.value.code == "unreadable"


def test_a_recording_whose_store_goes_away_is_read_again_from_its_start(
    job: Job, store: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    monkeypatch.setattr("media.sources.BLOCK", 4096)
    noisy = ffmpeg.input("testsrc2=s=160x120:d=12:r=24", f="lavfi").filter("noise", alls=40, allf="t")
    noisy.output(str(job.folder / "a.mp4"), crf="10").run(cmd=FFMPEG, quiet=True)  # more than FFmpeg reads ahead
    job.add("a")
    config = on_s3(job)
    worker = Worker(make_chain(config), ClipStore(f"{BUCKET}/work"))
    row = Row(pair=read_manifest(config.manifest).pairs[0], recording="", inputs="")
    seen: list[str] = []
    outages = 0
    try:
        while True:
            store.down = len(seen) == 1 and not outages
            pulled, _ = worker.pull(row)
            outages += bool(pulled.outage)
            if key := pulled.skipped or (pulled.outcome.key if pulled.outcome else ""):
                seen.append(key)
            if pulled.finished:
                break
    finally:
        hold_to(None)
    ledger = ClipStore(f"{BUCKET}/work").ledger("a")
    assert ledger is not None
    assert (ledger.failure, len(ledger.keys)) == (None, 3)
    assert (outages, seen) == (1, [ledger.keys[0], *ledger.keys])  # the first one was there already


def test_what_will_not_get_better_is_said_at_once(store: Proxy, tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ConfigError, match=r"docs/storage\.md"):
        urls.check_writable("s3://no-such-bucket/out")
    with pytest.raises(ManifestError, match="no such file"):
        build(BuildConfig(manifest=f"{BUCKET}/none.jsonl", output=str(tmp_path)))
    with pytest.raises(MediaError) as caught:
        Recording(f"{BUCKET}/none.mp4")
    assert caught.value.code == "missing"
    assert time.monotonic() - started < 10


def test_a_write_that_breaks_off_shows_nothing(store: Proxy) -> None:
    def broken() -> None:
        with urls.open_whole(f"{BUCKET}/shard.tar") as stream:
            stream.write(b"half")
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        broken()
    assert objects() == {}


_UPLOAD = """
import fsspec, sys
from s3fs import S3FileSystem
from pipelines import urls
with urls.open_whole(sys.argv[1]) as stream:
    stream.write(bytes(150_000_000))
    print("uploading", flush=True)
"""


def test_a_killed_upload_shows_nothing_and_leaves_nothing_on_disk(store: Proxy, tmp_path: Path) -> None:
    url = f"{BUCKET}/shard.tar"
    urls.write_whole(url, b"before")
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    for seconds in (0.3, 0.6):
        upload = subprocess.Popen(
            [sys.executable, "-c", _UPLOAD, url], stdout=subprocess.PIPE, env=environment, cwd=Path(__file__).parents[2]
        )
        assert upload.stdout is not None
        assert upload.stdout.readline() == b"uploading\n"
        time.sleep(seconds)
        assert upload.poll() is None, "it was over before it could be killed"
        upload.send_signal(signal.SIGKILL)
        upload.wait()
        upload.stdout.close()
        assert urls.read(url) == b"before"
        assert list(tmp_path.iterdir()) == []
    assert s3fs.S3FileSystem().call_s3("list_multipart_uploads", Bucket="dataset").get("Uploads")


# ---- what a manifest in a bucket may name


def test_a_manifest_from_elsewhere_names_no_local_files(job: Job, store: Proxy) -> None:
    job.add("a", "/etc/hostname")
    job.add("b", "file:///etc/hostname")
    job.add("c", "simplecache::file:///etc/hostname")
    job.add("d", "http://169.254.169.254/latest/meta-data/")
    job.add("e", "a.mp4", garment="/etc/passwd")
    job.add("f", "../../../etc/hostname")  # stays in the bucket
    config = on_s3(job)
    with pytest.raises(ManifestError) as caught:
        build(config)
    assert [problem.line for problem in caught.value.problems] == [1, 2, 3, 4, 5]
    words = " ".join(problem.what for problem in caught.value.problems)
    assert words.count("sources.allow_local_files") == 3
    assert "simplecache" in words
    assert "sources.allow_private_addresses" in words
    job.rows = [row for row in job.rows if row["pair_id"] in "abef"]
    allowed = on_s3(job, sources={"allow_local_files": True})
    pairs = read_manifest(allowed.manifest, sources=allowed.sources).pairs
    assert [pair.video for pair in pairs] == [
        "/etc/hostname", "file:///etc/hostname", f"{BUCKET}/in/a.mp4", f"{BUCKET}/etc/hostname",
    ]  # fmt: skip


def test_a_manifest_on_disk_names_local_files_and_no_private_address(job: Job) -> None:
    job.record("a")
    job.add("b", "http://localhost:1/b.mp4")
    with pytest.raises(ManifestError, match="line 2: video: leads to a private address"):
        job.build()
    job.rows = job.rows[:1]
    assert job.build().kept.total() == 1
