"""The packs of a store as one place: objects are found in any of them and written to one of our own."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from stillrun_snapshot._abandoned import seal_abandoned, seal_if_abandoned
from stillrun_snapshot._catalog import Catalog, Held
from stillrun_snapshot._disk import sync_file, write_failure, writing
from stillrun_snapshot._pack import (
    RAW,
    RECIPE,
    ZSTD,
    PackEntry,
    PackWriter,
    compressed,
    pack_path,
    payload_content,
)
from stillrun_snapshot._pack_files import PackFiles, recipe_rows
from stillrun_snapshot._presence import Presence
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import ObjectCorrupt

__all__ = ["COMPRESS_MIN", "PackFolder"]

COMPRESS_MIN = 8 * 1024  # importing zstandard takes longer than smaller objects are worth
_HELD_MAX = 20_000  # entries of our own pack that are held in memory; the catalog takes them then


class PackFolder:
    """The ``packs`` folder of a store. Its methods are called under the store's lock."""

    def __init__(self, root: Path, catalog: Catalog, presence: Presence) -> None:
        self._root = root
        self._catalog = catalog
        self._presence = presence
        self._folder = str(root / "packs")
        self._writer: PackWriter | None = None
        self._written: dict[Digest, PackEntry] = {}
        self._shared: set[str] = set()  # packs of other writers that hold what was put here
        self._sealed: set[str] = set()  # packs that were seen not to be open any more
        self._files = PackFiles(root)

    # -- finding -------------------------------------------------------------------------------------------------

    def wrote(self, digest: Digest) -> bool:
        """Return whether the object is in our own pack."""
        return digest in self._written

    def entry(self, digest: Digest) -> PackEntry | None:
        """Return an entry of the object, as far as is known without looking for new packs."""
        entry = self._written.get(digest)
        if entry is None:
            places = self._catalog.held(digest)
            entry = places[0][1] if places else None
        return entry

    def look_again(self) -> bool:
        """Take in what other writers wrote meanwhile; returns False when nothing can be new."""
        return self._catalog.refresh(self.own)

    def names(self) -> set[Digest]:
        """Return the name of every object in a pack."""
        self.look_again()
        return {*self._catalog.digests(), *self._written}

    def hit(self, digest: Digest) -> bool:
        """Return whether the object is held, and have the next sync cover the pack that holds it."""
        if digest in self._written:
            return True
        return bool(self.hits({digest}))

    def hits(self, digests: set[Digest]) -> set[Digest]:
        """Return those that are held, and have the next sync cover the packs that hold them."""
        asked = [digest for digest in digests if digest not in self._written]
        packs = self._catalog.packs_of(asked)
        if self._seal_some(name for name, _ in packs.values()):
            packs = self._catalog.packs_of(asked)
        if (staying := self._staying(name for name, _ in packs.values())) is None:  # moved meanwhile, or removed
            packs = self._catalog.packs_of(asked)
            staying = self._staying(name for name, _ in packs.values()) or set()
        self._shared.update(staying)
        held = {digest for digest in digests if digest in self._written}
        for digest, (name, kind) in packs.items():
            if name in staying and (kind != RECIPE or self._is_whole(digest)):
                held.add(digest)
        return held

    def _seal_some(self, names: Iterable[str]) -> bool:
        """Seal those of the packs whose writers died, as they may lack what the index says they hold; whether there were any."""
        found = False
        for name in set(names) - self._sealed:
            if not pack_path(self._root, name, sealed=False).exists():
                self._sealed.add(name)
            elif self._presence.writable:
                with writing(self._root):
                    found |= seal_if_abandoned(self._root, name)
        if found:
            self._catalog.refresh(self.own, anew=True)
        return found

    def _is_whole(self, digest: Digest) -> bool:
        """Return whether all chunks of an object are there; then they stay, as the recipe does."""
        for name, entry in self._catalog.held(digest):
            if entry.kind != RECIPE:
                if self._staying([name]):
                    return True
                continue
            rows = recipe_rows(self._files.content(name, entry))
            packs = self._catalog.chunk_packs([chunk for chunk, _ in rows])
            if rows and len(packs) == len({chunk for chunk, _ in rows}) and self._staying({name, *packs.values()}):
                return True
        return False

    def count_on(self, name: str) -> bool:
        """Return whether the pack is there; then it stays where it is while this store is open."""
        return name == self.own or bool(self._staying([name]))

    def _staying(self, names: Iterable[str]) -> set[str] | None:
        """Return the packs after having said that they are counted on; None, and a new index, when one of them is gone."""
        files = {f"packs/{name}": name for name in names}
        there = self._presence.count_on(files)
        if len(there) < len(files):
            self._catalog.refresh(self.own, anew=True)
            return None
        return set(files.values())

    def read(self, digest: Digest) -> tuple[bytes, Held] | None:
        """Return the checked bytes of an object, or its recipe, and where they stand; None when no pack has it.

        Raises ObjectCorrupt when those that have it hold something else.
        """
        if self._writer is not None and (entry := self._written.get(digest)):
            data = payload_content(entry, self._writer.read(entry))
            if data is not None:
                return data, (self._writer.name, entry)
        while True:
            seen = self._changed_ns()
            found = self._look(digest)
            if found is not None or self._changed_ns() == seen:
                return found  # else packs were moved while we looked, and it may be in a new one

    def _look(self, digest: Digest) -> tuple[bytes, Held] | None:
        places = self._catalog.held(digest)
        if not places and self._catalog.refresh(self.own):
            places = self._catalog.held(digest)
        for name, entry in self._whole_first(places):
            data = self._files.content(name, entry)
            if data is not None:
                return data, (name, entry)
        if not places:
            return None
        return self._read_anew(digest, [name for name, _ in places])

    def _changed_ns(self) -> int:
        return os.stat(self._folder).st_mtime_ns  # noqa: PTH116  # as text it takes a fifth of the time

    def read_many(self, digests: list[Digest], *, headers: bool = False) -> dict[Digest, bytes]:
        """Return the checked bytes of those that stand in sealed or other writers' packs where the catalog says they do.

        What is absent from the answer may be held all the same: ``read`` tells. headers: as of ``contents``.
        """
        found: dict[Digest, bytes] = {}
        for name, entries in self._catalog.places_of(digests).items():
            found.update(self._files.contents(name, entries, headers=headers))
        return found

    def chunk(self, digest: Digest) -> bytes | None:
        """Return the checked bytes of a chunk, None when no pack has them whole."""
        for look in (False, True):
            if look and not self._catalog.refresh(self.own):
                return None
            for name, entry in self._catalog.chunk(digest):
                data = self._files.content(name, entry)
                if data is not None:
                    return data
        return None

    def _whole_first(self, places: list[Held]) -> list[Held]:
        """Of several places those last whose recipes lack a chunk."""
        return places if len(places) < 2 else sorted(places, key=lambda place: self._lacks(*place))

    def _lacks(self, name: str, entry: PackEntry) -> bool:
        if entry.kind != RECIPE:
            return False
        rows = {chunk for chunk, _ in recipe_rows(self._files.content(name, entry))}
        return not rows or len(self._catalog.chunk_packs(list(rows))) < len(rows)

    def _read_anew(self, digest: Digest, names: list[str]) -> tuple[bytes, Held] | None:
        """Read packs again whose index may be wrong; what still does not match is damaged."""
        for name in names:
            self._files.drop(name)
            if self.path(name).exists():
                self._catalog.rescan(name)
        self._catalog.refresh(self.own, anew=True)  # they may have moved to another pack
        places = self._catalog.held(digest)
        for name, entry in self._whole_first(places):
            data = self._files.content(name, entry)
            if data is not None:
                return data, (name, entry)
        places = [place for place in places if self.path(place[0]).exists()]  # not those moved again meanwhile
        if places:
            where = ", ".join(self.path(name).name for name, _ in places)
            raise ObjectCorrupt(digest, self._root, f"its entry in {where} does not hold it any more")
        return None

    # -- writing -------------------------------------------------------------------------------------------------

    @property
    def own(self) -> str | None:
        """Name of the pack that this store writes, None before its first write."""
        return None if self._writer is None else self._writer.name

    def append(self, digest: Digest, data: bytes, *, compress: bool) -> None:
        """Write an object to our own pack, which is made when this is the first."""
        payload = compressed(data) if compress and len(data) >= COMPRESS_MIN else None
        try:
            if self._writer is None:
                seal_abandoned(self._root)
                self._writer = PackWriter(self._root)
            codec = RAW if payload is None else ZSTD
            self._written[digest] = self._writer.append(digest, codec, len(data), payload or data)
        except OSError as error:
            raise write_failure(self._root, error) from error
        if len(self._written) >= _HELD_MAX:
            self.index()
            self._written = {}

    def sync(self) -> None:
        """Make our own pack durable, and those of others that hold what was put here."""
        if self._writer is not None:
            self._writer.sync()
        for name in sorted(self._shared):
            self._sync_pack(name)
        self._shared.clear()

    def close(self) -> None:
        """Seal our own pack and let go of all files."""
        self._files.close()
        writer, self._writer = self._writer, None
        if writer is None:
            return
        empty = writer.empty
        writer.close()
        if not empty:
            self._catalog.add(writer.name, self._written.values(), writer.end, sealed=True)
        self._written = {}

    def forget(self, digests: Collection[Digest]) -> None:
        """Say no more that sealed packs of ours hold these, and let go of packs that were opened for reading."""
        self._files.close()
        for digest in digests:
            self._written.pop(digest, None)

    def index(self) -> None:
        """Tell the catalog of our own pack before it is sealed."""
        if self._writer is not None and self._written:
            self._catalog.add(self._writer.name, self._written.values(), self._writer.end, sealed=False)

    def path(self, name: str) -> Path:
        """Return where the pack stands now; one that is being written moves once, when it is sealed."""
        sealed = pack_path(self._root, name, sealed=True)
        return sealed if sealed.exists() else pack_path(self._root, name, sealed=False)

    def _sync_pack(self, name: str) -> None:
        """Make another writer's open pack durable; a sealed one is by construction."""
        path = pack_path(self._root, name, sealed=False)
        try:
            sync_file(path)
        except FileNotFoundError:
            return
        sync_file(path.parent)
