"""Objects that come from elsewhere under a name that is only promised: a bundle's, another store's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from stillrun_snapshot._disk import write_all, writing
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import StillrunError
from stillrun_snapshot.store import LOOSE_MIN, Store

__all__ = ["kept_part", "take_in", "unfinished_folder"]


def take_in(
    store: Store,
    blocks: Iterator[memoryview],
    promised: Digest,
    refused: Callable[[Digest, int], StillrunError],
    *,
    new: bool = False,
) -> int:
    """Keep what ``blocks`` hold when it is the object ``promised``, and return its length; otherwise keep nothing of it.

    blocks: all but the last have LOOSE_MIN bytes or more. refused: the error for what was found instead.
    """
    sizes: list[int] = []

    def check(found: Digest, size: int) -> None:
        sizes.append(size)
        if found != promised:
            raise refused(found, size)

    first = next(blocks, memoryview(b""))
    if len(first) < LOOSE_MIN:
        check(digest_of(first), len(first))
        store.put(first, compress=True, new=new)
    else:
        store.put_blocks(chain([first], blocks), check, new=new)
    return sizes[0]


def unfinished_folder(store: Store, name: str) -> Path:
    """A folder below ``tmp/`` that stays, for work that is gone on with after an interruption."""
    path = store.root / "tmp" / name
    with writing(store.root):
        path.mkdir(exist_ok=True)
    return path


def kept_part(store: Store, path: Path, start: int | None, data: bytes | memoryview) -> None:
    """Write a part of an unfinished file below ``tmp/``, made when it is not there; at its end when ``start`` is None."""
    with writing(store.root):
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if start is None else 0)
        descriptor = os.open(path, flags, 0o600)
        try:
            if start is not None:
                os.lseek(descriptor, start, os.SEEK_SET)
            write_all(descriptor, data)
        finally:
            os.close(descriptor)
