"""The driver: hands recordings and clips to pools of Ray actors, and sees to it that nothing is lost.

One loop, one call in flight per actor. Clips nearer to the end of the chain go first; a recording is read on only
while the clips that wait are few. Between actors travel compressed bytes, by reference: the driver sees summaries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from pipelines.chain import INGEST, Chain
from pipelines.observer import Observer
from pipelines.pool import Handle, Pool, actor_options, worker_limit
from pipelines.store import ClipStore, Ledger
from pipelines.worker import Outcome, Pulled, Row, Worker
from schemas.clip import Clip, Failure
from schemas.config import RunConfig
from schemas.errors import ConfigError, VvtError
from schemas.record import decode_clip
from schemas.stage import Resources

INGEST_RESOURCES = Resources()
TRIES = 2  # a call whose worker died is tried once more, in a fresh worker


@dataclass(eq=False)
class SourceJob:
    """One manifest row whose recording is to be read. `stored` are its clips that the store has already."""

    row: Row
    stored: frozenset[str] = frozenset()
    keys: list[str] = field(default_factory=list)
    rejected: dict[str, Clip] = field(default_factory=dict)
    open_clips: set[str] = field(default_factory=set)
    finished: bool = False
    failure: Failure | None = None
    tries: int = 0


@dataclass(eq=False)
class ClipJob:
    """One clip on its way. `data` refers to its bytes in Ray's object store; None: they are in the clip store."""

    key: str
    row: Row
    next_stage: int
    data: Any = None
    bytes: int = 0
    tries: int = 0


@dataclass(frozen=True, eq=False)
class _Call:
    """A call in flight. Without a job it is the first ping of a new worker."""

    pool: Pool
    handle: Handle
    job: SourceJob | ClipJob | None
    data: Any = None


class Engine:
    """Runs recordings and stored clips through a chain, on the Ray cluster that is connected."""

    def __init__(self, chain: Chain, store: ClipStore, run: RunConfig, *, observer: Observer) -> None:
        self._chain, self._store, self._run, self._observer = chain, store, run, observer
        self._shared = ray.put((chain, store))
        self._pools = self._make_pools()
        self._pool_of_group = {group.first: self._pools[group.resources] for group in chain.groups}
        self._ingest_pool = self._pools[INGEST_RESOURCES]
        self._sources: dict[str, SourceJob] = {}
        self._unread: deque[SourceJob] = deque()
        self._waiting: dict[int, deque[ClipJob]] = {group.first: deque() for group in chain.groups}
        self._calls: dict[Any, _Call] = {}

    def run(self, sources: Iterable[SourceJob], clips: Iterable[ClipJob]) -> None:
        """Work until every source is read and every clip is stored.

        Raises:
            VvtError: a stage could not be set up (missing weights, no memory): nothing else would succeed either.

        """
        for source in sources:
            self._sources[source.row.pair.pair_id] = source
            self._unread.append(source)
        for clip in clips:
            self._enqueue(clip)
        try:
            while True:
                self._dispatch()
                if not self._calls:
                    break
                ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=0.5)
                for ref in ready:
                    self._receive(ref)
                self._observer.refresh()
        finally:
            for pool in self._pools.values():
                pool.close()

    # ---- handing out work

    def _dispatch(self) -> None:
        for pool in self._pools.values():
            for handle in pool.idle():
                self._give_work(pool, handle)
            if self._has_work(pool) and not pool.starting() and (new := pool.grow()):
                self._calls[new.actor.ping.remote()] = _Call(pool, new, None)

    def _give_work(self, pool: Pool, handle: Handle) -> None:
        waiting = [
            queue
            for first, queue in sorted(self._waiting.items(), reverse=True)
            if queue and self._pool_of_group[first] is pool
        ]
        owned = self._sources.get(handle.source or "")
        if owned and self._may_read(lookahead=len(pool.handles)):
            self._call_pull(pool, handle, owned)
        elif waiting:
            self._call_process(pool, handle, waiting[0].popleft())
        elif owned and self._may_read():
            self._call_pull(pool, handle, owned)
        elif owned is None and self._unread and pool is self._ingest_pool and self._may_read():
            source = self._unread.popleft()
            handle.source = source.row.pair.pair_id
            self._call_pull(pool, handle, source)

    def _has_work(self, pool: Pool) -> bool:
        if any(queue and self._pool_of_group[first] is pool for first, queue in self._waiting.items()):
            return True
        return pool is self._ingest_pool and bool(self._unread) and self._may_read()

    def _may_read(self, *, lookahead: int | None = None) -> bool:
        waiting = [job for queue in self._waiting.values() for job in queue]
        workers = sum(len(pool.handles) for pool in self._pools.values())
        most = lookahead if lookahead is not None else self._run.max_pending_clips or max(2, 2 * workers)
        return len(waiting) < most and sum(job.bytes for job in waiting) < self._run.max_pending_mb * 1024**2

    def _call_pull(self, pool: Pool, handle: Handle, source: SourceJob) -> None:
        skip = source.stored | frozenset(source.keys)
        self._submit(pool, handle, source, handle.actor.pull.options(num_returns=2).remote(source.row, skip))

    def _call_process(self, pool: Pool, handle: Handle, clip: ClipJob) -> None:
        refs = handle.actor.process.options(num_returns=2).remote(clip.key, clip.data, clip.next_stage, clip.row)
        self._submit(pool, handle, clip, refs)

    def _submit(self, pool: Pool, handle: Handle, job: SourceJob | ClipJob, refs: list[Any]) -> None:
        handle.busy = True
        self._calls[refs[0]] = _Call(pool, handle, job, refs[1])

    # ---- taking in results

    def _receive(self, ref: Any) -> None:
        call = self._calls.pop(ref)
        try:
            result = ray.get(ref)
        except RayActorError as error:
            if call.job is None:
                raise _start_error(error) from error
            self._worker_died(call, call.job, error)
            return
        except RayTaskError as error:
            raise _setup_error(call, error) from error
        call.handle.ready, call.handle.busy = True, False
        if isinstance(result, Pulled):
            self._pulled(call, result)
        elif isinstance(result, Outcome) and call.job:
            self._settle(result, call.job.row, call.data)

    def _pulled(self, call: _Call, pulled: Pulled) -> None:
        source = self._sources[pulled.pair_id]
        if pulled.rejected and pulled.rejected.key not in source.rejected:
            source.rejected[pulled.rejected.key] = pulled.rejected
            drop = pulled.rejected.drop
            self._observer.rejected(pulled.pair_id, pulled.rejected.key, f"{drop.stage}.{drop.metric}" if drop else "")
        self._observer.read(pulled)
        if pulled.outcome:
            source.keys.append(pulled.outcome.key)
            source.open_clips.add(pulled.outcome.key)
            self._settle(pulled.outcome, source.row, call.data)
        if pulled.finished:
            call.handle.source = None
            source.finished, source.failure = True, pulled.failure
            self._close_if_done(source)

    def _settle(self, outcome: Outcome, row: Row, data: Any) -> None:
        self._observer.ran(outcome)
        if outcome.next_stage is not None:
            self._enqueue(ClipJob(outcome.key, row, outcome.next_stage, data, outcome.bytes))
            return
        self._observer.finished(outcome)
        source = self._sources.get(outcome.pair_id)
        if source:
            source.open_clips.discard(outcome.key)
            self._close_if_done(source)

    def _enqueue(self, clip: ClipJob) -> None:
        self._waiting[self._chain.group_at(clip.next_stage).first].append(clip)

    def _close_if_done(self, source: SourceJob) -> None:
        if not source.finished or source.open_clips:
            return
        ledger = Ledger(
            pair=source.row.pair,
            recording=source.row.recording,
            fingerprint=self._chain.fingerprints[INGEST],
            keys=tuple(sorted({*source.stored, *source.keys})),
            rejected=tuple(source.rejected[key] for key in sorted(source.rejected)),
            failure=source.failure,
        )
        self._store.put_ledger(ledger)
        self._observer.source_done(source.row.pair.pair_id, source.failure)
        del self._sources[source.row.pair.pair_id]

    # ---- dead workers

    def _worker_died(self, call: _Call, job: SourceJob | ClipJob, error: RayActorError) -> None:
        lost = self._sources.get(call.handle.source or "")
        call.pool.discard(call.handle)
        job.tries += 1
        if isinstance(job, ClipJob):
            if lost:  # it was only read in the same worker: no blame, and its stored clips are skipped
                self._unread.appendleft(lost)
            if job.tries < TRIES:
                self._waiting[self._chain.group_at(job.next_stage).first].appendleft(job)
            else:
                self._quarantine(job, error)
        elif job.tries < TRIES:
            self._unread.appendleft(job)
        else:
            job.finished, job.failure = True, _crash(INGEST, error)
            self._close_if_done(job)

    def _quarantine(self, job: ClipJob, error: RayActorError) -> None:
        clip = decode_clip(ray.get(job.data)) if job.data is not None else self._store.get(job.key)
        if clip is not None:
            stage = self._chain.stages[job.next_stage].name
            clip.failure = _crash(stage, error)
            clip.fingerprints[stage] = self._chain.fingerprints[stage]
            self._store.put(clip)
        group = self._chain.group_at(job.next_stage).stages
        reason = f"{group[0].name}: crashed"
        outcome = Outcome(key=job.key, pair_id=job.row.pair.pair_id, next_stage=None, verdict="failed", reason=reason)
        self._settle(outcome, job.row, None)

    # ---- pools

    def _make_pools(self) -> dict[Resources, Pool]:
        kinds = list(dict.fromkeys([INGEST_RESOURCES, *(group.resources for group in self._chain.groups)]))
        available: Mapping[str, float] = ray.cluster_resources()
        pools = {}
        for kind in kinds:
            others = sum(other.cpus for other in kinds if other != kind)
            limit = worker_limit(kind, dict(available), reserved_cpus=others)
            if limit < 1:
                raise ConfigError(
                    "this cluster does not hold one worker of each kind: "
                    + "; ".join(self._words(kind) for kind in kinds),
                    where="stages.*.resources",
                    allowed=f"in all {available.get('CPU', 0):g} CPUs, {available.get('GPU', 0):g} GPUs, "
                    f"{available.get('memory', 0) / 1024**2:.0f} MB",
                    remedy="Lower `resources` of the stages, or join a larger cluster by `run.address`",
                )
            pools[kind] = Pool(kind, min(limit, self._run.workers or limit), self._make_actor)
        return pools

    def _words(self, kind: Resources) -> str:
        names = [INGEST] if kind == INGEST_RESOURCES else []
        names += [stage.name for stage in self._chain.stages if stage.resources == kind]
        custom = "".join(f", {name} {amount:g}" for name, amount in kind.custom.items())
        return f"{', '.join(names)} ({kind.cpus:g} CPUs, {kind.gpus:g} GPUs, {kind.memory_mb} MB{custom})"

    def _make_actor(self, resources: Resources) -> Any:
        return _actor_class().options(**actor_options(resources)).remote(self._shared)


class _Actor(Worker):
    """`Worker` made from one shared object, so that the chain is pickled once, not once a worker."""

    def __init__(self, shared: tuple[Chain, ClipStore]) -> None:
        import cv2

        cv2.setNumThreads(1)  # it would take every core in every worker
        super().__init__(*shared)


def _actor_class() -> Any:
    return ray.remote(_Actor)


def _crash(stage: str, error: BaseException) -> Failure:
    return Failure(
        stage=stage,
        code="crashed",
        cause=f"its worker died {TRIES} times on it, the second time alone",
        traceback=str(error),
    )


def _start_error(error: RayActorError) -> VvtError:
    return VvtError(
        f"a worker could not start: {error}",
        remedy="Every node needs this package and the modules that the config names: install them there, or "
        "submit the job with `--working-dir`",
    )


def _setup_error(call: _Call, error: RayTaskError) -> VvtError:
    cause = error.cause
    if isinstance(cause, VvtError):
        return cause
    where = call.job.key if isinstance(call.job, ClipJob) else call.job.row.pair.pair_id if call.job else ""
    return VvtError(
        f"a worker could not go on: {error}", where=where, remedy="The run can be resumed once this is mended"
    )
