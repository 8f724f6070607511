"""File locks beside built folders: who builds one, and who uses one. The system lets go of them when a process dies.

Format: docs/spec/environment.md, section "On disk".
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stillrun_envs.errors import BuildError

__all__ = ["building", "in_use", "let_go", "lock_path", "still", "use", "use_path"]

_NO_WRITING = (errno.EROFS, errno.EACCES, errno.EPERM)
_NO_LOCKING = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
_used: dict[Path, int] = {}  # what this process uses, until it ends: steps run in it as long as their engine lives
_guard = threading.Lock()


def lock_path(final: Path) -> Path:
    """The file that is locked while the folder is built or removed."""
    return final.with_name(final.name + ".lock")


def use_path(final: Path) -> Path:
    """The file that is locked by all who use the folder; its time says when it was last asked for."""
    return final.with_name(final.name + ".use")


def use(final: Path) -> None:
    """Keep the folder from being removed while this process lives, and note that it was used now.

    Waits while it is being removed. On a store that cannot be written to nothing is noted.
    """
    path = use_path(final)
    with _guard:
        for gone in [one for one in _used if one != final and not one.exists()]:
            os.close(_used.pop(gone))
        if final in _used and not _is_at(path, _used[final]):
            os.close(_used.pop(final))
        try:
            if final not in _used:
                _used[final] = _taken(path, fcntl.LOCK_SH)
            os.utime(_used[final])
        except OSError as err:
            if err.errno not in (*_NO_WRITING, *_NO_LOCKING):
                raise _refused(path, err) from err


def let_go(final: Path) -> None:
    """Take back this process's ``use``."""
    with _guard:
        if final in _used:
            os.close(_used.pop(final))


def in_use(final: Path) -> bool:
    """Whether a living process uses the folder, or builds it."""
    return any(_is_held(path) for path in (use_path(final), lock_path(final)))


@contextmanager
def building(final: Path) -> Iterator[None]:
    """Be the only one that builds or removes the folder; waits for others."""
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = _taken(lock_path(final), fcntl.LOCK_EX)
    except OSError as err:
        raise _refused(lock_path(final), err) from err
    try:
        yield
    finally:
        os.close(held)


@contextmanager
def still(final: Path, *, users: bool = True) -> Iterator[bool]:
    """True while nobody else can build, remove or (users) use the folder; False, at once, when somebody does.

    The lock files themselves are gone afterwards if the folder is.
    """
    held: list[int] = []
    wanted = (lock_path(final), use_path(final))[: 1 + users]
    try:
        for path in wanted:
            try:
                held.append(_taken(path, fcntl.LOCK_EX | fcntl.LOCK_NB))
            except OSError:  # held by another, or not to be had here: then it stays
                break
        alone = len(held) == len(wanted)
        yield alone
        if alone and users and not final.exists():
            use_path(final).unlink(missing_ok=True)
            lock_path(final).unlink(missing_ok=True)
    finally:
        for descriptor in held:
            os.close(descriptor)


def _taken(path: Path, how: int) -> int:
    """A locked descriptor of the file that stands at ``path``; it is closed when another program is started."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, how)
            if _is_at(path, descriptor):
                return descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)  # it was removed between our open and our lock


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _refused(path: Path, err: OSError) -> BuildError:
    return BuildError(f"{path} cannot be locked: {err.strerror}. Free space or change permissions, then try again.")
