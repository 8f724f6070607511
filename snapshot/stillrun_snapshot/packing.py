"""``store pack``: sealed packs and large files of a store become packs of blocks and chunks. Why: docs/adr/0007.

Nothing is lost at any moment: a new pack is durable and indexed before what it replaces is removed, and only what was
hashed when it was copied is removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from stillrun_snapshot._abandoned import seal_abandoned
from stillrun_snapshot._block_writer import BlockWriter, leftovers
from stillrun_snapshot._catalog import Catalog
from stillrun_snapshot._disk import changed_ns, remove_quietly, sync_folder, writing
from stillrun_snapshot._layout import raise_format
from stillrun_snapshot._pack import PackEntry, pack_path
from stillrun_snapshot._packing_large import LargeSource, large_objects
from stillrun_snapshot._packing_small import PackSource, packs_to_rewrite
from stillrun_snapshot._packing_target import Target
from stillrun_snapshot._presence import Others, Presence, closed_gate
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.lease import leases_held
from stillrun_snapshot.upkeep import upkeep

__all__ = ["Packed", "pack_store"]


Source = PackSource | LargeSource
_BATCH = 500  # files that go while the gate is closed: some milliseconds
_SLACK_NS = 1_000_000_000  # file systems stamp by a clock that ticks coarsely


@dataclass(frozen=True)
class Packed:
    """What a call did. ``before`` and ``after`` are bytes of the files that were replaced and of those that replace them."""

    objects: int  # taken into new packs
    large: int  # of them, made of chunks
    before: int
    after: int
    removed: int  # files
    waiting: int  # files that go at a later call: a process at work counts on them, or may have been told of them
    left: int  # large files that stay, as packing them would save nothing
    damaged: tuple[tuple[Digest | None, str], ...]  # what cannot be read, and the file that is kept for it


def pack_store(root: Path, *, older_than_ns: int) -> Packed:
    """Pack what can be packed: all sealed packs, and files of objects last written before ``older_than_ns``.

    Raises UpkeepBusy when another process packs, collects or indexes, and StoreError when the disk refuses.
    """
    with upkeep(root, "pack"), writing(root):
        for path in leftovers(root):
            remove_quietly(path)
        seal_abandoned(root)
        catalog = Catalog(root, writable=True)
        try:
            catalog.refresh()
            return _Packing(root, catalog).run(older_than_ns)
        finally:
            catalog.close()


class _Packing:
    """One call: sources are taken one after the other, and removed when what was taken of them is sealed."""

    def __init__(self, root: Path, catalog: Catalog) -> None:
        self._root, self._catalog = root, catalog
        self._presence = Presence(root, writable=True)
        self._done: list[Source] = []  # not removed yet
        self._before = self._removed = self._waiting = self._objects = self._large = 0
        self._damaged: list[tuple[Digest | None, str]] = []

    def run(self, older_than_ns: int) -> Packed:
        names = packs_to_rewrite(self._root)
        with BlockWriter(self._root, self._index) as writer:
            target = Target(self._root, self._catalog, writer, rewritten=frozenset(names))
            try:
                for name in names:
                    self._take(PackSource(self._root, name), target)
                chosen = large_objects(self._root, self._catalog, older_than_ns)
                for source in chosen.sources:
                    self._take(source, target)
                self._settle(target)
            finally:
                target.close()
            after = writer.written
        return Packed(
            self._objects,
            self._large,
            self._before,
            after,
            self._removed,
            self._waiting,
            chosen.left,
            tuple(self._damaged),
        )

    def _take(self, source: Source, target: Target) -> None:
        raise_format(self._root)
        damaged = source.copy(target)
        if damaged:
            self._damaged += damaged  # and the source stays: whoever mends things may need it
        else:
            self._done.append(source)
        if target.writer.full:
            self._settle(target)

    def _settle(self, target: Target) -> None:
        """Seal what was taken, then remove where it was taken from."""
        self._objects += target.objects
        self._large += target.large
        target.seal()
        waiting, removable = self._done, list[Source]()
        self._done = []
        if not leases_held(self._root):
            for batch in _batched(waiting, _BATCH):
                removable += self._remove(batch)
            waiting = [source for source in waiting if source not in removable]
        self._waiting += len(waiting)
        for folder in {source.path.parent for source in removable}:
            sync_folder(folder)

    def _remove(self, sources: Sequence[Source]) -> list[Source]:
        """Remove files that no process counts on, and none that is as young as a process at work; which went."""
        with closed_gate(self._root, self._presence) as others:
            gone = [source for source in sources if not _is_in_use(source, others)]
            self._catalog.forget([source.name for source in gone if isinstance(source, PackSource)])
            for source in gone:
                remove_quietly(source.path)
        self._before += sum(source.size for source in gone)
        self._removed += len(gone)
        return gone

    def _index(self, name: str, entries: list[PackEntry], end: int) -> None:
        assert pack_path(self._root, name, sealed=True).exists()
        self._catalog.add(name, entries, end, sealed=True)


def _is_in_use(source: Source, others: Others) -> bool:
    if source.counted_as in others.uses:
        return True
    if others.since_ns is None:
        return False
    return changed_ns(source.path) >= others.since_ns - _SLACK_NS


def _batched(sources: Sequence[Source], count: int) -> Iterator[Sequence[Source]]:
    for start in range(0, len(sources), count):
        yield sources[start : start + count]
