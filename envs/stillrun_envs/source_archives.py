"""Source archives: unpacked so that nothing lands outside, and written so that the same files give the same bytes."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from stillrun_envs.errors import BuildError
from stillrun_snapshot.tree import link_stays_inside

__all__ = ["unpack", "write_tar"]

_SIZE_MAX = 4 << 30  # bytes unpacked; no source is larger
_FILES_MAX = 500_000


def unpack(archive: BinaryIO, file: str, folder: Path) -> Path:
    """Unpack an sdist, or a tar of ``write_tar``, into ``folder``; the project's folder inside.

    file: its name, for its kind and for messages. Raises BuildError for members that would land elsewhere, for anything
    that is neither file, folder nor inner link, and for archives that unpack to more than 4 GiB.
    """
    try:
        members = _zip_members(archive) if file.endswith(".zip") else _tar_members(archive)
        _unpacked(members, file, folder)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, ValueError) as err:
        raise BuildError(f"the source {file} cannot be unpacked: {err}; fetch it again, or ask for a wheel.") from err
    inside = [path for path in folder.iterdir() if path.name != "pax_global_header"]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def write_tar(root: Path, paths: Iterable[str], out: Path) -> None:
    """The files of a folder as a tar that depends on nothing but their names, bytes, links and executable bits."""
    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(paths):
            source = root / path
            found = source.lstat()
            member = tarfile.TarInfo(path)
            if stat.S_ISLNK(found.st_mode):
                member.type, member.linkname = tarfile.SYMTYPE, os.fspath(source.readlink())
                archive.addfile(member)
            elif stat.S_ISREG(found.st_mode):
                member.size, member.mode = found.st_size, 0o755 if found.st_mode & stat.S_IXUSR else 0o644
                with open(source, "rb") as stream:
                    archive.addfile(member, stream)


_Member = tuple[str, "BinaryIO | None", str, bool, int]  # name, content of a file, target of a link, executable, size


def _unpacked(members: Iterator[_Member], file: str, folder: Path) -> None:
    total = count = 0
    for name, content, link, executable, size in members:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\0" in name or "\\" in name:
            raise BuildError(f"the source {file} holds {name!r}, which would land outside its folder; it is refused.")
        count, total = count + 1, total + size
        if total > _SIZE_MAX or count > _FILES_MAX:
            raise BuildError(f"the source {file} unpacks to more than {_SIZE_MAX >> 30} GiB or {_FILES_MAX:,} files.")
        place = folder / pure
        if any(parent.is_symlink() for parent in place.parents if folder in parent.parents):
            raise BuildError(f"the source {file} writes {name!r} through a link; it is refused.")
        if link:
            if not link_stays_inside(str(pure), link):
                raise BuildError(f"the source {file} has a link {name!r} that leads outside its folder; it is refused.")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(link)
        elif content is None:
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            with open(place, "xb") as out:
                shutil.copyfileobj(content, out, 1 << 20)
            place.chmod(0o755 if executable else 0o644)


def _tar_members(archive: BinaryIO) -> Iterator[_Member]:
    with tarfile.open(fileobj=archive, mode="r:*") as members:
        for member in members:
            if member.isreg():
                yield member.name, _stream(members, member), "", bool(member.mode & 0o100), member.size
            elif member.isdir():
                yield member.name, None, "", False, 0
            elif member.issym():
                yield member.name, None, member.linkname, False, 0
            elif member.islnk():  # a second name of a file that came before
                yield member.name, _stream(members, member), "", bool(member.mode & 0o100), member.size
            else:
                raise ValueError(f"{member.name!r} is neither file, folder nor link")


def _stream(members: tarfile.TarFile, member: tarfile.TarInfo) -> BinaryIO:
    found = members.extractfile(member)
    return io.BytesIO() if found is None else found  # type: ignore[return-value] # it reads as a binary file does


def _zip_members(archive: BinaryIO) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as members:
        for member in members.infolist():
            mode = member.external_attr >> 16
            if member.is_dir():
                yield member.filename, None, "", False, 0
            elif stat.S_ISLNK(mode):
                yield member.filename, None, members.read(member).decode("utf-8"), False, 0
            else:
                yield member.filename, members.open(member), "", bool(mode & 0o100), member.file_size  # type: ignore[misc] # as above
