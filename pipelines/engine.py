"""The driver: hands recordings and clips to pools of Ray actors, and sees to it that nothing is lost.

One loop, one call in flight per actor. Clips nearer to the end of the chain go first; a recording is read on only
while the clips that wait are few. Between actors travel compressed bytes, by reference: the driver sees summaries.
A clip is in the store before the driver hears of it, so whatever dies, at most work is lost, never a clip.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, ObjectLostError, OwnerDiedError, RayActorError, RayError, RayTaskError

from pipelines.black_box import LastWords
from pipelines.chain import INGEST, Chain
from pipelines.faults import DEATHS, DEATHS_UNEXPLAINED, Outage, StageHealth, crash_of
from pipelines.feed import Feed
from pipelines.interruption import Interrupted, StopRequest
from pipelines.jobs import ClipJob, SourceJob
from pipelines.observer import Load, Observer, Working
from pipelines.pool import Handle, Pool
from pipelines.store import ClipStore
from pipelines.worker import SETUP_SECONDS, Born, Outcome, Pulled, Task
from pipelines.workforce import Workforce, last_words
from schemas.config import RunConfig
from schemas.errors import VvtError

TICK_SECONDS = 0.5
GRACE_SECONDS = 60.0
"""How much longer than its time limit a call may be silent before the driver itself ends its worker."""
START_FAILURES = 3
"""Workers in a row that may die on their way up before the run stops."""


@dataclass(frozen=True, eq=False)
class _Call:
    """A call in flight: to read a recording on, or to run clips. With neither it is the first one of a new worker.

    Attributes:
        data: references to the bytes of the clips that come of it.

    """

    pool: Pool
    handle: Handle
    source: SourceJob | None = None
    clips: tuple[ClipJob, ...] = ()
    data: Sequence[Any] = ()
    stage: str = ""
    deadline: float = float("inf")
    began: float = field(default_factory=time.monotonic)

    @property
    def jobs(self) -> tuple[SourceJob | ClipJob, ...]:
        """What it works on."""
        return (self.source,) if self.source else self.clips


class Engine:
    """Runs recordings and stored clips through a chain, on the Ray cluster that is connected."""

    def __init__(self, chain: Chain, store: ClipStore, run: RunConfig, *, observer: Observer) -> None:
        self._chain, self._store, self._run, self._observer = chain, store, run, observer
        self._workforce = Workforce(chain, store, run)
        self._pool_of = {group.first: self._workforce.pools[group.resources] for group in chain.groups}
        self._ingest_pool = self._workforce.pools[chain.ingest.resources]
        self._queues = {group.first: deque[ClipJob]() for group in reversed(chain.groups)}  # the last stages first
        self._batch = max((group.batch_clips for group in chain.groups), default=1)
        self._sources: dict[str, SourceJob] = {}
        self._unread: deque[SourceJob] = deque()
        self._calls: dict[Any, _Call] = {}
        self._waiting_bytes = 0
        self._start_failures = 0
        self._health = StageHealth(max_failed_share=run.max_failed_share)
        self._outage = Outage(run.outage_seconds)
        self._ticked = 0.0
        self._feeds: tuple[Feed, ...] = ()

    def run(
        self,
        sources: Iterable[SourceJob],
        clips: Iterable[ClipJob],
        *,
        feeds: Sequence[Feed] = (),
        stop: StopRequest | None = None,
    ) -> None:
        """Work until every source is read, every feed has ended, and every clip is stored.

        Raises:
            Interrupted: `stop` was asked for; calls in flight were let come to their end.
            OutageError: something outside stayed away for too long.
            VvtError: a stage could not be set up (missing weights, no memory) or fails on most clips: nothing else
                would succeed either.

        """
        self._feeds = tuple(feeds)
        stop = stop or StopRequest()
        for source in sources:
            self._add(source)
        for clip in clips:
            self._enqueue(clip)
        try:
            self._resize()
            while stop.signum is None:
                self._tick()
                if not self._outage.waiting:
                    self._dispatch()
                if self._calls:
                    self._collect()
                elif self._has_work():
                    time.sleep(TICK_SECONDS)
                else:
                    return
                self._observer.refresh()
            self._drain()
            raise Interrupted(stop.signum)
        finally:
            for feed in self._feeds:
                feed.close()
            self._workforce.close()

    def _has_work(self) -> bool:
        return bool(self._unread) or any(self._queues.values()) or not all(feed.ended for feed in self._feeds)

    def _drain(self) -> None:
        """Let calls in flight come to their end, and hand out nothing new."""
        until = time.monotonic() + self._run.drain_seconds
        while any(call.jobs for call in self._calls.values()) and time.monotonic() < until:
            self._tick()
            self._collect()
            self._observer.refresh()

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self._ticked < TICK_SECONDS:
            return
        self._ticked = now
        for feed in self._feeds:
            for source in feed.poll():
                self._add(source)
        for call in self._calls.values():
            if now > call.deadline:
                ray.kill(call.handle.actor)  # its death is then received like any other
        self._resize()
        for pool, handle in self._workforce.to_dismiss():
            self._discard(pool, handle)
        for pool in self._workforce.pools.values():
            if pool.limit < 1 and not pool.handles and self._work_for(pool):
                self._observer.paused(f"no node holds a worker for {self._workforce.name_of(pool)}", TICK_SECONDS)
        self._observer.load(self._load(now))

    def _resize(self) -> None:
        self._workforce.resize({kind: self._work_for(pool) for kind, pool in self._workforce.pools.items()})

    def _load(self, now: float) -> Load:
        return Load(
            waiting={self._chain.stages[first].name: len(queue) for first, queue in self._queues.items() if queue},
            unread=len(self._unread),
            bytes_in_flight=self._waiting_bytes,
            workers={self._workforce.name_of(pool): len(pool.handles) for pool in self._workforce.pools.values()},
            working=tuple(
                Working(key=job.name, stage=call.stage, seconds=now - call.began)
                for call in self._calls.values()
                for job in call.jobs
            ),
        )

    # ---- handing out work

    def _add(self, source: SourceJob) -> None:
        self._sources[source.name] = source
        self._unread.append(source)

    def _enqueue(self, clip: ClipJob, *, first: bool = False) -> None:
        queue = self._queues[self._chain.group_at(clip.next_stage).first]
        (queue.appendleft if first else queue.append)(clip)
        self._waiting_bytes += clip.bytes

    def _dispatch(self) -> None:
        for pool in self._workforce.pools.values():
            for handle in pool.idle():
                if self._outage.on and any(call.jobs for call in self._calls.values()):
                    return  # one call at a time until one comes through
                self._give_work(pool, handle)
            work = self._work_for(pool)
            if work and self._workforce.may_grow(pool):
                for new in pool.grow(work):
                    self._calls[new.actor.born.remote()] = _Call(pool, new)

    def _give_work(self, pool: Pool, handle: Handle) -> None:
        owned = self._sources.get(handle.source or "")
        if owned and self._may_read(lookahead=len(pool.handles)):
            self._pull(pool, handle, owned)
        elif clips := self._next_clips(pool, handle):
            self._process(pool, handle, clips)
        elif owned and self._may_read():
            self._pull(pool, handle, owned)
        elif owned is None and self._unread and pool is self._ingest_pool and self._may_read():
            source = self._unread.popleft()
            handle.source = source.name
            self._pull(pool, handle, source)

    def _next_clips(self, pool: Pool, handle: Handle) -> tuple[ClipJob, ...]:
        """Clips of one group of stages, as many as it takes at once; no more than leave some to the other workers."""
        last = next(iter(self._queues), None)
        for first, queue in self._queues.items():
            if not queue or self._pool_of[first] is not pool:
                continue
            if not queue[0].bytes and first != last and self._waiting_bytes >= self._workforce.most_bytes:
                continue  # from the store, and it would only wait for the next pool
            suspect = queue[0].alone and queue[0].failure is None
            if suspect and handle.source and any(other.born and not other.source for other in pool.handles):
                continue  # should it die again, the recording need not be read anew
            most = min(self._chain.group_at(first).batch_clips, -(-len(queue) // len(pool.handles)))
            clips = [queue.popleft()]
            while len(clips) < most and not any(clip.alone or clip.failure for clip in (*clips, queue[0])):
                clips.append(queue.popleft())
            self._waiting_bytes -= sum(clip.bytes for clip in clips)
            return tuple(clips)
        return ()

    def _work_for(self, pool: Pool) -> int:
        """Calls that wait for a worker of `pool`."""
        work = sum(len(queue) for first, queue in self._queues.items() if self._pool_of[first] is pool)
        return work + (len(self._unread) if pool is self._ingest_pool and self._may_read() else 0)

    def _may_read(self, *, lookahead: int | None = None) -> bool:
        most = (
            lookahead
            if lookahead is not None
            else self._run.max_pending_clips or max(2, 2 * self._workforce.size * self._batch)
        )
        return self._waiting_bytes < self._workforce.most_bytes and sum(map(len, self._queues.values())) < most

    def _pull(self, pool: Pool, handle: Handle, source: SourceJob) -> None:
        refs = handle.actor.pull.options(num_returns=2).remote(source.row, source.failure)
        self._submit(
            refs, _Call(pool, handle, source=source, data=refs[1:], stage=INGEST), seconds=self._chain.ingest.time_limit
        )

    def _process(self, pool: Pool, handle: Handle, clips: tuple[ClipJob, ...]) -> None:
        tasks = [
            Task(key=clip.key, row=clip.row, stage_index=clip.next_stage, alone=clip.alone, failure=clip.failure)
            for clip in clips
        ]
        refs = handle.actor.process.options(num_returns=1 + len(clips)).remote(tasks, *(clip.data for clip in clips))
        group, stage = self._chain.group_at(clips[0].next_stage), self._chain.stages[clips[0].next_stage]
        seconds = SETUP_SECONDS + len(clips) * sum(stage.time_limit for stage in group.stages)
        self._submit(refs, _Call(pool, handle, clips=clips, data=refs[1:], stage=stage.name), seconds=seconds)

    def _submit(self, refs: Sequence[Any], call: _Call, *, seconds: float) -> None:
        call.handle.busy = True
        self._calls[refs[0]] = replace(call, deadline=time.monotonic() + seconds + GRACE_SECONDS)

    # ---- taking in results

    def _collect(self) -> None:
        ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=TICK_SECONDS)
        if ready:
            ready, _ = ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
        for ref in ready:
            self._receive(ref)

    def _receive(self, ref: Any) -> None:
        call = self._calls.pop(ref)
        try:
            result = ray.get(ref)
        except RayActorError as error:
            self._worker_died(call, error)
            return
        except (RayTaskError, ObjectLostError) as error:
            self._call_failed(call, error)
            return
        call.handle.busy = False
        if isinstance(result, Born):
            call.handle.born = result
            self._start_failures = 0
        elif call.source:
            self._pulled(call, call.source, result)
        else:
            for clip, outcome, data in zip(call.clips, result, call.data, strict=True):
                self._processed(clip, outcome, data)

    def _pulled(self, call: _Call, source: SourceJob, pulled: Pulled) -> None:
        if pulled.outage:
            self._away(pulled.outage)
            return
        self._outage.end()
        self._observer.read(pulled)
        if pulled.rejected and pulled.rejected.key not in source.rejected:
            source.rejected.add(pulled.rejected.key)
            drop = pulled.rejected.drop
            self._observer.rejected(source.name, pulled.rejected.key, f"{drop.stage}.{drop.metric}" if drop else "")
        if pulled.outcome:
            self._met(source, pulled.outcome.key, pulled.outcome, call.data[0])
        elif pulled.skipped and pulled.skipped not in source.stored:
            # Stored by a worker that died before it could say so.
            self._met(source, pulled.skipped, None, None)
        if pulled.finished:
            call.handle.source = None
            del self._sources[source.name]
            self._observer.source_done(source.name, pulled.failure)

    def _met(self, source: SourceJob, key: str, outcome: Outcome | None, data: Any) -> None:
        """A clip of `source` is in the store."""
        if key in source.keys or (source.wanted is not None and key not in source.wanted):
            return
        source.keys.add(key)
        if outcome is None:
            if self._chain.stages:
                self._enqueue(ClipJob(key, source.row, 0))
        elif outcome.next_stage is None:
            self._observer.finished(outcome)
        else:
            self._enqueue(ClipJob(key, source.row, outcome.next_stage, data=data, bytes=outcome.bytes))

    def _processed(self, clip: ClipJob, outcome: Outcome, data: Any) -> None:
        if outcome.outage:
            self._enqueue(clip, first=True)
            self._away(outcome.outage)
            return
        self._outage.end()
        if outcome.lost:
            self._read_again(clip)
            return
        self._observer.ran(outcome)
        if outcome.next_stage is not None:
            clip.next_stage, clip.data, clip.bytes = outcome.next_stage, data, outcome.bytes
            self._enqueue(clip)
            return
        self._observer.finished(outcome)
        self._health.note(outcome)

    def _away(self, cause: str) -> None:
        if seconds := self._outage.begin(cause):
            self._observer.paused(cause, seconds)

    def _read_again(self, clip: ClipJob) -> None:
        """Read a recording once more for a clip whose stored file is damaged."""
        self._observer.retried(clip.key, INGEST, "its file in the clip store was damaged")
        source = self._sources.get(clip.row.pair.pair_id)
        if source:
            source.keys.discard(clip.key)
        else:
            self._add(SourceJob(clip.row, wanted=frozenset({clip.key})))

    # ---- what breaks

    def _call_failed(self, call: _Call, error: RayError) -> None:
        call.handle.busy = False
        cause = error.cause if isinstance(error, RayTaskError) else error
        if call.clips and isinstance(cause, (ObjectLostError, OwnerDiedError)):
            # The node that held their bytes is gone. The clip store has the clips.
            for clip in call.clips:
                self._observer.retried(clip.key, call.stage, "its bytes were lost with a node")
                clip.back_to_store()
                self._enqueue(clip, first=True)
            return
        if isinstance(cause, VvtError):
            raise cause from error
        raise VvtError(
            f"a worker could not go on: {error}",
            where=", ".join(job.name for job in call.jobs),
            remedy="The run can be resumed once this is mended",
        ) from error

    def _worker_died(self, call: _Call, error: RayActorError) -> None:
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        born = call.handle.born
        self._discard(call.pool, call.handle, call.jobs)
        if not call.jobs:
            self._not_born(error)
            return
        lost_node = isinstance(error, ActorUnavailableError) or (born and born.node not in alive)
        words = LastWords() if lost_node else last_words(born)
        for job in call.jobs:
            if isinstance(job, ClipJob):
                job.back_to_store()
            if lost_node:
                self._again(job, call.stage, "its node is gone")
            else:
                self._died_on(job, words.stage or call.stage, words, error)

    def _died_on(self, job: SourceJob | ClipJob, stage: str, words: LastWords, error: RayActorError) -> None:
        job.deaths[stage] += 1
        if job.deaths[stage] >= (DEATHS if words.crashed or words.timed_out else DEATHS_UNEXPLAINED):
            limit = next((s.time_limit for s in self._chain.stages if s.name == stage), None)
            job.failure = crash_of(
                stage,
                words,
                deaths=job.deaths[stage],
                seconds=limit or self._chain.ingest.time_limit,
                error=str(error),
            )
        self._again(job, stage, "it took too long" if words.timed_out else "its worker died")

    def _discard(self, pool: Pool, handle: Handle, jobs: Sequence[SourceJob | ClipJob] = ()) -> None:
        """Do without a worker. A recording that it was reading is read anew, unless it is one of its last `jobs`."""
        pool.discard(handle)
        source = self._sources.get(handle.source or "")
        if source and source not in jobs:
            self._unread.appendleft(source)

    def _again(self, job: SourceJob | ClipJob, stage: str, cause: str) -> None:
        """Try once more, or have a worker write down that it is given up."""
        if job.failure is None:
            self._observer.retried(job.name, stage, cause)
        if isinstance(job, SourceJob):
            self._unread.appendleft(job)
        else:
            job.alone = bool(job.deaths)
            self._enqueue(job, first=True)

    def _not_born(self, error: RayActorError) -> None:
        """A worker died on its way up: with its node, by bad luck, or because none can come up here."""
        if "its node has died" in str(error):  # Ray's words: it tells in no other way
            return
        self._start_failures += 1
        if self._start_failures >= START_FAILURES or "creation task" in str(error):
            raise VvtError(
                f"a worker could not start: {error}",
                remedy="Every node needs this package and the modules that the config names: install them there, or "
                "submit the job with `--working-dir`",
            ) from error
