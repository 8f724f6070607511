"""Deterministic ``.tar.zst`` files of a tree, and a reader that lets nothing out of the folder it fills.

The reader is ours because the standard one can be led outside its folder by links on Pythons that are in use
(CVE-2025-4517). It accepts regular files, folders and relative links that stay inside, each name once.
"""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import zstandard

from stillrun_snapshot.deferred import dataclass

__all__ = ["Entry", "TarballError", "unpack", "write"]

EPOCH = 315_532_800  # 1980-01-01: the oldest time that every archive format can hold
_MEMBERS_MAX = 100_000
_BYTES_MAX = 8 << 30
_WINDOW_MAX = 128 << 20
_LEVEL = 3  # 60 MB of interpreter in half a second; level 9 saves a tenth and takes five times as long
_THREADS = 2  # fixed: one thread and several give different bytes


class TarballError(ValueError):
    """The archive holds something that a kept tree never does."""


@dataclass(frozen=True)
class Entry:
    """One file or link of a tree to be written."""

    name: str
    source: Path | None = None  # the file to read
    link: str | None = None  # or the target of a link
    executable: bool = False


def write(entries: Iterable[Entry], stream: BinaryIO) -> None:
    """Write ``entries`` to ``stream``; the same entries give the same bytes, in whatever order they come."""
    packer = zstandard.ZstdCompressor(level=_LEVEL, threads=_THREADS)
    with (
        packer.stream_writer(stream, closefd=False) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.GNU_FORMAT, bufsize=1 << 20) as archive,
    ):
        for entry in sorted(entries, key=lambda one: one.name):
            _add(archive, entry)


def _add(archive: tarfile.TarFile, entry: Entry) -> None:
    info = tarfile.TarInfo(entry.name)
    info.mtime = EPOCH
    if entry.link is not None:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, entry.link, 0o777
        archive.addfile(info)
        return
    assert entry.source is not None, f"{entry.name} is neither a file nor a link"
    data = entry.source.read_bytes()
    info.size, info.mode = len(data), 0o755 if entry.executable else 0o644
    archive.addfile(info, io.BytesIO(data))


def unpack(stream: BinaryIO, into: Path) -> None:
    """Fill the existing empty folder ``into``; raises TarballError at the first thing that does not belong."""
    unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW_MAX)
    seen: set[str] = set()
    made = {""}
    room = _BYTES_MAX
    try:
        with (
            unpacker.stream_reader(stream, read_across_frames=True, closefd=False) as plain,
            tarfile.open(fileobj=plain, mode="r|", bufsize=1 << 20) as archive,
        ):
            for member in archive:
                name = _checked_name(member.name, seen)
                room -= max(member.size, 0)
                if room < 0 or len(seen) > _MEMBERS_MAX:
                    raise TarballError(f"it grows past {_BYTES_MAX >> 30} GiB or {_MEMBERS_MAX:,} files at {name}")
                _place(archive, member, name, into, made)
    except (tarfile.TarError, zstandard.ZstdError, EOFError) as err:
        raise TarballError(f"it cannot be read to its end ({err})") from err


def _checked_name(name: str, seen: set[str]) -> str:
    parts = name.split("/")
    if name.startswith("/") or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise TarballError(f"it holds a file called {name!r}")
    folded = unicodedata.normalize("NFC", name).casefold() if os.name == "nt" else unicodedata.normalize("NFC", name)
    if folded in seen:
        raise TarballError(f"it holds {name!r} twice")
    seen.add(folded)
    return name


def _place(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str, into: Path, made: set[str]) -> None:
    parent, _, _ = name.rpartition("/")
    for folder in _missing(parent, made):
        (into / folder).mkdir()  # fails when a link or a file was put there: nothing is ever written through a link
        made.add(folder)
    if member.issym():
        parts = member.linkname.split("/")
        climbs = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
        # ".." later on could climb out from where another link has led
        if climbs > name.count("/") or any(part in ("", ".", "..") for part in parts[climbs:]):
            raise TarballError(f"the link {name!r} points outside, to {member.linkname!r}")
        (into / name).symlink_to(member.linkname)
    elif member.isreg():
        _copy(archive, member, into / name)
    elif not member.isdir():
        raise TarballError(f"{name!r} is neither a file, a folder nor a link")
    elif name not in made:
        (into / name).mkdir()
        made.add(name)


def _missing(folder: str, made: set[str]) -> Iterator[str]:
    parts = folder.split("/")
    for end in range(1, len(parts) + 1):
        path = "/".join(parts[:end])
        if path not in made:
            yield path


def _copy(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = archive.extractfile(member)
    assert source is not None, f"{member.name} is a regular file"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o755 if member.mode & 0o100 else 0o644)
    with contextlib.closing(source), open(descriptor, "wb", closefd=True) as target:
        while block := source.read(1 << 20):
            target.write(block)
        os.utime(descriptor, (EPOCH, EPOCH))
