"""The loop that keeps an executor busy, for runs and for replays."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from stillrun_engine.executor import Executor, Finished, Output, Started, TaskWork
from stillrun_engine.stopping import StopSignals

__all__ = ["Handler", "work_through"]

_TICK = 0.05
"""Seconds between two looks at what may be committed while tasks run."""
_LOOKED_AT = 100
"""Waiting tasks that are looked at for one that the machine has room for."""
_GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL for a task after the first stop signal."""

Waiting = TypeVar("Waiting")


class Handler(Protocol[Waiting]):
    """What a run or a replay does with the tasks that the loop takes through an executor."""

    def prepare(self, waiting: Waiting) -> TaskWork:
        """The work of one waiting task, made only when there is room for it."""

    def started(self, event: Started) -> None:
        """A task has begun."""

    def output(self, event: Output) -> None:
        """A task has written something."""

    def finished(self, event: Finished) -> Iterable[Waiting]:
        """A task has ended; the tasks that may start now. Raise nothing for a failed task: stop by ``halted``."""

    @property
    def halted(self) -> bool:
        """True when no further task may start."""

    @property
    def later(self) -> bool:
        """True while a task waits for its time."""

    def due(self) -> Iterable[Waiting]:
        """The tasks whose time has come."""

    def fits(self, waiting: Waiting) -> bool:
        """Whether a task may start beside those that run."""

    def breathe(self, *, busy: bool) -> None:
        """Called between events; ``busy`` while tasks run or may start."""


class _Loop(Generic[Waiting]):
    def __init__(self, executor: Executor, handler: Handler[Waiting], stop: StopSignals) -> None:
        self._executor = executor
        self._handler = handler
        self._stop = stop
        self._heeded = 0
        self.waiting: deque[Waiting] = deque()

    def run(self) -> None:
        executor, handler = self._executor, self._handler
        while executor.running or ((self.waiting or handler.later) and not self._ending):
            self.waiting.extend(handler.due())
            while executor.free > 0 and not self._ending and self._next_fits():
                executor.submit(handler.prepare(self.waiting.popleft()))
            for event in executor.events(_TICK):
                self._handle(event)
            self._heed_signals()
            handler.breathe(busy=bool(executor.running) or (bool(self.waiting) and not self._ending))

    def _next_fits(self) -> bool:
        """Whether a task may start now; it is the first one then."""
        for place, waiting in zip(range(_LOOKED_AT), self.waiting, strict=False):
            if self._handler.fits(waiting):
                self.waiting.rotate(-place)
                first = self.waiting.popleft()
                self.waiting.rotate(place)
                self.waiting.appendleft(first)
                return True
        return False

    @property
    def _ending(self) -> bool:
        return self._handler.halted or self._stop.requested is not None

    def _handle(self, event: Started | Output | Finished) -> None:
        if isinstance(event, Output):
            self._handler.output(event)
        elif isinstance(event, Started):
            self._handler.started(event)
        else:
            self.waiting.extend(self._handler.finished(event))

    def _heed_signals(self) -> None:
        """The first signal asks tasks to end, a second one kills them."""
        if self._stop.times > self._heeded:
            self._stop.clear_wake()
            self._executor.stop(_GRACE if self._heeded == 0 else 0.0)
            self._heeded = self._stop.times


def work_through(executor: Executor, handler: Handler[Waiting], first: Iterable[Waiting], stop: StopSignals) -> None:
    """Run ``first`` and all that follows from it; returns when no task runs any more.

    After a stop signal, running tasks are asked to end and nothing new starts; the caller looks at ``stop.requested``.
    """
    loop = _Loop(executor, handler, stop)
    loop.waiting.extend(first)
    with stop.deferred():
        loop.run()
