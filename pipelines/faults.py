"""What goes wrong in a run, and what follows: clips that fail, workers that die, stages and services that are down."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass

from pipelines.black_box import LastWords
from pipelines.chain import INGEST
from pipelines.worker import Outcome
from schemas.clip import Failure
from schemas.errors import OutageError, StageError

DEATHS = 2
"""Workers that may die on a clip, the second one with nothing else at work in it, before the clip is given up."""
DEATHS_UNEXPLAINED = 3
"""The same where nothing tells what killed them: it may have been somebody outside."""

FEWEST_CLIPS = 20
"""A stage is judged by its failures only after it has run on this many clips."""

_HINTS = {
    "CUDA out of memory": "The GPU is too small for what shares it: fewer workers on it (`resources.gpus`), or smaller "
    "batches",
    "OutOfMemoryError": "The GPU is too small for what shares it: raise `resources.gpus` of the stage",
    "MemoryError": "Raise `run.worker_memory_mb`, or the stage's `resources.memory_mb`",
    "Connection": "Is the server that this stage asks up, and is its address right?",
    "WeightsError": "Fetch the weights on every node: `vvt models pull`",
    "FileNotFoundError": "Is the file on every node?",
    "ModuleNotFoundError": "Install the module on every node",
    "ImportError": "Install the module on every node",
    "CUDA": "Does every node of this stage have the GPU and the driver that it needs? (`resources.gpus`)",
}


class StageHealth:
    """Counts failures by stage, so that a stage that cannot work does not burn the whole queue."""

    def __init__(self, *, max_failed_share: float) -> None:
        self._most = max_failed_share
        self._ran: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._causes: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def note(self, outcome: Outcome) -> None:
        """Count what became of a clip.

        Raises:
            StageError: a stage fails on most clips; it names the stage, the likely cause and what to do.

        """
        self._ran.update(outcome.seconds.keys())
        if outcome.verdict != "failed":
            return
        stage = outcome.reason.partition(":")[0]
        self._ran[stage] += stage not in outcome.seconds
        self._failed[stage] += 1
        if len(self._causes[stage]) < 1000:
            self._causes[stage][outcome.cause] += 1
        failed, ran = self._failed[stage], self._ran[stage]
        if ran >= FEWEST_CLIPS and failed > self._most * ran:
            raise self._error(stage, failed, ran)

    def _error(self, stage: str, failed: int, ran: int) -> StageError:
        cause, times = self._causes[stage].most_common(1)[0]
        hint = next((hint for sign, hint in _HINTS.items() if sign in cause), "")
        return StageError(
            f"this stage failed on {failed} of {ran} clips, {times} times with: {cause}",
            where=f"stages.{stage}",
            remedy=f"{hint + '. ' if hint else ''}Mend it and build again with `run.retry_failed=true`; what is stored "
            "stays. To go on all the same: `run.max_failed_share=1`",
        )


@dataclass
class Outage:
    """Waiting for something outside: pauses that double, up to a minute, and an end to patience."""

    patience: float
    cause: str = ""
    _since: float = 0.0
    _until: float = 0.0
    _pause: float = 0.0

    @property
    def on(self) -> bool:
        """Whether the last that was tried found it away."""
        return bool(self.cause)

    @property
    def waiting(self) -> bool:
        """Whether it is too early to try again."""
        return self.on and time.monotonic() < self._until

    def begin(self, cause: str) -> float:
        """A call came back because of `cause`. Returns for how many seconds nothing is to be tried, 0 if that is known.

        Raises:
            OutageError: it has lasted for longer than `patience`.

        """
        now = time.monotonic()
        if not self.on:
            self._since, self._pause = now, 0.5
        elif now < self._until:
            return 0.0
        if now - self._since >= self.patience:
            raise OutageError(
                f"still away after {now - self._since:.0f} s: {cause}",
                remedy="What is stored stays; when it is back, the same command goes on from here",
            )
        self.cause = cause
        self._pause = min(60.0, 2 * self._pause, max(0.1, self._since + self.patience - now))
        self._until = now + self._pause
        return self._pause

    def end(self) -> None:
        """A call came through."""
        self.cause = ""


def crash_of(stage: str, words: LastWords, *, deaths: int, seconds: float, error: str) -> Failure:
    """Why a clip or a recording is given up that `deaths` workers died on in `stage`, whose time limit is `seconds`."""
    times = "the second time alone" if deaths == DEATHS else f"{deaths} times, the last alone"
    what = "it" if stage != INGEST else "this recording"
    if words.timed_out:
        code, cause = "time_limit", f"{what} took longer than the {seconds:g} s that the stage allows, {times}"
    elif words.crashed:
        code, cause = "crashed", f"{what} crashed its worker, {times}: {words.traceback.splitlines()[0]}"
    else:
        code, cause = "crashed", f"its worker died on {what}, {times}"
    return Failure(stage=stage, code=code, cause=cause, traceback=words.traceback or error)
