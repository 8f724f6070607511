"""New packs of version 2: members are gathered in blocks, compressed beside the writing, and sealed as whole packs."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from stillrun_snapshot._block import block_bytes, content_of, parse_block
from stillrun_snapshot._disk import fresh_name, remove_quietly, sync_folder, write_all
from stillrun_snapshot._encoding import Encoded, encoded
from stillrun_snapshot._pack import CHUNK, MAGIC_2, OBJECT, RAW, RECIPE, PackEntry, pack_path
from stillrun_snapshot._pieces import block_pieces
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import StoreError

__all__ = ["BlockWriter", "leftovers"]

BLOCK_TARGET = 1024 * 1024  # bytes of content: larger blocks save two percent more, and each read decompresses one
PACK_TARGET = 128 * 1024 * 1024  # from here on a pack is sealed when its owner is between two sources
ENTRIES_TARGET = 50_000  # the same of its entries, which are in memory until then: some 40 MiB
_MOST = 2  # times that: from here on it is sealed in any case, as what one source holds has no bound
_WAITING = 4  # blocks being compressed
_PREFIX = "pack-"  # of the names below tmp/
_RECORD = b'"schema":"stillrun/'
Sealed = Callable[[str, list[PackEntry], int], None]


class BlockWriter:
    """Writes packs below ``tmp/`` and gives each its name when it is durable; ``sealed`` is told, and may rely on it.

    Its owner holds the store's upkeep. Used as a context; what is not sealed at its end is thrown away.
    """

    def __init__(self, root: Path, sealed: Sealed) -> None:
        self._root, self._sealed = root, sealed
        self._groups: dict[str, _Group] = {}
        self._jobs: deque[tuple[list[tuple[Digest, int, int]], bytes, Future[Encoded]]] = deque()
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="compress")
        self._file: _PackFile | None = None
        self.pending: dict[int, set[Digest]] = {OBJECT: set(), CHUNK: set(), RECIPE: set()}  # not sealed yet
        self.written = 0  # bytes of the packs that were sealed

    def __enter__(self) -> BlockWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        if self._file is not None:
            self._file.discard()

    def add(self, digest: Digest, kind: int, data: bytes) -> None:
        """Take one member, unless it waits already; members of a kind stay in the order in which they come."""
        if digest in self.pending[kind]:
            return
        self.pending[kind].add(digest)
        group = self._groups.setdefault(_name(kind, data), _Group())
        group.members.append((digest, kind, len(data)))
        group.parts.append(data)
        group.size += len(data)
        if group.size >= BLOCK_TARGET:
            self._flush(group)

    @property
    def full(self) -> bool:
        """Whether the pack that is being written is as large as one should be."""
        return self._file is not None and self._file.fills(1)

    def seal(self) -> None:
        """Make all that was added durable in packs that have their names."""
        for group in self._groups.values():
            self._flush(group)
        while self._jobs:
            self._write_oldest()
        self._finish_file()
        assert not any(self.pending.values()), "all of it is in packs that were sealed"

    def _finish_file(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        file.finish()
        self.written += file.end
        self._sealed(file.name, file.entries, file.end)
        for entry in file.entries:
            self.pending[entry.kind].discard(entry.digest)

    def _flush(self, group: _Group) -> None:
        if not group.members:
            return
        if group.members[0][1] == RECIPE and (chunks := self._groups.get(_name(CHUNK, b""))) is not None:
            self._flush(chunks)  # a recipe never stands in a pack that is sealed before its chunks are
        content, members = b"".join(group.parts), group.members
        group.clear()
        job: Future[Encoded]
        if members[0][1] == RECIPE:
            job = Future()
            job.set_result(Encoded(RAW, 0, content))
        else:
            job = self._pool.submit(_proven, content)
        self._jobs.append((members, content, job))
        while len(self._jobs) > _WAITING:
            self._write_oldest()

    def _write_oldest(self) -> None:
        members, content, job = self._jobs.popleft()
        form = job.result()
        if self._file is None:
            self._file = _PackFile(self._root)
        head = block_bytes(members, form.codec, form.width, len(content), form.payload)
        self._file.append(head, form.payload)
        if self._file.fills(_MOST):
            self._finish_file()


def _name(kind: int, data: bytes) -> str:
    """Return the group that a member is gathered in: records are like each other, and read together."""
    return "records" if kind == OBJECT and data[:1] == b"{" and _RECORD in data else f"kind {kind}"


class _Group:
    """Members that wait for their block to be full."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.members: list[tuple[Digest, int, int]] = []
        self.parts: list[bytes] = []
        self.size = 0


class _PackFile:
    """One pack that is being written below ``tmp/``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.name = fresh_name(f"{time.time_ns() // 1_000_000:012x}")
        self._path = root / "tmp" / (_PREFIX + self.name)
        self._descriptor: int | None = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        self.entries: list[PackEntry] = []
        self.end = 0
        self._write(MAGIC_2)

    def append(self, head: bytes, payload: bytes) -> None:
        block = parse_block(head, 0)
        assert block is not None, "it was just made"
        whole = head + payload
        self.entries += (_moved(piece.entry, self.end) for piece in block_pieces(block, whole, 0))
        self._write(whole)

    def fills(self, targets: int) -> bool:
        """Return whether so many times the size that a pack should have is reached."""
        return self.end >= PACK_TARGET * targets or len(self.entries) >= ENTRIES_TARGET * targets

    def finish(self) -> None:
        """Make the pack durable and give it its name."""
        assert self._descriptor is not None
        os.fsync(self._descriptor)
        self._close()
        final = pack_path(self._root, self.name, sealed=True)
        self._path.rename(final)
        sync_folder(final.parent)

    def discard(self) -> None:
        self._close()
        remove_quietly(self._path)

    def _write(self, data: bytes) -> None:
        assert self._descriptor is not None
        write_all(self._descriptor, data)
        self.end += len(data)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def leftovers(root: Path) -> list[Path]:
    """Return packs below ``tmp/`` whose writer died; for who holds the store's upkeep."""
    return sorted((root / "tmp").glob(_PREFIX + "*"))


def _moved(entry: PackEntry, by: int) -> PackEntry:
    place = entry.offset + by
    return PackEntry(entry.digest, entry.codec, entry.size, entry.stored, place, entry.kind, entry.start, entry.content)


def _proven(content: bytes) -> Encoded:
    """Return the form of ``content``, read back: what it replaces will be removed."""
    form = encoded(content)
    if content_of(form.payload, form.codec, form.width, len(content)) != content:
        raise StoreError(
            "what was compressed does not come back as it was; nothing was removed. Check this machine's memory."
        )
    return form
