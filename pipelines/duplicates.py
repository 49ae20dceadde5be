"""The last decision on a clip: whether a better copy of its footage is in the dataset. It takes all clips to know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from curation.duplicates.footage import Footage, SharedFootage
from curation.duplicates.signature import Duplicates
from pipelines.chain import Chain
from pipelines.decisions import Decision, decide_all, row_of
from pipelines.store import ClipStore
from schemas.clip import Drop
from schemas.manifest import Pair

METRIC = "duplicate_share"


def shared_footage(pairs: Iterable[Pair], chain: Chain, store: ClipStore) -> SharedFootage:
    """What the clips that pass all bounds of their own have in common; nothing where the chain takes no signatures."""
    stage, footage = _stage(chain), Footage()
    for decision in decide_all(pairs, chain, store) if stage else ():
        if decision.verdict == "kept" and decision.clip:
            footage.add(decision.clip)
    return footage.compare(lambda share: stage is not None and stage.decide({METRIC: share}) is not None)


def judge_copies(decisions: Iterable[Decision], chain: Chain, shared: SharedFootage) -> Iterator[Decision]:
    """`decisions`, in which clips that have too much in `shared` with a better one are dropped, naming it."""
    stage = _stage(chain)
    for decision in decisions:
        clip = decision.clip
        if not stage or decision.verdict != "kept" or not clip or not clip.signature.strip("0"):
            yield decision
            continue
        copy = shared.copies.get(clip.key)
        share, best = (copy.share, copy.best) if copy else (0.0, None)
        if drop := stage.decide({METRIC: share}):
            clip.drop = _naming(drop, best)
        verdict = "dropped" if drop else "kept"
        row = row_of(clip, verdict)
        measured = {"metrics": {**row["metrics"], METRIC: share}, "duplicate_of": best}
        yield Decision(verdict, {**row, **measured}, clip)


def _stage(chain: Chain) -> Duplicates | None:
    return next((stage for stage in chain.stages if isinstance(stage, Duplicates)), None)


def _naming(drop: Drop, best: str | None) -> Drop:
    return replace(drop, words=f"{drop.words}; most of it is in {best}") if best else drop
