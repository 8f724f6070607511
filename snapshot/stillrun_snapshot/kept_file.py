"""Small files of a store that are neither objects nor refs: settings, and copies that may be lost."""

from __future__ import annotations

from pathlib import Path

from stillrun_snapshot._disk import write_atomically, writing

__all__ = ["keep_file"]


def keep_file(root: Path, path: Path, data: bytes, *, durable: bool) -> None:
    """Make ``path``, below the store's ``root``, hold ``data``, whole or not at all; StoreFull, StoreReadOnly."""
    with writing(root):
        write_atomically(path, data, durable=durable)
