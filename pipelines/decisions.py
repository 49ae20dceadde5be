"""What was decided on every clip ever seen, and why: the rows of `decisions.parquet`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipelines.chain import INGEST, Chain
from pipelines.live_ledger import CAPTURE, NO_STREAM, LiveLedger, LiveStore
from pipelines.lookahead import in_order
from pipelines.store import ClipStore
from pipelines.worker import verdict_of
from schemas.clip import Clip, Failure
from schemas.manifest import Kind, Pair


@dataclass(frozen=True)
class Decision:
    """One row of `decisions.parquet`.

    Attributes:
        verdict: "kept", "dropped", "failed" or "unfinished".
        row: the columns; those that say nothing are left out.
        clip: the record that was decided on, None where a recording gave no clip.

    """

    verdict: str
    row: dict[str, Any]
    clip: Clip | None = None


def decide_all(pairs: Iterable[Pair], chain: Chain, store: ClipStore) -> Iterator[Decision]:
    """Decide on every clip of `pairs`, under the bounds of `chain`, and on recordings that gave none.

    In order of pair id and key. The store is read ahead of what is asked for, a pair at a time.
    """
    ordered = sorted(pairs, key=lambda pair: pair.pair_id)
    for decisions in in_order(partial(_decide_pair, chain=chain, store=store), ordered):
        yield from decisions


def _decide_pair(pair: Pair, *, chain: Chain, store: ClipStore) -> list[Decision]:
    if pair.kind is Kind.LIVE:  # nothing is captured: else its segments stood here
        return [_of_stream(pair, LiveStore(store.url).ledger(pair.pair_id))]
    ledger = store.ledger(pair.pair_id)
    if ledger is None:
        words = "the recording was never read to its end: `vvt build` reads it"
        return [_of_recording(pair, "unfinished", words=words)]
    records = store.records(pair.pair_id, remember=True) if ledger.keys else {}
    decisions = [Decision("dropped", row_of(clip, "dropped"), clip) for clip in ledger.rejected]
    decisions += [_decided(key, records.get(key), ledger.pair, chain) for key in ledger.keys]
    decisions.sort(key=lambda decision: str(decision.row["key"]))
    if ledger.failure:
        decisions.append(_failed_recording(ledger.pair, ledger.failure))
    elif not decisions:
        words = "the recording gave no clip: no frame of it lies in the span that was asked for"
        decisions.append(_of_recording(ledger.pair, "failed", words=words, error=words, error_code="no_clip"))
    return decisions


def _decided(key: str, clip: Clip | None, pair: Pair, chain: Chain) -> Decision:
    if clip is None:
        words = "the clip is missing from the store, or damaged: `vvt build` makes it anew"
        return _of_recording(pair, "unfinished", key=key, words=words)
    if clip.failure and not chain.ran(clip.failure.stage, clip):
        clip.failure = None  # of a stage that is gone, or set otherwise now
    standing = chain.standing(clip)
    clip.drop = standing.drop
    if clip.failure is None and standing.next_stage is not None:
        stage = chain.stages[standing.next_stage].name
        words = (
            f"{stage} is new, set otherwise, or was never reached, as a filter dropped the clip: `vvt build` runs it"
        )
        return Decision("unfinished", {**row_of(clip, "unfinished"), "stage": stage, "words": words}, clip)
    verdict = verdict_of(clip)[0]
    return Decision(verdict, row_of(clip, verdict), clip)


def row_of(clip: Clip, verdict: str) -> dict[str, Any]:
    """Columns of a clip, as its record says."""
    drop, failure, span = clip.drop, clip.failure, clip.span
    return {
        "key": clip.key,
        "pair_id": clip.pair.pair_id,
        "video": clip.pair.video,
        "verdict": verdict,
        "stage": failure.stage if failure else drop.stage if drop else None,
        "metric": drop.metric if drop and not failure else None,
        "value": drop.value if drop and not failure else None,
        "bound_low": drop.bound[0] if drop and not failure else None,
        "bound_high": drop.bound[1] if drop and not failure else None,
        "words": failure.cause if failure else drop.words if drop else None,
        "error_code": failure.code if failure else None,
        "error": failure.cause if failure else None,
        "traceback": failure.traceback if failure else None,
        "first_frame": span.first_frame,
        "last_frame": span.last_frame,
        "start_seconds": span.start_seconds,
        "end_seconds": span.end_seconds,
        "frames": span.frames,
        "fps": float(span.fps),
        "width": span.width,
        "height": span.height,
        "seconds": sum(clip.seconds.values()),
        "metrics": dict(clip.metrics),
    }


def _failed_recording(pair: Pair, failure: Failure) -> Decision:
    said = {"words": failure.cause, "error_code": failure.code, "error": failure.cause, "traceback": failure.traceback}
    return _of_recording(pair, "failed", stage=failure.stage, **said)


def _of_stream(pair: Pair, ledger: LiveLedger) -> Decision:
    if ledger.ending is None:
        words = "nothing of the stream is captured yet: `vvt build` captures it"
        return _of_recording(pair, "unfinished", stage=CAPTURE, words=words)
    words = f"the stream gave nothing in {ledger.connections} connection(s): {ledger.trouble or 'it never answered'}"
    return _of_recording(
        pair, "failed", stage=CAPTURE, words=words, error=ledger.trouble or words, error_code=NO_STREAM
    )


def _of_recording(pair: Pair, verdict: str, **columns: Any) -> Decision:
    """A row of a recording, or of a clip of which nothing is known but its key."""
    named = {"key": pair.pair_id, "pair_id": pair.pair_id, "video": pair.video, "verdict": verdict, "stage": INGEST}
    return Decision(verdict, {**named, "metrics": {}, **columns})
