"""A run as its report reads it: the records once, and what a replay found of each part."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Any

from stillrun_engine.archive import KeptRun
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["Reading", "Record", "microseconds_between"]

Record = Mapping[str, Any]


class Reading:
    """One run of a store; each record of it is read once."""

    def __init__(self, run: KeptRun, verdict: Record | None = None) -> None:
        """verdict: what the replay that the report tells of found."""
        self.run, self.verdict = run, verdict
        self._makers: dict[tuple[str, str, str], str] = {}

    @property
    def store(self) -> Store:
        """Where everything stands."""
        return self.run.store

    @cached_property
    def tasks(self) -> list[Record]:
        """Task records in the order of the graph."""
        return self.run.tasks()

    @cached_property
    def digests(self) -> Mapping[tuple[str, str], Digest]:
        """The name of each task's record, by step and task."""
        return {(step, task): digest for step, task, digest in self.run.entries()}

    @cached_property
    def _by_digest(self) -> Mapping[str, Record]:
        return {self.digests[task["step"], task["task"]]: task for task in self.tasks}

    def task_of(self, digest: str) -> Record:
        """A task record, of this run or of the one that this one goes on from."""
        found = self._by_digest.get(digest)
        return self.store.get_record(Digest(digest), "task") if found is None else found

    def made(self, task: Record) -> dict[str, str]:
        """The artifacts that a task made or changed: those that none of its parents handed it as they are."""
        mine: Mapping[str, str] = task["artifacts"]
        left = set(mine)
        for parent in task["inputs"]:
            given = self.task_of(parent["record"])["artifacts"]
            left = {name for name in left if given.get(name) != mine[name]}
            if not left:
                break
        return {name: digest for name, digest in mine.items() if name in left}

    def maker(self, task: Record, name: str) -> str:
        """The step that made what ``task`` has under a name: up along whoever handed it on as it is."""
        below: list[tuple[str, str, str]] = []
        while (key := (str(task["step"]), str(task["task"]), name)) not in self._makers:
            below.append(key)
            digest = task["artifacts"][name]
            parents = (self.task_of(parent["record"]) for parent in task["inputs"])
            above = next((one for one in parents if one["artifacts"].get(name) == digest), None)
            if above is None:
                self._makers[key] = str(task["step"])
                break
            task = above
        made_by = self._makers[key]
        self._makers.update(dict.fromkeys(below, made_by))
        return made_by

    @cached_property
    def task_verdicts(self) -> Mapping[tuple[str, str], Record]:
        """What the replay found of each task."""
        return {(one["step"], one["task"]): one for one in self.verdict["tasks"]} if self.verdict else {}

    @cached_property
    def artifact_verdicts(self) -> Mapping[tuple[str, str, str], Record]:
        """What the replay found of each artifact."""
        entries = self.verdict["artifacts"] if self.verdict else ()
        return {(one["step"], one["task"], one["name"]): one for one in entries}

    def ready(self, task: Record) -> str:
        """When a task could have begun: when the last of its parents had ended, or the run had begun."""
        ended = [str(self.task_of(parent["record"])["finished"]) for parent in task["inputs"]]
        return max([*ended, str(self.run.record["started"])])


def microseconds_between(before: str, after: str) -> int:
    """Time from one recorded time to a later one; 0 when the clock went back."""
    passed = datetime.fromisoformat(_plain(after)) - datetime.fromisoformat(_plain(before))
    return max(0, round(passed.total_seconds() * 1_000_000))


def _plain(time: str) -> str:
    return time.removesuffix("Z") + "+00:00"
