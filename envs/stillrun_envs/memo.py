"""Soft state between processes: what was found out before, and stays true while what it rests on is unchanged.

Losing it costs time only. JSON on disk, never pickles: a shared cache must not be able to run code.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from stillrun_snapshot.store import Store

if TYPE_CHECKING:
    from diskcache import Cache

__all__ = ["Memo", "file_identity"]


class Memo:
    """Answers by question, both JSON. Opened on first use; a store that cannot be written to just remembers nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cache: Cache | None = None
        self._broken = False

    def __enter__(self) -> Memo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._cache is not None:
            self._cache.close()
            self._cache = None

    def get(self, *question: object) -> object:
        """The answer last set, or None."""
        cache = self._opened()
        try:
            return None if cache is None else cache.get(list(question))
        except (sqlite3.Error, ValueError, OSError):
            self._broken = True  # a damaged cache is no cache
            return None

    def set(self, answer: object, *question: object) -> None:
        """Remember ``answer``."""
        cache = self._opened()
        try:
            if cache is not None:
                cache.set(list(question), answer)
        except (sqlite3.Error, OSError):
            self._broken = True

    def _opened(self) -> Cache | None:
        if self._cache is None and not self._broken:
            from diskcache import Cache, JSONDisk

            try:
                folder = self._store.cache_dir("cache") / "environments"
                self._cache = Cache(str(folder), disk=JSONDisk, eviction_policy="none")
            except (sqlite3.Error, OSError):
                self._broken = True
        return None if self._broken else self._cache


def file_identity(path: Path) -> list[int] | None:
    """What changes when a file does: device, inode, size and both times; None when there is no such file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
