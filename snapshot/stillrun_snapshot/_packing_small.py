"""Packs as sources of packing: those of version 1, and small ones of version 2 when there are many."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from stillrun_snapshot._block import is_recipe
from stillrun_snapshot._pack import MAGIC_2, RECIPE, SEALED_SUFFIX, PackEntry, PackScan, pack_path
from stillrun_snapshot._packing_target import Target
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
                    for entry in scan.walk(view):
                        if not self._copy(entry, target):
                            damaged.append((entry.digest, self.path.name))
        if not scan.whole:
            damaged.append((None, self.path.name))
        return damaged

    def _copy(self, entry: PackEntry, target: Target) -> bool:
        data = target.files.content(self.name, entry)
        if data is None or (entry.kind == RECIPE and not is_recipe(data)):
            return False
        target.put(entry.digest, entry.kind, data)
        return True


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
