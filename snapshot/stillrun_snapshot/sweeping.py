"""Removing what nothing needs, beside writers and readers, so that being killed at any point loses nothing.

Before a file goes, the gate is closed and refs are held still for a moment, and what was named or begun since is looked at.
Packs that are needed in part are written anew, and made durable, before they go.
"""

from __future__ import annotations

import mmap
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

from stillrun_snapshot._block_writer import BlockWriter
from stillrun_snapshot._disk import changed_ns, remove_quietly, sync_folder, writing
from stillrun_snapshot._marking import PackFile, pack_files
from stillrun_snapshot._pack import RECIPE, PackWriter, pack_path
from stillrun_snapshot._pieces import Piece, has_blocks, mapped, pieces_in, sound_data
from stillrun_snapshot._presence import closed_gate
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import StoreError
from stillrun_snapshot.garbage import UNPACKED, Found, Garbage, LooseFile, objects_among, unsound
from stillrun_snapshot.inspection import Finding
from stillrun_snapshot.store import Store

__all__ = ["drop_damaged", "sweep"]

_TARGET = 64 << 20  # bytes of packs that are written anew together
_SPAN = 1 << 20  # bytes that are copied at once, about
_BATCH = 500  # files that go while the gate is closed: some milliseconds

Told = Callable[[str, int], None]
Copied = Callable[[list[PackFile]], dict[str, list[Piece]]]  # copies what is needed of packs, and says what is not


def sweep(found: Found, told: Told = lambda _name, _size: None) -> Garbage:
    """Remove what was found and is still not needed; how much went. told: is told each file and the bytes that it freed."""
    return _Sweep(found, told).run()


def drop_damaged(store: Store, findings: Iterable[Finding], left: Collection[Digest]) -> None:
    """Remove damaged copies of objects that are sound elsewhere or needed by nothing. left: needed, and to be had nowhere.

    Where one of these is, its file stays, so that it can be mended another time.
    """
    places: dict[str, set[Digest]] = {}
    for one in findings:
        if one.kind in ("damaged", "cache"):
            places.setdefault(one.place, set()).update(() if one.digest is None else (one.digest,))
    places = {place: digests for place, digests in places.items() if not digests.intersection(left)}
    with writing(store.root):
        for pack in pack_files(store.root):
            if pack.sealed and f"packs/{pack.path.name}" in places:
                _rewrite_without(store, pack, places[f"packs/{pack.path.name}"])
        for place, digests in places.items():
            if place.startswith(UNPACKED):
                remove_quietly(store.root / place)
            if place.startswith(("objects/", "cache/objects/")) and not all(_is_sound(store, each) for each in digests):
                remove_quietly(store.root / place)


def _is_sound(store: Store, digest: Digest) -> bool:
    try:
        store.verify(digest)
    except StoreError:
        return False
    return True


def _rewrite_without(store: Store, pack: PackFile, dropped: Collection[Digest]) -> None:
    """Let another pack take the place of a sealed one, with all its entries but ``dropped``; what is unreadable goes."""
    if has_blocks(pack.path):
        _copy_blocks_without(store, pack, dropped)
    else:
        _copy_without(store, pack, dropped)
    sync_folder(pack.path.parent)
    with closed_gate(store.root, store.presence) as others:
        if f"packs/{pack.name}" in others.uses:
            return  # another time
        pack.path.unlink()
    sync_folder(pack.path.parent)
    store.catalog.exchange([pack.name])


def _copy_without(store: Store, pack: PackFile, dropped: Collection[Digest]) -> None:
    writer = PackWriter(store.root)
    try:
        with mapped(pack.path) as view:
            for piece in pieces_in(pack.path):
                if piece.digest not in dropped:  # whatever was not looked at stays as it is
                    writer.copy(view[piece.place : piece.offset + piece.stored])
    finally:
        writer.close()


def _copy_blocks_without(store: Store, pack: PackFile, dropped: Collection[Digest]) -> None:
    """Of blocks only what is sound can be written anew; an object of ``dropped`` is either no more, or its recipe is wrong."""
    with block_writer(store) as writer, mapped(pack.path) as view:
        for piece, data in sound_data(view, pieces_in(pack.path)):
            wrong = piece.kind == RECIPE and piece.digest in dropped
            if data is not None and not wrong:
                writer.add(piece.digest, piece.kind, data)
        writer.seal()


def block_writer(store: Store) -> BlockWriter:
    """Return a writer of packs of version 2 that the store's index is told of."""
    return BlockWriter(store.root, lambda name, entries, end: store.catalog.add(name, entries, end, sealed=True))


class _Sweep:
    def __init__(self, found: Found, told: Told) -> None:
        self._found, self._store, self._told = found, found.store, told
        self._log_length = found.log_length
        self._uses = found.uses
        self._packs = {pack.name: pack for pack in found.holdings.packs}
        self._objects = self._size = self._freed = 0

    def run(self) -> Garbage:
        with writing(self._store.root):
            gone = self._remove_files()
            whole = self._remove_dead_packs()
            rewritten = self._rewrite_mixed_packs()
            leftovers = self._remove_leftovers()
        loose = sum(file.name.startswith("objects/") for file in gone)
        spare = sum(file.name.startswith("cache/objects/") for file in gone)
        return Garbage(
            self._objects,
            self._size,
            self._freed,
            whole,
            rewritten,
            loose,
            spare,
            leftovers,
        )

    @contextmanager
    def _still(self) -> Iterator[None]:
        """Nobody names anything, or begins to count on it, while the block runs; what was until then is marked as needed."""
        with closed_gate(self._store.root, self._store.presence) as others, self._store.refs.held_still() as length:
            if length != self._log_length:
                self._found.holdings.mark_later(digest for _, digest in self._store.refs.names())
                self._log_length = length
            if new := others.uses - self._uses:
                self._found.holdings.mark_later(self._objects_in(new))
                self._uses |= new
            yield

    def _objects_in(self, files: frozenset[str]) -> Iterator[Digest]:
        for name in files:
            if name.startswith("packs/"):
                pack = self._packs.get(name.removeprefix("packs/"))
                path = (
                    pack_path(self._store.root, name.removeprefix("packs/"), sealed=True)
                    if pack is None
                    else pack.now_at()
                )
                if path.exists():
                    yield from (piece.digest for piece in pieces_in(path))
            else:
                yield Digest("sha256:" + name[-65:].replace("/", ""))

    def _remove_files(self) -> list[LooseFile]:
        gone: list[LooseFile] = []
        for _, group in groupby(enumerate(self._found.files), lambda item: item[0] // _BATCH):
            with self._still():
                gone += [file for _, file in group if self._remove_file(file)]
        self._store.catalog.forget_seen(file.digest for file in gone)
        return gone

    def _remove_file(self, file: LooseFile) -> bool:
        path = self._store.root / file.name
        is_copy = file.name.startswith(UNPACKED)
        if not self._found.is_dead(file.digest, UNPACKED if is_copy else "objects") or file.name in self._uses:
            return False
        if not 0 < changed_ns(path) < self._found.young_ns:  # gone, or put anew
            return False
        path.unlink()
        self._count(file.name, 0 if is_copy else 1, file.size, file.size)
        return True

    def _remove_dead_packs(self) -> int:
        gone: list[str] = []
        for pack in reversed(self._found.dead_packs):  # what is made of chunks mostly stands in a later pack than those
            members = pieces_in(pack.path)
            with self._still():
                if self._goes(pack, members):
                    pack.path.unlink()
                    gone.append(pack.name)
                    self._count(
                        pack.path.name, objects_among(members), sum(each.object_size for each in members), pack.size
                    )
        self._settle(gone)
        return len(gone)

    def _goes(self, pack: PackFile, left: Sequence[Piece]) -> bool:
        return f"packs/{pack.name}" not in self._uses and not any(
            self._found.holdings.needs(piece.raw) for piece in left
        )

    def _rewrite_mixed_packs(self) -> int:
        old = [pack for pack in self._found.mixed_packs if not has_blocks(pack.path)]
        new = [pack for pack in reversed(self._found.mixed_packs) if pack not in old]
        return self._rewrite_all(old, self._copied) + self._rewrite_all(new, self._copied_blocks)

    def _rewrite_all(self, packs: Sequence[PackFile], copied: Copied) -> int:
        done, group, total = 0, list[PackFile](), 0
        for pack in [*packs, None]:
            if group and (pack is None or total + pack.size > _TARGET):
                done += self._rewrite(group, copied)
                group, total = [], 0
            if pack is not None:
                group.append(pack)
                total += pack.size
        return done

    def _rewrite(self, packs: list[PackFile], copied: Copied) -> int:
        """Write one pack of what is needed in several, then remove those; how many went."""
        with self._still():  # what is needed by now is copied
            pass
        left = copied(packs)
        sync_folder(self._store.root / "packs")
        gone: list[str] = []
        with self._still():
            for pack in packs:
                if self._goes(pack, left[pack.name]):
                    pack.path.unlink()
                    gone.append(pack.name)
        for pack in packs:
            if pack.name in gone:
                dead = left[pack.name]
                size, freed = sum(each.object_size for each in dead), sum(each.takes for each in dead)
                self._count(pack.path.name, objects_among(dead), size, freed)
        self._settle(gone)
        return len(gone)

    def _copied(self, packs: list[PackFile]) -> dict[str, list[Piece]]:
        """Copy what is needed of packs of entries; what was left out of each."""
        writer = PackWriter(self._store.root)
        try:
            return {pack.name: self._copy(pack, writer) for pack in packs}
        finally:
            writer.close()

    def _copy(self, pack: PackFile, writer: PackWriter) -> list[Piece]:
        """Copy what is needed of a pack of entries, what stands side by side at once; what was left out."""
        left: list[Piece] = []
        begin = end = 0  # of what is copied next
        with mapped(pack.path) as view:
            for piece, _ in self._split(pack, view, left):
                if piece.place != end or end - begin > _SPAN:
                    writer.copy(view[begin:end])
                    begin = piece.place
                end = piece.offset + piece.stored
            writer.copy(view[begin:end])
        return left

    def _copied_blocks(self, packs: list[PackFile]) -> dict[str, list[Piece]]:
        """Copy what is needed of packs of blocks to new blocks; what was left out of each."""
        left: dict[str, list[Piece]] = {pack.name: [] for pack in packs}
        with block_writer(self._store) as writer:
            for pack in packs:
                with mapped(pack.path) as view:
                    for piece, data in self._split(pack, view, left[pack.name]):
                        writer.add(piece.digest, piece.kind, data)
            writer.seal()
        return left

    def _split(self, pack: PackFile, view: mmap.mmap, left: list[Piece]) -> Iterator[tuple[Piece, bytes]]:
        """Yield what is needed of a pack with its bytes, checked; the rest is added to ``left``."""
        needs = self._found.holdings.needs
        for piece, data in sound_data(view, pieces_in(pack.path)):
            if not needs(piece.raw):
                left.append(piece)
            elif data is None:
                raise unsound(self._store, f"{piece.digest} in {pack.path.name} is damaged")
            else:
                yield piece, data

    def _settle(self, gone: list[str]) -> None:
        if gone:
            sync_folder(self._store.root / "packs")
            self._store.catalog.exchange(gone)

    def _remove_leftovers(self) -> int:
        for path in self._found.leftovers:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                remove_quietly(path)
        return len(self._found.leftovers)

    def _count(self, name: str, objects: int, size: int, freed: int) -> None:
        self._objects, self._size, self._freed = self._objects + objects, self._size + size, self._freed + freed
        self._told(name, freed)
