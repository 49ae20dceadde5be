"""What was decided on every clip ever seen, and why: the rows of `decisions.parquet`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pipelines.chain import INGEST, Chain
from pipelines.store import ClipStore, Ledger
from pipelines.worker import verdict_of
from schemas.clip import Clip
from schemas.manifest import Pair


def decide_all(pairs: Iterable[Pair], chain: Chain, store: ClipStore) -> Iterator[tuple[str, dict[str, Any]]]:
    """(verdict, row) of every clip of `pairs`, under the bounds of `chain`, and of recordings that gave none."""
    for pair in sorted(pairs, key=lambda pair: pair.pair_id):
        ledger = store.ledger(pair.pair_id)
        rows = [*_clip_rows(ledger, chain, store)] if ledger else []
        yield from sorted(rows, key=lambda row: str(row[1]["key"]))
        if ledger and ledger.failure:
            yield "failed", _failed_recording(ledger)
        elif ledger and not rows:
            yield "failed", _empty_recording(ledger)
        elif ledger is None:
            yield "unfinished", _unread_recording(pair)


def _clip_rows(ledger: Ledger, chain: Chain, store: ClipStore) -> Iterator[tuple[str, dict[str, Any]]]:
    for clip in ledger.rejected:
        yield "dropped", _row(clip, "dropped")
    for key in ledger.keys:
        clip_or_none = store.record(key)
        if clip_or_none is not None:
            yield _decided(clip_or_none, chain)


def _decided(clip: Clip, chain: Chain) -> tuple[str, dict[str, Any]]:
    if clip.failure and not chain.ran(clip.failure.stage, clip):
        clip.failure = None  # of a stage that is gone, or set otherwise now
    standing = chain.standing(clip)
    clip.drop = standing.drop
    if clip.failure is None and standing.next_stage is not None:
        stage = chain.stages[standing.next_stage].name
        words = (
            f"{stage} is new, set otherwise, or was never reached, as a filter dropped the clip: `vvt build` runs it"
        )
        return "unfinished", {**_row(clip, "unfinished"), "stage": stage, "words": words}
    verdict = verdict_of(clip)[0]
    return verdict, _row(clip, verdict)


def _row(clip: Clip, verdict: str) -> dict[str, Any]:
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


def _failed_recording(ledger: Ledger) -> dict[str, Any]:
    failure = ledger.failure
    return {
        "key": ledger.pair.pair_id,
        "pair_id": ledger.pair.pair_id,
        "video": ledger.pair.video,
        "verdict": "failed",
        "stage": failure.stage if failure else INGEST,
        "words": failure.cause if failure else None,
        "error_code": failure.code if failure else None,
        "error": failure.cause if failure else None,
        "traceback": failure.traceback if failure else None,
        "metrics": {},
    }


def _unread_recording(pair: Pair) -> dict[str, Any]:
    return {
        "key": pair.pair_id,
        "pair_id": pair.pair_id,
        "video": pair.video,
        "verdict": "unfinished",
        "stage": INGEST,
        "words": "the recording was never read to its end: `vvt build` reads it",
        "metrics": {},
    }


def _empty_recording(ledger: Ledger) -> dict[str, Any]:
    words = "the recording gave no clip: no frame of it lies in the span that was asked for"
    return {**_failed_recording(ledger), "words": words, "error": words, "error_code": "no_clip"}
