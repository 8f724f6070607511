"""Runs out of another store: what is missing here is fetched object by object, each checked against its name as it comes.

A remote is whatever can answer three questions. A folder is one; a bucket would be another, with the same code around it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from stillrun_engine.archive import KeptRun, Record, open_run
from stillrun_engine.carry import Carried, Told, check_records, check_runs, refuse_clashes, set_refs, sound_records
from stillrun_engine.closure import Needed, needed_objects
from stillrun_engine.errors import EngineError, RunDamaged
from stillrun_engine.pathspec import Pathspec, resolve
from stillrun_engine.run_refs import RunRefs, beside, refs_of_runs, whole_locks
from stillrun_snapshot.digest import BLOCK, Digest
from stillrun_snapshot.intake import take_in
from stillrun_snapshot.store import Store

__all__ = ["FolderRemote", "Remote", "fetch_run", "opened_folder"]


class Remote(Protocol):
    """Where kept runs can be had from, beside the store in use."""

    def find(self, spec: Pathspec) -> Pathspec:
        """``spec`` with its run found, as in a store; NotFound."""

    def refs(self, spec: Pathspec) -> Mapping[str, Digest]:
        """All refs of a run: its own, its tasks', evidence, tags, hints of its locks."""

    def open(self, digest: Digest) -> BinaryIO:
        """An object, to be read once; ObjectMissing. Nobody relies on its bytes before they were hashed."""


class FolderRemote:
    """Another store of this machine, or one on a disk that is mounted here."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._made: dict[Digest, bytes] = {}

    def find(self, spec: Pathspec) -> Pathspec:
        """``spec`` with its run found there."""
        return resolve(self._store, spec)

    def refs(self, spec: Pathspec) -> Mapping[str, Digest]:
        """All refs of a run that has ended; EngineError while it is going on."""
        run = open_run(self._store, spec)
        if run.status == "running":
            raise EngineError(f"{run.pathspec} is still going on in {self._store.root}; fetch it when it has ended.")
        found: RunRefs = refs_of_runs(self._store, [run.pathspec], whole_locks(run))
        self._made.update(found.made)
        return found.refs

    def open(self, digest: Digest) -> BinaryIO:
        """An object of that store."""
        return io.BytesIO(self._made[digest]) if digest in self._made else self._store.open_object(digest)


@contextmanager
def opened_folder(path: Path, here: Store) -> Iterator[FolderRemote]:
    """The store at ``path`` as a remote, while it is open."""
    if path.resolve() == here.root.resolve():
        raise EngineError(f"{path} is the store in use itself; give the folder of another store.")
    with Store.open(path, create=False) as store:
        yield FolderRemote(store)


def fetch_run(remote: Remote, store: Store, spec: Pathspec, told: Told | None = None) -> Carried:
    """Fetch what of a run is missing here, then set its refs. What was fetched before an interruption is not fetched again."""
    refs = remote.refs(spec)
    name = f"{spec.flow}/{spec.run}"
    refuse_clashes(store, refs)
    fetched: list[int] = []

    def fetch(needed: Needed) -> None:
        if needed.digest in store.absent([needed.digest]) or store.is_spare(needed.digest):
            fetched.append(_fetch(remote, store, needed.digest))
            if told:
                told(needed.purpose, fetched[-1])

    extra = beside(refs)
    for digest in {digest for ref, digest in refs.items() if ref.startswith(("runs/", "tasks/"))}:
        fetch(Needed(digest, "a record"))
    for needed in extra.values():
        fetch(needed)
    check_runs(store, [name], refs)
    run_digest = refs[f"runs/{name}"]
    run = KeptRun(store, spec, run_digest, store.get_record(run_digest, "run"))
    tasks: list[Record] = [store.get_record(digest, "task") for ref, digest in refs.items() if ref.startswith("tasks/")]
    met = list(extra.values())
    with sound_records(name):
        for needed in needed_objects(run, tasks):  # each record is fetched before it is read
            met.append(needed)
            fetch(needed)
        check_records(store, [run], met)
    landed = set_refs(store, refs)
    return Carried((name,), len(met), len(fetched), sum(fetched), added=landed.added, doubts=landed.doubts)


def _fetch(remote: Remote, store: Store, digest: Digest) -> int:
    with remote.open(digest) as stream:

        def blocks() -> Iterator[memoryview]:
            while block := stream.read(BLOCK):
                yield memoryview(block)

        return take_in(store, blocks(), digest, lambda found, size: _other_bytes(digest, found, size))


def _other_bytes(digest: Digest, found: Digest, size: int) -> EngineError:
    return RunDamaged(
        f"what came as {digest} has {size:,} bytes that hash to {found.hex[:12]}…: it is damaged where it came from. "
        "Nothing was kept of it; fetch the run from somewhere else."
    )
