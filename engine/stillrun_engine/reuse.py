"""Tasks of an earlier run that need not run again: everything that they were made of is the same today.

Same code (``fingerprint``), environment, parameters, inputs by content, place in each foreach, and files that were read.
What cannot be shown to be the same runs again, and it is said why.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stillrun.traces import names_digest
from stillrun_engine.archive import KeptRun, key_of
from stillrun_engine.desk import TaskInput
from stillrun_engine.fingerprint import NOT_CODE, CodeOf, Reached
from stillrun_engine.inputs import declared_files, declared_inputs, identity_of, place_of
from stillrun_engine.items import ItemIndex
from stillrun_engine.mentions import changes, mentioned
from stillrun_engine.plan import TaskKey, WaitingTask
from stillrun_engine.references import references
from stillrun_engine.variables import Variables
from stillrun_engine.workspace import folders_of
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of_file

__all__ = ["Reuse", "Today"]

Record = Mapping[str, Any]
_PLACES = frozenset({"index", "foreach_stack", "task_id", "pathspec", "task", "__dict__", "parallel"})
"""What a step asks for when it matters to it where it stands in a foreach."""


@dataclass(frozen=True)
class Today:
    """What a run of today is made of. steps: each step's environment; root, cwd: where recorded files are looked for.

    variables: the environment variables that are recorded with a run.
    """

    description: Record
    code: Digest  # stillrun/code/1
    parameters: Mapping[str, str]
    steps: Mapping[str, str]
    variables: Mapping[str, str]
    root: Path
    cwd: Path
    surroundings: Variables
    installed: str | None  # what of the caller's environment is another than it was then, in words


class Reuse:
    """Answers, for each task that may start, whether the earlier run's serves.

    again: steps that run again in any case, with all that follow them. strict: every file of the captured tree counts.
    """

    def __init__(self, origin: KeptRun, today: Today, again: Iterable[str] = (), *, strict: bool = False) -> None:
        self.origin, self.today = origin, today
        self.reasons: dict[str, str] = {}  # step -> why it runs again, of its first task
        self._records = {key_of(task): task for task in origin.tasks()}
        self._again = _with_followers(today.description, again)
        self._before = self._code(origin.record["code"], origin.description, strict)
        self._now = self._code(today.code, today.description, strict)
        self._changes = changes(self._before.files, self._now.files)
        self._declared = declared_inputs(today.description)
        self._items = ItemIndex(origin.store, self._records)
        self._files: dict[tuple[str, str], tuple[Any, str | None]] = {}
        self._written: dict[tuple[str, str], TaskKey] = {}  # by tasks that run again and have not ended yet
        self._places = folders_of(origin.store, origin.record)
        self._references: dict[str, frozenset[tuple[str, str]]] = {}

    def split(self, key: TaskKey, next_: Record | None) -> None:
        """Hear that a task of this run has ended, and where it went on to."""
        self._written = {place: writer for place, writer in self._written.items() if writer != key}
        if next_ is not None and next_["foreach"] is not None:
            self._items.today(key, next_)

    def record_of(self, waiting: WaitingTask, inputs: Sequence[TaskInput]) -> tuple[Record, Mapping[str, str]] | None:
        """The earlier run's record that serves for a task, and the artifacts that it has here; None when it has to run."""
        old = self._records.get(waiting.key)
        moved = self._items.task_of(waiting)
        if moved is not None and moved != waiting.key and self._is_placeless(waiting):
            old = self._records.get(moved)
        reason = self._differs(waiting, inputs, old)
        if reason is None:
            assert old is not None, "it serves"
            return old, self._artifacts(waiting, inputs, old)
        self.reasons.setdefault(waiting.key.step, reason)
        for path in old["written"] if old is not None else ():
            place = place_of(Path(path), *self._places)
            self._written[place["base"], place["path"]] = waiting.key
        return None

    def _is_placeless(self, waiting: WaitingTask) -> bool:
        """Whether it is nothing to the step where it stands in a foreach."""
        reached = self._now.step(waiting.key.step)
        asked = None if reached is None else reached.attributes
        return asked is not None and not asked & _PLACES and not waiting.join

    def _artifacts(self, waiting: WaitingTask, inputs: Sequence[TaskInput], old: Record) -> dict[str, str]:
        """What the task made then, and what it passes on of what it is given today."""
        had = dict(old["artifacts"])
        if waiting.join or len(inputs) != 1:
            return had
        before = self.origin.given(old)
        passed = {name for name, digest in had.items() if before.get(name) == digest}
        made = {name: digest for name, digest in had.items() if name not in passed}
        dropped = before.keys() - had.keys()
        return {**{name: digest for name, digest in inputs[0].artifacts.items() if name not in dropped}, **made}

    def _differs(self, waiting: WaitingTask, inputs: Sequence[TaskInput], old: Record | None) -> str | None:
        """Why a task has to run, in words."""
        step = waiting.key.step
        if step in self._again:
            return f"{self._again[step]} is to run again"
        if old is None:
            return "it did not run" if self.origin.tasks(step) == [] else f"task {waiting.key.task} did not run"
        if old["status"] != "ok":
            return f"it {'failed' if old['status'] == 'failed' else 'was stopped'}"
        classes = self._classes(step, inputs)
        before, now = self._before.step(step, classes), self._now.step(step, classes)
        if before is None or now is None:
            return f"{step} was not there" if before is None else f"{step} is not there any more"
        return (
            before.differs(now, step)
            or self._other_decorators(step)
            or self._other_surroundings(step, old, now)
            or self._other_inputs(waiting, inputs, old, now)
            or next(filter(None, map(self._other_file, old["files"])), None)
            or next(filter(None, map(self._other_look, old.get("looked", ()))), None)
            or self._new_input(step, old)
            or self._other_mention(old, before, now)
        )

    def _classes(self, step: str, inputs: Sequence[TaskInput]) -> frozenset[tuple[str, str]]:
        """The classes and functions of the tree that a step's inputs hold: it may call them without naming them."""
        reached = self._now.step(step)
        wanted = None if reached is None else reached.attributes
        found: set[tuple[str, str]] = set()
        for given in inputs:
            for name, digest in given.artifacts.items():
                if wanted is None or name in wanted or "input" in wanted or "foreach_stack" in wanted:
                    found |= self._referred(digest)
        return frozenset(found)

    def _referred(self, digest: str) -> frozenset[tuple[str, str]]:
        if digest not in self._references:
            store = self.origin.store
            record = store.get_record(Digest(digest), "artifact")
            self._references[digest] = references(store, record, {*self._before.modules, *self._now.modules})
        return self._references[digest]

    def _other_decorators(self, step: str) -> str | None:
        """Whether a decorator has other arguments though its code is the same: those of a configuration."""
        before, now = (_decorators(one, step) for one in (self.origin.description, self.today.description))
        other = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
        return f"its @{other[0]} is another" if other else None

    def _other_surroundings(self, step: str, old: Record, now: Reached) -> str | None:
        if self.today.steps[step] not in (old["environment"], self.origin.lock_of(step)):
            return "its environment is another"
        if self.today.installed is not None and self.today.steps[step] == old["environment"] and self._is_ambient(step):
            return self.today.installed
        had = self.origin.record["variables"]
        moved = [
            name for name in sorted({*had, *self.today.variables}) if had.get(name) != self.today.variables.get(name)
        ]
        if moved:
            return f"the variable {moved[0]} is another"
        known = self.origin.record.get("surroundings")
        if now.reads_variables and known is not None and (name := self.today.surroundings.other(known, now.words)):
            return f"the variable {name} is another"
        before = {name: entry["artifact"] for name, entry in self.origin.record["parameters"].items()}
        changed = [
            name
            for name in sorted({*before, *self.today.parameters})
            if before.get(name) != self.today.parameters.get(name) and _may_use(now, name)
        ]
        return f"parameter {changed[0]} is another" if changed else None

    def _is_ambient(self, step: str) -> bool:
        place = self.origin.record["steps"].get(step)
        return place is not None and place["kind"] == "ambient"

    def _other_inputs(self, waiting: WaitingTask, inputs: Sequence[TaskInput], old: Record, now: Reached) -> str | None:
        elsewhere = [split.index for split in waiting.foreach] != [split["index"] for split in old["foreach"]]
        if not self._same_items(waiting, old) or waiting.join != old["join"]:
            return "it stands elsewhere in a foreach"
        parents = [self.origin.store.get_record(Digest(each["record"]), "task") for each in old["inputs"]]
        if not elsewhere and [each.key for each in inputs] != list(map(key_of, parents)):
            return "its inputs come from other tasks"
        if len(inputs) != len(parents) or [each.key.step for each in inputs] != [each["step"] for each in parents]:
            return "its inputs come from other tasks"
        read = None if waiting.join else now.attributes
        for given, parent in zip(inputs, parents, strict=True):
            had = parent["artifacts"]
            names = {*had, *given.artifacts} if read is None else {*had, *given.artifacts} & read
            other = [name for name in sorted(names) if had.get(name) != given.artifacts.get(name)]
            if other:
                return f"its input {other[0]} is another"
        return None

    def _same_items(self, waiting: WaitingTask, old: Record) -> bool:
        """Whether both are for the same items: of the same foreach as a whole, or item by item."""
        if [{**vars(split)} for split in waiting.foreach] == [dict(split) for split in old["foreach"]]:
            return True
        if not self._is_placeless(waiting):
            return False
        return self._items.task_of(waiting) == key_of(old)

    def _other_file(self, file: Record) -> str | None:
        """Whether a file that the task read is another today, or a task that runs now may change it."""
        if file["base"] == "system":
            return None
        writer = self._written.get((file["base"], file["path"]))
        if writer is not None:
            return f"{file['path']} is written by {writer.step}/{writer.task}, which runs again"
        found = self._digest_now(file["base"], file["path"])
        if file["digest"] is None or found != file["digest"]:
            return f"{file['path']} changed" if found else f"{file['path']} is not there any more"
        return None

    def _digest_now(self, base: str, path: str) -> str | None:
        """What a file holds now, which tasks of this run may have changed; None when it is not there."""
        place = self._folder(base) / path
        try:
            identity = identity_of(place)
            known = self._files.get((base, path))
            if known is None or known[0] != identity:
                known = self._files[base, path] = (identity, digest_of_file(place)[0])
        except OSError:
            return None
        return known[1]

    def _other_look(self, look: Record) -> str | None:
        """Whether a folder that the task listed has other names today, or a file that it missed is there."""
        if (look["base"], look["path"]) == ("absolute", os.sep) and look["names"] is None:
            return "it looked at more folders than can be compared"
        path = self._folder(look["base"]) / look["path"]
        if look["names"] is None:
            return f"{look['path']} is there now" if path.exists() else None
        if names_digest(str(path)) == look["names"]:
            return None
        return f"the names in {look['path'] if look['path'] != '.' else 'its folder'} are others"

    def _new_input(self, step: str, old: Record) -> str | None:
        """Whether a pattern of @inputs finds a file that the task did not have."""
        had = {self._folder(file["base"]) / file["path"] for file in old["files"]}
        for path in declared_files(self._declared.get(step, ()), self.today.cwd):
            if path not in had:
                return f"{path.name} is new"
        return None

    def _other_mention(self, old: Record, before: Reached, now: Reached) -> str | None:
        """Whether another file of the tree is one that the step may be about, or that a program it started may have read."""
        started = bool(old.get("reached", {}).get("programs"))
        read = {file["path"] for file in old["files"] if file["base"] == "tree"}
        for path, became in self._changes.items():
            beside = became != "changed" and (before.beside or now.beside)
            if path not in read and (started or beside or mentioned(path, before.words | now.words)):
                return f"{path} is new" if became == "new" else f"{path} {'is ' if became != 'changed' else ''}{became}"
        if started and self._before.files != self._now.files:
            changed = sorted(
                p
                for p in {*self._before.files, *self._now.files}
                if self._before.files.get(p) != self._now.files.get(p)
            )
            return f"{changed[0]} changed, and it starts programs"
        return None

    def _folder(self, base: str) -> Path:
        return {"tree": self.today.root, "cwd": self.today.cwd}.get(base, Path(os.sep))

    def _code(self, digest: str, description: Record, strict: bool) -> CodeOf:
        store = self.origin.store
        code = store.get_record(Digest(digest), "code")
        return CodeOf(store, Digest(code["tree"]), code["flow_file"], description["name"], strict=strict)


def _may_use(reached: Reached, parameter: str) -> bool:
    """Whether a step may read a parameter: by its name, or all of them by current.parameters."""
    names = reached.attributes
    return names is None or parameter in names or bool({"parameters", "__dict__"} & names)


def _decorators(description: Record, step: str) -> dict[str, list[Any]]:
    """The arguments of a step's decorators that may matter to what it does, by name."""
    found: dict[str, list[Any]] = {}
    own = next((one["decorators"] for one in description["steps"] if one["name"] == step), ())
    for one in (*description["decorators"], *own):
        if one["name"] not in NOT_CODE:
            found.setdefault(one["name"], []).append(one["attributes"])
    return found


def _with_followers(description: Record, steps: Iterable[str]) -> dict[str, str]:
    """The steps and all that come after them, each with the one that is why."""
    following = {step["name"]: step["next"] for step in description["steps"]}
    found: dict[str, str] = {}
    for first in steps:
        waiting = [first]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found[name] = first
                waiting += following.get(name, [])
    return found
