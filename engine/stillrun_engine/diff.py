"""How two runs differ: code, parameters, environments, inputs, tasks and artifacts, machine and time. Nothing is unpickled."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from typing import Any

from stillrun_engine.archive import KeptRun
from stillrun_engine.judge import ArtifactVerdict, TaskVerdict, judge_task
from stillrun_engine.policy import Policy
from stillrun_envs.dependencies import Change, changes_between
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store
from stillrun_snapshot.tree import Entry, FileEntry, tree_files

__all__ = ["EnvironmentChange", "FileChange", "RunDiff", "ValueChange", "reason_of"]

Record = Mapping[str, Any]
_LINES_MAX = 2000  # of one file's diff
_TEXT_MAX = 1 << 20  # bytes of a file that is shown line by line
_SAME = frozenset({"identical", "equivalent", "volatile"})


@dataclass(frozen=True)
class ValueChange:
    """One thing by name; None where it is not there."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class FileChange:
    """One file of the code. lines: of a unified diff; none for what is no text."""

    path: str
    kind: str  # added, removed or changed
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class EnvironmentChange:
    """The environments of some steps. changes: None where one of the two was not kept."""

    steps: tuple[str, ...]
    before: str
    after: str
    changes: tuple[Change, ...] | None


class RunDiff:
    """Two runs of one store, side by side; each part is worked out when it is asked for."""

    def __init__(self, before: KeptRun, after: KeptRun) -> None:
        """before, after: runs, or the same step or task of two runs."""
        self.before, self.after = before, after
        self._store: Store = before.store
        self._artifact = lru_cache(maxsize=65536)(self._read)
        self._task = lru_cache(maxsize=4096)(self._read_task)
        self._identical = 0

    @cached_property
    def code(self) -> list[FileChange]:
        """The captured files that differ."""
        trees = [self._tree(run) for run in (self.before, self.after)]
        if trees[0] == trees[1]:
            return []
        old, new = (dict(tree_files(self._store, tree)) for tree in trees)
        changed = [path for path in sorted(old.keys() | new.keys()) if old.get(path) != new.get(path)]
        return [self._file(path, old.get(path), new.get(path)) for path in changed]

    @cached_property
    def parameters(self) -> list[ValueChange]:
        """The parameters whose values differ."""
        told = [
            {name: (str(entry["text"]), entry["artifact"]) for name, entry in run.record["parameters"].items()}
            for run in (self.before, self.after)
        ]
        return [
            ValueChange(name, *(found[name][0] if name in found else None for found in told))
            for name in sorted(told[0].keys() | told[1].keys())
            if told[0].get(name) != told[1].get(name)
        ]

    @cached_property
    def environments(self) -> list[EnvironmentChange]:
        """The environments that differ, each pair once, with the steps that ran in them."""
        pairs: dict[tuple[str, str], list[str]] = {}
        for step in self.before.record["steps"]:
            if step in self.after.record["steps"]:
                pair = (self._environment(self.before, step), self._environment(self.after, step))
                if pair[0] != pair[1]:
                    pairs.setdefault(pair, []).append(step)
        return [EnvironmentChange(tuple(steps), *pair, self._packages(steps[0])) for pair, steps in pairs.items()]

    @cached_property
    def inputs(self) -> list[ValueChange]:
        """The files that were read whose content differs, or that one run alone read."""
        read = [
            {file["path"]: file["digest"] for task in tasks.values() for file in task["files"]} for tasks in self._tasks
        ]
        return [
            ValueChange(path, read[0].get(path), read[1].get(path))
            for path in sorted(read[0].keys() | read[1].keys())
            if read[0].get(path) != read[1].get(path)
        ]

    @cached_property
    def machine(self) -> list[ValueChange]:
        """What is different about the machine, and about the environment variables that are recorded."""
        found = []
        for part in ("machine", "variables"):
            old, new = self.before.record[part], self.after.record[part]
            for name in sorted(old.keys() | new.keys()):
                if old.get(name) != new.get(name):
                    told = (None if each.get(name) is None else str(each[name]) for each in (old, new))
                    found.append(ValueChange(name, *told))
        return found

    @cached_property
    def _policy(self) -> Policy:
        return Policy.of(self.before.description)

    @cached_property
    def tasks(self) -> list[TaskVerdict]:
        """Every task that both runs have, judged by digests, in the order of the graph."""
        old, new = self._tasks
        return [self._judged(task, new[key]) for key, task in old.items() if key in new]

    def retell(self, better: Mapping[tuple[str, str], TaskVerdict]) -> None:
        """Take verdicts that know more, by step and task."""
        self.__dict__["tasks"] = [better.get((task.step, task.task), task) for task in self.tasks]
        for name in ("differing", "origins"):
            self.__dict__.pop(name, None)

    @property
    def identical(self) -> int:
        """How many artifacts have the same bytes."""
        judged = sum(one.verdict == "identical" for task in self.tasks for one in task.artifacts)
        return judged + self._identical  # which counts those that no record was read of while the tasks were judged

    @cached_property
    def tasks_of_one(self) -> list[ValueChange]:
        """The tasks that one run alone has."""
        old, new = self._tasks
        names = [*(key for key in old if key not in new), *(key for key in new if key not in old)]
        return [
            ValueChange(f"{step}/{task}", _status(old.get((step, task))), _status(new.get((step, task))))
            for step, task in names
        ]

    @cached_property
    def differing(self) -> list[tuple[TaskVerdict, ArtifactVerdict]]:
        """The artifacts that are not known to be the same, in the order of the graph."""
        return [(task, one) for task in self.tasks for one in task.artifacts if one.verdict not in _SAME]

    @cached_property
    def origins(self) -> list[TaskVerdict]:
        """The tasks that were given the same and came out otherwise; all other differences are inherited from these."""
        old, new = self._tasks
        return [
            task
            for task in self.tasks
            if task.verdict not in _SAME and self._given_same(old[task.step, task.task], new[task.step, task.task])
        ]

    @property
    def is_empty(self) -> bool:
        """Whether nothing that a run is made of, and nothing that came of it, differs. Time and machine do not count."""
        parts: Sequence[Sequence[Any]] = (self.code, self.parameters, self.environments, self.inputs, self.tasks_of_one)
        return not any(parts) and all(task.verdict in _SAME for task in self.tasks)

    def seconds(self) -> list[tuple[str, float, float]]:
        """Time in the tasks of each step, before and after."""
        spent: dict[str, list[float]] = {}
        for side, tasks in enumerate(self._tasks):
            for (step, _), task in tasks.items():
                spent.setdefault(step, [0.0, 0.0])[side] += task["usage"].get("wall_us", 0) / 1e6
        return [(step, before, after) for step, (before, after) in spent.items()]

    # -- how it is worked out --------------------------------------------------------------------------------------

    @cached_property
    def _tasks(self) -> tuple[dict[tuple[str, str], Record], dict[tuple[str, str], Record]]:
        old, new = (
            {(task["step"], task["task"]): task for task in run.selected()} for run in (self.before, self.after)
        )
        return old, new

    def _tree(self, run: KeptRun) -> Digest:
        return Digest(self._store.get_record(Digest(run.record["code"]), "code")["tree"])

    def _file(self, path: str, old: Entry | None, new: Entry | None) -> FileChange:
        if old is None or new is None:
            return FileChange(path, "added" if old is None else "removed")
        one, other = self._text(old), self._text(new)
        if one is None or other is None:
            return FileChange(path, "changed")
        names = [f"{run.spec.run}/{path}" for run in (self.before, self.after)]
        lines = difflib.unified_diff(one, other, names[0], names[1], lineterm="")
        return FileChange(path, "changed", tuple(line for line, _ in zip(lines, range(_LINES_MAX), strict=False)))

    def _text(self, entry: Entry) -> list[str] | None:
        if not isinstance(entry, FileEntry) or entry.size > _TEXT_MAX:
            return None
        try:
            return self._store.get(entry.digest).decode("utf-8").splitlines()
        except UnicodeDecodeError:
            return None

    def _environment(self, run: KeptRun, step: str) -> str:
        return str(run.lock_of(step) or run.record["steps"][step]["environment"])

    def _packages(self, step: str) -> tuple[Change, ...] | None:
        before, after = self.before.lock_of(step), self.after.lock_of(step)
        return None if before is None or after is None else tuple(changes_between(self._store, before, after))

    def _judged(self, old: Record, new: Record) -> TaskVerdict:
        """What a task only passed on is judged where it was made; of what has one digest no record is read."""
        sides = (old["artifacts"], self._given(old)), (new["artifacts"], self._given(new))
        made = {
            name
            for name in {**old["artifacts"], **new["artifacts"]}
            if not all(have.get(name) == given.get(name) for have, given in sides)
        }
        same = {name for name in made if old["artifacts"].get(name) == new["artifacts"].get(name)}
        self._identical += len(same)
        open_, (before, after) = made - same, (old["artifacts"], new["artifacts"])
        return judge_task(
            {**old, "artifacts": {name: digest for name, digest in before.items() if name in open_}},
            {**new, "artifacts": {name: digest for name, digest in after.items() if name in open_}},
            {},
            self._artifact,
            partial(self._policy.is_volatile, old["step"]),
        )

    def _given(self, task: Record) -> Mapping[str, str]:
        """The artifacts that a task was handed: its parent's; none at the start and at a join."""
        if task["join"] or not task["inputs"]:
            return {}
        found: Mapping[str, str] = self._task(task["inputs"][0]["record"])["artifacts"]
        return found

    def _given_same(self, old: Record, new: Record) -> bool:
        if self.parameters or len(old["inputs"]) != len(new["inputs"]):
            return not self.parameters
        pairs = zip(self._inputs_of(old), self._inputs_of(new), strict=True)
        return all(self._is_same(before, after) for before, after in pairs)

    def _inputs_of(self, task: Record) -> Iterator[Mapping[str, str]]:
        for parent in task["inputs"]:
            yield self._task(parent["record"])["artifacts"]

    def _is_same(self, before: Mapping[str, str], after: Mapping[str, str]) -> bool:
        if before.keys() != after.keys():
            return False
        return all(digest == after[name] or self._is_equal(digest, after[name]) for name, digest in before.items())

    def _is_equal(self, one: str, other: str) -> bool:
        first, second = self._artifact(one), self._artifact(other)
        if first["parts"] == second["parts"]:
            return True
        return first["canonical"] is not None and first["canonical"] == second["canonical"]

    def _read_task(self, digest: str) -> Record:
        return self._store.get_record(Digest(digest), "task")

    def _read(self, digest: str) -> Record:
        return self._store.get_record(Digest(digest), "artifact")


def _status(task: Record | None) -> str | None:
    return None if task is None else str(task["status"])


def reason_of(diff: RunDiff) -> str:
    """Why two runs differ, in the shortest sentence that says it."""
    same, changed = [], []
    for name, there, told in (
        ("code", diff.code, ", ".join(one.path for one in diff.code[:3])),
        ("parameters", diff.parameters, ", ".join(f"{p.name} {p.before} → {p.after}" for p in diff.parameters[:3])),
        ("input files", diff.inputs, ", ".join(one.name for one in diff.inputs[:3])),
        ("environment", diff.environments, _packages_told(diff.environments)),
    ):
        (changed.append(f"other {name} ({told})") if there else same.append(name))
    text = f"same {', '.join(same)}" if same else "nothing is the same"
    if changed:
        text += "; " + "; ".join(changed)
    if diff.origins:
        more = f", {len(diff.origins) - 1} more came apart by themselves" if len(diff.origins) > 1 else ""
        return f"{text}; first difference in {_named(diff.origins[0])}{more}"
    if any(task.verdict not in _SAME for task in diff.tasks):
        return f"{text}; first difference in {_named(next(task for task in diff.tasks if task.verdict not in _SAME))}"
    return f"{text}; no result differs" if diff.tasks else f"{text}; they have no task in common"


def _named(task: TaskVerdict) -> str:
    names = [one.name for one in task.artifacts if one.verdict not in _SAME]
    return f"{task.step}/{task.task}" + (f" ({', '.join(names[:3])})" if names else "")


def _packages_told(found: Sequence[EnvironmentChange]) -> str:
    told = []
    for one in found:
        told += [f"{c.name} {c.before or 'none'} → {c.after or 'none'}" for c in one.changes or ()]
    shown = list(dict.fromkeys(told))
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "") if shown else "not kept"
