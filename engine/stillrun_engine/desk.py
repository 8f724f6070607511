"""From a task that may start to its kept record: what runs and replays do alike for each task."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stillrun_engine.apart import Apart
from stillrun_engine.executor import Finished, Output, Started, TaskWork
from stillrun_engine.guard import SecretGuard
from stillrun_engine.history import History
from stillrun_engine.inputs import InputKeeper, declared_files
from stillrun_engine.logs import TaskLog
from stillrun_engine.outcome import error_of_task
from stillrun_engine.parts import Body, References, keep_outputs, keep_part
from stillrun_engine.plan import Split, TaskKey
from stillrun_engine.reporter import Reporter
from stillrun_engine.task_rules import PLAIN, TaskRules
from stillrun_snapshot.clock import Clock, timestamp
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

INLINE_MAX = 64 * 1024
"""Bytes up to which an artifact's part travels in a frame; larger ones go through a spill file."""

FILE_MIN = 256
"""Inputs of a join from which they are told in a file."""

_TAKEN = (
    "status",
    "artifacts",
    "next",
    "files",
    "written",
    "looked",
    "logs",
    "log_times",
    "attempt",
    "attempts",
    "caught",
    "error",
    "exit",
    "usage",
    "started",
    "finished",
    "borrowed",
    "reached",
    "cards",
)
"""What a reused task keeps of its record."""

__all__ = ["Assignment", "Desk", "Identity", "KeptTask", "TaskInput"]


@dataclass(frozen=True)
class TaskInput:
    """One parent of a task: its name, its record, and the records of its artifacts by name."""

    key: TaskKey
    record: Digest
    artifacts: Mapping[str, str]
    items: str | None = None  # what the innermost foreach that it stands in is over


@dataclass(frozen=True)
class Assignment:
    """One task, ready to be worked on."""

    key: TaskKey
    environment: Digest
    foreach: tuple[Split, ...]
    inputs: tuple[TaskInput, ...]
    join: bool
    rules: TaskRules = PLAIN
    attempt: int = 0
    attempts: tuple[Digest, ...] = ()  # records of those before that failed
    fallback: Mapping[str, Any] | None = None  # how the last attempt died, when @catch is to let that pass


@dataclass(frozen=True)
class Identity:
    """What `current` shows to every task of the run: a replay shows the original's."""

    flow: str
    run: str
    parameters: Mapping[str, str]
    cwd: Path
    offline: bool = False
    user: str | None = None
    origin_run: str | None = None
    tags: tuple[str, ...] = ()
    splits_max: int | None = None


@dataclass(frozen=True)
class KeptTask:
    """A finished task as it was kept. next: what it passed to self.next, None for an end or a failure."""

    key: TaskKey
    record: Digest
    artifacts: Mapping[str, str]
    next: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    modules: Sequence[str]
    borrowed: Mapping[str, Any]
    items: str | None = None

    @property
    def given(self) -> TaskInput:
        """The task as an input of another."""
        return TaskInput(self.key, self.record, self.artifacts, self.items)


class Desk:
    """Makes work of assignments and records of finished work."""

    def __init__(
        self,
        store: Store,
        identity: Identity,
        history: History,
        keeper: InputKeeper,
        reporter: Reporter,
        clock: Clock,
        ignored: Sequence[Path],
        modules: Iterable[str] = (),
        declared: Mapping[str, Sequence[str]] = MappingProxyType({}),
        takes: Iterable[str] = (),
        guard: SecretGuard | None = None,
    ) -> None:
        """modules: what every task imports, since the flow does. declared: patterns of files that each step says it reads.

        takes: what the tasks' hosts know of a SPEC beyond what every host does.
        """
        self._takes, self._guard = frozenset(takes), guard or SecretGuard()
        self._declared = declared
        self._store = store
        self._identity = identity
        self._references = References(store)
        self._apart = Apart(store, INLINE_MAX)
        self._history = history
        self._keeper = keeper
        self._reporter = reporter
        self._clock = clock
        self._ignored = [str(path) for path in ignored]
        self._modules = frozenset(modules)
        self._spills = keeper.copies = store.scratch("spill")
        self._open: dict[str, _Open] = {}
        self._told_unsafe: set[str] = set()

    def work(self, assignment: Assignment) -> TaskWork:
        """The work that an executor takes; ``kept`` closes it."""
        identity, body = self._identity, Body()
        key = assignment.key
        spec = {
            "flow": identity.flow,
            "run": identity.run,
            "step": key.step,
            "task": key.task,
            **assignment.rules.spec(assignment.attempt, assignment.fallback),
            "foreach": [self._frame(split, body) for split in assignment.foreach],
            "join": assignment.join,
            **self._inputs(assignment, body),
            "parameters": self._references.all_of(identity.parameters, body),
            "cwd": str(identity.cwd),
            "spill": str(self._spills),
            "inline_max": INLINE_MAX,
            "ignore": self._ignored,
            "offline": identity.offline,
            "user": identity.user,
            "origin_run": identity.origin_run,
            "tags": list(identity.tags),
            "splits_max": identity.splits_max,
            "parallel": _parallel(assignment.foreach),
        }
        work = TaskWork(key, assignment.attempt, assignment.environment, spec, body.joined())
        self._open[work.name] = _Open(assignment, TaskLog(self._spills, self._clock))
        return work

    def started(self, event: Started) -> None:
        """Note when a process began on the task."""
        self._open[event.work.name].started = timestamp(self._clock())
        if event.unsafe_to_fork is not None and event.work.environment not in self._told_unsafe:
            self._told_unsafe.add(event.work.environment)
            self._reporter.note(f"each task gets a new interpreter: the flow imports {event.unsafe_to_fork}.")
        self._reporter.task_begins(event.work.key.step, event.work.key.task)

    def output(self, event: Output) -> None:
        """Hold and pass on what the task wrote."""
        self._open[event.work.name].log.write(event.stream, event.data)
        self._reporter.task_writes(event.work.key.step, event.work.key.task, event.stream, event.data)

    def kept(self, event: Finished, *, stopping: bool = False, again: bool = False) -> KeptTask:
        """Keep everything the task left and write its record.

        stopping: the run was asked to stop before the task ended. again: if it failed, another attempt follows, and the
        record of this one is not yet the task's.
        """
        task = self._open.pop(event.work.name)
        name = f"{event.work.key.step}/{event.work.key.task}"
        refused = self._guard.refusal(event)
        error = self._guard.error(error_of_task(event) or refused, f"the error of {name}")
        status = "ok" if error is None else "interrupted" if stopping else "failed"
        result = event.result or {}
        outputs = {} if refused else result.get("artifacts", {})
        artifacts = keep_outputs(self._store, outputs, event.body, self._spills)
        for name, digest in artifacts.items():
            self._references.remember(digest, result["artifacts"][name])
        next_ = self._next(result, event.body) if error is None else None
        if next_ is not None:
            self.learn(artifacts, next_)
        write = self._history.attempt if status == "failed" and again else self._history.task
        record = write(
            event.work.key,
            {
                **self._facts(task.assignment),
                "status": status,
                "artifacts": artifacts,
                "next": next_,
                "files": self._keeper.keep([*self._declared_reads(event.work.key.step), *result.get("reads", ())]),
                "written": sorted(result.get("writes", ())),
                **({"looked": looked} if (looked := self._keeper.looked(result.get("looked", ()))) else {}),
                "logs": task.log.keep(self._store, self._guard, name),
                **_log_times(task.log),
                "error": error,
                **(
                    {"caught": self._guard.error(result["caught"], f"the error of {name}")}
                    if result.get("caught")
                    else {}
                ),
                "exit": dict(event.exit),
                **self._borrowed(result),
                **_reached(result),
                **self._cards(result),
                "usage": dict(event.usage),
                "started": task.started,
                "finished": timestamp(self._clock()),
            },
        )
        key = event.work.key
        self._reporter.task_ends(key.step, key.task, status, event.usage.get("wall_us", 0), error)
        modules, borrowed = result.get("modules", ()), result.get("borrowed", {})
        return KeptTask(key, record, artifacts, next_, error, modules, borrowed, _items(task.assignment))

    def learn(self, artifacts: Mapping[str, str], next_: Mapping[str, Any]) -> None:
        """Hear what came of a split, so that its tasks can be told their items."""
        self._apart.learn(next_.get("items") or artifacts.get(next_["foreach"] or ""), next_)

    def reused(
        self, assignment: Assignment, old: Mapping[str, Any], pathspec: str, artifacts: Mapping[str, str]
    ) -> KeptTask:
        """Keep the record of a task of the run ``pathspec`` as one of this run, without running it.

        artifacts: those that it has here: its own of then, and what it passes on of today's.
        """
        taken = {**{name: old[name] for name in _TAKEN if name in old}, "artifacts": dict(artifacts)}
        origin = f"{pathspec}/{old['step']}/{old['task']}"
        record = self._history.task(
            assignment.key, {**self._facts(assignment), **taken, "reused": old.get("reused") or origin}
        )
        if old["next"] is not None:
            self.learn(artifacts, old["next"])
        self._reporter.task_ends(assignment.key.step, assignment.key.task, "reused", 0, None)
        borrowed = old.get("borrowed", {})
        return KeptTask(
            assignment.key,
            record,
            artifacts,
            old["next"],
            None,
            borrowed.get("modules", ()),
            borrowed,
            _items(assignment),
        )

    def _declared_reads(self, step: str) -> Iterator[dict[str, Any]]:
        """The files that a step says it reads, told as a task tells those that it has opened."""
        for path in declared_files(self._declared.get(step, ()), self._identity.cwd):
            found = path.stat()
            told = {"path": str(path), "size": found.st_size, "mtime_ns": found.st_mtime_ns}
            yield {**told, "inode": found.st_ino, "device": found.st_dev}

    def _borrowed(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """What the task used of its environment beyond what the flow imports, for runs that reuse it; mostly nothing."""
        modules = sorted(set(result.get("modules", ())) - self._modules)
        found = {"modules": modules, **result.get("borrowed", {})}
        return {"borrowed": found} if any(found.values()) else {}

    def _next(self, result: Mapping[str, Any], body: bytes) -> dict[str, Any] | None:
        """Where the task went on to; the items of its foreach as an artifact's digest where they are none of its artifacts."""
        told = result.get("next")
        if told is None:
            return None
        found = dict(told)
        if "items" in told:
            found["items"] = keep_outputs(self._store, {"items": told["items"]}, body, self._spills)["items"]
        if "each" in told:
            each = told["each"]
            found["each"] = {name: keep_part(self._store, each[name], body, self._spills) for name in each}
        if "item_digests" in told:
            found["item_digests"] = self._store.put(json.dumps(told["item_digests"]).encode(), compress=True)
        return found

    def _cards(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """What the task's cards hold, as one object; mostly nothing."""
        cards = result.get("cards")
        return {"cards": self._store.put(json.dumps(cards, sort_keys=True).encode(), compress=True)} if cards else {}

    def close(self) -> None:
        """Remove what unfinished tasks left behind."""
        shutil.rmtree(self._spills, ignore_errors=True)

    def _inputs(self, assignment: Assignment, body: Body) -> dict[str, Any]:
        """The inputs of a task; those of a wide join in a file, so that no frame and no process has to hold them all."""
        told = (self._input(given, assignment, body) for given in assignment.inputs)
        if len(assignment.inputs) < FILE_MIN or "inputs_file" not in self._takes:
            return {"inputs": list(told)}
        path = self._spills / f"inputs-{assignment.key.step}-{assignment.key.task}-{assignment.attempt}"
        with path.open("wb") as file:
            file.writelines(json.dumps(each).encode() + b"\n" for each in told)
        return {"inputs": [], "inputs_file": str(path)}

    def _input(self, given: TaskInput, assignment: Assignment, body: Body) -> dict[str, Any]:
        position = given.key.position
        of_foreach = len(position) > len(assignment.key.position)
        return {
            "step": given.key.step,
            "task": given.key.task,
            "index": position[-1] if of_foreach else None,
            "artifacts": self._references.all_of(given.artifacts, body),
            **({"items": self._references.of(str(given.items), body)} if of_foreach and _is_apart(given) else {}),
        }

    def _frame(self, split: Split, body: Body) -> dict[str, Any]:
        entry = _split_entry(split)
        if split.items is not None:
            entry["items"] = self._references.of(split.items, body)
            item = self._apart.item(split.items, split.index, body)
            if item is not None:
                entry["item"] = item
        return entry

    def _facts(self, assignment: Assignment) -> dict[str, Any]:
        history = self._history
        return {
            "flow": history.flow,
            "run": history.run,
            "step": assignment.key.step,
            "task": assignment.key.task,
            "attempt": assignment.attempt,
            **({"attempts": list(assignment.attempts)} if assignment.attempts else {}),
            "environment": assignment.environment,
            "foreach": [_split_entry(split) for split in assignment.foreach],
            **({"iteration": assignment.key.iteration} if assignment.key.iteration else {}),
            "join": assignment.join,
            "inputs": [{"step": i.key.step, "task": i.key.task, "record": i.record} for i in assignment.inputs],
        }


def _items(assignment: Assignment) -> str | None:
    return assignment.foreach[-1].items if assignment.foreach else None


def _is_apart(given: TaskInput) -> bool:
    """Whether the items of a task's foreach are none of its artifacts."""
    return given.items is not None and given.items not in given.artifacts.values()


def _parallel(foreach: Sequence[Split]) -> dict[str, Any] | None:
    """Where a task of a parallel step stands; None for all others."""
    if not foreach or foreach[-1].variable:
        return None
    first = ".".join([*(str(split.index) for split in foreach[:-1]), "0"])
    last = foreach[-1]
    return {"num_nodes": last.count, "node_index": last.index, "main_ip": "127.0.0.1", "control_task_id": first}


def _reached(result: Mapping[str, Any]) -> dict[str, Any]:
    """What the task connected to and started; mostly nothing."""
    found = result.get("reached", {})
    return {"reached": found} if any(found.values()) else {}


def _log_times(log: TaskLog) -> dict[str, Any]:
    """When its streams were written; of a silent task nothing."""
    times = log.times()
    return {"log_times": times} if times else {}


@dataclass
class _Open:
    assignment: Assignment
    log: TaskLog
    started: str | None = None


def _split_entry(split: Split) -> dict[str, Any]:
    return {
        "step": split.step,
        "variable": split.variable,
        "index": split.index,
        "count": split.count,
        "items": split.items,
    }
