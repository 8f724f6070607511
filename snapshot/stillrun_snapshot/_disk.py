"""Folders, durable renames and the errors of a disk that refuses, in one clear sentence each."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stillrun_snapshot.errors import StoreError, StoreFull, StoreReadOnly

__all__ = [
    "fresh_name",
    "make_folder",
    "remove_quietly",
    "sync_file",
    "sync_folder",
    "write_all",
    "write_atomically",
    "writing",
]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def writing(place: Path, what: str = "store") -> Iterator[None]:
    """Turn an OSError of the block into the StoreError that says what to do about the place written to."""
    try:
        yield
    except OSError as error:
        raise write_failure(place, error, what) from error


def write_failure(place: Path, error: OSError, what: str = "store") -> StoreError:
    """Return the StoreError for ``error``, met while writing below ``place``."""
    if error.errno in _FULL:
        return StoreFull(
            f"the disk of the {what} {place} has no room left ({error.strerror}). "
            f"What was kept before is whole; free some space or choose another {what}, then try again."
        )
    if error.errno in _REFUSED:
        return StoreReadOnly(
            f"the {what} {place} cannot be written ({error.strerror}: {error.filename or place}). "
            f"Make its folder writable for this user, or choose another {what}."
        )
    return StoreError(f"writing to the {what} {place} failed: {error}. What was kept before is whole; try again.")


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of ``data``, however many calls the kernel needs."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def fresh_name(prefix: str) -> str:
    """Return a name that no other process or thread uses."""
    return f"{prefix}-{os.urandom(8).hex()}"


def sync_folder(path: Path) -> None:
    """Make the names in the folder durable: a rename is, only once its folder is."""
    sync_file(path)


def make_folder(path: Path) -> None:
    """Make a folder and those it is in, where they are not there yet, and their names durable."""
    missing = [path, *path.parents]
    missing = missing[: next((number for number, one in enumerate(missing) if one.is_dir()), len(missing))]
    path.mkdir(parents=True, exist_ok=True)
    for folder in reversed(missing):
        sync_folder(folder.parent)


def sync_file(path: Path) -> None:
    """Make the bytes of a file durable, whoever wrote them."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, data: bytes, *, durable: bool) -> None:
    """Make ``path`` hold ``data``: readers see the old bytes or the new ones, never a part."""
    temporary = path.with_name(fresh_name("." + path.name))
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            write_all(descriptor, data)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        remove_quietly(temporary)
        raise
    if durable:
        sync_folder(path.parent)


def remove_quietly(path: Path) -> None:
    """Remove a file that may be gone already."""
    path.unlink(missing_ok=True)


def changed_ns(path: Path) -> int:
    """When a file was written, or put where it is: a rename tells in the second."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return 0
    return max(status.st_mtime_ns, status.st_ctime_ns)
