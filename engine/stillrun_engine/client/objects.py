"""Flows, runs and steps as objects; each reads what it is asked for, once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cached_property
from typing import Any

from stillrun_engine.archive import flows
from stillrun_engine.client.base import Named, OfRun, local_time, system_tags_of
from stillrun_engine.client.session import is_visible, session
from stillrun_engine.client.tasks import DataArtifact, Task
from stillrun_engine.errors import NotFound
from stillrun_engine.pathspec import nearest
from stillrun_engine.tags import change_tags, tags_of

__all__ = ["DataArtifact", "Flow", "Metaflow", "Run", "Step", "Task"]


class Metaflow:
    """All flows of the store that have runs in the namespace."""

    @property
    def flows(self) -> list[Flow]:
        """The flows, by name."""
        return list(self)

    def __iter__(self) -> Iterator[Flow]:
        for name in flows(session().store):
            flow = Flow(name, _checked=True)
            if next(iter(flow), None) is not None:
                yield flow

    def __getitem__(self, name: str) -> Flow:
        return Flow(name)

    def __repr__(self) -> str:
        return "Metaflow()"


class Flow(Named):
    """A flow: ``Flow("Study")``; its runs, the newest first."""

    _LEVEL = 1

    def __init__(self, pathspec: str, _checked: bool = False) -> None:
        super().__init__(pathspec)
        known = [] if _checked else flows(session().store)
        if not _checked and self.id not in known:
            raise NotFound(f"no flow '{self.id}' in {session().store.root}.{nearest(self.id, known)}")

    @property
    def latest_run(self) -> Run | None:
        """The newest run in the namespace."""
        return next(iter(self), None)

    @property
    def latest_successful_run(self) -> Run | None:
        """The newest run in the namespace that ended well."""
        return next((run for run in self if run.successful), None)

    def runs(self, *tags: str) -> Iterator[Run]:
        """The runs that have all of ``tags``, the newest first; replays are not among them."""
        store = session().store
        for name, digest in sorted(store.refs.names(f"runs/{self.id}/"), reverse=True):
            record = session().record(digest, "run")
            run = name.rsplit("/", 1)[1]
            found = tags_of(store, self.id, run, record) | system_tags_of(record)
            if record["kind"] == "run" and is_visible(found) and found.issuperset(tags):
                yield Run(f"{self.id}/{run}")

    def __iter__(self) -> Iterator[Run]:
        return self.runs()

    def __getitem__(self, run: str) -> Run:
        return Run(f"{self.id}/{run}")

    def __contains__(self, run: object) -> bool:
        return session().store.refs.get(f"runs/{self.id}/{run}") is not None

    def _facts(self) -> dict[str, Any]:
        return {"latest run": self.latest_run, "latest successful run": self.latest_successful_run}


class Run(OfRun):
    """One run: ``Run("Study/latest")``; its steps in the order of the graph."""

    _LEVEL = 2

    def __init__(self, pathspec: str) -> None:
        super().__init__(pathspec)
        self._parts = (self._run.spec.flow, str(self._run.spec.run))

    @property
    def parent(self) -> Flow:
        """The flow."""
        return Flow(self._parts[0], _checked=True)

    @property
    def status(self) -> str:
        """'running', 'ok', 'failed' or 'interrupted'."""
        return self._run.status

    @property
    def successful(self) -> bool:
        """Whether it ended well."""
        return self._run.status == "ok"

    @property
    def finished(self) -> bool:
        """Whether it ended."""
        return self._run.status != "running"

    @property
    def created_at(self) -> datetime:
        """When it began, in local time."""
        return local_time(self._run.record["started"])

    @property
    def finished_at(self) -> datetime | None:
        """When it ended, in local time."""
        found = self._run.record.get("finished")
        return None if found is None else local_time(found)

    @property
    def origin_run_id(self) -> str | None:
        """The run that this one went on from."""
        origin = self.origin_pathspec
        return None if origin is None else origin.split("/")[1]

    @property
    def end_task(self) -> Task | None:
        """The task of the last step; None while there is none."""
        name = self._run.description.get("end", "end")
        return next(iter(Step(f"{self.pathspec}/{name}", self)), None) if name in self._ran else None

    @property
    def data(self) -> Any:
        """The artifacts of the last task, as attributes; None while there is none."""
        task = self.end_task
        return None if task is None else task.data

    def add_tag(self, tag: str) -> None:
        """Give the run one more tag."""
        change_tags(self._run, [tag])

    def add_tags(self, tags: Iterable[str]) -> None:
        """Give the run more tags."""
        change_tags(self._run, tags)

    def remove_tag(self, tag: str) -> None:
        """Take a tag off."""
        change_tags(self._run, (), [tag])

    def remove_tags(self, tags: Iterable[str]) -> None:
        """Take tags off."""
        change_tags(self._run, (), tags)

    def replace_tag(self, tag_to_remove: str, tag_to_add: str) -> None:
        """Take one tag off and give another, at once."""
        change_tags(self._run, [tag_to_add], [tag_to_remove])

    @property
    def trigger(self) -> None:
        """What started it, where it was deployed; None on this machine."""
        return None

    def steps(self, *_: str) -> Iterator[Step]:
        """The steps that have run."""
        return iter(self)

    def to_frame(self) -> Any:
        """A pandas frame with one row a task."""
        import pandas as pd  # type: ignore[import-untyped,unused-ignore]

        rows = [
            {
                "step": task["step"],
                "task": task["task"],
                "status": task["status"],
                "seconds": task["usage"].get("wall_us", 0) / 1e6,
                "attempt": task["attempt"],
                "started": task["started"],
                "finished": task["finished"],
            }
            for task in self._run.tasks()
        ]
        return pd.DataFrame(rows)

    @cached_property
    def _ran(self) -> dict[str, list[tuple[str, str]]]:
        """Task names and records of each step that has run, in the order of the graph."""
        found: dict[str, list[tuple[str, str]]] = {name: [] for name in self._run.step_names}
        if "tasks" in self._run.record:
            for entry in self._run.record["tasks"]:
                found.setdefault(entry["step"], []).append((entry["task"], entry["record"]))
        else:
            for task in self._run.tasks():
                digest = self._run.task_digest(task["step"], task["task"])
                found.setdefault(task["step"], []).append((task["task"], digest))
        return {name: tasks for name, tasks in found.items() if tasks}

    def __iter__(self) -> Iterator[Step]:
        for name in self._ran:
            yield Step(f"{self.pathspec}/{name}", self)

    def __getitem__(self, step: str) -> Step:
        return Step(f"{self.pathspec}/{step}", self)

    def __contains__(self, step: object) -> bool:
        return step in self._ran

    def _facts(self) -> dict[str, Any]:
        facts = {"status": self.status, "started": self.created_at, "finished": self.finished_at or "-"}
        return {**facts, "tags": ", ".join(sorted(self.tags)), "steps": ", ".join(self._ran)}


class Step(OfRun):
    """One step of a run: ``Step("Study/latest/fit")``; its tasks in the order of the foreach."""

    _LEVEL = 3

    def __init__(self, pathspec: str, _run: Run | None = None) -> None:
        super().__init__(pathspec)
        self.parent: Run = _run or Run("/".join(self._parts[:2]))
        self._parts = (*self.parent._parts, self.id)
        if self.id not in self.parent._ran:
            self._run.check_step(self.id)
            raise NotFound(f"step '{self.pathspec}' has not run.")

    @property
    def task(self) -> Task:
        """The first task."""
        return next(iter(self))

    def tasks(self, *_: str) -> Iterator[Task]:
        """The tasks."""
        return iter(self)

    @property
    def finished_at(self) -> datetime | None:
        """When its last task ended, in local time."""
        return max((task.finished_at for task in self if task.finished_at), default=None)

    @property
    def environment_info(self) -> dict[str, Any]:
        """The lock of its environment: Python's version and the packages by name."""
        from stillrun_envs.lock import read_lock

        digest = self._run.lock_of(self.id)
        if digest is None:
            return {"lock": None, "python": None, "packages": {}}
        lock = read_lock(session().store, digest)
        return {
            "lock": digest,
            "python": lock.python.version,
            "packages": {one.name: one.version for one in lock.packages},
        }

    @property
    def parent_steps(self) -> Iterator[Step]:
        """The steps that led to it."""
        steps = self._run.description["steps"]
        names = [step["name"] for step in steps if self.id in step["next"] and step["name"] in self.parent]
        return (self.parent[name] for name in names)

    @property
    def child_steps(self) -> Iterator[Step]:
        """The steps that it led to."""
        (own,) = (step for step in self._run.description["steps"] if step["name"] == self.id)
        return (self.parent[name] for name in own["next"] if name in self.parent)

    def __iter__(self) -> Iterator[Task]:
        for name, digest in self.parent._ran[self.id]:
            yield Task(f"{self.pathspec}/{name}", self, digest)

    def __getitem__(self, task: str | int) -> Task:
        return Task(f"{self.pathspec}/{task}", self)

    def __contains__(self, task: object) -> bool:
        return any(name == task for name, _ in self.parent._ran[self.id])

    def __len__(self) -> int:
        return len(self.parent._ran[self.id])

    def _facts(self) -> dict[str, Any]:
        return {"tasks": len(self), "finished": self.finished_at or "-"}
