"""What the client looks at: one store, opened once, what was read of it, and the namespace that is looked through."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from stillrun import client as names
from stillrun_engine.archive import KeptRun, open_run
from stillrun_engine.errors import EngineError, NotFound
from stillrun_engine.pathspec import LATEST, Pathspec, parse_pathspec, run_of
from stillrun_engine.store_place import default_store
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.record import parse_record
from stillrun_snapshot.store import STORE_MARK, Store

__all__ = [
    "Absent",
    "InvalidPathspec",
    "NamespaceMismatch",
    "Session",
    "TaggingError",
    "absent_is_told",
    "default_metadata",
    "default_namespace",
    "get_metadata",
    "get_namespace",
    "inspect_spin",
    "is_visible",
    "looked_at",
    "metadata",
    "namespace",
    "session",
    "use_store",
]

Record = Mapping[str, Any]
_REMEMBERED = 2048
"""Records that are remembered at least, and half of those that are at most; a few KiB each."""
_HELD = 16 << 20
"""Bytes of artifacts that are held because they were read together with one that was asked for."""


class Absent(NotFound, names.NotFound):
    """There is no such flow, run, step, task or artifact; a KeyError too, as ``[]`` of a mapping raises."""


class NamespaceMismatch(NotFound, names.NamespaceMismatch):
    """The run is there, but not in the namespace that is looked through."""


class InvalidPathspec(EngineError, names.InvalidPathspec):
    """A pathspec has too few or too many parts."""


class TaggingError(EngineError, names.TaggingError):
    """A tag cannot be given or taken off."""


@contextmanager
def absent_is_told() -> Iterator[None]:
    """What is not found within is an error of the client, under the names that its users know."""
    try:
        yield
    except NotFound as err:
        if isinstance(err, Absent):
            raise
        raise Absent(str(err)) from None


def _lent(store: Store, digest: Digest) -> bool:
    """Fetch what was left in a remote."""
    from stillrun_engine.remote_lending import lend  # which few need

    return lend(store, digest, os.environ)


class Session:
    """One store and what was read of it."""

    def __init__(self, root: Path, runs: str = "runs") -> None:
        """runs: where the refs of what is listed are, ``runs`` or ``spins``."""
        self.store = Store.open(root, create=False)
        self.store.lender = partial(_lent, self.store)
        self.runs = runs
        self._records: dict[str, Record] = {}
        self._held: dict[str, bytes] = {}

    def run(self, flow: str, run: str) -> KeptRun:
        """A run by its name; 'latest' and unique beginnings are names too. Read anew: it may have gone on."""
        if run == LATEST and self.runs != "runs":
            run = next((run_of(name) for name, _ in self.store.refs.newest(f"{self.runs}/{flow}/")), run)
        digest = None if run == LATEST else self.store.refs.get(f"{self.runs}/{flow}/{run}")
        if digest is not None:
            return KeptRun(self.store, Pathspec(flow, run), digest, self.store.get_record(digest, "run"))
        with absent_is_told():
            return open_run(self.store, parse_pathspec(f"{flow}/{run}", least=2, most=2))

    def record(self, digest: str, name: str, beside: Callable[[], Iterable[str]] = tuple) -> Record:
        """A record that is remembered. beside: others of its kind that will be asked for next; they are read with it."""
        found = self._records.get(digest)
        if found is None:
            wanted = {digest, *(other for other in beside() if other not in self._records)}
            for other, data in self.store.get_many(map(Digest, wanted)).items():
                self._records[other] = parse_record(data, f"stillrun/{name}/1")
            found = self._records[digest]
            if len(self._records) > 2 * _REMEMBERED:
                for old in list(self._records)[:_REMEMBERED]:
                    del self._records[old]
        return found

    def content(self, digest: str, beside: Callable[[], Iterable[tuple[str, int]]] = tuple) -> bytes:
        """The bytes of an object, hashed. beside: others, with their sizes, that will be asked for next."""
        found = self._held.pop(digest, None)
        if found is not None:
            return found
        wanted, size = [digest], 0
        for other, other_size in beside():
            size += other_size
            if size > _HELD:
                break
            wanted.append(other)
        read = self.store.get_many(map(Digest, wanted))
        found = read.pop(Digest(digest))
        self._held = {str(other): data for other, data in read.items()}
        return found


_session: Session | None = None
_UNSET = object()
_namespace: Any = _UNSET


def session() -> Session:
    """The session of this process."""
    global _session
    if _session is None:
        _session = Session(default_store())
    return _session


def looked_at() -> Path:
    """The place of the store that is looked at; there need be none yet."""
    return default_store() if _session is None else _session.store.root


def use_store(path: str | Path | None) -> None:
    """Look at the store at ``path`` from now on; at the user's when None."""
    global _session
    if _session is not None:
        _session.store.close()
        _session = None
    _session = Session(default_store(path))


def metadata(path: str) -> str:
    """Metaflow's word for ``use_store``; "local" stands for the user's store."""
    place = path.removeprefix("local@")
    use_store(None if place == "local" else place)
    return get_metadata()


def get_metadata() -> str:
    """The store that is looked at."""
    return f"local@{session().store.root}"


def default_metadata() -> str:
    """Look at the user's store again."""
    use_store(None)
    return get_metadata()


def inspect_spin(datastore_root: str | None = None) -> None:
    """From now on look at what ``spin --persist`` has kept, instead of runs; ``default_metadata()`` looks at runs again.

    datastore_root: a store; the one that is looked at when None, or "." as in Metaflow, where no store is at ".".
    """
    global _session
    root = session().store.root
    if datastore_root is not None and (Path(datastore_root) / STORE_MARK).is_file():
        root = Path(datastore_root).absolute()
    session().store.close()
    _session = None
    _session = Session(root, "spins")


def namespace(ns: str | None) -> str | None:
    """Look through the runs with a tag, such as ``user:ada``; through all with None. What is looked through now.

    Objects that were made before go on in the namespace in which they were made.
    """
    global _namespace
    _namespace = ns
    return ns


def get_namespace() -> str | None:
    """The tag of the runs that are looked through; None for all."""
    return default_namespace() if _namespace is _UNSET else _namespace


def default_namespace() -> str:
    """Look through one's own runs again: those tagged ``user:NAME``."""
    namespace(f"user:{_user()}")
    return f"user:{_user()}"


def is_visible(tags: frozenset[str], wanted: str | None) -> bool:
    """Whether a run with these tags is in the namespace ``wanted``."""
    return wanted is None or wanted in tags


def _user() -> str:
    for name in ("STILLRUN_USER", "METAFLOW_USER"):
        if os.environ.get(name):
            return os.environ[name]
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
