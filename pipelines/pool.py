"""Pools of Ray actors: one pool per set of resources, growing and shrinking with the work and the cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from pipelines.worker import Born
from schemas.stage import Resources

Node = Mapping[str, float]
"""Resources of one node, in Ray's units."""

PENDING_SECONDS = 5.0
"""A worker that is not up after this waits for room, most likely."""
STARVED_SECONDS = 30.0
"""A pool none of whose workers is up after this certainly does."""


@dataclass(eq=False)
class Handle:
    """One actor: where it lives once it is up, whether it works, and the recording that it is reading (its pair id)."""

    actor: Any
    born: Born | None = None
    busy: bool = True
    source: str | None = None
    made: float = field(default_factory=time.monotonic)


@dataclass(eq=False)
class Pool:
    """Actors that hold equal resources. `limit` is how many the cluster and the config allow now."""

    resources: Resources
    make_actor: Callable[[Resources], Any]
    limit: int = 0
    handles: list[Handle] = field(default_factory=list)

    def idle(self) -> list[Handle]:
        """Workers without work."""
        return [handle for handle in self.handles if not handle.busy]

    def starting(self) -> list[Handle]:
        """Workers on their way up."""
        return [handle for handle in self.handles if handle.born is None]

    def waits_for_room(self) -> bool:
        """Whether a worker seems to find no node with free resources."""
        now = time.monotonic()
        return any(now - handle.made > PENDING_SECONDS for handle in self.starting())

    def starves(self) -> bool:
        """Whether no worker is up, and none finds room."""
        now = time.monotonic()
        return bool(self.handles) and all(
            handle.born is None and now - handle.made > STARVED_SECONDS for handle in self.handles
        )

    def be_patient(self) -> None:
        """Count the waiting anew: room is being made."""
        for handle in self.handles:
            handle.made = time.monotonic()

    def grow(self, work: int) -> list[Handle]:
        """Start workers for `work` calls that nobody is free for: at most as many at once as are up, or one."""
        starting = len(self.starting())
        room = min(self.limit - len(self.handles), max(1, len(self.handles) - starting) - starting)
        new = [Handle(self.make_actor(self.resources)) for _ in range(max(0, min(room, work - starting)))]
        self.handles += new
        return new

    def discard(self, handle: Handle) -> None:
        """End a worker, or forget a dead one."""
        ray.kill(handle.actor)
        if handle in self.handles:
            self.handles.remove(handle)

    def close(self) -> None:
        """End all workers."""
        for handle in list(self.handles):
            self.discard(handle)


def actor_options(resources: Resources) -> dict[str, Any]:
    """`resources` as Ray takes them. One call at a time: of two in flight, an innocent one dies with a crash."""
    options: dict[str, Any] = {
        "num_cpus": resources.cpus,
        "num_gpus": resources.gpus,
        "max_concurrency": 1,
    }
    if resources.memory_mb:
        options["memory"] = resources.memory_mb * 1024**2
    if resources.custom:
        options["resources"] = resources.custom
    return options


def nodes() -> dict[str, Node]:
    """Resources of each node that is alive in the connected cluster, by the node's id."""
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"]}


def fits(resources: Resources, node: Node) -> bool:
    """Whether `node`, if it were empty, could hold a worker with `resources`."""
    return _fits(wanted_of(resources), node)


def worker_limits(kinds: Sequence[Resources], cluster: Sequence[Node]) -> dict[Resources, int]:
    """How many workers of each kind fit, node by node, so that one of every other kind always finds room.

    Without that room a pool that holds everything would wait for ever for clips that another pool should take off it.
    0 where a kind does not fit at all beside one of each of the others.
    """
    return {kind: _fitting(kind, [other for other in kinds if other != kind], cluster) for kind in kinds}


def _fitting(kind: Resources, others: Sequence[Resources], cluster: Sequence[Node]) -> int:
    free = [dict(node) for node in cluster]
    for other in sorted(others, key=lambda resources: (resources.gpus, resources.cpus), reverse=True):
        wanted = wanted_of(other)
        # Where it takes least away from `kind`; best on a node that `kind` does not fit on.
        homes = [node for node in free if _fits(wanted, node)]
        if not homes:
            return 0
        home = min(homes, key=lambda node: _count(kind, node) - _count(kind, _less(node, wanted)))
        home.update(_less(home, wanted))
    return sum(_count(kind, node) for node in free)


def wanted_of(resources: Resources) -> dict[str, float]:
    """What one worker takes of a node, in Ray's units."""
    wanted = {
        "CPU": resources.cpus,
        "GPU": resources.gpus,
        "memory": resources.memory_mb * 1024**2,
        **resources.custom,
    }
    return {name: amount for name, amount in wanted.items() if amount > 0}


def _fits(wanted: Node, node: Node) -> bool:
    return all(node.get(name, 0.0) + 1e-9 >= amount for name, amount in wanted.items())


def _less(node: Node, wanted: Node) -> dict[str, float]:
    return {name: amount - wanted.get(name, 0.0) for name, amount in node.items()}


def _count(kind: Resources, node: Node) -> int:
    wanted = wanted_of(kind)
    if not wanted:  # it holds nothing: as many as there are cores
        return int(max(1.0, node.get("CPU", 1.0)))
    return max(0, min(int(node.get(name, 0.0) / amount + 1e-9) for name, amount in wanted.items()))
