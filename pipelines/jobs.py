"""The work that the driver hands out: recordings to read, clips to go on with."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pipelines.worker import Row
from schemas.clip import Failure


@dataclass(eq=False)
class SourceJob:
    """One manifest row whose recording is to be read.

    Attributes:
        row: the row.
        stored: its clips that the store has already, and that are accounted for.
        wanted: only these clips are wanted, because their stored files turned out to be damaged; None: all.
        keys: clips that this run has met.
        rejected: stretches that made no clip.
        deaths: workers that died while they read it, by stage (there is one: ingest).
        failure: why it is given up; a worker has to write that down.

    """

    row: Row
    stored: frozenset[str] = frozenset()
    wanted: frozenset[str] | None = None
    keys: set[str] = field(default_factory=set)
    rejected: set[str] = field(default_factory=set)
    deaths: Counter[str] = field(default_factory=Counter)
    failure: Failure | None = None

    @property
    def name(self) -> str:
        """Pair id of the row."""
        return self.row.pair.pair_id


@dataclass(eq=False)
class ClipJob:
    """One clip on its way.

    Attributes:
        key: the clip's.
        row: the row it came from.
        next_stage: index of the stage that it goes on at.
        stored_stage: index of the stage to go on at from what the store holds of it.
        data: reference to its bytes in Ray's object store; None: they are in the clip store.
        bytes: size of `data`.
        deaths: workers that died on it, by stage: those that somebody killed from outside tell nothing of another.
        alone: it is under suspicion, so it goes one stage a call.
        failure: why it is given up; a worker has to write that down.

    """

    key: str
    row: Row
    next_stage: int
    stored_stage: int = -1
    data: Any = None
    bytes: int = 0
    deaths: Counter[str] = field(default_factory=Counter)
    alone: bool = False
    failure: Failure | None = None

    def __post_init__(self) -> None:
        if self.stored_stage < 0:
            self.stored_stage = self.next_stage

    @property
    def name(self) -> str:
        """Key of the clip."""
        return self.key

    def back_to_store(self) -> None:
        """Go on from what the store holds: the bytes that were on their way are gone."""
        self.data, self.bytes, self.next_stage = None, 0, self.stored_stage
