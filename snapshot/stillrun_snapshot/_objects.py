"""What a store holds, for reading: found in packs, files and chunks, and checked. Format: docs/spec/store.md, version 1."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from stillrun_snapshot._answers import Location
from stillrun_snapshot._catalog import Catalog
from stillrun_snapshot._disk import remove_quietly, sync_file, writing
from stillrun_snapshot._found import FoundBytes, FoundChunks, FoundFile
from stillrun_snapshot._loose import Identity, LooseFolder
from stillrun_snapshot._pack import RAW, RECIPE
from stillrun_snapshot._packs import PackFolder
from stillrun_snapshot._presence import Presence
from stillrun_snapshot._unpacked import UnpackedFolder
from stillrun_snapshot.digest import Digest, digest_of_file
from stillrun_snapshot.errors import ObjectCorrupt, ObjectMissing, ObjectRedacted
from stillrun_snapshot.record import RECORD_MAX, parse_record

if TYPE_CHECKING:
    from stillrun_snapshot._found import Found
    from stillrun_snapshot.refs import RefLog

__all__ = ["SPARE", "Objects"]

SPARE = "cache/objects"  # what can be had again elsewhere: free to delete
_TOGETHER = 500  # records that are read at once
_LOOKS = 2  # an object may move from a file to a pack between two looks


class Objects:
    """The objects of a folder, by digest. Its methods may be called from any thread."""

    refs: RefLog

    def __init__(self, root: Path, *, writable: bool) -> None:
        self.root = root
        self.lender: Callable[[Digest], bool] | None = None  # may put an object here that is asked for and not held
        self._writable = writable
        self._lock = threading.RLock()
        self._loose = LooseFolder(root)
        self._spare = LooseFolder(root, SPARE)
        self._unpacked = UnpackedFolder(root)
        self._catalog = Catalog(root, writable=writable)
        self._presence = Presence(root, writable=writable)
        self._packs = PackFolder(root, self._catalog, self._presence)
        self._seen: dict[Digest, Identity] = {}
        self._new_seen: dict[Digest, Identity] = {}

    @property
    def writable(self) -> bool:
        """Whether anything can be written to it."""
        return self._writable

    @property
    def catalog(self) -> Catalog:
        """Its index, for upkeep."""
        return self._catalog

    @property
    def presence(self) -> Presence:
        """What of it this process counts on, for upkeep."""
        return self._presence

    def is_spare(self, digest: Digest) -> bool:
        """Return whether the object is held for now only, in the cache: no ref may rest on it."""
        digest = Digest(digest)
        return self._spare.identity(digest) is not None and not self._is_kept(digest)

    def get(self, digest: Digest, limit: int | None = None) -> bytes:
        """Return the object's bytes, hashed; raises ObjectMissing or ObjectCorrupt, and RecordError for more than ``limit``."""
        return self._find(Digest(digest)).read(limit)

    def get_many(self, digests: Iterable[Digest]) -> dict[Digest, bytes]:
        """Return the bytes of many objects, hashed; small ones that stand side by side are read together."""
        asked = list(dict.fromkeys(map(Digest, digests)))
        with self._lock:
            found = self._packs.read_many(asked)
        return {digest: found[digest] if digest in found else self.get(digest) for digest in asked}

    def packed(self, digests: Iterable[Digest]) -> dict[Digest, bytes]:
        """Return the bytes, hashed, of those that stand small in packs, and whole with all that stands before them.

        What is absent from it may be held all the same: ``verify`` tells.
        """
        with self._lock:
            return self._packs.read_many(list(dict.fromkeys(map(Digest, digests))), headers=True)

    def open_object(self, digest: Digest) -> BinaryIO:
        """Return a stream of the object, for reading once; at its end it raises ObjectCorrupt if it must."""
        return self._find(Digest(digest)).stream()

    def has(self, digest: Digest) -> bool:
        """Return whether the object is held; it is not read. Then it stays, whatever is cleaned up, while this store is open."""
        digest = Digest(digest)
        return self._size(digest) is not None and not self.absent([digest])

    def absent(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those that are not held; for the others the next sync vouches, as if they had been put again.

        They stay, whatever is cleaned up, while this store is open.
        """
        asked = {Digest(digest) for digest in digests}
        with self._lock:
            rest = asked - self._packs.hits(asked)
        loose = {self._loose.name(digest): digest for digest in rest if self._is_held_loose(digest)}
        staying = {loose[name] for name in self._presence.count_on(loose)}
        for digest in staying:
            self._loose.note_hit(digest)
        spare = {self._spare.name(digest): digest for digest in rest - staying if self._spare.identity(digest)}
        return rest - staying - {spare[name] for name in self._presence.count_on(spare)}

    def size(self, digest: Digest) -> int:
        """Return the object's length in bytes as it was recorded; raises ObjectMissing."""
        digest = Digest(digest)
        size = self._size(digest)
        if size is None:
            raise self._missing(digest)
        return size

    def locate(self, digest: Digest) -> Location:
        """Return where the object's bytes can be read raw; loose files are not hashed (see ``checked``)."""
        digest = Digest(digest)
        try:
            return self._located(digest)
        except ObjectMissing as missing:
            if isinstance(missing, ObjectRedacted) or not self._lent(digest):
                raise
        return self._located(digest)

    def _located(self, digest: Digest) -> Location:
        with self._lock:
            identity = self._loose.identity(digest)
            if identity is not None and not self._packs.wrote(digest):
                return Location(self._loose.path(digest), 0, identity[2])
            found = self._packs.read(digest)
            if found is None:
                spare = self._spare.identity(digest)
                if spare is None:
                    raise self._missing(digest)
                return Location(self._spare.path(digest), 0, spare[2])
            data, (name, entry) = found
            if entry.kind == RECIPE:
                return self._unpack(digest, data, entry.size)
            if entry.codec != RAW or not self._packs.count_on(name):
                return Location(None, 0, len(data), data)
            return Location(self._packs.path(name), entry.offset + entry.start, entry.size)

    def checked(self, digest: Digest) -> Location:
        """Return ``locate(digest)`` with the bytes hashed, now or when the file was as it is now."""
        digest = Digest(digest)
        location = self.locate(digest)
        folders = (self._loose, self._spare, self._unpacked)
        folder = next((one for one in folders if location.path == one.path(digest)), None)
        identity = None if folder is None else folder.identity(digest)
        if folder is None or identity is None:
            return location  # small objects are hashed each time, on the way here
        if self._seen.get(digest) == identity or self._known_identity(digest) == identity:
            return location
        try:
            found, _ = digest_of_file(folder.path(digest))
        except FileNotFoundError:  # it was moved to a pack meanwhile
            return self.checked(digest)
        if found != digest:
            if folder is not self._unpacked:
                self.verify(digest)  # which says what is wrong
                raise ObjectCorrupt(digest, self.root, "its file is not what it was a moment ago")
            remove_quietly(folder.path(digest))  # a cache: made anew
            return self.checked(digest)
        if folder.identity(digest) != identity:
            raise ObjectCorrupt(digest, self.root, "its file was replaced while it was hashed")
        self._vouch_for(folder, digest, identity)
        return location

    def _unpack(self, digest: Digest, recipe: bytes, size: int) -> Location:
        """Return the file of an object made of chunks, made when it is not there; where nothing can be written, its bytes."""
        if self._unpacked.identity(digest) is None:
            chunks = FoundChunks(recipe, digest, self.root, self.chunk)
            if not self.writable:
                return Location(None, 0, size, chunks.read())
            with writing(self.root):
                self._seen[digest] = self._unpacked.unpack(digest, size, chunks.blocks())
        return Location(self._unpacked.path(digest), 0, size)

    def verify(self, digest: Digest) -> int:
        """Return the object's length after hashing all of it; raises ObjectMissing or ObjectCorrupt."""
        return self._find(Digest(digest), lend=False).verify()

    def get_record(self, digest: Digest, name: str) -> dict[str, Any]:
        """Return the record called ``name``, such as ``run``, at the version this Stillrun reads."""
        try:
            data = self.get(digest, RECORD_MAX)
        except ObjectRedacted:
            from stillrun_snapshot.redaction import stand_in_of

            stand_in = stand_in_of(self, Digest(digest))
            if stand_in is None:
                raise
            data = self.get(stand_in, RECORD_MAX)
        return parse_record(data, f"stillrun/{name}/1")

    def get_records(self, digests: Iterable[Digest], name: str) -> list[dict[str, Any]]:
        """Return the records called ``name``, in their order; those that stand side by side are read together."""
        asked, found = list(digests), list[dict[str, Any]]()
        for start in range(0, len(asked), _TOGETHER):
            part = asked[start : start + _TOGETHER]
            with self._lock:
                data = self._packs.read_many(list(dict.fromkeys(part)))
            schema = f"stillrun/{name}/1"
            found += [parse_record(data[one], schema) if one in data else self.get_record(one, name) for one in part]
        return found

    def digests(self) -> Iterator[Digest]:
        """Yield the name of every object held, sorted."""
        with self._lock:
            names = self._packs.names()
        yield from sorted(names.union(self._loose.digests()))

    def _find(self, digest: Digest, *, lend: bool = True) -> Found:
        """Return the object where it is found first; files are opened at once, as others may move objects."""
        for _ in range(_LOOKS):
            with self._lock:
                file = None if self._packs.wrote(digest) else self._loose.opened(digest)
                found = self._packs.read(digest) if file is None else None
            if found is not None:
                data, (_, entry) = found
                return FoundBytes(data) if entry.kind != RECIPE else FoundChunks(data, digest, self.root, self.chunk)
            file = file or self._loose.opened(digest) or self._spare.opened(digest)
            if file is not None:
                return FoundFile(file, digest, self.root)
        missing = self._missing(digest)
        if lend and not isinstance(missing, ObjectRedacted) and self._lent(digest):
            return self._find(digest, lend=False)
        raise missing

    def chunk(self, digest: Digest) -> bytes | None:
        """Return the checked bytes of a chunk, which may stand in packs or be an object of its own."""
        with self._lock:
            data = self._packs.chunk(digest)
        if data is None and (file := self._loose.opened(digest)) is not None:
            data = FoundFile(file, digest, self.root).read()
        return data

    def _missing(self, digest: Digest) -> ObjectMissing:
        """Why an object is not here: it was never kept, or it was redacted."""
        from stillrun_snapshot.redaction import redacted_error

        return redacted_error(self, digest) or ObjectMissing(digest, self.root)

    def _lent(self, digest: Digest) -> bool:
        """Whether somebody else has put here what is not held; without the lock: others may have to work for it."""
        return self.lender is not None and self.lender(digest)

    def _size(self, digest: Digest) -> int | None:
        size = self._kept_size(digest)
        if size is None and (identity := self._spare.identity(digest)) is not None:
            return identity[2]
        return size

    def _is_kept(self, digest: Digest) -> bool:
        return self._kept_size(digest) is not None

    def _kept_size(self, digest: Digest) -> int | None:
        with self._lock:
            entry = self._packs.entry(digest)
            if entry is None:
                identity = self._loose.identity(digest)
                if identity is not None:
                    return identity[2]
                if self._packs.look_again():
                    entry = self._packs.entry(digest)
            return None if entry is None else entry.size

    def _is_held_loose(self, digest: Digest) -> bool:
        """Return whether an object is held as a file that can be counted on: one that nobody vouches for is hashed."""
        identity = self._loose.identity(digest)
        return identity is not None and (not self._writable or self._is_sound(digest, identity))

    def _is_sound(self, digest: Digest, identity: Identity) -> bool:
        """Return whether a loose file is the one that was hashed last, or hashes to its name now."""
        if identity in (self._seen.get(digest), self._known_identity(digest)):
            return True
        try:
            sound = digest_of_file(self._loose.path(digest))[0] == digest
            if sound:
                self._vouch_for(self._loose, digest, identity)
        except FileNotFoundError:  # removed this moment
            return False
        return sound

    def _vouch_for(self, folder: LooseFolder, digest: Digest, identity: Identity) -> None:
        """Remember a file that was hashed. It is synced first, or it might have other bytes when the power comes back."""
        if self._writable:
            sync_file(folder.path(digest))
        self._remember(digest, identity)

    def _remember(self, digest: Digest, identity: Identity) -> None:
        with self._lock:
            self._seen[digest] = self._new_seen[digest] = identity

    def _known_identity(self, digest: Digest) -> tuple[int, ...] | None:
        with self._lock:
            return self._catalog.seen(digest)
