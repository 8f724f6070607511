"""Hints: what is known about a lock that is not part of it: what was asked for, where its files came from.

Kept as a record beside the lock and found by the ref ``locks/<hex>``; nothing is ever trusted because of it.
Format: docs/spec/lock.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field, replace
from typing import Any

from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.record import parse_record
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store

__all__ = ["Hints", "PackageOrigin", "keep_hints", "known_locks", "read_hints"]

_REFS = "locks/"


@dataclass(frozen=True)
class PackageOrigin:
    """Where one file was fetched from."""

    digest: Digest
    url: str  # without credentials
    md5: str = ""  # as the channel promised it; conda packages only


@dataclass(frozen=True)
class Hints:
    """What is known about one lock."""

    request: Mapping[str, Any] = field(default_factory=dict)  # record stillrun/request/2
    origins: tuple[PackageOrigin, ...] = ()
    machine: tuple[str, ...] = ()  # virtual packages that conda solved with

    def origin(self, digest: Digest) -> PackageOrigin | None:
        """Where the file of ``digest`` came from, when that is known."""
        return next((one for one in self.origins if one.digest == digest), None)

    def requested(self) -> tuple[str, ...]:
        """The packages that were asked for by name, as they were asked for."""
        return tuple(self.request.get("conda") or ()) + tuple(self.request.get("pypi") or ())


def keep_hints(store: Store, lock: Digest, hints: Hints) -> None:
    """Keep what is known about ``lock``, which makes it one of the known locks.

    What was known of it before and is not told now, such as who asked for it before it was exported and imported, stays.
    """
    before = read_hints(store, lock)
    if before.requested() and not hints.requested():
        hints = replace(hints, request=before.request)
    known = {one.digest for one in hints.origins}
    hints = replace(hints, origins=(*hints.origins, *(one for one in before.origins if one.digest not in known)))
    sources = [{"digest": str(one.digest), "url": one.url, "md5": one.md5} for one in hints.origins]
    record = store.put_record(
        {
            "schema": "stillrun/lock-hints/2",
            "lock": str(lock),
            "request": dict(hints.request),
            "sources": sorted(sources, key=lambda one: (one["digest"], one["url"])),
            "machine": list(hints.machine),
        }
    )
    if store.refs.get(_REFS + lock.hex) != record:
        store.refs.set([RefChange(_REFS + lock.hex, record)])


def read_hints(store: Store, lock: Digest) -> Hints:
    """What is known about ``lock``; empty when nothing is."""
    digest = store.refs.get(_REFS + lock.hex)
    if digest is None or not store.has(digest):
        return Hints()
    record = parse_record(store.get(digest), "stillrun/lock-hints/2")
    origins = tuple(PackageOrigin(Digest.parse(one["digest"]), one["url"], one["md5"]) for one in record["sources"])
    return Hints(record["request"], origins, tuple(record["machine"]))


def known_locks(store: Store) -> Iterator[Digest]:
    """Every lock that was made or imported in this store, in order of digest."""
    for name, _ in store.refs.names(_REFS):
        yield Digest.parse(f"sha256:{name.removeprefix(_REFS)}")
