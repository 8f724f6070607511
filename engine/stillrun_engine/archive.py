"""Runs read back from their records: what list, show, logs, replay and verify stand on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from heapq import merge
from itertools import islice
from typing import Any

from stillrun_engine.errors import NotFound
from stillrun_engine.history import lease_name
from stillrun_engine.pathspec import Pathspec, nearest, resolve, run_of
from stillrun_engine.plan import TaskKey
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.lease import Lease
from stillrun_snapshot.store import Store

__all__ = ["KeptRun", "flows", "key_of", "newest_runs", "open_run", "place_of", "runs"]

_GROUP = 256  # most runs whose records are read at once

Record = Mapping[str, Any]


def key_of(record: Record) -> TaskKey:
    """The key of a task record: its position is its splits' indexes."""
    return TaskKey(record["step"], tuple(split["index"] for split in record["foreach"]), record.get("iteration", 0))


def place_of(task: str) -> tuple[tuple[int, ...], int]:
    """The position and the iteration that a task's name within its step tells, to sort by: '2.0~3'."""
    position, _, iteration = task.partition("~")
    return tuple(map(int, position.split("."))), int(iteration or 0)


@dataclass(frozen=True)
class KeptRun:
    """One run of the store."""

    store: Store
    spec: Pathspec
    digest: Digest
    record: Record

    @property
    def pathspec(self) -> str:
        """FLOW/RUN."""
        return f"{self.spec.flow}/{self.spec.run}"

    @property
    def status(self) -> str:
        """'running', 'ok', 'failed' or 'interrupted'. A run that says it runs and holds no lease was cut off."""
        status: str = self.record["status"]
        if status == "running" and not Lease.is_held(self.store.root, lease_name(self.spec.flow, str(self.spec.run))):
            return "interrupted"
        return status

    @cached_property
    def description(self) -> Record:
        """The flow as it was described when it ran."""
        return self.store.get_record(Digest(self.record["description"]), "description")

    @property
    def step_names(self) -> list[str]:
        """Steps in the order of the flow file."""
        return [step["name"] for step in self.description["steps"]]

    def tasks(self, step: str | None = None) -> list[Record]:
        """Task records in graph and foreach order; those that were kept, when the run was cut off."""
        order = {name: place for place, name in enumerate(self.step_names)}
        asked = (digest for name, _, digest in self.entries() if step in (None, name))
        found = self.store.get_records(asked, "task")

        def place(record: Record) -> tuple[int, tuple[int, ...], int]:
            key = key_of(record)
            return order.get(key.step, len(order)), key.position, key.iteration

        return sorted(found, key=place)

    def task(self, step: str, task: str) -> Record:
        """One task's record; NotFound with the nearest names."""
        return self.store.get_record(self.task_digest(step, task), "task")

    def task_digest(self, step: str, task: str) -> Digest:
        """The name of one task's record."""
        noted = self._noted()  # first: what is noted is set before it is forgotten
        name = f"tasks/{self.pathspec}/{step}/{task}"
        found = self.store.refs.get(name) or noted.get(name)
        if found is None:
            self.check_step(step)
            known = [name for of, name, _ in self.entries() if of == step]
            raise NotFound(f"no task '{self.pathspec}/{step}/{task}'.{nearest(task, known, step + '/')}")
        return found

    def check_step(self, step: str) -> None:
        """NotFound with the nearest names when the flow has no such step."""
        if step not in self.step_names:
            raise NotFound(f"no step '{step}' in {self.pathspec}.{nearest(step, self.step_names)}")

    def selected(self) -> list[Record]:
        """The task records that the pathspec names: of the run, of a step, or one."""
        if self.spec.step is None:
            return self.tasks()
        self.check_step(self.spec.step)
        if self.spec.task is None:
            return self.tasks(self.spec.step)
        return [self.task(self.spec.step, self.spec.task)]

    def artifact(self, task: Record, name: str) -> tuple[Digest, Record]:
        """An artifact's record digest and record; NotFound with the nearest names."""
        given = {**self.record.get("constants", {}), **self.record["parameters"]}
        digest = task["artifacts"].get(name) or given.get(name, {}).get("artifact")
        if digest is None:
            known = [*task["artifacts"], *given]
            raise NotFound(
                f"no artifact '{name}' in {self.pathspec}/{task['step']}/{task['task']}.{nearest(name, known)}"
            )
        return Digest(digest), self.store.get_record(Digest(digest), "artifact")

    def given(self, task: Record) -> dict[str, str]:
        """The artifacts that a task was handed: its parent's; none at the start and at a join."""
        if task["join"] or not task["inputs"]:
            return {}
        return dict(self.store.get_record(Digest(task["inputs"][0]["record"]), "task")["artifacts"])

    def lock_of(self, step: str) -> Digest | None:
        """The lock that rebuilds a step's environment; None when it was not kept."""
        self.check_step(step)
        place = self.record["steps"][step]
        if place["kind"] == "lock":
            return Digest(place["environment"])
        entry = self.record.get("environments", {}).get(place["environment"])
        return Digest(entry["lock"]) if entry and entry["lock"] else None

    def entries(self) -> Iterator[tuple[str, str, Digest]]:
        """Step, name and record of every task that was kept, in no order; the records are not read."""
        if "tasks" in self.record:
            for entry in self.record["tasks"]:
                yield entry["step"], entry["task"], Digest(entry["record"])
            return
        noted = self._noted()
        for name, digest in {**noted, **dict(self.store.refs.names(f"tasks/{self.pathspec}/"))}.items():
            _, _, _, step, task = name.split("/")
            yield step, task, digest

    def _noted(self) -> dict[str, Digest]:
        """Refs of tasks that have finished and that a run which is going on has yet to set."""
        if "tasks" in self.record:
            return {}
        lease = lease_name(self.spec.flow, str(self.spec.run))
        return {each.name: each.to for each in Lease.noted(self.store.root, lease) if each.to is not None}


def open_run(store: Store, spec: Pathspec) -> KeptRun:
    """The run that ``spec`` names; NotFound with the nearest names."""
    found = resolve(store, spec)
    digest = store.refs.get(found.run_ref) or store.refs.get(f"spins/{found.flow}/{found.run}")
    if digest is None:
        raise NotFound(f"no run '{found.flow}/{found.run}' in {store.root}.")
    return KeptRun(store, found, digest, store.get_record(digest, "run"))


def runs(store: Store, flow: str | None = None) -> Iterator[KeptRun]:
    """Every run of the store, or of one flow, oldest first within each flow."""
    for name, digest in store.refs.names(f"runs/{flow}/" if flow else "runs/"):
        _, owner, run = name.split("/")
        yield KeptRun(store, Pathspec(owner, run), digest, store.get_record(digest, "run"))


def newest_runs(store: Store, flow: str | None = None) -> Iterator[KeptRun]:
    """Every run of the store, or of one flow, newest first; they are read as they are asked for, in groups that grow."""
    asked = flows(store) if flow is None else [flow]
    found = merge(*(store.refs.newest(f"runs/{one}/") for one in asked), key=lambda ref: run_of(ref[0]), reverse=True)
    count = 1
    while group := list(islice(found, count)):
        count = min(count * 4, _GROUP)
        records = store.get_records((digest for _, digest in group), "run")
        for (name, digest), record in zip(group, records, strict=True):
            yield KeptRun(store, Pathspec(name.split("/")[1], run_of(name)), digest, record)


def flows(store: Store) -> list[str]:
    """Names of the flows that have run."""
    return store.refs.parts("runs/")
