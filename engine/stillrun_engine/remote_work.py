"""Many requests to a remote at once, and what is told of them while they go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Protocol

__all__ = ["JOBS", "Crew", "Progress", "Tally"]

JOBS = 8
"""Requests at once: what keeps a link busy over a distance, and holds at most 16 pieces in memory."""


class Progress(Protocol):
    """Is told how much there is to move and what was moved; from any thread."""

    def expect(self, count: int) -> None:
        """So many bytes more are to be moved."""

    def moved(self, what: str, count: int) -> None:
        """So many bytes were moved, for ``what``."""


class Tally:
    """Counts what is moved, and passes it on to who wants to be told."""

    def __init__(self, inner: Progress | None = None) -> None:
        self._inner, self._lock = inner, threading.Lock()
        self.bytes = 0

    def expect(self, count: int) -> None:
        """Pass it on."""
        if self._inner:
            with self._lock:
                self._inner.expect(count)

    def moved(self, what: str, count: int) -> None:
        """Count, and pass it on."""
        with self._lock:
            self.bytes += count
            if self._inner:
                self._inner.moved(what, count)


class Crew:
    """Threads that do what is independent. What one of them raises is raised to who waits, and ends the others' work."""

    def __init__(self, jobs: int = JOBS) -> None:
        self.jobs = jobs
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="remote")
        self._waiting: set[Future[None]] = set()

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, task: Callable[[], None]) -> None:
        """Have it done, after room was made when twice as many wait as can be done at once."""
        while len(self._waiting) >= 2 * self.jobs:
            self._collect(wait(self._waiting, return_when=FIRST_COMPLETED).done)
        self._waiting.add(self._pool.submit(task))

    def run(self, tasks: Iterable[Callable[[], None]]) -> None:
        """Have all of them done."""
        for task in tasks:
            self.submit(task)
        self.finish()

    def finish(self) -> None:
        """Wait for all that was submitted."""
        while self._waiting:
            self._collect(wait(self._waiting, return_when=FIRST_COMPLETED).done)

    def _collect(self, done: set[Future[None]]) -> None:
        self._waiting -= done
        for one in done:
            one.result()
