"""What was captured of live streams, and the recordings that stand in their place in the dataset.

WORK/live/PAIR.json           the ledger of a live row
WORK/live/PAIR/000012.ts      its segments; each is read like any recording, under the pair id PAIR-s000012
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from curation.live import Ending, Gap, Segment
from curation.manifest import Manifest
from pipelines import urls
from pipelines.lookahead import in_order
from schemas.errors import DatasetError
from schemas.manifest import SEGMENT_SUFFIX, Kind, Pair

CAPTURE, NO_STREAM = "capture", "no_stream"
"""Stage and error code of a live row that gave nothing."""
TO_CAPTURE = "its stream is to be captured"


@dataclass(frozen=True, kw_only=True)
class LiveLedger:
    """What was captured of one live row.

    Attributes:
        pair_id: of the row.
        segments: closed and stored, in order.
        gaps: what is lost of the stream, in order.
        connections: how often it was connected to.
        tail: hashes of the last packets: what a server sends again is known by them.
        ending: why nothing more is captured; None: it is to go on.
        trouble: what went wrong last, "" if nothing did.

    """

    pair_id: str
    segments: tuple[Segment, ...] = ()
    gaps: tuple[Gap, ...] = ()
    connections: int = 0
    tail: tuple[str, ...] = ()
    ending: Ending | None = None
    trouble: str = ""

    @property
    def seconds(self) -> float:
        """Length of all segments."""
        return sum(segment.seconds for segment in self.segments)

    @property
    def bytes(self) -> int:
        """Size of all segments."""
        return sum(segment.bytes for segment in self.segments)

    def facts(self) -> dict[str, Any]:
        """What the dataset's card says of it, as JSON."""
        facts: dict[str, Any] = _LEDGER.dump_python(self, mode="json", exclude={"tail", "segments", "trouble"})
        return {**facts, "segments": len(self.segments), "seconds": self.seconds, "bytes": self.bytes}

    def has_ended(self, pair: Pair, *, retry_failed: bool = False) -> bool:
        """Whether nothing more is to be captured for `pair`: limits may have been raised since."""
        if self.ending is Ending.SECONDS:
            return pair.max_seconds is not None and self.seconds >= pair.max_seconds
        if self.ending is Ending.SIZE:
            return pair.max_mb is not None and self.bytes >= pair.max_mb * 1e6
        if self.ending in (Ending.SILENCE, Ending.FAILURE):
            return not retry_failed
        return self.ending is not None


_LEDGER: TypeAdapter[LiveLedger] = TypeAdapter(LiveLedger)


class LiveStore:
    """Ledgers and segments of live rows, under the URL of a clip store."""

    def __init__(self, work_url: str) -> None:
        self._work = work_url

    def folder(self, pair_id: str) -> str:
        """Where the segments of a row are."""
        return urls.join(self._work, "live", pair_id)

    def segment_url(self, pair_id: str, number: int) -> str:
        """Where segment `number`, from 0, of a row is."""
        return urls.join(self.folder(pair_id), f"{number:06d}.ts")

    def ledger(self, pair_id: str) -> LiveLedger:
        """Ledger of a row; an empty one where nothing was captured. Raises `DatasetError` if it is damaged."""
        url = f"{self.folder(pair_id)}.json"
        data = urls.read(url)
        if data is None:
            return LiveLedger(pair_id=pair_id)
        try:
            return _LEDGER.validate_json(data)
        except ValidationError as error:
            words = "Delete it and the folder beside it, to capture from the start, or restore it"
            raise DatasetError(f"this is no ledger of a live row: {error}", where=url, remedy=words) from error

    def put(self, ledger: LiveLedger) -> None:
        """Store `ledger`: from now on its segments are part of the dataset."""
        unfinished = urls.join(self._work, "unfinished")
        urls.write_whole(f"{self.folder(ledger.pair_id)}.json", _LEDGER.dump_json(ledger), unfinished=unfinished)

    def segment_pair(self, pair: Pair, number: int) -> Pair:
        """Segment `number` of the live row `pair`, as a row of its own."""
        return pair.model_copy(
            update={
                "kind": Kind.RECORDING,
                "pair_id": pair.pair_id + SEGMENT_SUFFIX.format(number),
                "video": self.segment_url(pair.pair_id, number),
                "max_seconds": None,
                "max_mb": None,
            }
        )


@dataclass(frozen=True)
class Capturing:
    """A live row that is to be captured, and how many segments of it are known already."""

    pair: Pair
    segments: int

    @property
    def pair_id(self) -> str:
        """Of the row."""
        return self.pair.pair_id


@dataclass(frozen=True)
class Captured:
    """A manifest, and what is captured of its live rows.

    Attributes:
        manifest: the segments stand in place of each live row that has some. What they were read from is, as written,
            the address: all that is captured of one address is on one side of the split.
        ledgers: by pair id of the live row.

    """

    manifest: Manifest
    ledgers: dict[str, LiveLedger]

    @property
    def recordings(self) -> list[Pair]:
        """Rows that can be read: all but streams of which nothing is captured."""
        return [pair for pair in self.manifest.pairs if pair.kind is Kind.RECORDING]

    def to_capture(self, manifest: Manifest, *, retry_failed: bool) -> list[Capturing]:
        """Live rows of `manifest` that have not ended."""
        live = ((pair, self.ledgers[pair.pair_id]) for pair in manifest.pairs if pair.kind is Kind.LIVE)
        return [
            Capturing(pair, len(ledger.segments))
            for pair, ledger in live
            if not ledger.has_ended(pair, retry_failed=retry_failed)
        ]


def captured(manifest: Manifest, work_url: str) -> Captured:
    """What the clip store at `work_url` has of the live rows of `manifest`."""
    store = LiveStore(work_url)
    live = [pair.pair_id for pair in manifest.pairs if pair.kind is Kind.LIVE]
    ledgers = {ledger.pair_id: ledger for ledger in in_order(store.ledger, live)}
    pairs: list[Pair] = []
    streams: dict[str, str] = {}
    for pair in manifest.pairs:
        count = len(ledgers[pair.pair_id].segments) if pair.pair_id in ledgers else 0
        segments = [store.segment_pair(pair, number) for number in range(count)]
        streams |= {segment.video: pair.video for segment in segments}
        pairs += segments or [pair]
    return Captured(replace(manifest, pairs=tuple(pairs), streams=streams), ledgers)
