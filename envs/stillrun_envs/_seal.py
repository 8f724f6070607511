"""Seals: what the file system said of every file of a folder, so that a later look need not read the files.

A look is one lstat for each file and folder, and is compared whole. Listing folders costs a third more and is left out
where a folder's own times tell of files that came or went. Format: docs/spec/environment.md, section "Seals".
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from stillrun_snapshot.deferred import dataclass

__all__ = ["IGNORED", "Changes", "Extent", "extent_of", "files_below", "on_disk", "seal_of", "suspects"]

SCHEMA = "stillrun/seal/2"
IGNORED = "__pycache__"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMED_MAX = 5  # files named in a message
_TICK_NS = 20_000_000  # file systems count time in steps of up to 10 ms: what is younger may change unseen
_GONE = os.stat_result((0,) * 10, {"st_mtime_ns": 0, "st_ctime_ns": 0})
_KINDS = ("q", "q", "q", "Q", "q")  # size, mtime, ctime, inode, mode
_Columns = tuple["array[int]", ...]


@dataclass(frozen=True)
class Changes:
    """How a folder differs from what was built."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.missing)

    def __str__(self) -> str:
        kinds = (("added", self.added), ("changed", self.changed), ("missing", self.missing))
        return "; ".join(f"{_some(paths)} {kind}" for kind, paths in kinds if paths)


@dataclass(frozen=True)
class Extent:
    """How much a sealed folder holds."""

    files: int
    size: int  # bytes in blocks of 4 KiB


@dataclass(frozen=True)
class _Seal:
    boot: str
    folders: int  # of the names, these are folders and come first
    listed: bool  # whether folders must be listed, since their times do not tell of new files
    extent: Extent
    names: list[bytes]
    columns: _Columns


def seal_of(root: Path) -> bytes:
    """The seal of all that is below ``root`` now; waits until no file is so young that it could change unseen."""
    top = os.fsencode(root)
    names, files = _names_below(top)
    found = [os.lstat(path) for path in _paths(top, (*names, *files))]
    youngest = max((one.st_ctime_ns for one in found), default=0)
    time.sleep(min(max(youngest + _TICK_NS - time.time_ns(), 0), _TICK_NS) / 1e9)
    header = {
        "schema": SCHEMA,
        "boot": _boot(),
        "folders": len(names),
        "listed": not _folders_tell(root),
        "files": len(files),
        "size": sum(map(on_disk, found[len(names) :])),
    }
    parts = [json.dumps(header, sort_keys=True).encode(), b"\0".join((*names, *files))]
    return b"\n".join((parts[0], str(len(parts[1])).encode(), parts[1])) + b"".join(map(bytes, _columns(found)))


def suspects(root: Path, seal: bytes) -> Changes:
    """What may have changed below ``root`` since it was sealed, by what the file system says.

    After a restart of the machine every file is suspect once: not all that was written may have reached the disk.
    """
    before = _read(seal)
    if before is None:
        return Changes(missing=("its seal",))
    top = os.fsencode(root)
    restarted = before.boot != _boot()
    found = _looked_at(_paths(top, before.names))
    after = _columns(found)
    differ = [] if after == before.columns else _differing(before.columns, after)
    gone = {index for index in differ if not found[index].st_mode}
    changed = range(len(before.names)) if restarted else differ
    every = restarted or before.listed
    listed = range(before.folders) if every else [index for index in differ if index < before.folders]
    added = _unknown(top, [before.names[index] for index in listed if index not in gone], before)
    return Changes(
        added=tuple(sorted(map(os.fsdecode, added))),
        changed=_told(before, (index for index in changed if index not in gone)),
        missing=_told(before, gone),
    )


def extent_of(seal: bytes) -> Extent | None:
    """How much the sealed folder holds; None for a seal of another version."""
    found = _read(seal)
    return None if found is None else found.extent


def files_below(root: Path) -> list[str]:
    """Every file and link below ``root``, sorted; folders of bytecode left out."""
    return sorted(map(os.fsdecode, _names_below(os.fsencode(root))[1]))


def on_disk(found: os.stat_result) -> int:
    """Bytes of a file in whole blocks of 4 KiB; what a file system says itself of a new file is a guess at first."""
    return -(-found.st_size // 4096) * 4096


def _names_below(top: bytes) -> tuple[list[bytes], list[bytes]]:
    """The folders and the files below ``top``, links among the latter, in the order they were found."""
    folders: list[bytes] = []
    files: list[bytes] = []
    waiting, ignored, cut = [top], os.fsencode(IGNORED), len(top) + 1
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    files.append(entry.path[cut:])
                elif entry.name != ignored:
                    folders.append(entry.path[cut:])
                    waiting.append(entry.path)
    return folders, files


def _paths(top: bytes, names: Sequence[bytes]) -> list[bytes]:
    return [top + b"/" + name for name in names]


def _looked_at(paths: list[bytes]) -> list[os.stat_result]:
    try:
        return list(map(os.lstat, paths))
    except OSError:
        return [_lstat_or_gone(path) for path in paths]


def _lstat_or_gone(path: bytes) -> os.stat_result:
    try:
        return os.lstat(path)
    except OSError:
        return _GONE


def _columns(found: Iterable[os.stat_result]) -> _Columns:
    """The facts of all files, kind by kind. ctime is one of them because it cannot be set."""
    facts = (
        [one.st_size if not stat.S_ISDIR(one.st_mode) else 0 for one in found],
        [one.st_mtime_ns for one in found],
        [one.st_ctime_ns for one in found],
        [one.st_ino for one in found],
        [one.st_mode for one in found],
    )
    return tuple(array(kind, values) for kind, values in zip(_KINDS, facts, strict=True))


def _differing(before: _Columns, after: _Columns) -> list[int]:
    pairs = zip(zip(*before, strict=True), zip(*after, strict=True), strict=True)
    return [index for index, (then, now) in enumerate(pairs) if then != now]


def _unknown(top: bytes, folders: list[bytes], seal: _Seal) -> Iterator[bytes]:
    """The files in ``folders`` and at the top that were not sealed, and those in folders that were not."""
    known = frozenset(seal.names)
    ignored = os.fsencode(IGNORED)
    for folder in (b"", *folders):
        try:
            with os.scandir(top + b"/" + folder if folder else top) as entries:
                for entry in entries:
                    name = entry.path[len(top) + 1 :]
                    if name in known or entry.name == ignored:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        yield from (name + b"/" + one for one in _names_below(entry.path)[1])
                    else:
                        yield name
        except (NotADirectoryError, FileNotFoundError):  # its facts say so too
            continue


def _told(seal: _Seal, indices: Iterable[int]) -> tuple[str, ...]:
    """Files by name; a folder that came, went or was written in shows by its files."""
    return tuple(sorted(os.fsdecode(seal.names[index]) for index in indices if index >= seal.folders))


def _read(seal: bytes) -> _Seal | None:
    try:
        head, length, rest = seal.split(b"\n", 2)
        header = json.loads(head)
        if header["schema"] != SCHEMA:
            return None
        joined, data = rest[: int(length)], rest[int(length) :]
        names = joined.split(b"\0") if joined else []
        columns = tuple(array(kind) for kind in _KINDS)
        step = 8 * len(names)
        for place, column in enumerate(columns):
            column.frombytes(data[place * step : (place + 1) * step])
        extent = Extent(header["files"], header["size"])
        return _Seal(header["boot"], header["folders"], header["listed"], extent, names, columns)
    except (ValueError, KeyError, TypeError):
        return None


def _folders_tell(root: Path) -> bool:
    """Whether the times of a folder change here when a file comes or goes; asked of the file system itself."""
    with tempfile.TemporaryDirectory(prefix=f"{root.name}.new-ask-", dir=root.parent) as asked:
        file = Path(asked) / "file"
        for change in (file.touch, file.unlink):
            os.utime(asked, (0, 0))
            change()
            if Path(asked).stat().st_mtime_ns == 0:
                return False
    return True


def _boot() -> str:
    """Tells one start of the machine from another; what was written before may not have reached the disk whole."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return "unknown"


def _some(paths: tuple[str, ...]) -> str:
    shown = ", ".join(paths[:_NAMED_MAX])
    return shown if len(paths) <= _NAMED_MAX else f"{shown} and {len(paths) - _NAMED_MAX:,} more"
