"""Objects as they were found: checked bytes, an open file, or chunks; each read, streamed or hashed in its own way."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from stillrun_snapshot._loose import VerifiedStream, mismatch
from stillrun_snapshot.digest import BLOCK, Digest, digest_of
from stillrun_snapshot.errors import ObjectCorrupt, RecordError, StoreError

__all__ = ["FoundBytes", "FoundChunks", "FoundFile"]

_BUFFER = 1 << 18


class FoundBytes:
    """A small object, hashed already."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, limit: int | None = None) -> bytes:  # noqa: ARG002  # it was small enough to be read
        """Return the bytes."""
        return self._data

    def stream(self) -> BinaryIO:
        """Return the bytes as a stream."""
        return io.BytesIO(self._data)

    def verify(self) -> int:
        """Return the length."""
        return len(self._data)


class FoundFile:
    """A file that was opened and not hashed: whoever moves the object meanwhile does not disturb."""

    def __init__(self, file: io.FileIO, digest: Digest, root: Path) -> None:
        self._file, self._digest, self._root = file, digest, root

    def read(self, limit: int | None = None) -> bytes:
        """Return the bytes of the file, hashed."""
        with self._file:
            _require_at_most(limit, os.fstat(self._file.fileno()).st_size, self._digest)
            data = self._file.readall()
        if (actual := digest_of(data)) != self._digest:
            raise ObjectCorrupt(self._digest, self._root, mismatch(actual.hex, len(data)))
        return data

    def stream(self) -> BinaryIO:
        """Return the file as a stream that hashes."""
        return io.BufferedReader(VerifiedStream(self._file, self._digest, self._root), _BUFFER)

    def verify(self) -> int:
        """Hash the file in blocks."""
        state, size = hashlib.sha256(), 0
        block = memoryview(bytearray(BLOCK))
        with self._file:
            while count := self._file.readinto(block):
                state.update(block[:count])
                size += count
        if state.hexdigest() != self._digest.hex:
            raise ObjectCorrupt(self._digest, self._root, mismatch(state.hexdigest(), size))
        return size


class FoundChunks:
    """An object that is made of chunks; one of them at a time is in memory."""

    def __init__(self, recipe: bytes, digest: Digest, root: Path, chunk: Callable[[Digest], bytes | None]) -> None:
        self._recipe, self._digest, self._root, self._chunk = recipe, digest, root, chunk

    def blocks(self) -> Iterator[memoryview]:
        """Yield the chunks, each checked; that they make up the object is for the caller to hash."""
        from stillrun_snapshot._block import parse_recipe

        try:
            rows = parse_recipe(self._recipe)
        except StoreError as error:
            raise ObjectCorrupt(self._digest, self._root, str(error)) from error
        for name, length in rows:
            data = self._chunk(name)
            if data is None or len(data) != length:
                raise ObjectCorrupt(self._digest, self._root, f"its chunk {name} is damaged or missing")
            yield memoryview(data)

    def read(self, limit: int | None = None) -> bytes:
        """Return the chunks as one, hashed."""
        from stillrun_snapshot._block import recipe_size

        _require_at_most(limit, recipe_size(self._recipe, 0), self._digest)
        whole = io.BytesIO()
        state = hashlib.sha256()
        for block in self.blocks():
            state.update(block)
            whole.write(block)
        self._require(state.hexdigest(), whole.tell())
        return whole.getvalue()

    def stream(self) -> BinaryIO:
        """Return the chunks as a stream that hashes."""
        return io.BufferedReader(VerifiedStream(_ChunkReader(self.blocks()), self._digest, self._root), _BUFFER)

    def verify(self) -> int:
        """Hash chunk after chunk."""
        state, size = hashlib.sha256(), 0
        for block in self.blocks():
            state.update(block)
            size += len(block)
        self._require(state.hexdigest(), size)
        return size

    def _require(self, found: str, size: int) -> None:
        if found != self._digest.hex:
            raise ObjectCorrupt(self._digest, self._root, mismatch(found, size))


def _require_at_most(limit: int | None, size: int, digest: Digest) -> None:
    """Refuse an object that is longer than it can be for what it is read as: a few kilobytes of recipe may make terabytes."""
    if limit is not None and size > limit:
        raise RecordError(f"object {digest} has {size:,} bytes, more than the {limit:,} that a record may have.")


class _ChunkReader(io.RawIOBase):
    def __init__(self, blocks: Iterator[memoryview]) -> None:
        super().__init__()
        self._blocks, self._rest = blocks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed names it WriteableBuffer
        while not self._rest:
            following = next(self._blocks, None)
            if following is None:
                return 0
            self._rest = following
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


if TYPE_CHECKING:
    Found = FoundBytes | FoundFile | FoundChunks
