"""Objects that nothing needs: found by reading the store, and told; ``sweeping.py`` removes them.

Rules: docs/spec/store.md, section 7.
What is needed is what refs reach, what refs reached a while ago, and all that is young or that a living process counts on.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import field
from datetime import timedelta
from itertools import chain
from pathlib import Path

from stillrun_snapshot._abandoned import seal_abandoned
from stillrun_snapshot._disk import changed_ns, fresh_name, remove_quietly, writing
from stillrun_snapshot._loose import LooseFolder
from stillrun_snapshot._marking import Holdings, PackFile
from stillrun_snapshot._pack import CHUNK
from stillrun_snapshot._pieces import Piece, pieces_in
from stillrun_snapshot._presence import Others, closed_gate
from stillrun_snapshot.clock import Clock, timestamp, utc_now
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import ObjectCorrupt, StoreError
from stillrun_snapshot.lease import noted_by_all
from stillrun_snapshot.store import Store

__all__ = ["GRACE_S", "Found", "Garbage", "LooseFile", "find_garbage"]

GRACE_S = 86_400
"""How long what nothing needs is left alone: a day, so that what was forgotten by mistake can be had back."""
UNPACKED = "cache/unpacked"
_WORTH = 10  # a pack is written anew when a tenth of it, or more, is garbage
_SLACK_NS = 1_000_000_000  # file systems stamp by a clock that ticks coarsely


@dataclass(frozen=True)
class Garbage:
    """How much can go, or went. ``size`` is of objects, ``freed`` of files."""

    objects: int = 0
    size: int = 0
    freed: int = 0
    packs_removed: int = 0
    packs_rewritten: int = 0
    loose: int = 0
    spare: int = 0
    leftovers: int = 0


@dataclass(frozen=True)
class LooseFile:
    """A loose object that nothing needs."""

    name: str  # of the file within the store
    digest: Digest
    size: int


@dataclass
class Found:
    """Everything that can go. ``kept`` objects are needed; ``waiting`` ones are not, and stay this time."""

    store: Store
    holdings: Holdings
    young_ns: int  # what was written since stays
    log_length: int
    uses: frozenset[str]
    kept: int = 0
    waiting: int = 0
    dead_packs: list[PackFile] = field(default_factory=list)
    mixed_packs: list[PackFile] = field(default_factory=list)
    files: list[LooseFile] = field(default_factory=list)
    leftovers: list[Path] = field(default_factory=list)
    amount: Garbage = Garbage()
    going: set[bytes] = field(default_factory=set)

    def is_dead(self, digest: Digest, folder: str) -> bool:
        """Return whether nothing needs the file of an object; a copy of what is made of chunks goes with the object."""
        if folder == UNPACKED and not self.holdings.holds(digest.raw):
            return True
        return not self.holdings.needs(digest.raw)

    def stays(self, digest: Digest) -> bool:
        """Return whether the object is held and will be when all of this is gone."""
        return self.holdings.holds(digest.raw) and digest.raw not in self.going


def find_garbage(
    store: Store, *, grace_s: int = GRACE_S, roots: Iterable[Digest] = (), clock: Clock = utc_now
) -> Found:
    """Read all of the store and return what can go; hold the store's upkeep until it has gone.

    grace_s: seconds for which objects stay that nothing needs any more; below 0, what is written this moment counts as old.
    roots: needed besides what refs reach.
    Raises StoreError where damage hides what is needed.
    """
    with writing(store.root):
        if store.writable:
            seal_abandoned(store.root)
        with closed_gate(store.root, store.presence) as others:
            now_ns = _now_ns(store.root)
    young_ns = now_ns - grace_s * 10**9
    if others.since_ns is not None:
        young_ns = min(young_ns, others.since_ns - _SLACK_NS)
    # before objects are looked for: what is named later is looked at before anything goes
    log_length = store.refs.length()
    refs = dict(store.refs.names())
    once = set(_once_named(store, timestamp(clock() - timedelta(seconds=grace_s))))
    found = Found(store, Holdings(store), young_ns, log_length, others.uses)
    if found.holdings.damaged:
        raise unsound(store, f"{found.holdings.damaged[0].path.name} is damaged")
    for name, digest in refs.items():
        if not found.holdings.holds(digest.raw) and f"redactions/{digest.hex}" not in refs:  # else its stand-in is kept
            raise unsound(store, f"the ref '{name}' leads to {digest}, which is missing")
    try:
        found.holdings.mark(digest.raw for digest in {*refs.values(), *once, *roots})
        found.holdings.mark(_young(found, others))
    except ObjectCorrupt as err:
        raise unsound(store, f"{err.digest} is damaged") from err
    found.leftovers = list(_leftovers(store.root, young_ns))
    _plan_packs(found)
    _plan_files(found)
    found.kept = found.holdings.needed()
    found.waiting = len(found.holdings) - found.kept - len(found.going)
    return found


def unsound(store: Store, why: str) -> StoreError:
    """The error for a store of which it cannot be known what it needs."""
    return StoreError(
        f"nothing is removed from the store {store.root}: {why}, so that it cannot be known what is needed. "
        "'stillrun store fsck' names all damage, and mends it with --repair."
    )


def _now_ns(root: Path) -> int:
    """The time by the clock that stamps files there."""
    probe = root / "tmp" / fresh_name("now")
    probe.touch()
    try:
        return probe.stat().st_mtime_ns
    finally:
        remove_quietly(probe)


def _once_named(store: Store, since: str) -> Iterator[Digest]:
    """What refs pointed at until a while ago, or are about to point at."""
    for event in store.refs.events():
        if event.old is not None and event.time >= since:
            yield event.old
    for change in noted_by_all(store.root):
        if change.to is not None:
            yield change.to


def _young(found: Found, others: Others) -> Iterator[bytes]:
    """Objects that were written a short while ago, or that living processes count on: what they name is needed as well."""
    for pack in found.holdings.packs:
        if not _may_go(found, pack):
            yield from (piece.raw for piece in pack.scan().pieces)
    for folder, digest in _loose_objects(found.store.root):
        if folder.name(digest) in others.uses or changed_ns(folder.path(digest)) >= found.young_ns:
            yield digest.raw


def _may_go(found: Found, pack: PackFile) -> bool:
    return pack.sealed and pack.mtime_ns < found.young_ns and f"packs/{pack.name}" not in found.uses


def _loose_objects(root: Path) -> Iterator[tuple[LooseFolder, Digest]]:
    for folder in (LooseFolder(root), LooseFolder(root, "cache/objects")):
        for digest in folder.digests():
            yield folder, digest


def _plan_packs(found: Found) -> None:
    objects = size = freed = 0
    for pack in found.holdings.packs:
        if not _may_go(found, pack):
            continue
        members = pieces_in(pack.path)
        dead = [piece for piece in members if not found.holdings.needs(piece.raw)]
        bytes_dead = sum(piece.takes for piece in dead)
        if len(dead) == len(members):
            found.dead_packs.append(pack)
            bytes_dead = pack.size
        elif bytes_dead * _WORTH >= pack.size:
            found.mixed_packs.append(pack)
        else:
            continue
        found.going.update(piece.raw for piece in dead if piece.kind != CHUNK)
        objects, size, freed = (
            objects + objects_among(dead),
            size + sum(piece.object_size for piece in dead),
            freed + bytes_dead,
        )
    found.amount = Garbage(objects, size, freed, len(found.dead_packs), len(found.mixed_packs))


def objects_among(members: Iterable[Piece]) -> int:
    """Return how many of the members are objects and not chunks."""
    return sum(piece.kind != CHUNK for piece in members)


def _plan_files(found: Found) -> None:
    counts = {"objects": 0, "cache/objects": 0, UNPACKED: 0}
    unpacked = LooseFolder(found.store.root, UNPACKED)
    copies = ((unpacked, digest) for digest in unpacked.digests())
    for folder, digest in chain(_loose_objects(found.store.root), copies):
        identity = folder.identity(digest)
        name = folder.name(digest)
        if (
            not found.is_dead(digest, folder.folder)
            or identity is None
            or max(identity[3:]) >= found.young_ns
            or name in found.uses
        ):
            continue
        found.files.append(LooseFile(name, digest, identity[2]))
        counts[folder.folder] += 1
        if folder.folder != UNPACKED:
            found.going.add(digest.raw)
    amount, size = found.amount, sum(file.size for file in found.files)
    found.amount = Garbage(
        amount.objects + len(found.files) - counts[UNPACKED],
        amount.size + size,
        amount.freed + size,
        amount.packs_removed,
        amount.packs_rewritten,
        counts["objects"],
        counts["cache/objects"],
        len(found.leftovers),
    )


def _leftovers(root: Path, young_ns: int) -> Iterator[Path]:
    """What killed processes left below ``tmp/``: nothing in it was changed since before the first that is at work began."""
    for path in sorted((root / "tmp").iterdir()):
        newest = changed_ns(path)
        for folder, folders, files in os.walk(path):
            for name in (*folders, *files):
                newest = max(newest, changed_ns(Path(folder, name)))
        if newest < young_ns:
            yield path
