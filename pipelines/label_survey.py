"""Which clips of a build wait for labels by a vision-language model, and what they would be asked. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import media
from annotators.vlm.cache import Cache
from annotators.vlm.rehearsal import Asked, Handled, handled_in, rehearse
from annotators.vlm.stage import VlmLabels
from curation.manifest import read_manifest
from media.sources import held_to
from pipelines.build import plan_build
from pipelines.chain import Chain, make_chain
from pipelines.live_ledger import TO_CAPTURE, captured
from pipelines.lookahead import in_order
from pipelines.plan import Plan
from pipelines.store import ClipStore
from pipelines.worker import INPUTS, Row
from schemas.clip import Clip
from schemas.config import BuildConfig
from schemas.errors import ConfigError, DatasetError, MediaError
from schemas.manifest import Kind, Pair


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A stored clip that is to be labelled.

    Attributes:
        key, pair_id: of the clip.
        seconds: its length.
        next: whether it waits for the labels alone; else stages run before, whose filters may drop it.

    """

    key: str
    pair_id: str
    seconds: float
    next: bool


@dataclass(frozen=True, kw_only=True)
class Unread:
    """Recordings that have given no clips yet, or are to be read anew.

    Attributes:
        recordings: how many, streams that are to be captured included.
        unknown: of these, how many are of unknown length.
        seconds: length of the others.
        share: of the seconds of the recordings read so far, those in clips that are labelled or wait for it.

    """

    recordings: int
    unknown: int
    seconds: float
    share: float


@dataclass(frozen=True)
class Rehearsal:
    """What would be asked about a clip.

    Attributes:
        has_contact: whether contact evidence stands in for the model's labels, or a mere assumption.
        questions: in the order in which they would be asked. May raise `MediaError`: the clip is damaged.

    """

    has_contact: bool
    questions: Iterator[Asked]


class Survey:
    """The clips of the build of `config` that wait for labels.

    Raises:
        VvtError: manifest or config are not right, as of `pipelines.build.plan_build`.
        ConfigError: no stage of the config asks a model.

    """

    def __init__(self, config: BuildConfig) -> None:
        self._config, self._chain = config, make_chain(config)
        self.stage = _labelling_stage(self._chain)
        self.cache = Cache(self.stage.cache)
        self._store = ClipStore(config.work_url)
        self._plan, _ = plan_build(config)
        self.waiting = tuple(self._waiting(self._plan))

    def rehearsal(self, clip: Waiting) -> Rehearsal:
        """What would be asked about `clip`.

        Raises:
            DatasetError: the stored clip is damaged.

        """
        record = self._store.get(clip.key)
        if record is None:
            raise DatasetError("the clip is no longer stored", where=clip.key)
        has_contact, handled = "contact" in record.artifacts, handled_in(record)
        for name in self._chain.unused(self.stage) & record.artifacts.keys():
            del record.artifacts[name]
        return Rehearsal(has_contact, self._questions(record, handled))

    def _questions(self, record: Clip, handled: Handled) -> Iterator[Asked]:
        identity = self.stage.backend.identity
        try:
            yield from rehearse(self.stage.talk(record), handled=handled, cache=self.cache, identity=identity)
        finally:
            media.forget(record)

    @cached_property
    def unread(self) -> Unread:
        """What the manifest names beyond the stored clips."""
        streams = sum(why == TO_CAPTURE for why in self._plan.reasons.values())
        pairs = [job.row.pair for job in self._plan.sources]
        with held_to(self._config.sources):
            lengths = list(in_order(_length, pairs))
        known = [length for length in lengths if length is not None]
        return Unread(
            recordings=len(pairs) + streams,
            unknown=len(pairs) + streams - len(known),
            seconds=sum(known),
            share=self._share({pair.pair_id for pair in pairs}) if known else 0.0,
        )

    def _waiting(self, plan: Plan) -> Iterator[Waiting]:
        place = self._chain.stages.index(self.stage)
        for pair_id, jobs in groupby(plan.clips, key=lambda job: job.row.pair.pair_id):
            records = self._store.records(pair_id)
            for job in jobs:
                record = records.get(job.key)
                if record and job.next_stage <= place and self._is_stale(record, job.row):
                    here = job.next_stage == place
                    yield Waiting(key=job.key, pair_id=pair_id, seconds=record.span.seconds, next=here)

    def _is_stale(self, record: Clip, row: Row) -> bool:
        if record.fingerprints.get(INPUTS) != row.inputs or not self._chain.ran(self.stage.name, record):
            return True
        return record.failure is not None and record.failure.stage == self.stage.name

    def _share(self, unread: set[str]) -> float:
        """Of the seconds of the recordings read so far, those that labels are wanted of; 1 where none was read."""
        manifest = read_manifest(self._config.manifest, sources=self._config.sources)
        pairs = [pair for pair in captured(manifest, self._store.url).recordings if pair.pair_id not in unread]
        waiting = {clip.key for clip in self.waiting}
        read = labelled = 0.0
        for pair, records in zip(pairs, in_order(lambda pair: self._store.records(pair.pair_id), pairs), strict=True):
            clips = [record for record in records.values() if record]
            if clips and (length := _within(pair, clips[0].source.duration)):
                read += length
                labelled += sum(
                    clip.span.seconds for clip in clips if clip.key in waiting or self._chain.ran(self.stage.name, clip)
                )
        return min(1.0, labelled / read) if read else 1.0


def _labelling_stage(chain: Chain) -> VlmLabels:
    for stage in chain.stages:
        if isinstance(stage, VlmLabels):
            return stage
    raise ConfigError(
        "no stage of this config asks a vision-language model",
        where="stages",
        remedy="Set stages.labels.use=annotators.vlm.stage:VlmLabels and stages.labels.backend; see docs/labels.md",
    )


def _length(pair: Pair) -> float | None:
    """Seconds of the recording that are to be read, or None where that cannot be told."""
    if pair.kind is Kind.LIVE:
        return pair.max_seconds
    if pair.end is not None:
        return _within(pair, None)
    try:
        return _within(pair, media.probe(pair.video).duration)
    except MediaError:
        return None


def _within(pair: Pair, duration: float | None) -> float | None:
    end = min((seconds for seconds in (pair.end, duration) if seconds is not None), default=None)
    return None if end is None else max(0.0, end - (pair.start or 0.0))
