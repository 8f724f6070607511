"""Tasks and artifacts as objects; each reads what it is asked for, once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from stillrun_engine.archive import KeptRun
from stillrun_engine.client.base import OfRun, local_time
from stillrun_engine.client.session import Absent, Record, absent_is_told, session
from stillrun_engine.client.shelf import Shelf
from stillrun_engine.client.values import value_of
from stillrun_engine.errors import NotFound
from stillrun_engine.pathspec import nearest
from stillrun_snapshot.digest import Digest

if TYPE_CHECKING:
    from stillrun_engine.client.runs import Step

__all__ = ["DataArtifact", "Members", "MetaDatum", "Task"]


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

    def __init__(
        self,
        pathspec: str,
        _parent: Step | None = None,
        _namespace_check: bool = True,
        attempt: int | None = None,
        _digest: str | None = None,
        _shelf: tuple[Shelf, int] | None = None,
    ) -> None:
        """attempt: which one to look at, counted from 0; the last one when None."""
        super().__init__(pathspec, _parent, _namespace_check)
        self.parent: Step = _parent or _step_at("/".join(self._parts[:3]), _namespace_check)
        self._parts = (*self.parent._parts, self.id)
        self._shelf = _shelf
        self._digest: str
        if _digest is not None:
            self._digest = _digest
        else:
            with absent_is_told():
                self._digest = self._run.task_digest(self.parent.id, self.id)
        if attempt is not None:
            self._digest = self._of_attempt(attempt)

    def _of_attempt(self, attempt: int) -> str:
        """The record of an attempt; the last one's names those before."""
        known = [*self._record.get("attempts", ()), self._digest]
        if not 0 <= attempt < len(known):
            raise Absent(f"{self.pathspec} has no attempt {attempt}; it has had {len(known)}, counted from 0.")
        return str(known[attempt])

    @property
    def _run(self) -> KeptRun:
        return self.parent._run

    @property
    def _record(self) -> Record:
        if self._shelf is not None:
            return self._shelf[0].task(self._shelf[1])
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
        return "dev"

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
        return Members(self, "data")

    @property
    def artifacts(self) -> Any:
        """The artifacts as attributes."""
        return Members(self, "artifact")

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
            "runtime": "dev",
            "script-name": self.code.script_name,
            "stillrun_version": run["stillrun"],
            "ds-type": "local",
            "ds-root": session().store.root,
            "attempt": record["attempt"],
            "attempt_ok": record["status"] == "ok",
            "attempt-done": record["attempt"],
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
        """The lines of 'stdout' or 'stderr', each with the time at which it came, to some milliseconds.

        Of a task that was kept by an older Stillrun each has the time at which the task ended.
        """
        del meta_dict
        marks = self._record.get("log_times", {}).get(stream, ())
        place, offset = 0, 0
        for line in self._log(stream).splitlines(keepends=True):
            while place + 1 < len(marks) and marks[place + 1][0] <= offset:
                place += 1
            when = datetime.fromtimestamp(marks[place][1] / 1000) if marks else self.finished_at
            offset += len(line)
            text = line.rstrip(b"\r\n")
            yield when, text.decode("utf-8", "replace") if as_unicode else text

    @property
    def environment_info(self) -> dict[str, Any]:
        """As of its step."""
        return self.parent.environment_info

    @property
    def parent_tasks(self) -> Iterator[Task]:
        """The tasks that it was given the artifacts of."""
        run = self.parent.parent
        return (run[one["step"]][one["task"]] for one in self._record["inputs"])

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

    @property
    def _names(self) -> dict[str, str]:
        return {**self.parent.parent._parameters, **self._record["artifacts"]}

    def __iter__(self) -> Iterator[DataArtifact]:
        for name in self._names:
            if not name.startswith("_"):
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

    def __init__(
        self,
        pathspec: str,
        _parent: Task | None = None,
        _namespace_check: bool = True,
        attempt: int | None = None,
    ) -> None:
        super().__init__(pathspec, _parent, _namespace_check)
        self.parent: Task = _parent or Task("/".join(self._parts[:4]), None, _namespace_check, attempt)
        self._parts = (*self.parent._parts, self.id)
        found = self.parent._names.get(self.id)
        if found is None:
            raise Absent(f"no artifact '{self.pathspec}'.{nearest(self.id, self.parent._names)}")
        self._digest = found

    @property
    def _run(self) -> KeptRun:
        return self.parent._run

    @property
    def _record(self) -> Record:
        shelf = self.parent._shelf
        if shelf is None:
            return session().record(self._digest, "artifact")
        return shelf[0].artifact(shelf[1], self.id, self._digest)

    @property
    def data(self) -> Any:
        """The value, checked against its digest and unpickled in this process."""
        store, record, shelf = session().store, self._record, self.parent._shelf
        if shelf is not None and len(record["parts"]) == 1:
            parts = [shelf[0].content(shelf[1], self.id, record["parts"][0]["digest"])]
        else:
            parts = [store.get(Digest(part["digest"])) for part in record["parts"]]
        return value_of(store, parts, lambda: store.get_record(Digest(self._run.record["code"]), "code"), self.pathspec)

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
    def created_at(self) -> datetime | None:
        """When its task ended, and it was kept."""
        return self.parent.finished_at

    @property
    def finished_at(self) -> datetime | None:
        """When its task ended."""
        return self.parent.finished_at

    def _facts(self) -> dict[str, Any]:
        return {"type": self.type, "size": f"{self.size:,}", "value": self.preview}


class Members:
    """The artifacts of a task as attributes: ``task.data.x`` is a value, ``task.artifacts.x`` a DataArtifact."""

    def __init__(self, task: Task, what: str) -> None:
        self._task, self._what = task, what

    @property
    def _fields(self) -> tuple[str, ...]:
        return tuple(self._task._names)

    def _asdict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._fields}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            found = self._task[name]
        except NotFound as err:
            raise AttributeError(str(err)) from None
        return found.data if self._what == "data" else found

    def __getitem__(self, place: int) -> Any:
        return getattr(self, self._fields[place])

    def __len__(self) -> int:
        return len(self._fields)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._task)

    def __contains__(self, name: object) -> bool:
        return name in self._task

    def __dir__(self) -> list[str]:
        return sorted(self._task._names)

    def __repr__(self) -> str:
        return f"<{self._what} of {self._task.pathspec}: {', '.join(sorted(self._task._names))}>"


def _step_at(pathspec: str, check: bool) -> Step:
    from stillrun_engine.client.runs import Step

    return Step(pathspec, _namespace_check=check)
