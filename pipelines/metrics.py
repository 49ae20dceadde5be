"""Prometheus metrics of a run, which the agent of each Ray node exports; docs/operations.md lists them.

They are made in the driver, which hears of everything. No label takes a value for each clip or recording: Prometheus
keeps a series for every value that it ever saw.
"""

from __future__ import annotations

from collections.abc import Mapping

from ray.util.metrics import Counter, Gauge, Histogram

from pipelines.chain import INGEST
from pipelines.observer import Load, Observer
from pipelines.tally import Tally, UpToClip
from pipelines.worker import Outcome, Pulled
from schemas.clip import Failure

BOUNDARIES = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0]
"""Seconds between the histogram's buckets."""


class Metrics(Observer):
    """Tells Ray what the engine reports, `output` as a label of every series. Needs a connected cluster."""

    def __init__(self, tally: Tally, *, output: str) -> None:
        self._tally = tally
        self._output = output
        self._positions: dict[str, float] = {}
        self._up_to_clip = UpToClip()
        self._clips = self._counter("vvt_clips_total", "Clips that have a verdict.", "verdict", "reason")
        self._recordings = self._counter("vvt_recordings_total", "Recordings that were read, or failed.", "result")
        self._video = self._counter("vvt_recording_seconds_total", "Seconds of recordings that were read.")
        self._retries = self._counter("vvt_retries_total", "Calls that were made once more.", "stage")
        self._paused = self._counter("vvt_paused_seconds_total", "Seconds spent waiting for something outside.")
        self._seconds = Histogram(
            "vvt_stage_seconds",
            "Time that a stage took on a clip, ingest up to the next one.",
            boundaries=BOUNDARIES,
            tag_keys=("output", "stage"),
        ).set_default_tags({"output": output})
        self._waiting = _Gauges("vvt_waiting_clips", "Clips that wait for a stage.", label="stage", output=output)
        self._working = _Gauges("vvt_working", "Calls in flight.", label="stage", output=output)
        self._workers = _Gauges("vvt_workers", "Workers that are up or starting.", label="pool", output=output)
        self._unread = self._gauge("vvt_unread_recordings", "Recordings that nobody has begun to read.")
        self._open = self._gauge("vvt_open_recordings", "Recordings that are being read.")
        self._bytes = self._gauge("vvt_bytes_in_flight", "Compressed bytes of clips that wait between stages.")
        self._left = self._gauge("vvt_left_seconds", "Estimate of the time until all is done.")

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(name, words, ("output", *labels)).set_default_tags({"output": self._output})

    def _gauge(self, name: str, words: str) -> Gauge:
        return Gauge(name, words, ("output",)).set_default_tags({"output": self._output})

    def read(self, pulled: Pulled) -> None:
        """A recording was read on."""
        before = self._positions.get(pulled.pair_id, 0.0)
        if pulled.position_seconds > before:
            self._video.inc(pulled.position_seconds - before)
            self._positions[pulled.pair_id] = pulled.position_seconds
        if (took := self._up_to_clip.add(pulled)) is not None:
            self._seconds.observe(took, {"stage": INGEST})

    def source_done(self, pair_id: str, failure: Failure | None) -> None:
        """A recording was read to its end."""
        self._positions.pop(pair_id, None)
        self._recordings.inc(1, {"result": failure.code if failure else "read"})

    def ran(self, outcome: Outcome) -> None:
        """Stages took their time on a clip."""
        for stage, seconds in outcome.seconds.items():
            self._seconds.observe(seconds, {"stage": stage})

    def finished(self, outcome: Outcome) -> None:
        """A clip has its verdict."""
        self._clips.inc(1, {"verdict": outcome.verdict, "reason": outcome.reason})

    def rejected(self, pair_id: str, key: str, reason: str) -> None:
        """A stretch of a recording made no clip."""
        self._clips.inc(1, {"verdict": "dropped", "reason": reason})

    def retried(self, key: str, stage: str, cause: str) -> None:
        """A call is made once more."""
        self._retries.inc(1, {"stage": stage})

    def paused(self, cause: str, seconds: float) -> None:
        """Something outside is away."""
        if seconds > 0:
            self._paused.inc(seconds)

    def load(self, load: Load) -> None:
        """How full everything is."""
        working: dict[str, int] = {}
        for call in load.working:
            working[call.stage] = working.get(call.stage, 0) + 1
        self._waiting.set(load.waiting)
        self._working.set(working)
        self._workers.set(load.workers)
        self._unread.set(load.unread)
        self._open.set(len(self._tally.open))
        self._bytes.set(load.bytes_in_flight)
        if (left := self._tally.seconds_left()) is not None:
            self._left.set(left)


class _Gauges:
    """One gauge with a label; a value that is no longer there goes to zero."""

    def __init__(self, name: str, words: str, *, label: str, output: str) -> None:
        self._label = label
        self._gauge = Gauge(name, words, ("output", label)).set_default_tags({"output": output})
        self._known: set[str] = set()

    def set(self, values: Mapping[str, int]) -> None:
        self._known |= values.keys()
        for value in self._known:
            self._gauge.set(values.get(value, 0), {self._label: value})
