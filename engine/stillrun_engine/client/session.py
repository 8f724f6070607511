"""What the client looks at: one store, opened once, and the namespace that is looked through."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from stillrun import client as names
from stillrun_engine.archive import KeptRun, open_run
from stillrun_engine.errors import NotFound
from stillrun_engine.pathspec import parse_pathspec
from stillrun_engine.store_place import default_store
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = [
    "NamespaceMismatch",
    "Session",
    "default_metadata",
    "default_namespace",
    "get_metadata",
    "get_namespace",
    "is_visible",
    "metadata",
    "namespace",
    "session",
    "use_store",
]

Record = Mapping[str, Any]
_REMEMBERED = 100_000


class NamespaceMismatch(NotFound, names.NamespaceMismatch):
    """The run is there, but not in the namespace that is looked through."""


class Session:
    """One store and what was read of it."""

    def __init__(self, root: Path) -> None:
        self.store = Store.open(root, create=False)
        self.record = lru_cache(maxsize=_REMEMBERED)(self._record)

    def run(self, flow: str, run: str) -> KeptRun:
        """A run by its name; 'latest' and unique beginnings are names too. Read anew: it may have gone on."""
        return open_run(self.store, parse_pathspec(f"{flow}/{run}", least=2, most=2))

    def _record(self, digest: str, name: str) -> Record:
        return self.store.get_record(Digest(digest), name)


_session: Session | None = None
_UNSET = object()
_namespace: Any = _UNSET


def session() -> Session:
    """The session of this process."""
    global _session
    if _session is None:
        _session = Session(default_store())
    return _session


def use_store(path: str | Path | None) -> None:
    """Look at the store at ``path`` from now on; at the user's when None."""
    global _session
    if _session is not None:
        _session.store.close()
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


def namespace(ns: str | None) -> str | None:
    """Look through the runs with a tag, such as ``user:ada``; through all with None. What is looked through now."""
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


def is_visible(tags: frozenset[str]) -> bool:
    """Whether a run with these tags is in the namespace."""
    wanted = get_namespace()
    return wanted is None or wanted in tags


def _user() -> str:
    for name in ("STILLRUN_USER", "METAFLOW_USER"):
        if os.environ.get(name):
            return os.environ[name]
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
