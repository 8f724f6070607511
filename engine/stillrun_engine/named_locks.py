"""Names that people gave to locks: an environment that is called by one is never cleaned up."""

from __future__ import annotations

import re
from collections.abc import Iterator

from stillrun_engine.errors import EngineError, NotFound
from stillrun_engine.pathspec import nearest
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store

__all__ = ["pin", "pinned", "unpin"]

_PINS = "environments/"
_NAME = re.compile(r"(?!(sha256:)?[0-9a-f]{6,64}$)[A-Za-z0-9_][A-Za-z0-9_.\-]*")


def pinned(store: Store) -> Iterator[tuple[str, Digest]]:
    """Every name that was given to a lock, with the lock."""
    for name, lock in store.refs.names(_PINS):
        yield name.removeprefix(_PINS), lock


def pin(store: Store, name: str, lock: Digest) -> None:
    """Call a lock ``name``; its built environment is then never cleaned up."""
    if not _NAME.fullmatch(name):
        raise EngineError(f"{name!r} is no name for an environment: letters, digits, '.', '_' and '-', no digest.")
    store.refs.set([RefChange(_PINS + name, lock)])


def unpin(store: Store, name: str) -> None:
    """Forget a name; the lock stays kept."""
    if name not in dict(pinned(store)):
        raise NotFound(f"no environment is called '{name}'.{nearest(name, [one for one, _ in pinned(store)])}")
    store.refs.set([RefChange(_PINS + name, None)])
