"""Runs and steps as objects; each reads what it is asked for, once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from stillrun_engine.archive import KeptRun, place_of
from stillrun_engine.client.base import OfRun, local_time
from stillrun_engine.client.session import (
    Absent,
    Record,
    TaggingError,
    absent_is_told,
    session,
)
from stillrun_engine.client.shelf import Shelf
from stillrun_engine.client.tasks import Task
from stillrun_engine.errors import EngineError
from stillrun_engine.tags import change_tags, refuse_system_tags

if TYPE_CHECKING:
    from stillrun_engine.client.flows import Flow

__all__ = ["Run", "Step"]


class Run(OfRun):
    """One run: ``Run("Study/latest")``; its steps in the order of the graph."""

    _LEVEL = 2

    def __init__(
        self,
        pathspec: str,
        _parent: Flow | None = None,
        _namespace_check: bool = True,
        _kept: KeptRun | None = None,
    ) -> None:
        super().__init__(pathspec, _parent, _namespace_check)
        self._kept = _kept
        self._steps: tuple[KeptRun, dict[str, list[tuple[str, str]]]] | None = None
        self._parts = (self._run.spec.flow, str(self._run.spec.run))

    @property
    def parent(self) -> Flow:
        """The flow."""
        from stillrun_engine.client.flows import Flow

        return Flow(self._parts[0], self)

    @property
    def status(self) -> str:
        """'running', 'ok', 'failed' or 'interrupted'."""
        run = self._run
        status = run.status
        # it may have ended between the reading of its record and the look at whether it goes on
        return self._run.status if status != run.record["status"] else status

    @property
    def successful(self) -> bool:
        """Whether it ended well."""
        return self.status == "ok"

    @property
    def finished(self) -> bool:
        """Whether it ended."""
        return self.status != "running"

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

    def add_tag(self, tag: str | Iterable[str]) -> None:
        """Give the run one more tag, or several."""
        self._retag(tag)

    def add_tags(self, tags: str | Iterable[str]) -> None:
        """Give the run more tags."""
        self._retag(tags)

    def remove_tag(self, tag: str | Iterable[str]) -> None:
        """Take a tag off."""
        self._retag((), tag)

    def remove_tags(self, tags: str | Iterable[str]) -> None:
        """Take tags off."""
        self._retag((), tags)

    def replace_tag(self, tag_to_remove: str | Iterable[str], tag_to_add: str | Iterable[str]) -> None:
        """Take one tag off and give another, at once."""
        self._retag(tag_to_add, tag_to_remove)

    def replace_tags(self, tags_to_remove: str | Iterable[str], tags_to_add: str | Iterable[str]) -> None:
        """Take tags off and give others, at once."""
        self._retag(tags_to_add, tags_to_remove)

    def _retag(self, add: str | Iterable[str], remove: str | Iterable[str] = ()) -> None:
        added, removed = ([each] if isinstance(each, str) else list(each) for each in (add, remove))
        try:
            refuse_system_tags(self._run, removed)
            change_tags(self._run, added, removed)
        except EngineError as err:
            raise TaggingError(str(err)) from None

    @property
    def trigger(self) -> None:
        """What started it, where it was deployed; None on this machine."""
        return None

    def steps(self, *tags: str) -> Iterator[Step]:
        """The steps that have run; none when the run lacks one of ``tags``."""
        return iter(self) if not tags or self.tags.issuperset(tags) else iter(())

    def to_frame(self) -> Any:
        """A pandas frame with one row a task."""
        import pandas as pd  # type: ignore[import-untyped,unused-ignore]

        return pd.DataFrame([row_of(record) for record in self._run.tasks()])

    @property
    def _ran(self) -> dict[str, list[tuple[str, str]]]:
        """Task names and records of each step that has run, in the order of the graph; looked up anew while it goes on."""
        run = self._run
        if self._steps is None or self._steps[0] is not run:
            found: dict[str, list[tuple[str, str]]] = {name: [] for name in run.step_names}
            for step, task, digest in run.entries():
                found.setdefault(step, []).append((task, digest))
            for tasks in found.values():
                tasks.sort(key=lambda entry: place_of(entry[0]))
            self._steps = run, {name: tasks for name, tasks in found.items() if tasks}
        return self._steps[1]

    @cached_property
    def _parameters(self) -> dict[str, str]:
        record = self._run.record
        given = {**record.get("constants", {}), **record["parameters"]}
        return {name: entry["artifact"] for name, entry in given.items()}

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

    def __init__(self, pathspec: str, _parent: Run | None = None, _namespace_check: bool = True) -> None:
        super().__init__(pathspec, _parent, _namespace_check)
        self.parent: Run = _parent or Run("/".join(self._parts[:2]), _namespace_check=_namespace_check)
        self._parts = (*self.parent._parts, self.id)
        if self.id not in self.parent._ran:
            with absent_is_told():
                self._run.check_step(self.id)
            raise Absent(f"step '{self.pathspec}' has not run.")

    @property
    def _run(self) -> KeptRun:
        return self.parent._run

    @property
    def task(self) -> Task:
        """The first task."""
        return next(iter(self))

    def tasks(self, *tags: str) -> Iterator[Task]:
        """The tasks; none when the run lacks one of ``tags``."""
        return iter(self) if not tags or self.tags.issuperset(tags) else iter(())

    @property
    def control_task(self) -> Task | None:
        """The first task of a step of num_parallel, which the others look to; None in other steps."""
        return next(self.control_tasks(), None)

    def control_tasks(self, *tags: str) -> Iterator[Task]:
        """The first tasks of a step of num_parallel: one for each task that it was split from."""
        for task in self.tasks(*tags):
            foreach = task._record["foreach"]
            if not foreach or foreach[-1]["variable"]:
                return
            if foreach[-1]["index"] == 0:
                yield task

    @property
    def created_at(self) -> datetime | None:
        """When its first task began, in local time."""
        return min((task.created_at for task in self if task.created_at), default=None)

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
        entries = self.parent._ran[self.id]
        shelf = Shelf([digest for _, digest in entries])
        for place, (name, digest) in enumerate(entries):
            yield Task(f"{self.pathspec}/{name}", self, _digest=digest, _shelf=(shelf, place))

    def __getitem__(self, task: str | int) -> Task:
        return Task(f"{self.pathspec}/{task}", self)

    def __contains__(self, task: object) -> bool:
        return any(name == task for name, _ in self.parent._ran[self.id])

    def __len__(self) -> int:
        return len(self.parent._ran[self.id])

    def to_frame(self, *artifacts: str) -> Any:
        """A pandas frame with one row a task: how it went, and the values of ``artifacts``, where it has them."""
        import pandas as pd  # type: ignore[import-untyped,unused-ignore]

        rows = []
        for task in self:
            values = {name: task[name].data if name in task else None for name in artifacts}
            rows.append({**row_of(task._record), **values})
        return pd.DataFrame(rows)

    def _facts(self) -> dict[str, Any]:
        return {"tasks": len(self), "finished": self.finished_at or "-"}


def row_of(record: Record) -> dict[str, Any]:
    """How a task went, as a row of a table."""
    return {
        "step": record["step"],
        "task": record["task"],
        "status": record["status"],
        "seconds": record["usage"].get("wall_us", 0) / 1e6,
        "attempt": record["attempt"],
        "started": record["started"],
        "finished": record["finished"],
    }
