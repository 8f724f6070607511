"""Tasks and artifacts as objects; each reads what it is asked for, once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from stillrun_engine.archive import KeptRun
from stillrun_engine.client.base import OfRun, local_time
from stillrun_engine.client.session import Record, session
from stillrun_engine.client.values import value_of
from stillrun_engine.errors import NotFound
from stillrun_engine.pathspec import nearest
from stillrun_snapshot.digest import Digest

if TYPE_CHECKING:
    from stillrun_engine.client.objects import Step

__all__ = ["DataArtifact", "MetaDatum", "Task"]


class MetaDatum(NamedTuple):
    """One fact about a task."""

    name: str
    value: str
    created_at: datetime | None
    type: str
    task: Task


class Task(OfRun):
    """One task: ``Task("Study/latest/fit/0")``; its artifacts by name."""

    _LEVEL = 4

    def __init__(self, pathspec: str, _step: Step | None = None, _digest: str | None = None) -> None:
        super().__init__(pathspec)
        self.parent: Step = _step or _step_at("/".join(self._parts[:3]))
        self._parts = (*self.parent._parts, self.id)
        self._digest = _digest or self._run.task_digest(self.parent.id, self.id)

    @cached_property
    def _run(self) -> KeptRun:
        return self.parent._run

    @cached_property
    def _record(self) -> Record:
        return session().record(self._digest, "task")

    @property
    def status(self) -> str:
        """'ok', 'failed' or 'interrupted'."""
        return str(self._record["status"])

    @property
    def successful(self) -> bool:
        """Whether it ended well."""
        return self.status == "ok"

    @property
    def finished(self) -> bool:
        """Always true: a task is seen when it has ended."""
        return True

    @property
    def created_at(self) -> datetime | None:
        """When it began, in local time."""
        return local_time(self._record["started"]) if self._record["started"] else None

    @property
    def finished_at(self) -> datetime | None:
        """When it ended, in local time."""
        return local_time(self._record["finished"]) if self._record["finished"] else None

    @property
    def runtime_name(self) -> str:
        """Where it ran."""
        return "local"

    @property
    def current_attempt(self) -> int:
        """How many attempts came before the last one."""
        return int(self._record["attempt"])

    @property
    def index(self) -> int | None:
        """Its place in the innermost foreach; None outside of one."""
        foreach = self._record["foreach"]
        return int(foreach[-1]["index"]) if foreach else None

    @property
    def exception(self) -> Any:
        """What made it fail, or what its @catch let pass, as a CaughtException; None otherwise."""
        from stillrun.caught import CaughtException

        error = self._record["error"] or self._record.get("caught")
        return None if error is None else CaughtException.of(error)

    @property
    def origin_pathspec(self) -> str | None:
        """Where it ran, when an earlier run's result served."""
        found = self._record.get("reused")
        return None if found is None else str(found)

    @property
    def data(self) -> Any:
        """The artifacts' values as attributes."""
        return _Members(self, "data")

    @property
    def artifacts(self) -> Any:
        """The artifacts as attributes."""
        return _Members(self, "artifact")

    @property
    def cards(self) -> list[dict[str, Any]]:
        """What the task put on its cards."""
        import json

        digest = self._record.get("cards")
        return [] if digest is None else list(json.loads(session().store.get(Digest(digest))))

    @property
    def metadata(self) -> list[MetaDatum]:
        """Facts about the task."""
        return [MetaDatum(name, value, self.finished_at, name, self) for name, value in self.metadata_dict.items()]

    @property
    def metadata_dict(self) -> dict[str, str]:
        """Facts about the task, by name."""
        record, run = self._record, self._run.record
        facts = {
            "attempt": record["attempt"],
            "attempt_ok": record["status"] == "ok",
            "environment": record["environment"],
            "user": run["user"],
            "code": run["code"],
            "origin-run-id": self.origin_pathspec.split("/")[1] if self.origin_pathspec else None,
            **{f"machine-{name}": value for name, value in run["machine"].items()},
            **{f"usage-{name}": value for name, value in record["usage"].items()},
        }
        return {name: str(value) for name, value in facts.items() if value is not None}

    @property
    def stdout(self) -> str:
        """What it wrote to standard output."""
        return self._log("stdout").decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """What it wrote to standard error."""
        return self._log("stderr").decode("utf-8", "replace")

    @property
    def stdout_size(self) -> int:
        """Bytes of standard output."""
        return len(self._log("stdout"))

    @property
    def stderr_size(self) -> int:
        """Bytes of standard error."""
        return len(self._log("stderr"))

    def loglines(
        self, stream: str, as_unicode: bool = True, meta_dict: Mapping[str, Any] | None = None
    ) -> Iterator[tuple[datetime | None, str | bytes]]:
        """The lines of 'stdout' or 'stderr', each with the time at which the task ended: lines have none of their own."""
        del meta_dict
        for line in self._log(stream).splitlines():
            yield self.finished_at, line.decode("utf-8", "replace") if as_unicode else line

    @property
    def environment_info(self) -> dict[str, Any]:
        """As of its step."""
        return self.parent.environment_info

    @property
    def parent_tasks(self) -> Iterator[Task]:
        """The tasks that it was given the artifacts of."""
        return (Task(pathspec) for pathspec in self.parent_task_pathspecs)

    @property
    def parent_task_pathspecs(self) -> Iterator[str]:
        """Their pathspecs."""
        run = "/".join(self._parts[:2])
        return (f"{run}/{one['step']}/{one['task']}" for one in self._record["inputs"])

    @property
    def child_tasks(self) -> Iterator[Task]:
        """The tasks that were given its artifacts."""
        for step in (self.parent, *self.parent.child_steps):
            for task in step:
                if any(one["record"] == self._digest for one in task._record["inputs"]):
                    yield task

    @property
    def child_task_pathspecs(self) -> Iterator[str]:
        """Their pathspecs."""
        return (task.pathspec for task in self.child_tasks)

    def _log(self, stream: str) -> bytes:
        digest = self._record["logs"].get(stream)
        return b"" if digest is None else session().store.get(Digest(digest))

    @cached_property
    def _names(self) -> dict[str, str]:
        parameters = {name: entry["artifact"] for name, entry in self._run.record["parameters"].items()}
        return {**parameters, **self._record["artifacts"]}

    def __iter__(self) -> Iterator[DataArtifact]:
        for name in self._names:
            yield DataArtifact(f"{self.pathspec}/{name}", self)

    def __getitem__(self, name: str) -> DataArtifact:
        return DataArtifact(f"{self.pathspec}/{name}", self)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def _facts(self) -> dict[str, Any]:
        seconds = self._record["usage"].get("wall_us", 0) / 1e6
        return {"status": self.status, "seconds": f"{seconds:.3f}", "artifacts": ", ".join(self._names)}


class DataArtifact(OfRun):
    """One artifact: ``DataArtifact("Study/latest/fit/0/score")``."""

    _LEVEL = 5

    def __init__(self, pathspec: str, _task: Task | None = None) -> None:
        super().__init__(pathspec)
        self.parent: Task = _task or Task("/".join(self._parts[:4]))
        self._parts = (*self.parent._parts, self.id)
        if self.id not in self.parent._names:
            raise NotFound(f"no artifact '{self.pathspec}'.{nearest(self.id, self.parent._names)}")

    @cached_property
    def _run(self) -> KeptRun:
        return self.parent._run

    @cached_property
    def _record(self) -> Record:
        return session().record(self.parent._names[self.id], "artifact")

    @property
    def data(self) -> Any:
        """The value, checked against its digest and unpickled in this process."""
        store = session().store
        return value_of(
            store, self._record, lambda: store.get_record(Digest(self._run.record["code"]), "code"), self.pathspec
        )

    @property
    def size(self) -> int:
        """Bytes."""
        return int(self._record["size"])

    @property
    def sha(self) -> str:
        """SHA-256 of its bytes: of the single part, or of the list of the parts' digests."""
        from stillrun_engine.parts import content_digest

        return content_digest(self._record).removeprefix("sha256:")

    @property
    def type(self) -> str:
        """The class of the value."""
        return str(self._record["type"])

    @property
    def preview(self) -> str:
        """The value as text, shortened."""
        return str(self._record["preview"])

    @property
    def finished_at(self) -> datetime | None:
        """When its task ended."""
        return self.parent.finished_at

    def _facts(self) -> dict[str, Any]:
        return {"type": self.type, "size": f"{self.size:,}", "value": self.preview}


class _Members:
    """The artifacts of a task as attributes: ``task.data.x``, ``task.artifacts.x``."""

    def __init__(self, task: Task, what: str) -> None:
        self._task, self._what = task, what

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            found = self._task[name]
        except NotFound as err:
            raise AttributeError(str(err)) from None
        return found.data if self._what == "data" else found

    def __iter__(self) -> Iterator[Any]:
        return iter(self._task)

    def __contains__(self, name: object) -> bool:
        return name in self._task

    def __dir__(self) -> list[str]:
        return sorted(self._task._names)

    def __repr__(self) -> str:
        return f"<{self._what} of {self._task.pathspec}: {', '.join(sorted(self._task._names))}>"


def _step_at(pathspec: str) -> Step:
    from stillrun_engine.client.objects import Step

    return Step(pathspec)
