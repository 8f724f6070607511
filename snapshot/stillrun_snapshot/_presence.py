"""Who is at work in a store, and which of its files they count on. Rules: docs/spec/store.md, section 7.

A process that finds an object to be there already does not write it again. From then on it counts on the file that holds the
object, and says so in a file below ``locks/`` which it holds. Whoever removes files reads those first, behind a gate that
is closed meanwhile.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stillrun_snapshot._disk import fresh_name, remove_quietly, write_all, writing
from stillrun_snapshot._pack import OPEN_SUFFIX, SEALED_SUFFIX
from stillrun_snapshot.deferred import dataclass

__all__ = ["Others", "Presence", "closed_gate"]

_PREFIX = "writer-"
_GATE = "gate"


class Presence:
    """This process in one store. Nothing is written before it counts on anything."""

    def __init__(self, root: Path, *, writable: bool) -> None:
        self._root = root
        self._writable = writable
        self._lock = threading.Lock()
        self._held: int | None = None
        self._path: Path | None = None
        self._counted: set[str] = set()
        self._gate_is_ours = False

    @property
    def writable(self) -> bool:
        """Whether the store can be written to."""
        return self._writable

    def begin(self) -> None:
        """Be seen to be at work."""
        if self._writable and self._held is None:
            with self._lock, writing(self._root):
                if self._held is None:
                    self._appear()

    def count_on(self, files: Iterable[str]) -> set[str]:
        """Return those of ``files`` (paths within the store, packs without ending) that are there and now will stay."""
        asked = set(files)
        new = asked - self._counted
        if not new:
            return asked
        if not self._writable or self._gate_is_ours:
            return {name for name in asked if _is_there(self._root, name)}
        self.begin()
        with self._lock, writing(self._root), _gate(self._root, fcntl.LOCK_SH):
            there = {name for name in new if _is_there(self._root, name)}
            assert self._held is not None, "it has begun"
            write_all(self._held, "".join(json.dumps({"uses": name}) + "\n" for name in sorted(there)).encode())
            self._counted |= there
        return asked - new | there

    @property
    def name(self) -> str | None:
        """The name of our file, None before we count on anything."""
        return None if self._path is None else self._path.name

    def end(self) -> None:
        """Count on nothing any more."""
        with self._lock:
            held, self._held = self._held, None
            self._counted.clear()
            if held is not None:
                assert self._path is not None, "it has begun"
                remove_quietly(self._path)
                os.close(held)

    def _appear(self) -> None:
        path = self._root / "locks" / fresh_name(f"{_PREFIX}{time.time_ns() // 1_000_000:012x}")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            write_all(descriptor, f"{os.getpid()}\n".encode())
        except BaseException:
            os.close(descriptor)
            remove_quietly(path)
            raise
        self._path, self._held = path, descriptor


@dataclass(frozen=True)
class Others:
    """The processes that are at work: since when the first of them is, and what they count on."""

    since_ns: int | None
    uses: frozenset[str]


@contextmanager
def closed_gate(root: Path, presence: Presence) -> Iterator[Others]:
    """Let nobody begin to count on a file of the store while the block runs; short, since writers wait for it.

    presence: ours, which does not count.
    """
    with _gate(root, fcntl.LOCK_EX):
        presence._gate_is_ours = True  # or it would wait for itself
        try:
            yield _others(root, presence.name)
        finally:
            presence._gate_is_ours = False


@contextmanager
def _gate(root: Path, kind: int) -> Iterator[None]:
    descriptor = os.open(root / "locks" / _GATE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)


def _others(root: Path, own: str | None) -> Others:
    times: list[int] = []
    uses: set[str] = set()
    with os.scandir(root / "locks") as found:
        names = [item.name for item in found if item.name.startswith(_PREFIX) and item.name != own]
    for name in names:
        content = _told_by_living(root / "locks" / name)
        if content is not None:
            times.append(int(name.split("-")[1], 16) * 1_000_000)
            uses.update(json.loads(line)["uses"] for line in content.split(b"\n")[1:-1])
    with os.scandir(root / "packs") as found:  # one who writes small objects only is known by his pack
        opened = [item.name for item in found if item.name.endswith(OPEN_SUFFIX)]
    times += [int(name.split("-")[0], 16) * 1_000_000 for name in opened]
    return Others(min(times, default=None), frozenset(uses))


def _told_by_living(path: Path) -> bytes | None:
    """What a process says that is at work; the file of one that is dead is removed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_size:  # an empty one is about to be held
            remove_quietly(path)
    except BlockingIOError:  # read as it was opened: its holder may end, and remove it, this moment
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    finally:
        os.close(descriptor)
    return None


def _is_there(root: Path, name: str) -> bool:
    if not name.startswith("packs/"):
        return os.path.exists(f"{root}/{name}")  # noqa: PTH110  # as text it takes a fifth of the time
    return any(os.path.exists(f"{root}/{name}{suffix}") for suffix in (OPEN_SUFFIX, SEALED_SUFFIX, OPEN_SUFFIX))  # noqa: PTH110
