"""Bytes of objects taken out of a store for good: loose files, entries of packs, copies. Rules: docs/spec/redaction.md."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import time
from collections.abc import Collection
from pathlib import Path

from stillrun_snapshot._block_writer import BlockWriter
from stillrun_snapshot._catalog import Catalog
from stillrun_snapshot._disk import fresh_name, remove_quietly, sync_folder, write_all
from stillrun_snapshot._pack import CHUNK, MAGIC, RECIPE, pack_path
from stillrun_snapshot._pack_files import PackFiles, recipe_rows
from stillrun_snapshot._pieces import Piece, has_blocks, mapped, pieces_in, sound_data
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import StoreError

__all__ = ["clear_copies", "expunge_loose", "expunge_packed"]

_LOOSE = ("objects", "cache/objects", "cache/unpacked")
_BLOCK = 1 << 20


def expunge_loose(root: Path, gone: Collection[Digest]) -> None:
    """Delete the files of the objects, wherever files of objects stand."""
    for name in _LOOSE:
        folders = set()
        for digest in gone:
            path = root / name / digest.hex[:2] / digest.hex[2:]
            if path.exists():
                path.unlink()
                folders.add(path.parent)
            remove_quietly(root / "cache" / "chunks" / digest.hex)
        for folder in folders:
            sync_folder(folder)


def expunge_packed(root: Path, catalog: Catalog, gone: Collection[Digest]) -> None:
    """Replace each pack that holds one of the objects by one without it. Raises StoreError for one that is being written."""
    catalog.refresh()
    chunks = _unneeded_chunks(root, catalog, gone)
    names = {name for digest in gone for name in catalog.packs_with(digest)}
    names.update(name for name, entry in catalog.of_kind(CHUNK) if entry.digest in chunks)
    for name in sorted(names):
        old = pack_path(root, name, sealed=True)
        if not old.exists():
            raise StoreError(
                f"the pack {name} of {root} is being written by another process. Try again when it has ended."
            )
        for fresh in _blocks_without(root, old, gone, chunks) if has_blocks(old) else _without(root, old, gone):
            catalog.rescan(fresh)
        old.unlink()
        sync_folder(old.parent)
        catalog.rescan(name)


def clear_copies(root: Path) -> None:
    """Delete checkouts and unfinished writes: they may hold what was taken out, and are made again when they are needed."""
    for name in ("trees", "tmp"):
        folder = root / name
        if not folder.is_dir():
            continue
        for path in folder.iterdir():
            _remove(path)


def _unneeded_chunks(root: Path, catalog: Catalog, gone: Collection[Digest]) -> set[Digest]:
    """Chunks that no object needs any more when ``gone`` is gone: whatever they were part of, it may have been that."""
    needed: set[Digest] = set()
    files = PackFiles(root)
    try:
        for name, entry in catalog.of_kind(RECIPE):
            if entry.digest not in gone:
                needed.update(digest for digest, _ in recipe_rows(files.content(name, entry)))
    finally:
        files.close()
    return {entry.digest for _, entry in catalog.of_kind(CHUNK)} - needed


def _blocks_without(root: Path, old: Path, gone: Collection[Digest], chunks: Collection[Digest]) -> list[str]:
    """Write what is sound in a pack of blocks, but for objects of ``gone`` and ``chunks``, to new ones; their names."""
    names: list[str] = []
    with (
        BlockWriter(root, lambda name, _entries, _end: names.append(name)) as writer,
        mapped(old) as view,
    ):
        for piece, data in sound_data(view, pieces_in(old)):
            goes = piece.digest in (chunks if piece.kind == CHUNK else gone)
            if data is not None and not goes:
                writer.add(piece.digest, piece.kind, data)
        writer.seal()
    return names


def _without(root: Path, old: Path, gone: Collection[Digest]) -> list[str]:
    """Write what a pack holds, but for ``gone``, to a new one, durable; its name, or none when nothing is left."""
    kept = [piece for piece in pieces_in(old) if piece.digest not in gone]
    if not kept:
        return []
    name = fresh_name(f"{time.time_ns() // 1_000_000:012x}")
    temporary = root / "tmp" / f"{name}.pack"
    try:
        with open(old, "rb") as source:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                write_all(descriptor, MAGIC)
                for begin, end in _ranges(kept):
                    _copy(source.fileno(), descriptor, begin, end)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        temporary.rename(pack_path(root, name, sealed=True))
    except BaseException:
        remove_quietly(temporary)
        raise
    sync_folder(root / "packs")
    return [name]


def _ranges(entries: list[Piece]) -> list[tuple[int, int]]:
    """The bytes of entries with their headers, those side by side together."""
    found: list[tuple[int, int]] = []
    for entry in sorted(entries, key=lambda each: each.offset):
        begin, end = entry.place, entry.offset + entry.stored
        if found and found[-1][1] == begin:
            found[-1] = (found[-1][0], end)
        else:
            found.append((begin, end))
    return found


def _copy(source: int, target: int, begin: int, end: int) -> None:
    while begin < end:
        data = os.pread(source, min(_BLOCK, end - begin), begin)
        if not data:
            raise StoreError("a pack became shorter while it was read. Try again.")
        write_all(target, data)
        begin += len(data)


def _remove(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        remove_quietly(path)
        return
    for folder, _, _ in os.walk(path):
        Path(folder).chmod(stat.S_IRWXU)  # checkouts are read-only
    shutil.rmtree(path)
