"""A store that reads from one place and writes to another, which is thrown away."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Location, Store

__all__ = ["SpunStore"]


class SpunStore:
    """What a task's desk asks of a store. Objects of both can be read; nothing is ever written to ``kept``."""

    def __init__(self, kept: Store, spare: Store) -> None:
        self._kept, self._spare = kept, spare
        self.root = spare.root
        self.refs = spare.refs

    def put(self, data: bytes, *, compress: bool = False, new: bool = False) -> Digest:
        """Write to the spare store."""
        return self._spare.put(data, compress=compress, new=new)

    def put_record(self, record: Mapping[str, Any], *, new: bool = False) -> Digest:
        """Write to the spare store."""
        return self._spare.put_record(record, new=new)

    def put_file(self, path: Path, *, expect: Digest | None = None, limit: int | None = None) -> Digest:
        """Write to the spare store."""
        return self._spare.put_file(path, expect=expect, limit=limit)

    def adopt(self, path: Path, digest: Digest, size: int) -> None:
        """Take a file below the spare store's ``tmp/``."""
        self._spare.adopt(path, digest, size)

    def scratch(self, name: str) -> Path:
        """A folder of the spare store."""
        return self._spare.scratch(name)

    def cache_dir(self, name: str) -> Path:
        """Soft state is that of the kept store: it holds nothing of the task."""
        return self._kept.cache_dir(name)

    def has(self, digest: Digest) -> bool:
        """Whether one of the two holds it."""
        return self._spare.has(digest) or self._kept.has(digest)

    def get(self, digest: Digest) -> bytes:
        """Read from whichever holds it."""
        return self._holder(digest).get(digest)

    def get_record(self, digest: Digest, name: str) -> dict[str, Any]:
        """Read from whichever holds it."""
        return self._holder(digest).get_record(digest, name)

    def size(self, digest: Digest) -> int:
        """Read from whichever holds it."""
        return self._holder(digest).size(digest)

    def locate(self, digest: Digest) -> Location:
        """Read from whichever holds it."""
        return self._holder(digest).locate(digest)

    def checked(self, digest: Digest) -> Location:
        """Read from whichever holds it."""
        return self._holder(digest).checked(digest)

    def _holder(self, digest: Digest) -> Store:
        return self._spare if self._spare.has(digest) else self._kept
