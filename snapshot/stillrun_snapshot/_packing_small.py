"""Packs as sources of packing: those of version 1, and small ones of version 2 when there are many."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from stillrun_snapshot._pack import MAGIC_2, SEALED_SUFFIX, pack_path
from stillrun_snapshot._packing_target import Target
from stillrun_snapshot._pieces import PackScan, sound_data
from stillrun_snapshot.digest import Digest

__all__ = ["PackSource", "packs_to_rewrite"]

_SMALL = 16 * 1024 * 1024  # bytes of a pack of version 2 that may be rewritten
_MANY = 8  # of them, from which that is worth it


class PackSource:
    """One sealed pack that is to be replaced."""

    def __init__(self, root: Path, name: str) -> None:
        self.name = name
        self.path = pack_path(root, name, sealed=True)
        self.size = self.path.stat().st_size
        self.counted_as = f"packs/{name}"

    def copy(self, target: Target) -> list[tuple[Digest | None, str]]:
        """Give everything to ``target``; returns what is damaged."""
        damaged: list[tuple[Digest | None, str]] = []
        with open(self.path, "rb") as stream:
            scan = PackScan(0, os.fstat(stream.fileno()).st_size)
            if scan.size:
                with mmap.mmap(stream.fileno(), scan.size, access=mmap.ACCESS_READ) as view:
                    for piece, data in sound_data(view, scan.walk(view)):
                        if data is None:
                            damaged.append((piece.digest, self.path.name))
                        else:
                            target.put(piece.digest, piece.kind, data)
        if scan.damaged:  # a torn tail was never an entry: its writer was killed
            damaged.append((None, self.path.name))
        return damaged


def packs_to_rewrite(root: Path) -> list[str]:
    """Return the names of packs that packing replaces, oldest first."""
    old, small = [], []
    for path in sorted((root / "packs").glob("*" + SEALED_SUFFIX)):
        name = path.name[: -len(SEALED_SUFFIX)]
        with open(path, "rb") as stream:
            is_new = stream.read(len(MAGIC_2)) == MAGIC_2
        if not is_new:
            old.append(name)
        elif path.stat().st_size < _SMALL:
            small.append(name)
    return sorted(old + small) if len(small) >= _MANY else old
