"""Leases: a held file says that a process is alive; the kernel lets go of it when the process dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from stillrun_snapshot._disk import writing
from stillrun_snapshot.errors import StoreError

__all__ = ["Lease"]


class Lease:
    """A name below ``locks/`` that one process holds. Children made by fork without exec share it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Use ``Lease.take``."""
        self._path = path
        self._descriptor: int | None = descriptor

    @classmethod
    def take(cls, store_root: Path, name: str) -> Lease:
        """Return the lease on ``name``; raises StoreError when another holder is alive."""
        path = _path(store_root, name)
        with writing(store_root):
            path.parent.mkdir(parents=True, exist_ok=True)
            while True:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                if not _lock(descriptor):
                    holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
                    os.close(descriptor)
                    raise StoreError(
                        f"'{name}' is held by process {holder or 'unknown'}. Wait for it, or end it first."
                    )
                if _still_at(path, descriptor):
                    break
                os.close(descriptor)  # its last holder removed the file between our open and our lock
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return cls(path, descriptor)

    @staticmethod
    def is_held(store_root: Path, name: str) -> bool:
        """Return whether a living process holds the name."""
        try:
            descriptor = os.open(_path(store_root, name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def release(self) -> None:
        """Give the name free and remove its file; doing it twice does no harm."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._path.unlink(missing_ok=True)
            os.close(descriptor)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _path(store_root: Path, name: str) -> Path:
    return Path(store_root) / "locks" / quote(name, safe="@+=,")


def _lock(descriptor: int) -> bool:
    """Return whether the lock was got; one who only asks whether it is held does not count as a holder."""
    while True:
        for kind in (fcntl.LOCK_EX, fcntl.LOCK_SH):
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if kind == fcntl.LOCK_EX:
                return True
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # only askers share it: try again
            break
        else:
            return False


def _still_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
