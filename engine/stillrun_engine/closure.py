"""Everything a run stands on: each digest that its records reach, and what it is there for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stillrun_engine.archive import KeptRun
from stillrun_envs.lock import read_lock
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import ObjectCorrupt, ObjectMissing
from stillrun_snapshot.store import Store
from stillrun_snapshot.tree import FileEntry, tree_files

__all__ = ["Damage", "Needed", "check_objects", "needed_objects"]

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Needed:
    """One object and the first purpose it was met for."""

    digest: Digest
    purpose: str


@dataclass(frozen=True)
class Damage:
    """An object that is missing or whose bytes no longer match its name."""

    needed: Needed
    problem: str


def needed_objects(run: KeptRun, tasks: list[Record] | None = None, *, packages: bool = True) -> Iterator[Needed]:
    """The digests that ``tasks`` (all of the run when None) need to be read, shown and replayed, each once.

    Raises ObjectMissing or ObjectCorrupt when a record on the way cannot be read: what it names cannot be known then.
    """
    seen: set[str] = set()
    for digest, purpose in _walk(run, run.tasks() if tasks is None else tasks, packages):
        if digest not in seen:
            seen.add(digest)
            yield Needed(Digest(digest), purpose)


def _walk(run: KeptRun, tasks: list[Record], packages: bool) -> Iterator[tuple[str, str]]:
    record, visited = run.record, set[str]()
    yield run.digest, "the run's record"
    yield record["description"], "the flow's description"
    yield from _code(run.store, record)
    yield from _tree(run.store, record["face"], "face")
    for name, parameter in record["parameters"].items():
        yield from _artifact(run.store, parameter["artifact"], f"parameter {name}", visited)
    for task in tasks:
        yield from _task(run, task, visited)
    if record.get("verdict"):
        yield record["verdict"], "the verdict"
    steps = {task["step"] for task in tasks}
    for environment in sorted({record["steps"][step]["environment"] for step in steps if step in record["steps"]}):
        yield environment, "the record of an environment"
    if packages:
        whole = record["settings"].get("keep_packages", "all") == "all"
        for lock in sorted({lock for step in steps if (lock := run.lock_of(step))}):
            yield from _lock(run.store, lock, visited, whole=whole)


def _code(store: Store, record: Record) -> Iterator[tuple[str, str]]:
    code = store.get_record(Digest(record["code"]), "code")
    yield record["code"], "the record of the code"
    if code["git"] and code["git"]["diff"]:
        yield code["git"]["diff"], "the diff to the commit"
    yield from _tree(store, code["tree"], "code")


def _tree(store: Store, tree: str, what: str) -> Iterator[tuple[str, str]]:
    yield tree, f"{what} tree"
    for path, entry in tree_files(store, Digest(tree)):
        if isinstance(entry, FileEntry):
            yield entry.digest, f"{what} {path}"


def _task(run: KeptRun, task: Record, visited: set[str]) -> Iterator[tuple[str, str]]:
    """visited: records of artifacts and parents that need no second reading; tasks pass on most of what they get."""
    name = f"{task['step']}/{task['task']}"
    yield run.task_digest(task["step"], task["task"]), f"the record of {name}"
    for artifact, digest in task["artifacts"].items():
        yield from _artifact(run.store, digest, f"artifact {name}/{artifact}", visited)
    for stream, digest in task["logs"].items():
        yield digest, f"{stream} of {name}"
    items = [split["items"] for split in task["foreach"] if split["items"]]
    for digest in [*items, *([task["next"]["items"]] if task["next"] and task["next"].get("items") else [])]:
        yield from _artifact(run.store, digest, f"what the foreach of {name} is over", visited)
    if task["next"] and task["next"].get("each"):
        for what, digest in task["next"]["each"].items():
            yield digest, f"the {what} of the items that the foreach of {name} is over"
    if task["next"] and task["next"].get("item_digests"):
        yield task["next"]["item_digests"], f"the digests of what the foreach of {name} is over"
    if task.get("cards"):
        yield task["cards"], f"the cards of {name}"
    for file in task["files"]:
        if file["kept"]:
            yield file["digest"], f"input file {file['path']}"
    for attempt in task.get("attempts", ()):
        yield attempt, f"the record of an earlier attempt at {name}"
        for stream, digest in run.store.get_record(Digest(attempt), "task")["logs"].items():
            yield digest, f"{stream} of an earlier attempt at {name}"
    for parent in task["inputs"]:
        if parent["record"] in visited:
            continue
        visited.add(parent["record"])
        yield parent["record"], f"the record of {parent['step']}/{parent['task']}"
        for artifact, digest in run.store.get_record(Digest(parent["record"]), "task")["artifacts"].items():
            yield from _artifact(run.store, digest, f"artifact {parent['step']}/{parent['task']}/{artifact}", visited)


def _artifact(store: Store, digest: str, purpose: str, visited: set[str]) -> Iterator[tuple[str, str]]:
    if digest in visited:
        return
    visited.add(digest)
    yield digest, f"the record of {purpose}"
    for part in store.get_record(Digest(digest), "artifact")["parts"]:
        yield part["digest"], purpose


def _lock(store: Store, digest: Digest, visited: set[str], *, whole: bool) -> Iterator[tuple[str, str]]:
    """whole: every package was to be kept; otherwise those that are not here are no damage."""
    if digest in visited:
        return
    visited.add(digest)
    lock = read_lock(store, digest)
    yield digest, "the lock of an environment"
    if lock.python.digest is not None:
        yield lock.python.digest, f"the interpreter Python {lock.python.version}"
    for package in lock.packages:
        if not whole and (store.is_spare(package.digest) or not store.has(package.digest)):
            continue
        yield package.digest, f"package {package.name} {package.version}"
        if package.source is not None:
            yield package.source.digest, f"the source of package {package.name} {package.version}"
    for build in lock.build_locks():  # what built a wheel is evidence, and builds it again
        yield from _lock(store, build, visited, whole=whole)


def check_objects(
    store: Store, needed: Iterator[Needed], told: Callable[[Needed, int], None] | None = None
) -> tuple[int, int, list[Damage]]:
    """Hash every object of ``needed``: how many, how many bytes, and what is damaged."""
    count, total, damaged = 0, 0, []
    try:
        for item in needed:
            count += 1
            try:
                size = store.verify(item.digest)
                total += size
                if told:
                    told(item, size)
            except (ObjectMissing, ObjectCorrupt) as err:
                damaged.append(Damage(item, str(err)))
    except (ObjectMissing, ObjectCorrupt) as err:  # a record on the way
        damaged.append(Damage(Needed(err.digest, "a record that names others"), str(err)))
    return count, total, damaged
