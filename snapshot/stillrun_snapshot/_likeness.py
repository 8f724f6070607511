"""Which objects have chunks in common. What an object is cut into is remembered, so that each is read for this once."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from stillrun_snapshot._block import parse_recipe, recipe_bytes
from stillrun_snapshot._catalog import Catalog
from stillrun_snapshot._chunks import chunks_of
from stillrun_snapshot._disk import remove_quietly, write_atomically
from stillrun_snapshot._pack import CHUNK
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import StoreError

if TYPE_CHECKING:
    from stillrun_snapshot._packing_large import LargeSource

__all__ = ["Likeness", "forget_chunks"]

_FOLDER = "cache/chunks"
_SHARE = 10  # one part in so many that is held elsewhere makes it worth to cut an object


def forget_chunks(root: Path, digest: Digest) -> None:
    """Drop what is remembered of an object that is packed."""
    remove_quietly(root / _FOLDER / digest.hex)


class Likeness:
    """The chunks of candidates, in a database of its own, which spills to disk when they are many."""

    def __init__(self, root: Path, catalog: Catalog) -> None:
        self._folder = root / _FOLDER
        self._catalog = catalog

    def alike(self, sources: list[LargeSource]) -> list[LargeSource]:
        """Return the sources of which a tenth or more is in packs already or in another source."""
        if not sources:
            return []
        database = sqlite3.connect("")
        try:
            database.execute("CREATE TABLE chunks (digest BLOB, source INTEGER, length INTEGER, held INTEGER)")
            for number, source in enumerate(sources):
                database.executemany("INSERT INTO chunks VALUES (?, ?, ?, ?)", self._rows(number, source))
            database.execute("CREATE INDEX by_digest ON chunks (digest, source)")
            shared = database.execute(
                "SELECT source, sum(length) FROM chunks AS one WHERE held OR EXISTS "
                "(SELECT 1 FROM chunks WHERE digest = one.digest AND source != one.source) GROUP BY source"
            )
            return [sources[number] for number, length in shared if length * _SHARE >= sources[number].size]
        finally:
            database.close()

    def _rows(self, number: int, source: LargeSource) -> list[tuple[bytes, int, int, bool]]:
        return [(digest.raw, number, length, self._is_held(digest)) for digest, length in self._chunks(source)]

    def _is_held(self, digest: Digest) -> bool:
        return any(entry.kind == CHUNK for _, entry in self._catalog.chunk(digest))

    def _chunks(self, source: LargeSource) -> list[tuple[Digest, int]]:
        path = self._folder / source.digest.hex
        try:
            known = parse_recipe(path.read_bytes())
            if sum(length for _, length in known) == source.size:
                return known
        except (OSError, StoreError):
            pass  # not remembered, or not whole
        with open(source.path, "rb") as stream:
            found = [(digest, len(data)) for digest, data in chunks_of(stream, source.size)]
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, recipe_bytes(found), durable=False)
        return found
