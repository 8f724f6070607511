"""Tasks that are tried again: which, how often, and when."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stillrun_engine.executor import Finished
from stillrun_engine.outcome import error_of_task
from stillrun_engine.plan import TaskKey, WaitingTask
from stillrun_engine.task_rules import TaskRules
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest

__all__ = ["Attempts", "Tried"]

_FINAL = frozenset({"host", "interrupted"})
"""Kinds of failures that another attempt cannot mend."""


@dataclass(frozen=True)
class Tried:
    """What became of a task so far. failed: records of its attempts; fallback: the death that its @catch is to let pass."""

    failed: tuple[Digest, ...] = ()
    fallback: Mapping[str, Any] | None = None


class Attempts:
    """The attempts of the tasks that run, and those that wait for their time."""

    def __init__(self, rules: Mapping[str, TaskRules]) -> None:
        self._rules = rules
        self._tasks: dict[TaskKey, WaitingTask] = {}
        self._tried: dict[TaskKey, Tried] = {}
        self._later: list[tuple[float, int, WaitingTask]] = []
        self._order = itertools.count()

    @property
    def waiting(self) -> bool:
        """Whether an attempt waits for its time."""
        return bool(self._later)

    def tried(self, task: WaitingTask) -> Tried:
        """What became of a task that is about to start."""
        self._tasks[task.key] = task
        return self._tried.get(task.key, Tried())

    def due(self) -> list[WaitingTask]:
        """The tasks whose next attempt may start now."""
        found = []
        while self._later and self._later[0][0] <= time.monotonic():
            found.append(heapq.heappop(self._later)[2])
        return found

    def again(self, event: Finished) -> bool:
        """Whether a task that has ended gets another attempt, or its death is to be let pass."""
        error = error_of_task(event)
        if error is None or error["kind"] in _FINAL:
            return False
        tried, rules = self._tried.get(event.work.key, Tried()), self._rules[event.work.key.step]
        if tried.fallback is not None:
            return False
        return len(tried.failed) < rules.retries or (rules.catch is not None and event.result is None)

    def plan(self, event: Finished, record: Digest) -> float:
        """Note a failed attempt and plan the next one, which ``again`` has promised. Seconds until then."""
        key = event.work.key
        tried, rules = self._tried.get(key, Tried()), self._rules[key.step]
        more = len(tried.failed) < rules.retries
        tried = replace(tried, failed=(*tried.failed, record))
        if not more:
            tried = replace(tried, fallback=error_of_task(event))
        self._tried[key] = tried
        delay = rules.delay_s if more else 0.0
        heapq.heappush(self._later, (time.monotonic() + delay, next(self._order), self._tasks[key]))
        return delay

    def done(self, key: TaskKey) -> None:
        """Forget a task that has ended for good."""
        self._tasks.pop(key, None)
        self._tried.pop(key, None)
