"""All workers of a run: how many of each kind the cluster allows, which can be spared, and what a dead one leaves."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import ray
from ray.exceptions import RayError

from pipelines.black_box import LastWords, read_last_words
from pipelines.chain import Chain
from pipelines.pool import Handle, Node, Pool, actor_options, fits, nodes, wanted_of, worker_limits
from pipelines.store import ClipStore
from pipelines.worker import Born, Worker
from schemas.config import RunConfig
from schemas.errors import ConfigError
from schemas.stage import Resources

CLUSTER_SECONDS = 5.0
"""How often to look whether nodes have come or gone."""


class Workforce:
    """The pools of a run on the connected cluster.

    Attributes:
        pools: by the resources that a worker holds.
        most_bytes: how many bytes of clips may wait between stages, so that the object store never spills.

    """

    def __init__(self, chain: Chain, store: ClipStore, run: RunConfig) -> None:
        self._run = run
        self._shared = ray.put((chain, store))
        self._stages: dict[Resources, list[str]] = {}
        for stage, resources in chain.resources.items():
            self._stages.setdefault(resources, []).append(stage)
        self.pools = {kind: Pool(kind, self._make_actor) for kind in self._stages}
        self.most_bytes = run.max_pending_mb * 1024**2
        self._looked = float("-inf")
        self._nodes: dict[str, Node] = {}

    @property
    def size(self) -> int:
        """Workers in all, those on their way up included."""
        return sum(len(pool.handles) for pool in self.pools.values())

    def name_of(self, pool: Pool) -> str:
        """A pool is called by its first stage."""
        return self._stages[pool.resources][0]

    def resize(self, work: Mapping[Resources, int]) -> None:
        """Set the limits of the pools by the nodes of now, if it is time to look again.

        `work` is how many calls wait for a worker, by pool; with `run.autoscale`, that is what nodes are asked for.

        Raises:
            ConfigError: the cluster does not hold one worker of each kind, and never did.

        """
        if time.monotonic() - self._looked < CLUSTER_SECONDS:
            return
        first, self._looked = self._looked < 0, time.monotonic()
        self._nodes = nodes()
        cluster = list(self._nodes.values())
        limits = worker_limits(list(self.pools), cluster)
        if self._run.autoscale:
            self._ask_for_nodes(work)
        elif first and min(limits.values()) < 1:
            raise ConfigError(
                "this cluster does not hold one worker of each kind: " + "; ".join(map(self._described, self.pools)),
                where="stages.*.resources",
                allowed="; ".join(map(_node_words, cluster)),
                remedy="Lower `resources` of the stages, or join a larger cluster by `run.address`",
            )
        for kind, pool in self.pools.items():
            pool.limit = min(limits[kind], self._run.workers or limits[kind])
        space = sum(node.get("object_store_memory", 0.0) for node in cluster)
        self.most_bytes = int(min(self._run.max_pending_mb * 1024**2, space / 4))

    def _ask_for_nodes(self, work: Mapping[Resources, int]) -> None:
        """Tell Ray's autoscaler what would be put to use: one worker of each kind, at most twice the workers of now."""
        from ray.autoscaler.sdk import request_resources

        bundles = []
        for kind, pool in self.pools.items():
            now = len(pool.handles)
            wanted = max(1, min(now + work.get(kind, 0), 2 * now)) if work else 0
            bundles += [wanted_of(kind)] * min(wanted, self._run.workers or wanted)
        request_resources(bundles=bundles)

    def may_grow(self, pool: Pool) -> bool:
        """Whether `pool` may start a worker: not where it would take the room that is being made for another."""
        return not pool.handles or not any(other.waits_for_room() for other in self.pools.values() if other is not pool)

    def to_dismiss(self) -> list[tuple[Pool, Handle]]:
        """Workers without work that stand in the way of another pool, which finds no room: one for each, at most.

        One that is reading a recording goes only for a pool that has no worker at all: it has to be read anew.
        """
        dismissed: dict[Handle, Pool] = {}
        for crowded in self.pools.values():
            if not crowded.waits_for_room():
                continue
            homes = {name for name, node in self._nodes.items() if fits(crowded.resources, node)}
            spare = [
                (handle.source is not None, handle, pool)
                for pool in self.pools.values()
                for handle in pool.idle()
                if pool is not crowded and handle not in dismissed and handle.born and handle.born.node in homes
            ]
            reads, handle, pool = min(spare, key=lambda one: one[0], default=(True, None, None))
            if handle and pool and (not reads or crowded.starves()):
                dismissed[handle] = pool
                crowded.be_patient()
        return [(pool, handle) for handle, pool in dismissed.items()]

    def close(self) -> None:
        """End all workers."""
        for pool in self.pools.values():
            pool.close()
        if self._run.autoscale:
            self._ask_for_nodes({})

    def _described(self, kind: Resources) -> str:
        custom = "".join(f", {name} {amount:g}" for name, amount in kind.custom.items())
        stages = ", ".join(self._stages[kind])
        return f"{stages} ({kind.cpus:g} CPUs, {kind.gpus:g} GPUs, {kind.memory_mb} MB{custom})"

    def _make_actor(self, resources: Resources) -> Any:
        limit = resources.memory_mb or (0 if resources.gpus else self._run.worker_memory_mb)
        return _actor_class().options(**actor_options(resources)).remote(self._shared, limit)


class _Actor(Worker):
    """`Worker` made from one shared object, so that the chain is pickled once, not once a worker.

    `memory_mb` bounds what it may allocate (0: nothing does): beyond, a stage gets a `MemoryError`, and its clip fails.
    """

    def __init__(self, shared: tuple[Chain, ClipStore], memory_mb: int) -> None:
        import resource

        import cv2

        cv2.setNumThreads(1)  # it would take every core in every worker
        if memory_mb:
            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            resource.setrlimit(resource.RLIMIT_DATA, (memory_mb * 1024**2, hard))
        super().__init__(*shared, node=ray.get_runtime_context().get_node_id())


def _actor_class() -> Any:
    return ray.remote(_Actor)


def _node_words(node: Node) -> str:
    return (
        f"a node of {node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs, {node.get('memory', 0) / 1024**2:.0f} MB"
    )


def last_words(born: Born | None) -> LastWords:
    """The black box of a dead worker, fetched from its node; empty where it never came up or its node is gone too."""
    if born is None:
        return LastWords()
    if born.node == ray.get_runtime_context().get_node_id():
        return read_last_words(born.black_box)
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there: Any = NodeAffinitySchedulingStrategy(born.node, soft=False)
    fetch: Any = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(read_last_words)
    try:
        words: LastWords = ray.get(fetch.remote(born.black_box), timeout=30)
    except RayError:
        return LastWords()
    return words
