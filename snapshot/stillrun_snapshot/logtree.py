"""The Merkle tree over a store's log, kept up to date beside it so that a proof needs few hashes.

Format: docs/spec/checkpoint.md, section 1. What is kept is a cache: it may be deleted, and a verification goes without it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import mmap
import os
import sys
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stillrun_snapshot._disk import remove_quietly, write_all, write_atomically
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import StoreError
from stillrun_snapshot.merkle import consistency_proof, inclusion_proof, root_of
from stillrun_snapshot.record import canonical_bytes

__all__ = ["LogTree"]

_HASH = 32
_STEP = 200_000  # lines whose hashes are held in memory at a time


class LogTree:
    """The lines of one log as leaves. It covers what the log held when it was opened; a torn last line is none."""

    def __init__(self, root: Path, *, anew: bool = False) -> None:
        """anew: compute every hash from the log, and neither believe nor change what is kept."""
        self._log = root / "log"
        self._folder = root / "cache" / "merkle"
        self._levels: list[_Column] = []
        self._offsets = _Column(8)
        self._end, self._start, self._last = 0, 0, Digest("sha256:" + "0" * 64)
        if anew:
            self._catch_up(keep=False)
            return
        with self._alone() as writable:
            self._load()
            if writable and not self.size:
                remove_quietly(self._folder / "head")
            if self._catch_up(keep=writable) and writable:
                self._save()

    @property
    def size(self) -> int:
        """Number of lines."""
        return self._offsets.count

    @property
    def origin(self) -> str:
        """What this log is called in checkpoints; raises StoreError for one without lines."""
        if not self.size:
            raise StoreError(f"the log {self._log} has no lines yet, and so nothing stands for it. Make a run first.")
        return f"stillrun/log/{digest_of(self.line(0)).hex[:16]}"

    def root(self, size: int | None = None) -> bytes:
        """Return the root over all lines, or over the first ``size``."""
        return root_of(self.size if size is None else size, self._subtree)

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """Return the proof that line ``index`` (the first is 0) is among the first ``size``."""
        return inclusion_proof(index, self.size if size is None else size, self._subtree)

    def consistency(self, old: int, size: int | None = None) -> list[bytes]:
        """Return the proof that the first ``old`` lines are the beginning of the first ``size``."""
        return consistency_proof(old, self.size if size is None else size, self._subtree)

    def line(self, index: int) -> bytes:
        """Return the bytes of a line without its newline."""
        start = self._offset(index)
        end = self._offset(index + 1) if index + 1 < self.size else self._end
        with open(self._log, "rb") as stream:
            stream.seek(start)
            return stream.read(end - start - 1)

    def find(self, name: str) -> int | None:
        """Return the index of the last line that changed the ref ``name``, None when there is none."""
        needle = b'"ref":' + canonical_bytes({"ref": name})[len(b'{"ref":') : -1] + b","
        if not self.size:
            return None
        with open(self._log, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
            place = view.rfind(needle, 0, self._end)
        if place < 0:
            return None
        low, high = 0, self.size - 1
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._offset(middle) <= place else (low, middle - 1)
        return low

    def _subtree(self, level: int, index: int) -> bytes:
        return self._levels[level].get(index)

    def _offset(self, index: int) -> int:
        return int.from_bytes(self._offsets.get(index), "little")

    # -- computing -----------------------------------------------------------------------------------------------

    def _catch_up(self, *, keep: bool) -> bool:
        """Take in the lines behind those that are covered; whether there were any."""
        if not self._log.exists():
            return False
        offsets, leaves, seen = array("Q"), bytearray(), False
        sha256, last = hashlib.sha256, b""
        with open(self._log, "rb") as stream:
            stream.seek(self._end)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                offsets.append(self._end)
                self._start, self._end, last, seen = self._end, self._end + len(line), line, True
                leaves += sha256(b"\0" + line[:-1]).digest()
                if len(offsets) == _STEP:
                    self._append(offsets, leaves)
                    offsets, leaves = array("Q"), bytearray()
                    if keep:
                        self._try_flush()
        self._append(offsets, leaves)
        if seen:
            self._last = digest_of(last[:-1])
        return seen

    def _append(self, offsets: array[int], leaves: bytearray) -> None:
        if sys.byteorder == "big":
            offsets.byteswap()
        self._offsets.extend(offsets.tobytes())
        if not self._levels:
            self._levels.append(_Column(_HASH))
        self._levels[0].extend(leaves)
        sha256, level = hashlib.sha256, 0
        while self._levels[level].count > 1:
            below = self._levels[level]
            if level + 1 == len(self._levels):
                self._levels.append(_Column(_HASH))
            above = self._levels[level + 1]
            pairs = below.read(above.count * 2, below.count // 2 * 2)
            above.extend(
                b"".join(
                    sha256(b"\1" + pairs[place : place + 2 * _HASH]).digest()
                    for place in range(0, len(pairs), 2 * _HASH)
                )
            )
            level += 1

    # -- keeping -------------------------------------------------------------------------------------------------

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Hold the lock of the kept hashes; False where none can be written, and so nobody changes them."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:
            yield False
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield True
        finally:
            os.close(descriptor)

    def _load(self) -> None:
        """Take what is kept, when it is of this log."""
        try:
            head = json.loads((self._folder / "head").read_bytes())
            size, end, start, last = head["size"], head["offset"], head["start"], Digest.parse(head["line"])
            with open(self._log, "rb") as stream:
                stream.seek(start)
                line = stream.read(end - start)
            if not 0 <= start < end or not line.endswith(b"\n") or digest_of(line[:-1]) != last:
                return
            levels = [_Column(_HASH, self._path(level), size >> level) for level in range(size.bit_length())]
            self._offsets = _Column(8, self._folder / "offsets", size)
        except (OSError, ValueError, KeyError, TypeError, StoreError):
            self._offsets = _Column(8)
            return
        self._levels, self._end, self._start, self._last = levels, end, start, last

    def _try_flush(self) -> None:
        with suppress(OSError):
            self._flush()

    def _flush(self) -> None:
        """Move what is held in memory to the files; without a new head it does not count yet."""
        for level, column in enumerate(self._levels):
            column.flush(self._path(level))
        self._offsets.flush(self._folder / "offsets")

    def _save(self) -> None:
        try:
            self._flush()
            head = {"size": self.size, "offset": self._end, "line": self._last, "start": self._start}
            write_atomically(self._folder / "head", json.dumps(head).encode(), durable=False)
        except OSError:  # it is a cache: what cannot be kept is computed again
            remove_quietly(self._folder / "head")

    def _path(self, level: int) -> Path:
        return self._folder / f"hashes-{level}"


class _Column:
    """Values of one width, one after another: the first of them in a file, the others in memory."""

    def __init__(self, width: int, path: Path | None = None, kept: int = 0) -> None:
        """kept: how many of the file's values count. Raises OSError or ValueError when the file has fewer."""
        self._width, self._kept, self._tail = width, kept, bytearray()
        self._file = None if path is None else open(path, "rb", buffering=0)  # noqa: SIM115 - closed with the column
        if self._file is not None and os.fstat(self._file.fileno()).st_size < kept * width:
            raise ValueError("shorter than it should be")

    def __del__(self) -> None:
        if getattr(self, "_file", None) is not None:
            self._file.close()  # type: ignore[union-attr]  # it was looked at

    @property
    def count(self) -> int:
        return self._kept + len(self._tail) // self._width

    def get(self, index: int) -> bytes:
        return self.read(index, index + 1)

    def read(self, begin: int, end: int) -> bytes:
        """Return the values from ``begin`` to before ``end``."""
        width, kept, found = self._width, self._kept, b""
        if begin < kept:
            assert self._file is not None
            found = os.pread(self._file.fileno(), (min(end, kept) - begin) * width, begin * width)
            begin = min(end, kept)
        return found + bytes(self._tail[(begin - kept) * width : (end - kept) * width])

    def extend(self, values: bytes | bytearray) -> None:
        self._tail += values

    def flush(self, path: Path) -> None:
        """Move what is in memory to the file; what stood there beyond what counts is overwritten."""
        if not self._tail and self._file is not None:
            return
        if not self._kept:
            remove_quietly(path)  # who has it open goes on with the old one
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            os.lseek(descriptor, self._kept * self._width, os.SEEK_SET)
            write_all(descriptor, memoryview(self._tail))
        finally:
            os.close(descriptor)
        if self._file is not None:
            self._file.close()
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed with the column
        self._kept, self._tail = self.count, bytearray()
