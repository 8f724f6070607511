"""What of the machine running tasks have asked for, so that no more start than it has room for."""

from __future__ import annotations

from collections.abc import Mapping

from stillrun_engine.machine import machine_facts
from stillrun_engine.plan import TaskKey
from stillrun_engine.task_rules import TaskRules

__all__ = ["Room"]

_MB = 1 << 20


class Room:
    """Cores, and memory in MB. A task that asks for more than there is has room when nothing else runs that asked."""

    def __init__(self, rules: Mapping[str, TaskRules], cores: float | None = None, memory: float | None = None) -> None:
        facts = machine_facts()
        self._rules = rules
        self._cores = float(facts["cores"]) if cores is None else cores
        self._memory = int(facts["memory_bytes"]) / _MB if memory is None else memory
        self._taken: dict[TaskKey, TaskRules] = {}

    def problems(self) -> list[str]:
        """One sentence for each step that asks for more than there is."""
        found = []
        for step, rules in self._rules.items():
            if rules.cpu > self._cores or rules.memory > self._memory:
                asked = f"{step} asks for {rules.cpu:g} cores and {rules.memory:g} MB of memory"
                found.append(
                    f"{asked}, and this machine has {self._cores:g} and {self._memory:.0f}; its tasks run one at a time."
                )
        return found

    def fits(self, key: TaskKey) -> bool:
        """Whether there is room for a task."""
        asked = self._rules[key.step]
        if not self._taken or not (asked.cpu or asked.memory):
            return True
        cores = asked.cpu + sum(one.cpu for one in self._taken.values())
        return cores <= self._cores and asked.memory + sum(one.memory for one in self._taken.values()) <= self._memory

    def take(self, key: TaskKey) -> None:
        """A task begins."""
        rules = self._rules[key.step]
        if rules.cpu or rules.memory:
            self._taken[key] = rules

    def give_back(self, key: TaskKey) -> None:
        """A task has ended."""
        self._taken.pop(key, None)
