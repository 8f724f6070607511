"""Which objects are needed: all that is held, found by reading packs and folders, and a mark on what roots reach.

A record is known by its first bytes, and needs every object whose name stands in it. That is more than any reader of records
asks for and never less: no kind of record has to be known here, and none that is added later can be forgotten.
The one exception is where a run came from, which is a mention and no need (docs/spec/store.md, section 7).
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from stillrun_snapshot._loose import LooseFolder
from stillrun_snapshot._pack import OPEN_SUFFIX, SEALED_SUFFIX
from stillrun_snapshot._pack_walk import content_of, stands_in, view_of
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import BLOCK, Digest
from stillrun_snapshot.errors import ObjectMissing
from stillrun_snapshot.store import Store

__all__ = ["Holdings", "PackFile", "names_in", "pack_files"]

_NAME = re.compile(rb"sha256:([0-9a-f]{64})")
_ORIGIN = re.compile(rb'"origin":\{"record":"sha256:[0-9a-f]{64}"')
_RECORD = b'{"'
_OVERLAP = 100  # bytes, more than the longest thing that is looked for
# A place is a number: which file, the offset in it, and one bit that says that the object is needed.
_OFFSETS = 1 << 41
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
    """All objects of a store and whether each is needed. About 200 bytes of memory for each of them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._places: dict[bytes, int] = {}
        self._later: set[Digest] = set()
        self.damaged: list[PackFile] = []
        self.packs = pack_files(store.root)
        for number, pack in enumerate(self.packs):
            stands, damaged = stands_in(pack.now_at())
            if damaged:
                self.damaged.append(pack)
            for each in stands:
                self._places.setdefault(each.raw, number * _OFFSETS + each.begin * 2)
        self._folders = {_LOOSE: LooseFolder(store.root), _SPARE: LooseFolder(store.root, "cache/objects")}
        for number, folder in self._folders.items():
            for digest in folder.digests():
                self._places.setdefault(digest.raw, number * _OFFSETS)

    def __len__(self) -> int:
        return len(self._places)

    def holds(self, raw: bytes) -> bool:
        """Return whether the object was held when this was made."""
        return raw in self._places

    def needs(self, raw: bytes) -> bool:
        """Return whether the object was reached; one that came later counts as reached."""
        return bool(self._places.get(raw, 1) & 1)

    def needed(self) -> int:
        """Return how many objects were reached."""
        return sum(place & 1 for place in self._places.values())

    def mark(self, roots: Iterable[bytes]) -> None:
        """Mark what the roots reach; names of nothing that is held are passed over.

        Raises ObjectCorrupt for a damaged record, whose needs cannot be known.
        """
        waiting = {raw for raw in roots if not self.needs(raw)}
        while waiting:
            found: set[bytes] = set()
            for raw, names in self._read(waiting):
                self._places[raw] |= 1
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
        opened, view = -1, None
        for place, raw in sorted((self._places[raw], raw) for raw in waiting):
            number, offset = place // _OFFSETS, place % _OFFSETS // 2
            if number < _LOOSE and number != opened:
                opened, view = number, view_of(self.packs[number].now_at())
            try:
                in_file = number >= _LOOSE
                names = self._names_in_file(raw) if in_file else names_in(self._content(view, offset, raw))
            except ObjectMissing:  # it has gone as garbage before it was named again
                names = set()
            yield raw, names

    def _names_of_new(self, digest: Digest) -> set[bytes]:
        try:
            return names_in(self._store.get(digest))
        except ObjectMissing:  # most names that records hold are of no object
            return set()

    def _content(self, view: mmap.mmap | None, offset: int, raw: bytes) -> bytes:
        data = None if view is None else content_of(view, offset, raw)
        return self._store.get(Digest.of_raw(raw)) if data is None else data  # another copy, or the right error

    def _names_in_file(self, raw: bytes) -> set[bytes]:
        location = self._store.checked(Digest.of_raw(raw))
        if location.path is None:
            return names_in(location.data or b"")
        names: set[bytes] = set()
        with open(location.path, "rb") as stream:
            stream.seek(location.offset)
            tail = stream.read(2)
            if tail != _RECORD:
                return names
            while block := stream.read(BLOCK):
                text = _ORIGIN.sub(b"", tail + block)
                names.update(bytes.fromhex(found.decode()) for found in _NAME.findall(text))
                tail = text[-_OVERLAP:]
        return names
