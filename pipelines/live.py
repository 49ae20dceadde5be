"""Captures live rows while a build runs: an actor a stream, and a feed of their segments for the engine."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
from fsspec.implementations.local import LocalFileSystem
from ray.exceptions import RayActorError, RayError

from curation.live import Before, Capture, Closed, End, Ending, Gap, open_gate
from pipelines import urls
from pipelines.jobs import SourceJob
from pipelines.live_ledger import Capturing, LiveStore
from schemas.config import LiveConfig, SourcesConfig
from schemas.errors import OutageError, VvtError
from schemas.manifest import Pair

NEWS_SECONDS = 5.0
CLOSE_SECONDS = 15.0
STORE_AGAIN_SECONDS = 5.0
DEATHS = 3
"""Processes that may die over one stream."""


@dataclass(frozen=True)
class News:
    """How many segments are stored, and whether nothing more will come."""

    segments: int
    ended: bool


class Recorder:
    """Captures one live row in a thread of its own, stores what it gives, and keeps the ledger.

    Args:
        pair: the row.
        config: lengths and times.
        sources: which addresses are allowed.
        work_url: of the clip store.

    """

    def __init__(self, pair: Pair, config: LiveConfig, sources: SourcesConfig, work_url: str) -> None:
        self._pair, self._config, self._sources = pair, config, sources
        self._store = LiveStore(work_url)
        self._ledger = replace(self._store.ledger(pair.pair_id), ending=None)
        self._stop, self._ended = threading.Event(), False
        self._changed = threading.Condition()
        self._folder = scratch_folder(work_url, pair.pair_id)
        self._thread = threading.Thread(target=self._run, name=f"capture {pair.pair_id}", daemon=True)
        self._thread.start()

    def news(self, known: int) -> News:
        """What there is beyond `known` segments; waits some seconds for it."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(self._ledger.segments) > known, NEWS_SECONDS)
            return News(len(self._ledger.segments), self._ended)

    def stop(self) -> None:
        """End the capture with its last segment closed and stored. To be taken up by the next recorder."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with open_gate(self._pair.video, self._sources) as environment:
                self._capture(environment)
        except OutageError:
            pass  # it was stopped meanwhile: what is not stored lies in the folder until it is taken up
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends this stream only, and its row says why
            words = str(error) if isinstance(error, VvtError) else f"{type(error).__name__}: {error}"
            self._note(ending=Ending.FAILURE, trouble=words)
        finally:
            with suppress(OSError):
                self._folder.rmdir()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _capture(self, environment: dict[str, str]) -> None:
        ledger = self._ledger
        last = ledger.segments[-1] if ledger.segments else None
        capture = Capture(
            self._pair.video,
            folder=self._folder,
            config=self._config,
            max_seconds=self._pair.max_seconds,
            max_bytes=self._pair.max_mb and self._pair.max_mb * 1e6,
            before=Before(
                segments=len(ledger.segments),
                seconds=ledger.seconds,
                bytes=ledger.bytes,
                ended=last.ended if last else None,
                tail=ledger.tail,
            ),
            environment=environment,
            stop=self._stop,
        )
        for item in capture.run():
            connections = ledger.connections + capture.connections
            if isinstance(item, Closed):
                self._until_stored(partial(self._copy, item.file))
                tail = capture.tail.until(item.segment.at_seconds + item.segment.seconds)
                self._note(segments=(*self._ledger.segments, item.segment), connections=connections, tail=tail)
                item.file.unlink()
            elif isinstance(item, Gap):
                self._note(gaps=(*self._ledger.gaps, item), connections=connections)
            elif isinstance(item, End):
                self._note(ending=item.ending, trouble=item.trouble, connections=connections)

    def _copy(self, file: Path) -> None:
        number = len(self._ledger.segments)
        with urls.open_whole(self._store.segment_url(self._pair.pair_id, number)) as target, file.open("rb") as source:
            shutil.copyfileobj(source, target, 1 << 20)

    def _note(self, **changes: Any) -> None:
        ledger = replace(self._ledger, **changes)
        self._until_stored(partial(self._store.put, ledger))
        with self._changed:
            self._ledger = ledger
            self._changed.notify_all()

    def _until_stored(self, write: Callable[[], None]) -> None:
        """Raises `OutageError` if the store is away when the capture is to stop."""
        while True:
            try:
                return write()
            except OutageError:
                if self._stop.wait(STORE_AGAIN_SECONDS):
                    raise


def scratch_folder(work_url: str, pair_id: str) -> Path:
    """Folder for unfinished segments: beside the finished ones, or of this machine where those are in a store.

    It has the same name in the next run, which takes up what a killed one left.
    """
    url = urls.join(LiveStore(work_url).folder(pair_id), "unfinished")
    fs, path = urls.filesystem(url)
    if not isinstance(fs, LocalFileSystem):
        name = hashlib.sha256(work_url.encode()).hexdigest()[:16]
        path = os.path.join(tempfile.gettempdir(), f"vvt-live-{os.getuid()}-{name}", pair_id)
    os.makedirs(path, mode=0o700, exist_ok=True)
    return Path(path)


@dataclass(eq=False)
class _Stream:
    """One live row that is captured: its actor, and the question to it that is open."""

    pair: Pair
    actor: Any
    known: int
    question: Any = None
    deaths: int = 0


class LiveFeed:
    """Gives the engine the segments of live rows, as they are closed. Needs a connected cluster.

    Args:
        streams: the live rows to capture.
        config: lengths and times.
        sources: which addresses are allowed.
        work_url: of the clip store.
        sources_of: the work on the pairs of new segments.

    """

    def __init__(
        self,
        streams: Sequence[Capturing],
        config: LiveConfig,
        sources: SourcesConfig,
        work_url: str,
        *,
        sources_of: Callable[[Sequence[Pair]], Sequence[SourceJob]],
    ) -> None:
        self._arguments = (config, sources, work_url)
        self._store, self._sources_of = LiveStore(work_url), sources_of
        self._streams = [_Stream(stream.pair, self._start(stream.pair), stream.segments) for stream in streams]

    def poll(self) -> list[SourceJob]:
        """Segments that were closed since the last call."""
        jobs: list[SourceJob] = []
        for stream in self._streams:
            stream.question = stream.question or stream.actor.news.remote(stream.known)
        questions = {stream.question: stream for stream in self._streams}
        answered, _ = ray.wait(list(questions), num_returns=len(questions), timeout=0) if questions else ([], [])
        for question in answered:
            jobs += self._heard(questions[question])
        return jobs

    @property
    def ended(self) -> bool:
        """Whether all captures are at their end."""
        return not self._streams

    def close(self) -> None:
        """Stop all captures. Their last segments are stored, for the next run to read."""
        stops = [stream.actor.stop.remote() for stream in self._streams]
        try:
            ray.wait(stops, num_returns=len(stops), timeout=CLOSE_SECONDS) if stops else None
            for stream in self._streams:
                ray.kill(stream.actor)
        except RayError:
            logging.getLogger(__name__).warning("the cluster is gone; its captures end with it")
        self._streams = []

    def _start(self, pair: Pair) -> Any:
        # `news` waits inside, beside `stop`. No CPU: ffmpeg only copies.
        options = {"num_cpus": 0, "max_concurrency": 2, "scheduling_strategy": "SPREAD"}
        return ray.remote(Recorder).options(**options).remote(pair, *self._arguments)

    def _heard(self, stream: _Stream) -> Sequence[SourceJob]:
        try:
            news: News = ray.get(stream.question)
        except RayActorError as error:
            self._died(stream, error)
            return []
        stream.question = None
        pairs = [self._store.segment_pair(stream.pair, number) for number in range(stream.known, news.segments)]
        stream.known = news.segments
        if news.ended:
            ray.kill(stream.actor)
            self._streams.remove(stream)
        return self._sources_of(pairs)

    def _died(self, stream: _Stream, error: RayActorError) -> None:
        """Its process was killed, or its node went: another takes up what it left."""
        stream.question, stream.deaths = None, stream.deaths + 1
        if stream.deaths < DEATHS:
            stream.actor = self._start(stream.pair)
            return
        self._streams.remove(stream)
        ledger = self._store.ledger(stream.pair.pair_id)
        words = f"its process died {DEATHS} times: {error}"
        self._store.put(replace(ledger, ending=Ending.FAILURE, trouble=words))
