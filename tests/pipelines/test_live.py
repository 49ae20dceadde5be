"""Live rows in whole builds: their segments are read while the stream goes on, and a later run goes on with them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from curation.manifest import read_manifest
from pipelines.build import Summary, plan_build, replay
from pipelines.live import LiveFeed
from pipelines.live_ledger import LiveStore, captured
from schemas.config import LiveConfig, SourcesConfig
from schemas.errors import ManifestError
from tests.live_server import FRAMES, LENGTH, LiveServer, live_server, write_stream
from tests.pipelines.conftest import Job

FAST = {"segment_seconds": 6, "stall_seconds": 1.5, "give_up_seconds": 2, "backoff_seconds": 0.1}
ANYWHERE = {"allow_private_addresses": True}


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return write_stream(tmp_path_factory.mktemp("stream"))


@pytest.fixture
def server(stream: list[bytes]) -> Iterator[LiveServer]:
    with live_server(stream) as server:
        yield server


def problems(job: Job) -> str:
    with pytest.raises(ManifestError) as error:
        job.build()
    return str(error.value)


def build(job: Job, **values: Any) -> Summary:
    return job.build(live=FAST, sources=ANYWHERE, **values)


def test_rows_that_cannot_be_captured_are_told_with_line_and_field(job: Job) -> None:
    job.add("a", "https://example.com/live.m3u8", kind="live", start=5)
    job.add("b", "stream.mp4", kind="live")
    job.add("c", "file:///etc/passwd", kind="live")
    job.add("d", "c.mp4", max_seconds=5)
    job.add("e", "https://example.com/live.m3u8", kind="live", max_mb=-1)
    job.add("f" * 57, "rtmp://example.com/app/stream", kind="live")
    job.add("g", "rtmp://127.0.0.1/app/stream", kind="live")
    job.add("h", "https://example.com/live.m3u8", kind="live")
    job.add("h-s000012")
    job.add("i", "http://[::1/live.m3u8", kind="live")
    job.add("j", "x.mp4", kind="stream")
    words = problems(job)
    for line, field, what in (
        (1, "start", "max_seconds"),
        (2, "video", "no address of a live stream"),
        (3, "video", "no address of a live stream"),
        (4, "max_seconds", "kind: live"),
        (5, "max_mb", "greater than 0"),
        (6, "pair_id", "57 characters"),
        (7, "video", "private address"),
        (9, "pair_id", "segment of the live row 'h'"),
        (10, "video", "no address of a live stream"),
        (11, "kind", "'recording' or 'live'"),
    ):
        assert any(f"line {line}: {field}: " in each and what in each for each in words.splitlines()), (line, words)
    assert "line 8" not in words


def test_a_stream_is_built_while_it_goes_on(job: Job, server: LiveServer) -> None:
    job.add("show", f"{server.url}/live.m3u8", kind="live", split_group="anna", max_seconds=20, licence="CC0")
    job.add("nobody", f"{server.url}/nothing.m3u8", kind="live")
    job.record("file")
    config = job.config(live=FAST, sources=ANYWHERE)
    assert sorted(plan_build(config)[0].reasons) == ["file", "nobody", "show"]
    build(job)
    ledger = LiveStore(str(job.folder / "out/work")).ledger("show")
    rows = {row["key"]: row for row in job.decisions()}
    shown = [row for row in rows.values() if row["pair_id"].startswith("show-s")]
    assert {row["pair_id"] for row in shown} == {f"show-s{n:06d}" for n in range(len(ledger.segments))}
    assert {row["video"] for row in shown} == {f"{server.url}/live.m3u8"}
    assert sum(row["frames"] for row in shown) >= 20 * FRAMES / 2 * 0.9
    nobody = rows["nobody"]
    assert (nobody["verdict"], nobody["stage"], nobody["error_code"]) == ("failed", "capture", "no_stream")
    assert "404" in nobody["words"]
    card = json.loads((job.folder / "out/dataset.json").read_text())
    assert [(live["pair_id"], live["ending"]) for live in card["live"]] == [("nobody", "silence"), ("show", "seconds")]
    assert str(job.folder) not in json.dumps(card)
    index = {row["pair_id"]: row for row in pq.read_table(job.folder / "out/index.parquet").to_pylist()}
    assert {row["split"] for name, row in index.items() if name.startswith("show")} in ({"train"}, {"test"})
    assert {row["licence"] for name, row in index.items() if name.startswith("show")} == {"CC0"}

    requests, shards = len(server.requests), job.shards()
    assert build(job).unchanged
    assert len(server.requests) == requests  # what has ended is not captured again
    replay(config)
    assert job.shards() == shards
    assert not list((job.folder / "out/work/live").rglob("unfinished*"))


@pytest.fixture
def feed_of(job: Job, server: LiveServer) -> Iterator[Any]:
    """A feed of the stream, as a build makes it, whose segments are only listed."""
    job.add("show", f"{server.url}/live.m3u8", kind="live")
    config = job.config(sources=ANYWHERE)
    manifest = read_manifest(config.manifest, sources=SourcesConfig(**ANYWHERE))
    feeds = []

    def make() -> tuple[LiveFeed, list[str]]:
        streams = captured(manifest, str(job.folder / "work")).to_capture(manifest, retry_failed=False)
        came: list[str] = []
        feed = LiveFeed(
            streams,
            LiveConfig(**FAST),
            SourcesConfig(**ANYWHERE),
            str(job.folder / "work"),
            sources_of=lambda pairs: came.extend(pair.pair_id for pair in pairs) or (),
        )
        feeds.append(feed)
        return feed, came

    yield make
    for feed in feeds:
        feed.close()


def poll(feed: LiveFeed, until: Any) -> None:
    for _ in range(400):
        feed.poll()
        if until():
            return
        time.sleep(0.05)
    raise AssertionError("nothing came")


def ffmpegs(server: LiveServer) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(server.url in word for word in process.info["cmdline"] or ())
    ]


def test_a_run_that_is_stopped_or_whose_capture_dies_goes_on_with_the_stream(
    job: Job, server: LiveServer, feed_of: Any
) -> None:
    store = LiveStore(str(job.folder / "work"))
    feed, came = feed_of()
    poll(feed, lambda: came)
    (ffmpeg,) = ffmpegs(server)
    psutil.Process(ffmpeg.ppid()).kill()  # the actor: another takes up what it left
    psutil.wait_procs([ffmpeg], timeout=5)
    poll(feed, lambda: len(came) >= 3)
    feed.close()
    assert feed.ended
    assert ffmpegs(server) == []
    stopped = store.ledger("show")
    assert stopped.ending is None

    server.wait_for(LENGTH)
    server.finished = True
    feed, more = feed_of()
    poll(feed, lambda: feed.ended)
    ledger = store.ledger("show")
    assert ledger.ending == "stream"
    assert [*came, *more][: len(came)] == came
    assert len(set(came) | set(more)) == len(came) + len(more)
    assert ledger.segments[: len(stopped.segments)] == stopped.segments
    assert ledger.connections >= 3
    assert "nothing was running" in " ".join(gap.cause for gap in ledger.gaps) or not ledger.gaps
    at = [segment.at_seconds for segment in ledger.segments]
    assert at == sorted(at)
