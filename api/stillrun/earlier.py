"""What a file held that a step has read and is about to change: copied aside, so that a replay can be given it."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["COPY_MAX", "EarlierContents"]

COPY_MAX = 64 << 20
"""Bytes of the largest file that is copied; a run keeps no larger inputs either."""
_BLOCK = 1 << 20


class EarlierContents:
    """Copies in one folder, by the path that was copied; none where there is no folder."""

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self._copies: dict[str, str] = {}

    def keep(self, path: str, seen: os.stat_result) -> None:
        """Copy a file, unless it is no more what it was when ``seen``; never raises."""
        if self._folder is None or path in self._copies or seen.st_size > COPY_MAX:
            return
        name = f"earlier-{os.getpid()}-{len(self._copies)}"
        try:
            if _identity(os.stat(path)) == _identity(seen):
                _copy(path, os.path.join(self._folder, name))
                self._copies[path] = name
        except OSError:  # then the file will be said to have changed
            return

    def told(self, path: str) -> dict[str, Any]:
        """What a RESULT says of the copy of a file; nothing where there is none."""
        name = self._copies.get(path)
        return {} if name is None else {"copy": name}


def _copy(path: str, target: str) -> None:
    """What shutil does, which each host would have to import, and with it all it knows of archives."""
    with open(path, "rb") as source, open(target, "wb") as out:
        while block := source.read(_BLOCK):
            out.write(block)


def _identity(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
