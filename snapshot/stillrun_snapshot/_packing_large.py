"""Files of objects as sources of packing: which of them are worth it, and how they are taken."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from stillrun_snapshot._block import recipe_bytes
from stillrun_snapshot._catalog import Catalog
from stillrun_snapshot._chunks import WHOLE_MAX, chunks_of, is_too_large
from stillrun_snapshot._encoding import saves
from stillrun_snapshot._likeness import Likeness, forget_chunks
from stillrun_snapshot._loose import LooseFolder
from stillrun_snapshot._pack import CHUNK, OBJECT, RECIPE
from stillrun_snapshot._packing_target import Target
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest

__all__ = ["Chosen", "LargeSource", "large_objects"]

_PIECE = 64 * 1024  # bytes looked at in three places of a file


class LargeSource:
    """The file of one object that is to be replaced."""

    def __init__(self, root: Path, path: Path, digest: Digest, size: int) -> None:
        self._root, self.path, self.digest, self.size = root, path, digest, size
        self.counted_as = str(path.relative_to(root))

    def copy(self, target: Target) -> list[tuple[Digest | None, str]]:
        """Give the object to ``target``; returns it when it is damaged."""
        taken = self._whole(target) if self.size <= WHOLE_MAX else self._in_chunks(target)
        return [] if taken else [(self.digest, str(self.path.relative_to(self._root)))]

    def _whole(self, target: Target) -> bool:
        data = self.path.read_bytes()
        if hashlib.sha256(data).hexdigest() != self.digest.hex:
            return False
        target.put(self.digest, OBJECT, data)
        return True

    def _in_chunks(self, target: Target) -> bool:
        if target.has_large(self.digest):
            return True
        state, rows = hashlib.sha256(), []
        with open(self.path, "rb") as stream:
            for digest, data in chunks_of(stream, self.size):
                state.update(data)
                rows.append((digest, len(data)))
                target.put(digest, CHUNK, data)
        if state.hexdigest() != self.digest.hex:
            return False
        target.put(self.digest, RECIPE, recipe_bytes(rows))
        forget_chunks(self._root, self.digest)  # the recipe says it now
        return True


@dataclass(frozen=True)
class Chosen:
    """Which files are packed, and how many are not."""

    sources: list[LargeSource]
    left: int


def large_objects(root: Path, catalog: Catalog, older_than_ns: int) -> Chosen:
    """Choose among files last written before ``older_than_ns`` those that become smaller, or share chunks with others."""
    chosen, doubtful = [], []
    for source in _files(root, older_than_ns):
        if source.size <= WHOLE_MAX or _saves(source):
            chosen.append(source)
        elif not is_too_large(source.size):
            doubtful.append(source)
    alike = Likeness(root, catalog).alike(doubtful)
    return Chosen(chosen + alike, len(doubtful) - len(alike))


def _files(root: Path, older_than_ns: int) -> Iterator[LargeSource]:
    """Yield files of objects, oldest first, so that versions of one thing stand side by side."""
    loose, found = LooseFolder(root), []
    for digest in loose.digests():
        identity = loose.identity(digest)
        if identity is not None and identity[3] < older_than_ns:
            found.append((identity[3], digest, identity[2]))
    for _, digest, size in sorted(found):
        yield LargeSource(root, loose.path(digest), digest, size)


def _saves(source: LargeSource) -> bool:
    step = (source.size - _PIECE) // 2 // 16 * 16  # numbers begin at the same places in each piece
    with open(source.path, "rb", buffering=0) as stream:
        pieces = []
        for place in range(3):
            stream.seek(place * step)
            pieces.append(stream.read(_PIECE))
    return saves(b"".join(pieces))
