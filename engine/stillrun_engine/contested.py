"""Files of a replay that tasks are at odds over: read in several states, or read by one and changed by another.

The original's tasks came one after the other; a replay's run side by side, each on what it was given then. Those that
touch such a file take turns, and each finds in it what the original's read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from stillrun_engine.archive import key_of
from stillrun_engine.inputs import place_of
from stillrun_engine.plan import TaskKey
from stillrun_engine.workspace import Workspace, put_back
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.store import Store

__all__ = ["Contested"]

Record = Mapping[str, Any]
Place = tuple[str, str]


@dataclass
class _File:
    """Who read a file in which state, and who wrote it. first: the task that came to it before all others."""

    reads: dict[TaskKey, str] = field(default_factory=dict)
    writes: set[TaskKey] = field(default_factory=set)
    first: tuple[str, TaskKey] | None = None

    def touched(self, started: str, key: TaskKey) -> None:
        """Note when a task that touches the file started."""
        if self.first is None or started < self.first[0]:
            self.first = (started, key)

    @property
    def contested(self) -> bool:
        """Whether it matters which of its tasks runs first."""
        others = len(self.writes | self.reads.keys()) > 1
        return others and bool(self.reads) and (bool(self.writes) or len(set(self.reads.values())) > 1)

    @property
    def begun_by(self) -> TaskKey | None:
        """The task that made the file, as far as is known: the first to come to it wrote it and had not read it."""
        key = self.first[1] if self.first else None
        return key if key in self.writes and key not in self.reads else None


class Contested:
    """Who may start beside whom, as far as files go. tasks: those that are replayed."""

    def __init__(self, store: Store, workspace: Workspace, tasks: Iterable[Record]) -> None:
        self._store, self._workspace = store, workspace
        self._files = {place: file for place, file in _files(workspace.origins, tasks).items() if file.contested}
        self._touched: dict[TaskKey, set[Place]] = defaultdict(set)
        for place, file in self._files.items():
            for key in file.writes | file.reads.keys():
                self._touched[key].add(place)
        self._busy: set[Place] = set()

    def free(self, key: TaskKey) -> bool:
        """Whether no running task touches what this one does."""
        return not self._touched or not self._busy.intersection(self._touched.get(key, ()))

    def take(self, task: Record) -> None:
        """Give a task that is about to start the files that it read as they were then; what it made is not there yet."""
        key = key_of(task)
        touched = self._touched.get(key)
        if not touched:
            return
        self._busy |= touched
        for file in task["files"]:
            if (file["base"], file["path"]) in touched:
                put_back(self._store, file, self._workspace)
        for base, path in touched:
            if self._files[base, path].begun_by == key:
                folder = self._workspace.root if base == "tree" else self._workspace.cwd
                (folder / path).unlink(missing_ok=True)

    def give_back(self, key: TaskKey) -> None:
        """The task has ended."""
        self._busy -= self._touched.get(key, set())


def _files(origins: Mapping[str, Path], tasks: Iterable[Record]) -> dict[Place, _File]:
    """What tasks did with files of the code's folder and of the working directory."""
    root, cwd = origins["tree"], origins["cwd"]
    found: dict[Place, _File] = defaultdict(_File)
    for task in tasks:
        key, started = key_of(task), str(task["started"])
        for path in task["written"]:
            entry = place_of(Path(path), root, cwd)
            file = found[entry["base"], entry["path"]]
            file.writes.add(key)
            file.touched(started, key)
        for entry in task["files"]:
            if entry["kept"]:
                file = found[entry["base"], entry["path"]]
                file.reads[key] = entry["digest"]
                file.touched(started, key)
    return {place: file for place, file in found.items() if place[0] in ("tree", "cwd")}
