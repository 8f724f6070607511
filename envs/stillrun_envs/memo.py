"""Soft state between processes: what was found out before, and stays true while what it rests on is unchanged.

Losing it costs time only. JSON on disk, never pickles: a shared cache must not be able to run code.
"""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from stillrun_snapshot.digest import digest_of
from stillrun_snapshot.store import Store

if TYPE_CHECKING:
    from diskcache import Cache

__all__ = ["Answers", "Memo", "Remembers", "file_identity"]


class Remembers(Protocol):
    """Something that keeps answers by question."""

    def get(self, *question: object) -> object:
        """The answer last set, or None."""

    def set(self, answer: object, *question: object) -> None:
        """Remember ``answer``."""


class Answers:
    """A file for each of the few questions that every run asks: read without importing and opening a database."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, *question: object) -> object:
        """The answer last set, or None."""
        try:
            kept = json.loads(self._path(question).read_bytes())
        except (OSError, ValueError):  # not there, or damaged: then it is asked again
            return None
        return kept["answer"] if isinstance(kept, dict) and kept.get("question") == list(question) else None

    def set(self, answer: object, *question: object) -> None:
        """Remember ``answer``; on a store that cannot be written to it is forgotten."""
        path = self._path(question)
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(exist_ok=True)
            fresh.write_text(json.dumps({"question": question, "answer": answer}), "utf-8")
            fresh.replace(path)
        except OSError:
            return

    def _path(self, question: tuple[object, ...]) -> Path:
        name = digest_of(json.dumps(question).encode()).hex[:32]
        return self._store.cache_dir("cache") / "answers" / f"{name}.json"


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


def file_identity(path: Path | str) -> list[int] | None:
    """What changes when a file does: device, inode, size and both times; None when there is no such file."""
    try:
        found = os.stat(path)  # noqa: PTH116  # five times as fast for text, of which some hundreds are looked at
    except OSError:
        return None
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
