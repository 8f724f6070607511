"""One at a time: what moves or removes objects of a store (``pack``, ``gc``, ``reindex``) holds ``locks/upkeep`` meanwhile."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stillrun_snapshot._disk import writing
from stillrun_snapshot.errors import StoreError

__all__ = ["UpkeepBusy", "upkeep"]

_NAME = "upkeep"
_WHAT_MAX = (
    10  # letters; with the process number the file stays shorter than one with notes (docs/spec/store.md, section 1)
)


class UpkeepBusy(StoreError):
    """Another process moves or removes objects of the store right now."""


@contextmanager
def upkeep(store_root: Path, what: str) -> Iterator[None]:
    """Hold the store's upkeep for the block; the kernel lets go of it when the process dies.

    what: the one word that others are told, such as ``pack``. Raises UpkeepBusy when a living process holds it.
    """
    if not what or len(what) > _WHAT_MAX:
        raise ValueError(f"{what!r} is not one short word")
    path = Path(store_root) / "locks" / _NAME
    with writing(store_root):
        path.parent.mkdir(exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _lock(store_root, descriptor)
        with writing(store_root):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n{what}".encode(), 0)
        try:
            yield
        finally:
            with suppress(OSError):  # a word that stays is overwritten by the next holder
                os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _lock(store_root: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder, _, what = os.pread(descriptor, 32, 0).decode("ascii", "replace").partition("\n")
        raise UpkeepBusy(
            f"'store {what or 'upkeep'}' of process {holder or 'unknown'} is at work in the store {store_root}. "
            "Wait for it, or end it first."
        ) from None
