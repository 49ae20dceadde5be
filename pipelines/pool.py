"""Pools of Ray actors: one pool per set of resources, growing to its limit as there is work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray

from schemas.stage import Resources


@dataclass(eq=False)
class Handle:
    """One actor: whether it is up, whether it works, and the recording that it is reading (its pair id)."""

    actor: Any
    ready: bool = False
    busy: bool = True
    source: str | None = None


@dataclass(eq=False)
class Pool:
    """Actors that hold equal resources."""

    resources: Resources
    limit: int
    make_actor: Callable[[Resources], Any]
    handles: list[Handle] = field(default_factory=list)

    def idle(self) -> list[Handle]:
        """Workers without work."""
        return [handle for handle in self.handles if not handle.busy]

    def starting(self) -> bool:
        """Whether a worker is on its way up: the next one waits for it, there may be no more need then."""
        return any(not handle.ready for handle in self.handles)

    def grow(self) -> Handle | None:
        """Start one more worker, or return None at the limit."""
        if len(self.handles) >= self.limit:
            return None
        handle = Handle(self.make_actor(self.resources))
        self.handles.append(handle)
        return handle

    def discard(self, handle: Handle) -> None:
        """Forget a dead worker."""
        ray.kill(handle.actor)
        self.handles.remove(handle)

    def close(self) -> None:
        """End all workers."""
        for handle in list(self.handles):
            self.discard(handle)


def actor_options(resources: Resources) -> dict[str, Any]:
    """`resources` as Ray takes them. One call at a time: of two in flight, an innocent one dies with a crash."""
    options: dict[str, Any] = {"num_cpus": resources.cpus, "num_gpus": resources.gpus, "max_concurrency": 1}
    if resources.memory_mb:
        options["memory"] = resources.memory_mb * 1024**2
    if resources.custom:
        options["resources"] = resources.custom
    return options


def worker_limit(resources: Resources, available: dict[str, float], *, reserved_cpus: float) -> int:
    """How many workers with `resources` fit into `available`, leaving `reserved_cpus` to other pools."""
    wanted = {
        "CPU": resources.cpus,
        "GPU": resources.gpus,
        "memory": resources.memory_mb * 1024**2,
        **resources.custom,
    }
    free = {**available, "CPU": available.get("CPU", 0.0) - reserved_cpus}
    fits = [int(free.get(name, 0.0) / amount + 1e-9) for name, amount in wanted.items() if amount > 0]
    return min(fits) if fits else int(max(1.0, available.get("CPU", 1.0)))
