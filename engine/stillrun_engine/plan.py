"""Which task comes next: the graph of a flow walked task by task. Pure: no clock, no disk, no processes.

A task is named by its step and its position in the open foreach splits, outermost first: ``()`` outside
of any, ``(2,)`` for the third item, ``(2, 0)`` for the first item of a foreach within it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from stillrun_snapshot.deferred import dataclass

__all__ = ["Graph", "Plan", "Position", "Split", "TaskKey", "WaitingTask"]

Position = tuple[int, ...]


@dataclass(frozen=True)
class TaskKey:
    """One task of one run."""

    step: str
    position: Position
    iteration: int = 0  # of a step that goes on to itself

    @property
    def task(self) -> str:
        """The task's name within its step: '0', '2', '2.0'; '0~3' when the step has gone on to itself three times."""
        name = ".".join(map(str, self.position)) or "0"
        return f"{name}~{self.iteration}" if self.iteration else name


@dataclass(frozen=True)
class Split:
    """One open foreach that a task stands in. items: the artifact record that holds what is iterated over."""

    step: str
    variable: str
    index: int
    count: int
    items: str | None = None


@dataclass(frozen=True)
class WaitingTask:
    """A task all of whose inputs are there."""

    key: TaskKey
    foreach: tuple[Split, ...]
    parents: tuple[TaskKey, ...]
    join: bool


@dataclass(frozen=True)
class _Step:
    name: str
    next: tuple[str, ...]
    foreach: str | None  # empty where so many tasks follow, over no items
    join: bool
    switch: bool = False

    @property
    def splits(self) -> bool:
        """Whether several tasks follow one of its own."""
        return self.foreach is not None or (len(self.next) > 1 and not self.switch)


class Graph:
    """The steps of a checked flow and, for each join, the split that it closes."""

    def __init__(self, description: Mapping[str, Any]) -> None:
        self._steps = {
            s["name"]: _Step(
                s["name"],
                tuple(s["next"]),
                "" if s.get("parallel") else s.get("foreach"),
                s["kind"] == "join",
                s.get("switch") is not None,
            )
            for s in description["steps"]
        }
        self.start: str = description.get("start", "start")
        self._open: dict[str, tuple[str, ...]] = {}
        self._walk(self.start, ())

    def _walk(self, name: str, opened: tuple[str, ...]) -> None:
        """Note the splits open on arrival at each step. Every path to a step agrees on them (checked in api/)."""
        todo = [(name, opened)]
        while todo:
            name, opened = todo.pop()
            if name in self._open:
                continue
            self._open[name] = opened
            step = self._steps[name]
            inside = opened[:-1] if step.join else opened
            if step.splits:
                inside = (*inside, name)
            todo.extend((successor, inside) for successor in step.next)

    def __getitem__(self, name: str) -> _Step:
        return self._steps[name]

    @property
    def names(self) -> tuple[str, ...]:
        """Steps in the order of the flow file."""
        return tuple(self._steps)

    def split_of(self, join: str) -> _Step:
        """The split step that ``join`` closes."""
        return self._steps[self._open[join][-1]]

    def branch_of(self, join: str, name: str) -> int:
        """Which branch of the split that ``join`` closes the step ``name`` ends, in the order of the split."""
        for place, branch in enumerate(self.split_of(join).next):
            if name in self._reachable(branch, join):
                return place
        raise KeyError(name)

    def _reachable(self, start: str, stop: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            name = todo.pop()
            if name != stop and name not in seen:
                seen.add(name)
                todo.extend(self._steps[name].next)
        return seen


@dataclass
class _Barrier:
    """A join that waits for its branches."""

    expected: int
    foreach: tuple[Split, ...]
    order: dict[TaskKey, int] = field(default_factory=dict)


class Plan:
    """The state of one run: what has finished decides what may start."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._foreach: dict[TaskKey, tuple[Split, ...]] = {}
        self._barriers: dict[TaskKey, _Barrier] = {}

    def start(self) -> WaitingTask:
        """The first task of every run."""
        return self._ready(TaskKey(self._graph.start, ()), (), (), join=False)

    def finished(
        self, key: TaskKey, next_steps: Sequence[str], count: int | None, items: str | None = None
    ) -> list[WaitingTask]:
        """The tasks that may start now that ``key`` has finished.

        next_steps, count, items: what the task passed to ``self.next``; the latter two for a foreach.
        """
        foreach = self._foreach.pop(key)
        variable = self._graph[key.step].foreach
        if variable is not None and count is not None:
            return [
                self._ready(
                    TaskKey(next_steps[0], (*key.position, index)),
                    (*foreach, Split(key.step, variable, index, count, items)),
                    (key,),
                    join=False,
                )
                for index in range(count)
            ]
        ready = []
        for name in next_steps:
            if self._graph[name].join:
                ready.extend(self._arrive(name, key, foreach))
            else:
                again = key.iteration + 1 if name == key.step else 0
                ready.append(self._ready(TaskKey(name, key.position, again), foreach, (key,), join=False))
        return ready

    def _arrive(self, join: str, key: TaskKey, foreach: tuple[Split, ...]) -> list[WaitingTask]:
        split = self._graph.split_of(join)
        each = split.foreach is not None
        position = key.position[:-1] if each else key.position
        outer = foreach[:-1] if each else foreach
        expected = foreach[-1].count if each else len(split.next)
        target = TaskKey(join, position)
        barrier = self._barriers.setdefault(target, _Barrier(expected, outer))
        barrier.order[key] = key.position[-1] if each else self._graph.branch_of(join, key.step)
        if len(barrier.order) < barrier.expected:
            return []
        del self._barriers[target]
        parents = tuple(sorted(barrier.order, key=barrier.order.__getitem__))
        return [self._ready(target, barrier.foreach, parents, join=True)]

    def _ready(
        self, key: TaskKey, foreach: tuple[Split, ...], parents: tuple[TaskKey, ...], *, join: bool
    ) -> WaitingTask:
        self._foreach[key] = foreach
        return WaitingTask(key, foreach, parents, join)
