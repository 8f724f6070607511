"""Pins: runs that nobody may forget by mistake. A pin is the ref `pins/FLOW/RUN` (docs/spec/run.md)."""

from __future__ import annotations

from collections.abc import Iterator

from stillrun_engine.archive import KeptRun
from stillrun_engine.errors import NotFound
from stillrun_engine.pathspec import nearest
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store

__all__ = ["Pin", "is_pinned", "pin_run", "pins", "unpin_run"]

_PINS = "pins/"


@dataclass(frozen=True)
class Pin:
    """One pinned run: when it was pinned, and why where that was said."""

    run: str
    time: str
    note: str | None


def pin_run(run: KeptRun, note: str | None = None) -> None:
    """Pin a run, or change why it is pinned; each time is a line of the log."""
    name = _PINS + run.pathspec
    changes = [RefChange(name, run.digest, note=note)]
    if run.store.refs.get(name) == run.digest and note is not None:
        changes.insert(0, RefChange(name, None, note="pinned anew"))
    run.store.refs.set(changes)  # at once: the pin is never off, and stays when the note cannot be kept


def unpin_run(store: Store, pathspec: str) -> None:
    """Take the pin off; NotFound when there is none."""
    if not is_pinned(store, pathspec):
        known = [name.removeprefix(_PINS) for name, _ in store.refs.names(_PINS)]
        raise NotFound(f"{pathspec} is not pinned in {store.root}.{nearest(pathspec, known)}")
    store.refs.set([RefChange(_PINS + pathspec, None)])


def is_pinned(store: Store, pathspec: str) -> bool:
    """Whether FLOW/RUN is pinned."""
    return store.refs.get(_PINS + pathspec) is not None


def pins(store: Store) -> Iterator[Pin]:
    """All pins, by name; the log says when and why."""
    names = dict(store.refs.names(_PINS))
    last = {event.name: event for event in store.refs.events() if event.name in names}
    for name, event in sorted(last.items()):
        yield Pin(name.removeprefix(_PINS), event.time, event.note)
