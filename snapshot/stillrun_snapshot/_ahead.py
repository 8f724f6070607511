"""Work in threads, a few pieces ahead of whoever takes its results: what they hold is bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

__all__ = ["results_ahead"]

_AHEAD = 4
Item = TypeVar("Item")
Result = TypeVar("Result")


def results_ahead(
    pool: Executor, items: Iterable[Item], work: Callable[[Item], Result]
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with what ``work`` returned of it in the pool, in their order."""
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(work, item)))
        if len(waiting) > _AHEAD:
            first, job = waiting.popleft()
            yield first, job.result()
    for first, job in waiting:
        yield first, job.result()
