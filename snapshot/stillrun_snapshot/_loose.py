"""Loose objects: large ones, a file each, raw, so that they can be memory-mapped. Format: docs/spec/store.md."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import queue
import re
import stat
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from stillrun_snapshot._disk import fresh_name, remove_quietly, sync_file, sync_folder, write_all
from stillrun_snapshot.digest import BLOCK, Digest
from stillrun_snapshot.errors import ObjectCorrupt, StoreError

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Identity", "LooseFolder", "VerifiedStream", "identity_of"]

Identity = tuple[int, int, int, int, int]  # device, inode, size, mtime_ns, ctime_ns
_MODE = 0o444
_REST = re.compile("[0-9a-f]{62}")
_AHEAD = 4  # blocks that hashing may lag behind writing
_SYNC_THREADS = 8  # fsync waits for the disk: eight at once are about four times as fast as one


def identity_of(status: os.stat_result) -> Identity:
    """Return what changes when a file is written to or replaced."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class LooseFolder:
    """The ``objects`` folder of a store, or another that is laid out like it."""

    def __init__(self, root: Path, name: str = "objects") -> None:
        self._root = root
        self.folder = name
        self._text = str(root / name)
        self._lock = threading.Lock()
        self._unsynced: set[Path] = set()
        self._fresh: set[Path] = set()  # of those the ones that were taken

    def path(self, digest: Digest) -> Path:
        """Return where the object stands, if it does."""
        return Path(f"{self._text}/{digest[7:9]}/{digest[9:]}")

    def name(self, digest: Digest) -> str:
        """Return the same as a path within the store."""
        return f"{self.folder}/{digest[7:9]}/{digest[9:]}"

    def identity(self, digest: Digest) -> Identity | None:
        """Return the identity of the object's file, None when it is not there."""
        try:
            status = os.stat(f"{self._text}/{digest[7:9]}/{digest[9:]}", follow_symlinks=False)  # noqa: PTH116  # five times as fast
        except FileNotFoundError:
            return None
        return identity_of(status) if stat.S_ISREG(status.st_mode) else None

    def opened(self, digest: Digest) -> io.FileIO | None:
        """Return the object's file, open for reading, None when it is not there."""
        try:
            descriptor = os.open(f"{self._text}/{digest[7:9]}/{digest[9:]}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP):  # a link is no object
                return None
            raise
        return io.FileIO(descriptor)

    def note_hit(self, digest: Digest) -> None:
        """Have the next sync include a file that was there already: its writer may not have synced it."""
        with self._lock:
            self._unsynced.add(self.path(digest))

    def is_unsynced(self, digest: Digest) -> bool:
        """Return whether the object's file was taken since the last sync."""
        return self.path(digest) in self._fresh

    def take(self, temporary: Path, digest: Digest) -> Identity:
        """Rename a finished file to its place; returns its identity there."""
        path = self.path(digest)
        temporary.chmod(_MODE)
        try:
            temporary.rename(path)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.rename(path)
        with self._lock:
            self._unsynced.add(path)
            self._fresh.add(path)
        return identity_of(path.lstat())

    def write(self, blocks: Iterable[memoryview]) -> tuple[Path, Digest, int]:
        """Write a stream to a temporary file while another thread hashes it; returns path, digest and size."""
        path = self._root / "tmp" / fresh_name("object")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                digest, size = _write_hashing(descriptor, blocks)
            finally:
                os.close(descriptor)
        except BaseException:
            remove_quietly(path)
            raise
        return path, digest, size

    def write_known(self, data: bytes | memoryview, digest: Digest) -> Identity:
        """Write an object whose digest is known already."""
        path = self._root / "tmp" / fresh_name("object")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                write_all(descriptor, data)
            finally:
                os.close(descriptor)
            return self.take(path, digest)
        except BaseException:
            remove_quietly(path)
            raise

    def sync(self) -> list[Digest]:
        """Make every file taken or hit since the last sync durable, and the folders that name them.

        Returns the objects whose file is gone: moved to a pack, and so durable there, or lost.
        """
        with self._lock:
            paths, self._unsynced = self._unsynced, set()
        if not paths:
            return []
        try:
            gone = _sync_each(sorted(paths))
            for folder in {path.parent for path in paths}:
                sync_folder(folder)
            sync_folder(Path(self._text))
        except BaseException:
            with self._lock:
                self._unsynced |= paths
            raise
        with self._lock:
            self._fresh -= paths
        return [Digest.parse(f"sha256:{path.parent.name}{path.name}") for path in gone]

    def digests(self) -> Iterator[Digest]:
        """Yield the name of every loose object, sorted; files with other names are passed over."""
        for folder in sorted(Path(self._text).glob("[0-9a-f][0-9a-f]")):
            for name in sorted(os.listdir(folder)):  # noqa: PTH208  # a tenth of the time
                if _REST.fullmatch(name):
                    yield Digest(f"sha256:{folder.name}{name}")


class VerifiedStream(io.RawIOBase):
    """A stream of an object that raises ObjectCorrupt at its end when the bytes were not the object's."""

    def __init__(self, stream: BinaryIO | io.RawIOBase, digest: Digest, root: Path) -> None:
        super().__init__()
        self._stream, self._digest, self._root = stream, digest, root
        self._state, self._count = hashlib.sha256(), 0

    def readable(self) -> bool:
        """Return True: it is there to be read."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed names it WriteableBuffer
        """Fill ``buffer``; raises ObjectCorrupt at the end of a file that does not match."""
        data = self._stream.read(len(buffer)) or b""
        buffer[: len(data)] = data
        self._state.update(data)
        self._count += len(data)
        if not data and len(buffer) and self._state.hexdigest() != self._digest.hex:
            raise ObjectCorrupt(self._digest, self._root, mismatch(self._state.hexdigest(), self._count))
        return len(data)

    def close(self) -> None:
        """Close the file below."""
        self._stream.close()
        super().close()


def mismatch(found: str, size: int) -> str:
    """Return the words for bytes that hash to ``found``."""
    return f"its {size:,} bytes hash to {found[:12]}…"


def blocks_of(data: memoryview) -> Iterator[memoryview]:
    """Cut a buffer in blocks, so that hashing and writing can overlap."""
    for start in range(0, len(data), BLOCK):
        yield data[start : start + BLOCK]


def blocks_of_file(stream: io.FileIO, limit: int | None) -> Iterator[memoryview]:
    """Yield a file in blocks; raises StoreError when it is longer than ``limit`` bytes."""
    total = 0
    while True:
        block = bytearray(BLOCK)  # a new one each time: the thread that hashes is still at the last
        count = stream.readinto(block)
        if not count:
            return
        total += count
        if limit is not None and total > limit:
            raise StoreError(
                f"{stream.name} is longer than the {limit:,} bytes allowed for it; nothing was kept of it."
            )
        yield memoryview(block)[:count]


def _write_hashing(descriptor: int, blocks: Iterable[memoryview]) -> tuple[Digest, int]:
    waiting: queue.Queue[memoryview | None] = queue.Queue(_AHEAD)
    from concurrent.futures import Future  # only for large objects: it brings logging with it

    result: Future[str] = Future()
    thread = threading.Thread(target=_hash_blocks, args=(waiting, result), name="hash", daemon=True)
    thread.start()
    size = 0
    try:
        for block in blocks:
            waiting.put(block)
            write_all(descriptor, block)
            size += len(block)
    finally:
        waiting.put(None)
        thread.join()
    return Digest("sha256:" + result.result()), size


def _hash_blocks(waiting: queue.Queue[memoryview | None], result: Future[str]) -> None:
    state = hashlib.sha256()
    while (block := waiting.get()) is not None:
        state.update(block)
    result.set_result(state.hexdigest())


def _sync_each(paths: list[Path]) -> list[Path]:
    """Sync the files; returns those that are gone."""
    if len(paths) <= 2:
        return [path for path in paths if not _sync_there(path)]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_SYNC_THREADS) as pool:
        there = list(pool.map(_sync_there, paths))
    return [path for path, found in zip(paths, there, strict=True) if not found]


def _sync_there(path: Path) -> bool:
    try:
        sync_file(path)
    except FileNotFoundError:
        return False
    return True
