"""Where packing puts things: what is held in blocks already is not written again, but read, as its copy will be removed."""

from __future__ import annotations

from pathlib import Path

from stillrun_snapshot._block_writer import BlockWriter
from stillrun_snapshot._catalog import Catalog, Held
from stillrun_snapshot._found import FoundChunks
from stillrun_snapshot._pack import CHUNK, RECIPE
from stillrun_snapshot._pack_files import PackFiles
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import ObjectCorrupt

__all__ = ["Target"]


class Target:
    """The packs that are being written and those of version 2 that stay."""

    def __init__(self, root: Path, catalog: Catalog, writer: BlockWriter, *, rewritten: frozenset[str]) -> None:
        """rewritten: packs that go, so that what they hold does not count as held."""
        self.writer = writer
        self.files = PackFiles(root)
        self.objects = 0  # since the last seal
        self.large = 0
        self._root, self._catalog, self._rewritten = root, catalog, rewritten

    def put(self, digest: Digest, kind: int, data: bytes) -> None:
        """Take an object, chunk or recipe, hashed by the caller."""
        if digest in self.writer.pending[kind] or self._is_held(digest, kind):
            return
        self.writer.add(digest, kind, data)
        self.objects += kind != CHUNK
        self.large += kind == RECIPE

    def has_large(self, digest: Digest) -> bool:
        """Return whether a recipe of the object is held, and makes it."""
        if digest in self.writer.pending[RECIPE]:
            return True
        for name, entry in self._places(digest, RECIPE):
            recipe = self.files.content(name, entry)
            if recipe is not None:
                try:
                    FoundChunks(recipe, digest, self._root, self._chunk).verify()
                except ObjectCorrupt:
                    continue
                return True
        return False

    def seal(self) -> None:
        """Make all that was taken durable and indexed."""
        self.writer.seal()
        self.objects = self.large = 0

    def close(self) -> None:
        """Let go of files."""
        self.files.close()

    def _is_held(self, digest: Digest, kind: int) -> bool:
        return any(self.files.content(name, entry) is not None for name, entry in self._places(digest, kind))

    def _places(self, digest: Digest, kind: int) -> list[Held]:
        found = self._catalog.chunk(digest) if kind == CHUNK else self._catalog.held(digest)
        return [
            (name, entry)
            for name, entry in found
            if entry.kind == kind and entry.content and name not in self._rewritten
        ]

    def _chunk(self, digest: Digest) -> bytes | None:
        for name, entry in self._catalog.chunk(digest):
            data = self.files.content(name, entry)
            if data is not None:
                return data
        return None
