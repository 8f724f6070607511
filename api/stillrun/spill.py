"""Where the bytes of a part go while it is made: memory when small, a spill file with its digest when large."""

from __future__ import annotations

import os

from stillrun.errors import SpillError
from stillrun.sha import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import _Hash
    from typing import Any

__all__ = ["Part", "PartSink"]

PARALLEL_MIN = 4 * 1024 * 1024  # a thread costs about as much as hashing 100 KiB; below this it gains little
SLICE = 64 * 1024 * 1024  # what one write is given: some systems refuse 2 GiB and more at once


class Part:
    """One finished part: its digest and size, and where its bytes are (data, spill, or neither)."""

    __slots__ = ("data", "digest", "size", "spill")

    def __init__(self, digest: str, size: int, data: bytes | None = None, spill: str | None = None) -> None:
        self.digest = digest
        self.size = size
        self.data = data  # the bytes, when small
        self.spill = spill  # path of the file that holds them, when large


class PartSink:
    """A writable object that pickle writes to; ``finish`` gives the part.

    folder: where a part of ``inline_max`` bytes or more is written; None only counts and hashes it.
    """

    def __init__(self, folder: str | None, inline_max: int) -> None:
        self._folder = folder
        self._inline_max = inline_max
        self._hash: _Hash | None = None  # once there is more than is held in memory
        self._small: list[bytes] = []
        self._size = 0
        self._path: str | None = None
        self._descriptor = -1

    def write(self, data: Any) -> int:
        """Take bytes in. Raises SpillError when they cannot be written."""
        view = memoryview(data).cast("B")
        count = view.nbytes
        if self._size + count < self._inline_max:
            self._small.append(bytes(view))
        else:
            self._spill(view)
        self._size += count
        return count

    def finish(self) -> Part:
        """The part that was written."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        data = b"".join(self._small) if self._size < self._inline_max else None
        hashed = self._hash or sha256(data or b"")
        return Part("sha256:" + hashed.hexdigest(), self._size, data, self._path)

    def discard(self) -> None:
        """Drop what was written."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._path is not None:
            os.unlink(self._path)
            self._path = None

    def _spill(self, view: memoryview) -> None:
        hashed = self._hash or self._begin_hash()
        if self._folder is None:
            self._small.clear()
            hashed.update(view)
            return
        try:
            if self._descriptor < 0:
                self._open()
            self._hash_and_write(hashed, view)
        except OSError as err:
            self.discard()
            raise SpillError(
                f"{view.nbytes:,} bytes of an artifact cannot be written to {self._folder} ({err.strerror}).",
                cure="Make room there, or give the store another place.",
            ) from err

    def _begin_hash(self) -> _Hash:
        import hashlib

        hashed = self._hash = hashlib.sha256()
        for small in self._small:
            hashed.update(small)
        return hashed

    def _open(self) -> None:
        assert self._folder is not None
        self._path = os.path.join(self._folder, f"{os.getpid()}-{os.urandom(8).hex()}.part")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o644)
        for small in self._small:
            _write_all(self._descriptor, memoryview(small))
        self._small.clear()

    def _hash_and_write(self, hashed: _Hash, view: memoryview) -> None:
        if view.nbytes < PARALLEL_MIN:
            hashed.update(view)
            _write_all(self._descriptor, view)
            return
        import threading

        # both let go of the interpreter lock: a large part costs the slower of the two, not the sum
        hashing = threading.Thread(target=hashed.update, args=(view,))
        hashing.start()
        try:
            _write_all(self._descriptor, view)
        finally:
            hashing.join()


def _write_all(descriptor: int, view: memoryview) -> None:
    done = 0
    while done < view.nbytes:
        done += os.write(descriptor, view[done : done + SLICE])
