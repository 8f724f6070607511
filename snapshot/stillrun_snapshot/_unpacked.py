"""Objects made of chunks as files again, for those who map them into memory: a cache. Format: docs/spec/store.md, section 2."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from stillrun_snapshot._disk import remove_quietly
from stillrun_snapshot._loose import Identity, LooseFolder, mismatch
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import ObjectCorrupt

__all__ = ["UnpackedFolder"]

_NAME = "cache/unpacked"
_ROOM = 16 * 1024**3  # bytes of all files; the oldest go first
_SPARED = 3600  # seconds: who was told of a younger file may not have opened it yet


class UnpackedFolder(LooseFolder):
    """The folder ``cache/unpacked`` of a store."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, _NAME)

    def unpack(self, digest: Digest, size: int, blocks: Iterable[memoryview]) -> Identity:
        """Make the object's file of its chunks and return its identity; raises ObjectCorrupt when they make another."""
        self._make_room(size)
        path, found, length = self.write(blocks)
        if found != digest:
            remove_quietly(path)
            raise ObjectCorrupt(digest, self._root, mismatch(found.hex, length))
        return self.take(path, digest)

    def _make_room(self, size: int) -> None:
        files = []
        for digest in self.digests():
            identity = self.identity(digest)
            if identity is not None:
                files.append((identity[3], identity[2], self.path(digest)))
        total, young = size + sum(each[1] for each in files), time.time_ns() - _SPARED * 10**9
        for mtime, length, path in sorted(files):
            if total <= _ROOM or mtime > young:
                return
            remove_quietly(path)
            total -= length

    def total(self) -> int:
        """Return the bytes of all files."""
        return sum(os.path.getsize(self.path(digest)) for digest in self.digests())  # noqa: PTH202
