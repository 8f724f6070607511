"""Packs whose writer died: sealed as they are, or written anew without what the disk lost. Rules: docs/spec/pack.md §3."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from stillrun_snapshot._disk import remove_quietly, sync_folder
from stillrun_snapshot._pack import OPEN_SUFFIX, PackEntry, PackWriter, pack_path, payload_content, scan_pack

__all__ = ["seal_abandoned", "seal_if_abandoned"]


def seal_abandoned(root: Path) -> list[str]:
    """Seal all packs whose writer died and return which; a pack in use is left alone."""
    with os.scandir(root / "packs") as found:
        names = [item.name for item in found if item.name.endswith(OPEN_SUFFIX)]
    return [name for name in names if seal_if_abandoned(root, name.removesuffix(OPEN_SUFFIX))]


def seal_if_abandoned(root: Path, name: str) -> bool:
    """Seal the pack if its writer died; whether it did.

    A process that is killed leaves whole entries, and part of one at most. When the power goes, what was not synced may be
    there with its header and without its bytes: nobody may take such an object for held.
    """
    path = pack_path(root, name, sealed=False)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fsync(descriptor)
        if _is_sound(path):
            path.rename(pack_path(root, name, sealed=True))
        else:
            _write_anew(root, path)
        sync_folder(path.parent)
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(descriptor)
    return True


def _is_sound(path: Path) -> bool:
    scan = scan_pack(path)
    return scan.whole and 0 < len(scan.entries) == sum(1 for _ in _whole_entries(path, scan.entries))


def _whole_entries(path: Path, entries: list[PackEntry]) -> Iterator[tuple[PackEntry, bytes]]:
    """The entries that hold what they say, with their payloads."""
    if not entries:
        return
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        for entry in entries:
            payload = view[entry.offset : entry.offset + entry.stored]
            if payload_content(entry, payload) is not None:
                yield entry, payload


def _write_anew(root: Path, path: Path) -> None:
    """Let a sealed pack of what is sound take the place of an abandoned one."""
    writer = PackWriter(root)
    try:
        for entry, payload in _whole_entries(path, scan_pack(path).entries):
            writer.append(entry.digest, entry.codec, entry.size, payload)
    finally:
        writer.close()
    sync_folder(path.parent)  # before what it stands for goes
    remove_quietly(path)
