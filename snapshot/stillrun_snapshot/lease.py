"""Leases: a held file says that a process is alive; the kernel lets go of it when the process dies.

A holder may note in it what refs it is about to set: when it dies before, the next that opens the store sets them.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from types import TracebackType

from stillrun_snapshot._disk import write_all, writing
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import StoreError
from stillrun_snapshot.refs import RefChange

__all__ = ["Lease", "leases_held", "noted_by_all", "take_over"]


_PLAIN = re.compile(r"[A-Za-z0-9_.~@+=,-]+")  # what quoting leaves as it is
_PID_MAX = 20  # bytes: a file that is no longer holds no notes


class Lease:
    """A name below ``locks/`` that one process holds. Children made by fork without exec share it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Use ``Lease.take``."""
        self._path = path
        self._descriptor: int | None = descriptor
        self._begin = os.fstat(descriptor).st_size  # where notes start

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

    def note(self, changes: Iterable[RefChange]) -> None:
        """Write down what refs are about to become. It outlives this process, and not a loss of power."""
        assert self._descriptor is not None, "it is held"
        boot = {} if (since := _boot()) is None else {"boot": since}
        lines = (json.dumps({"ref": each.name, "to": each.to, **boot}) + "\n" for each in changes)
        os.lseek(self._descriptor, 0, os.SEEK_END)
        write_all(self._descriptor, "".join(lines).encode())

    def clear(self) -> None:
        """Forget what was noted: it is done."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, self._begin)

    @staticmethod
    def noted(store_root: Path, name: str) -> list[RefChange]:
        """What the holder of the name, dead or alive, noted and has not done yet."""
        try:
            return _changes(_path(store_root, name).read_bytes())
        except OSError:
            return []

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


def noted_by_all(store_root: Path) -> list[RefChange]:
    """What holders of any name, dead or alive, noted and have not done yet."""
    try:
        paths = list((Path(store_root) / "locks").iterdir())
        return [change for path in paths if path.is_file() for change in _changes(path.read_bytes())]
    except FileNotFoundError:  # done this moment
        return noted_by_all(store_root)


def leases_held(store_root: Path) -> list[str]:
    """Return the names below ``locks/``, as files, of which a process is alive: runs in progress."""
    from urllib.parse import unquote

    with os.scandir(store_root / "locks") as found:
        names = sorted(item.name for item in found if item.is_file() and not _is_of_upkeep(item.name))
    return [name for name in names if Lease.is_held(store_root, unquote(name))]


def _is_of_upkeep(name: str) -> bool:
    return name in ("upkeep", "gate") or name.startswith("writer-")


def take_over(store_root: Path, make: Callable[[list[RefChange]], None]) -> None:
    """Have ``make`` set what processes noted that died before they could; where nothing can be written, nothing is done."""
    try:
        with os.scandir(store_root / "locks") as found:
            paths = [Path(item.path) for item in found if item.stat().st_size > _PID_MAX]
    except OSError:
        return
    for path in sorted(paths):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            if _lock(descriptor) and _still_at(path, descriptor):
                changes = _changes(path.read_bytes(), of_now=True)
                if changes:
                    make(changes)
                path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def _changes(content: bytes, *, of_now: bool = False) -> list[RefChange]:
    """The whole lines behind the first; the last one may be torn.

    of_now: only those noted since this machine was started. What older ones rest on may have gone with the power.
    """
    changes = []
    for line in content.split(b"\n")[1:-1]:
        try:
            told = json.loads(line)
            if of_now and told.get("boot") not in (None, _boot()):
                continue
            changes.append(RefChange(told["ref"], Digest.parse(told["to"])))
        except (ValueError, KeyError, TypeError, AttributeError, StoreError):  # not ours
            return []
    return changes


@cache
def _boot() -> str | None:
    """What names the time since which this machine runs; None where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _path(store_root: Path, name: str) -> Path:
    return Path(store_root) / "locks" / (name if _PLAIN.fullmatch(name) else _quoted(name))


def _quoted(name: str) -> str:
    from urllib.parse import quote  # which costs more to import than a command may

    return quote(name, safe="@+=,")


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
