"""Packs whose writer died: sealed as they are, or written anew without what the disk lost. Rules: docs/spec/pack.md §3."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from stillrun_snapshot._disk import remove_quietly, sync_folder
from stillrun_snapshot._pack import OPEN_SUFFIX, PackWriter, pack_path

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
    from stillrun_snapshot._pieces import mapped, scan_pack, sound_data  # most processes meet none

    scan = scan_pack(path)
    if not scan.whole or not scan.pieces:
        return False
    with mapped(path) as view:
        return all(data is not None for _, data in sound_data(view, scan.pieces))


def _write_anew(root: Path, path: Path) -> None:
    """Let a sealed pack of what is sound take the place of an abandoned one."""
    from stillrun_snapshot._pieces import mapped, pieces_in, sound_data

    writer = PackWriter(root)
    try:
        if pieces := pieces_in(path):
            with mapped(path) as view:
                for piece, data in sound_data(view, pieces):
                    if data is not None:
                        writer.copy(view[piece.place : piece.offset + piece.stored])
    finally:
        writer.close()
    sync_folder(path.parent)  # before what it stands for goes
    remove_quietly(path)
