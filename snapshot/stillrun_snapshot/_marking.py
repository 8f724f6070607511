"""Which objects are needed: all that is held, found by reading packs and folders, and a mark on what roots reach.

A record is known by its first bytes, and needs every object whose name stands in it. That is more than any reader of records
asks for and never less: no kind of record has to be known here, and none that is added later can be forgotten.
The one exception is where a run came from, which is a mention and no need (docs/spec/store.md, section 7).
"""

from __future__ import annotations

import hashlib
import mmap
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from stillrun_snapshot._block import Block, content_of, parse_block
from stillrun_snapshot._loose import LooseFolder
from stillrun_snapshot._pack import CHUNK, HEADER_SIZE, OPEN_SUFFIX, RAW, RECIPE, SEALED_SUFFIX, decompressed, header_at
from stillrun_snapshot._pack_files import recipe_rows
from stillrun_snapshot._pieces import PackScan, Piece, scan_pack
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import BLOCK, Digest
from stillrun_snapshot.errors import ObjectCorrupt, ObjectMissing
from stillrun_snapshot.store import Store

__all__ = ["Holdings", "PackFile", "names_in", "pack_files"]

_NAME = re.compile(rb"sha256:([0-9a-f]{64})")
_ORIGIN = re.compile(rb'"origin":\{"record":"sha256:[0-9a-f]{64}"')
_RECORD = b'{"'
_OVERLAP = 100  # bytes, more than the longest thing that is looked for
# A place is a number: which file, the offset in it, one bit for a chunk that is no object, and one that says that it is needed.
_OFFSETS = 1 << 42
_CHUNK, _NEEDED = 2, 1
_LOOSE, _SPARE = 1 << 30, (1 << 30) + 1


@dataclass(frozen=True)
class PackFile:
    """A pack as it was found."""

    name: str
    path: Path
    sealed: bool
    mtime_ns: int
    size: int

    def now_at(self) -> Path:
        """Where it stands now; one that was being written may have been sealed."""
        return self.path if self.path.exists() else self.path.with_name(self.path.name.removesuffix(".open"))

    def scan(self) -> PackScan:
        """What stands in it, wherever it is now; nothing when it is gone."""
        for _ in range(2):  # it may be sealed between the look and the reading, once
            with suppress(FileNotFoundError):
                return scan_pack(self.now_at())
        return PackScan(0, 0)


def pack_files(root: Path) -> list[PackFile]:
    """Return the packs of a store, by name; one that is sealed this moment is told as it was or as it is."""
    found: dict[str, PackFile] = {}
    for path in sorted((root / "packs").iterdir(), reverse=True):  # the longer name, of one in use, comes first
        for sealed, suffix in ((True, SEALED_SUFFIX), (False, OPEN_SUFFIX)):
            if path.name.endswith(suffix):
                try:
                    status = path.stat()
                except FileNotFoundError:
                    path = path.with_name(path.name.removesuffix(".open"))
                    sealed, status = True, path.stat()
                name = path.name[: -len(SEALED_SUFFIX if sealed else OPEN_SUFFIX)]
                found[name] = PackFile(name, path, sealed, status.st_mtime_ns, status.st_size)
                break
    return [found[name] for name in sorted(found)]


def names_in(data: bytes) -> set[bytes]:
    """Return the raw digests that an object names, if it is a record."""
    if not data.startswith(_RECORD):
        return set()
    return {bytes.fromhex(text.decode()) for text in _NAME.findall(_ORIGIN.sub(b"", data))}


class Holdings:
    """All objects and chunks of a store and whether each is needed. About 200 bytes of memory for each of them.

    An object that is made of chunks needs them, those of each recipe that there is of it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._places: dict[bytes, int] = {}
        self._recipes: dict[bytes, list[int]] = {}
        self._later: set[Digest] = set()
        self.damaged: list[PackFile] = []
        self.packs = pack_files(store.root)
        for number, pack in enumerate(self.packs):
            scan = pack.scan()
            if scan.damaged:
                self.damaged.append(pack)
            for piece in scan.pieces:
                self._note(number, piece)
        self._folders = {_LOOSE: LooseFolder(store.root), _SPARE: LooseFolder(store.root, "cache/objects")}
        for number, folder in self._folders.items():
            for digest in folder.digests():
                if self._is_last_resort(digest.raw):
                    self._places[digest.raw] = number * _OFFSETS

    def _note(self, number: int, piece: Piece) -> None:
        raw, kind = piece.raw, piece.kind
        place = number * _OFFSETS + piece.place * 4 + (_CHUNK if kind == CHUNK else 0)
        if raw not in self._places or (kind != CHUNK and self._is_last_resort(raw)):
            self._places[raw] = place
        if kind == RECIPE:
            self._recipes.setdefault(raw, []).append(place)

    def _is_last_resort(self, raw: bytes) -> bool:
        """Whether another place would be better to read the object from."""
        place = self._places.get(raw)
        return place is None or bool(place & _CHUNK) or place in self._recipes.get(raw, ())

    def __len__(self) -> int:
        return sum(not place & _CHUNK for place in self._places.values())

    def holds(self, raw: bytes) -> bool:
        """Return whether the object was held when this was made."""
        return not self._places.get(raw, _CHUNK) & _CHUNK

    def needs(self, raw: bytes) -> bool:
        """Return whether the object or chunk was reached; one that came later counts as reached."""
        return bool(self._places.get(raw, _NEEDED) & _NEEDED)

    def needed(self) -> int:
        """Return how many objects were reached."""
        return sum(place & (_NEEDED | _CHUNK) == _NEEDED for place in self._places.values())

    def mark(self, roots: Iterable[bytes]) -> None:
        """Mark what the roots reach; names of nothing that is held are passed over.

        Raises ObjectCorrupt for a damaged record, whose needs cannot be known.
        """
        waiting = {raw for raw in roots if not self.needs(raw)}
        while waiting:
            found: set[bytes] = set()
            for raw, names in self._read(waiting):
                self._places[raw] |= _NEEDED
                found.update(names)
            waiting = {raw for raw in found if not self.needs(raw)}

    def mark_later(self, roots: Iterable[Digest]) -> None:
        """Mark what roots reach that were named after this was made, through objects that were put since."""
        waiting = list(roots)
        while waiting:
            known = [digest.raw for digest in waiting if digest.raw in self._places]
            self.mark(known)
            unknown = {digest for digest in waiting if digest.raw not in self._places and digest not in self._later}
            self._later |= unknown
            waiting = [Digest.of_raw(raw) for digest in unknown for raw in self._names_of_new(digest)]

    def _read(self, waiting: set[bytes]) -> Iterator[tuple[bytes, set[bytes]]]:
        """Each object and the names in it, in the order in which they stand in files."""
        reader = _PackReader(self.packs)
        for place, raw in sorted((self._places[raw], raw) for raw in waiting):
            try:
                names = set() if place & _CHUNK else self._names_at(place, raw, reader)
            except ObjectMissing:  # it has gone as garbage before it was named again
                names = set()
            if raw in self._recipes:
                names |= self._chunks_of(raw)
            yield raw, names

    def _names_at(self, place: int, raw: bytes, reader: _PackReader) -> set[bytes]:
        if place // _OFFSETS >= _LOOSE:
            return self._names_in_file(raw)
        if place in self._recipes.get(raw, ()):
            with self._store.open_object(Digest.of_raw(raw)) as stream:
                return _names_in_stream(stream)
        data = reader.content(place // _OFFSETS, place % _OFFSETS // 4, raw)
        return names_in(
            self._store.get(Digest.of_raw(raw)) if data is None else data
        )  # another copy, or the right error

    def _chunks_of(self, raw: bytes) -> set[bytes]:
        """The chunks of every recipe of an object; a recipe that lacks one makes nothing, and needs none."""
        found: set[bytes] = set()
        reader = _PackReader(self.packs)
        for place in self._recipes[raw]:
            data = reader.recipe(place // _OFFSETS, place % _OFFSETS // 4, raw)
            chunks = {digest.raw for digest, _ in recipe_rows(data)}
            if chunks <= self._places.keys():
                found |= chunks
        if not found and self._is_last_resort(raw):
            raise ObjectCorrupt(
                Digest.of_raw(raw), self._store.root, "chunks that it is made of are damaged or missing"
            )
        return found

    def _names_of_new(self, digest: Digest) -> set[bytes]:
        try:
            return names_in(self._store.get(digest))
        except ObjectMissing:  # most names that records hold are of no object
            return set()

    def _names_in_file(self, raw: bytes) -> set[bytes]:
        location = self._store.checked(Digest.of_raw(raw))
        if location.path is None:
            return names_in(location.data or b"")
        with open(location.path, "rb") as stream:
            stream.seek(location.offset)
            return _names_in_stream(stream)


def _names_in_stream(stream: BinaryIO) -> set[bytes]:
    names: set[bytes] = set()
    tail = stream.read(2)
    if tail != _RECORD:
        return names
    while block := stream.read(BLOCK):
        text = _ORIGIN.sub(b"", tail + block)
        names.update(bytes.fromhex(found.decode()) for found in _NAME.findall(text))
        tail = text[-_OVERLAP:]
    return names


class _PackReader:
    """Packs for reading in the order of places; one of them, and one block, is at hand."""

    def __init__(self, packs: list[PackFile]) -> None:
        self._packs = packs
        self._number = self._place = -1
        self._view: mmap.mmap | None = None
        self._block: Block | None = None
        self._data: bytes | None = None

    def content(self, number: int, place: int, raw: bytes) -> bytes | None:
        """Return the checked object whose header, or that of its block, stands there; None when it does not."""
        view = self._opened(number)
        if view is None:
            return None
        found = header_at(view, place)
        if found is not None and found[3] == raw:
            codec, size, stored, _ = found
            payload = view[place + HEADER_SIZE : place + HEADER_SIZE + stored]
            data = payload if codec == RAW else decompressed(payload, size)
        else:
            data = self._member(view, place, raw)
        return data if data is not None and hashlib.sha256(data).digest() == raw else None

    def recipe(self, number: int, place: int, raw: bytes) -> bytes | None:
        """Return the recipe that stands in the block there."""
        view = self._opened(number)
        return None if view is None else self._member(view, place, raw)

    def _opened(self, number: int) -> mmap.mmap | None:
        if number != self._number:
            self._number, self._view, self._place = number, _view(self._packs[number]), -1
        return self._view

    def _member(self, view: mmap.mmap, place: int, raw: bytes) -> bytes | None:
        if place != self._place:
            self._place, self._data = place, None
            self._block = block = parse_block(view, place)
            if block is not None:
                payload = view[block.offset : block.offset + block.stored]
                self._data = content_of(payload, block.codec, block.width, block.content)
        if self._block is None or self._data is None:
            return None
        for name, kind, start, length in self._block.members():
            if name == raw and kind != CHUNK:
                return self._data[start : start + length]
        return None


def _view(pack: PackFile) -> mmap.mmap | None:
    """A pack in memory; None when it is gone."""
    try:
        with open(pack.now_at(), "rb") as stream:
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except (FileNotFoundError, ValueError):
        return None
