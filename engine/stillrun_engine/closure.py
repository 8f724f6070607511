"""Everything a run stands on: each digest that its records reach, and what it is there for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any, Literal

from stillrun_engine.archive import KeptRun
from stillrun_envs.lock import read_lock
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import ObjectRedacted, StillrunError
from stillrun_snapshot.record import canonical_bytes
from stillrun_snapshot.store import Store
from stillrun_snapshot.tree import tree_objects

__all__ = ["Kind", "Needed", "Walked", "lock_objects", "needed_objects"]

_AHEAD = 200  # tasks whose artifacts' records are read together

Record = Mapping[str, Any]
Kind = Literal["record", "lock", "code", "parameter", "artifact", "input", "log", "package"]
"""What an object is there for. Whatever names other objects is a record, and so is all that is small and nothing else."""

_Met = tuple[str, str, Kind, int | None]  # the fields of Needed


@dataclass(frozen=True)
class Needed:
    """One object and the first purpose it was met for."""

    digest: Digest
    purpose: str
    kind: Kind = "record"
    size: int | None = None  # where what names it says how long it is


@dataclass(frozen=True)
class Walked:
    """What needs no second look, of one run or of several that share it."""

    met: set[str] = field(default_factory=set)
    read: set[str] = field(default_factory=set)  # records whose needs were met as well


def needed_objects(
    run: KeptRun, tasks: list[Record] | None = None, *, packages: bool = True, walked: Walked | None = None
) -> Iterator[Needed]:
    """The digests that ``tasks`` (all of the run when None) need to be read, shown and replayed, each once.

    walked: what is not yielded again, and gets what is.
    Each record is yielded before it is read, so that who takes them one by one can fetch it meanwhile.
    Raises ObjectMissing or ObjectCorrupt when a record on the way cannot be read: what it names cannot be known then.
    """
    walked = walked or Walked()
    for digest, purpose, kind, size in _walk(run, run.tasks() if tasks is None else tasks, packages, walked.read):
        if digest not in walked.met:
            walked.met.add(digest)
            yield Needed(Digest(digest), purpose, kind, size)


def _walk(run: KeptRun, tasks: list[Record], packages: bool, visited: set[str]) -> Iterator[_Met]:
    record, met = run.record, _Artifacts(run.store, visited)
    names = {(step, task): digest for step, task, digest in run.entries()}
    yield run.digest, "the run's record", "record", None
    yield record["description"], "the flow's description", "record", None
    yield from _code(run.store, record["code"], visited)
    yield from _tree(run.store, record["face"], "face", visited)
    for name, parameter in record["parameters"].items():
        yield from met.artifact(parameter["artifact"], f"parameter {name}", "parameter")
    for name, constant in record.get("constants", {}).items():
        yield from met.artifact(constant["artifact"], f"constant {name}", "parameter")
    for place, task in enumerate(tasks):
        if place % _AHEAD == 0:
            met.read_ahead(tasks[place : place + _AHEAD])
        name = f"{task['step']}/{task['task']}"
        digest = names.get((task["step"], task["task"])) or digest_of(canonical_bytes(task))
        met.visited.add(digest)
        yield digest, f"the record of {name}", "record", None
        yield from _task(run.store, task, name, met)
    if record.get("verdict"):
        yield record["verdict"], "the verdict", "record", None
    steps = {task["step"] for task in tasks}
    places = {(place["environment"], place["kind"]) for step, place in record["steps"].items() if step in steps}
    for environment, kind in sorted(places):
        locked = kind == "lock"
        yield (
            environment,
            f"the {'lock' if locked else 'record'} of an environment",
            "lock" if locked else "record",
            None,
        )
    if packages:
        whole = record["settings"].get("keep_packages", "all") == "all"
        for lock in sorted({lock for step in steps if (lock := run.lock_of(step))}):
            yield from _lock(run.store, lock, visited, whole=whole)


def lock_objects(store: Store, lock: Digest) -> Iterator[Needed]:
    """A lock, its packages and its interpreter, with those of the environments that built them."""
    for digest, purpose, kind, size in _lock(store, lock, set(), whole=True):
        yield Needed(Digest(digest), purpose, kind, size)


def _code(store: Store, digest: str, visited: set[str]) -> Iterator[_Met]:
    if digest in visited:
        return
    visited.add(digest)
    yield digest, "the record of the code", "record", None
    code = store.get_record(Digest(digest), "code")
    if code["git"] and code["git"]["diff"]:
        yield code["git"]["diff"], "the diff to the commit", "code", None
    yield from _tree(store, code["tree"], "code", visited)


def _tree(store: Store, tree: str, what: str, visited: set[str]) -> Iterator[_Met]:
    if tree in visited:
        return
    visited.add(tree)
    for path, digest in tree_objects(store, Digest(tree)):
        yield digest, f"{what} {path or 'tree'}", "code", None


def _task(store: Store, task: Record, name: str, met: _Artifacts) -> Iterator[_Met]:
    yield from _outcome(task, name, met)
    for attempt in task.get("attempts", ()):
        yield attempt, f"the record of an earlier attempt at {name}", "record", None
        yield from _outcome(store.get_record(Digest(attempt), "task"), f"an earlier attempt at {name}", met)
    for parent in task["inputs"]:
        if parent["record"] in met.visited:
            continue
        met.visited.add(parent["record"])
        yield parent["record"], f"the record of {parent['step']}/{parent['task']}", "record", None
        for artifact, digest in store.get_record(Digest(parent["record"]), "task")["artifacts"].items():
            yield from met.artifact(digest, f"artifact {parent['step']}/{parent['task']}/{artifact}")


def _outcome(task: Record, name: str, met: _Artifacts) -> Iterator[_Met]:
    """What came of one attempt, and the files that it read."""
    for artifact, digest in task["artifacts"].items():
        yield from met.artifact(digest, f"artifact {name}/{artifact}")
    for stream, digest in task["logs"].items():
        yield digest, f"{stream} of {name}", "log", None
    items = [split["items"] for split in task["foreach"] if split["items"]]
    for digest in [*items, *([task["next"]["items"]] if task["next"] and task["next"].get("items") else [])]:
        yield from met.artifact(digest, f"what the foreach of {name} is over")
    if task["next"] and task["next"].get("each"):
        for what, digest in task["next"]["each"].items():
            yield digest, f"the {what} of the items that the foreach of {name} is over", "artifact", None
    if task["next"] and task["next"].get("item_digests"):
        yield task["next"]["item_digests"], f"the digests of what the foreach of {name} is over", "record", None
    if task.get("cards"):
        yield task["cards"], f"the cards of {name}", "log", None
    for file in task["files"]:
        if file["kept"]:
            yield file["digest"], f"input file {file['path']}", "input", file["size"]


class _Artifacts:
    """Artifacts that were met: what each is made of is looked up once, for tasks pass on most of what they get.

    visited: records of artifacts, parents and locks that need no second reading.
    """

    def __init__(self, store: Store, visited: set[str]) -> None:
        self._store, self._ahead = store, dict[str, Record]()
        self.visited = visited

    def read_ahead(self, tasks: list[Record]) -> None:
        """Read the records of what tasks made together, where all of them are there to be read."""
        wanted = {digest for task in tasks for digest in task["artifacts"].values()} - self.visited
        try:
            records = self._store.get_records(map(Digest, wanted), "artifact")
        except StillrunError:  # told when that record's turn comes
            records = []
        self._ahead = dict(zip(wanted, records, strict=bool(records)))

    def artifact(self, digest: str, purpose: str, kind: Kind = "artifact") -> Iterator[_Met]:
        """An artifact's record, then its parts."""
        if digest in self.visited:
            return
        self.visited.add(digest)
        yield digest, f"the record of {purpose}", "record", None
        try:
            record = self._ahead.get(digest) or self._store.get_record(Digest(digest), "artifact")
        except ObjectRedacted:  # yielded already: who takes it says so
            return
        for part in record["parts"]:
            yield part["digest"], purpose, kind, part["size"]


def _lock(store: Store, digest: Digest, visited: set[str], *, whole: bool) -> Iterator[_Met]:
    """whole: every package was to be kept; otherwise those that are not here are no damage."""
    if digest in visited:
        return
    visited.add(digest)
    yield digest, "the lock of an environment", "lock", None
    lock = read_lock(store, digest)
    if lock.python.digest is not None:
        yield lock.python.digest, f"the interpreter Python {lock.python.version}", "package", lock.python.size
    for package in lock.packages:
        if not whole and (store.is_spare(package.digest) or not store.has(package.digest)):
            continue
        yield package.digest, f"package {package.name} {package.version}", "package", package.size
        if package.source is not None:
            source = package.source
            yield source.digest, f"the source of package {package.name} {package.version}", "package", source.size
    for build in lock.build_locks():  # what built a wheel is evidence, and builds it again
        yield from _lock(store, build, visited, whole=whole)
