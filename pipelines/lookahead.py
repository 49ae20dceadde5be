"""Waiting for a store in many places at once, while the results come in order and memory stays bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 16
"""Results that wait at most, and threads: they wait for a store most of their time."""


def in_order(function: Callable[[Item], Result], items: Iterable[Item], *, ahead: int = AHEAD) -> Iterator[Result]:
    """`function` of each of `items`, in their order; up to `ahead` of them run, or have run, before they are asked for.

    What `function` raises is raised in its place of the order, and ends the iteration.
    """
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(ahead, thread_name_prefix="lookahead") as threads:
        try:
            for item in items:
                pending.append(threads.submit(function, item))
                if len(pending) == ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
