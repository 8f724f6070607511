"""Which task comes next: the graph of a flow walked task by task. Pure: no clock, no disk, no processes.

A task is named by its step and its position in the open foreach splits, outermost first: ``()`` outside
of any, ``(2,)`` for the third item, ``(2, 0)`` for the first item of a foreach within it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Graph", "Plan", "Position", "Split", "TaskKey", "WaitingTask"]

Position = tuple[int, ...]


@dataclass(frozen=True)
class TaskKey:
    """One task of one run."""

    step: str
    position: Position

    @property
    def task(self) -> str:
        """The task's name within its step: '0', '2', '2.0'."""
        return ".".join(map(str, self.position)) or "0"


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
    foreach: str | None
    join: bool


class Graph:
    """The steps of a checked flow and, for each join, the split that it closes."""

    def __init__(self, description: Mapping[str, Any]) -> None:
        self._steps = {
            s["name"]: _Step(s["name"], tuple(s["next"]), s.get("foreach"), s["kind"] == "join")
            for s in description["steps"]
        }
        self._open: dict[str, tuple[str, ...]] = {}
        self._walk("start", ())

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
            if step.foreach or len(step.next) > 1:
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

    def predecessors(self, join: str) -> tuple[str, ...]:
        """Steps that lead into ``join``, in the order in which its split names their branches."""
        split = self.split_of(join)
        into = [s.name for s in self._steps.values() if join in s.next]
        branch_of = {name: i for i, branch in enumerate(split.next) for name in self._reachable(branch, join)}
        return tuple(sorted(into, key=lambda name: branch_of.get(name, len(split.next))))

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
        return self._ready(TaskKey("start", ()), (), (), join=False)

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
                ready.append(self._ready(TaskKey(name, key.position), foreach, (key,), join=False))
        return ready

    def _arrive(self, join: str, key: TaskKey, foreach: tuple[Split, ...]) -> list[WaitingTask]:
        split = self._graph.split_of(join)
        position = key.position[:-1] if split.foreach else key.position
        outer = foreach[:-1] if split.foreach else foreach
        predecessors = self._graph.predecessors(join)
        expected = foreach[-1].count if split.foreach else len(predecessors)
        target = TaskKey(join, position)
        barrier = self._barriers.setdefault(target, _Barrier(expected, outer))
        barrier.order[key] = key.position[-1] if split.foreach else predecessors.index(key.step)
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
