"""Packs an installed conda package into an archive again, from its files: the same files give the same bytes.

Where conda wrote the environment's own place into a file, the archive's placeholder is put back. A program that cannot
be turned back into exactly what conda noted of the archive is refused. A file that was changed after it was installed
is packed as it is found, since that is what the run used.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO

import zstandard

from stillrun_envs.conda_notes import Note, NotedFile
from stillrun_envs.repack import UnpackableError
from stillrun_snapshot.deferred import dataclass

__all__ = ["pack"]

_TIME = 315532800  # 1980-01-01, the first that zip files know
_PLACEHOLDER = "/opt/stillrun_" + "placehold_" * 24  # in text, where conda's own is not known
_INDEX = ("build_number", "constrains", "license", "license_family", "timestamp", "features", "track_features")
_LEVEL = 3
_WORD = rb"(?![A-Za-z0-9_])"


@dataclass(frozen=True)
class _Member:
    """A file on its way into the archive."""

    name: str
    data: bytes  # of a link its target
    link: bool = False
    executable: bool = False
    placeholder: str = ""
    binary: bool = False


def pack(note: Note, prefix: Path, platform: str, target: Path, *, without: Collection[str] = ()) -> tuple[str, int]:
    """Write the archive of ``note`` to ``target``; its file name, and how many files it has. Raises UnpackableError.

    platform: conda's name of this machine's, for what was laid out for one Python. without: paths of the package that
    belong to others by now. Files that are gone are left out.
    """
    stem = f"{note.name}-{note.version}-{note.build}"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "metadata.json", json.dumps({"conda_pkg_format_version": 2}).encode())
        with archive.open(_entry(f"pkg-{stem}.tar.zst"), "w", force_zip64=True) as packed:
            paths = _packed(packed, _members(note, prefix, frozenset(without)))
        info = {
            "info/about.json": b"{}",
            "info/files": "".join(f"{one['_path']}\n" for one in paths).encode("utf-8", "surrogateescape"),
            "info/index.json": _json(_index(note, platform)),
            "info/paths.json": _json({"paths": paths, "paths_version": 1}),
        }
        with archive.open(_entry(f"info-{stem}.tar.zst"), "w") as packed:
            _packed(packed, (_Member(name, data) for name, data in sorted(info.items())))
    return f"{stem}.conda", len(paths)


def _members(note: Note, prefix: Path, without: frozenset[str]) -> Iterator[_Member]:
    for file in note.files:
        path = prefix / file.path
        if file.path in without:
            continue
        try:
            if path.is_symlink():
                yield _Member(file.path, os.fsencode(path.readlink()), link=True)
            elif path.is_file():
                yield _member(file, path.read_bytes(), prefix, executable=os.access(path, os.X_OK))
        except OSError as err:
            raise UnpackableError(f"{file.path} cannot be read ({err.strerror})") from err


def _member(file: NotedFile, data: bytes, prefix: Path, *, executable: bool) -> _Member:
    placeholder = file.placeholder or (_PLACEHOLDER if file.generated else "")
    known = file.original if placeholder and file.digest == _sha256(data) and not file.generated else ""
    place = next((one for one in map(os.fsencode, (prefix, prefix.resolve())) if one in data), None)
    if not placeholder or (place is None and (not file.binary or known in ("", file.digest))):
        return _Member(file.path, data, executable=executable)
    back = _padded_back if file.binary else _put_back
    original = None if place is None else back(data, place, placeholder.encode(), known)
    if original is None:
        raise UnpackableError(f"the place of the environment cannot be taken out of {file.path} again")
    return _Member(file.path, original, False, executable, placeholder, file.binary)


def _put_back(data: bytes, prefix: bytes, placeholder: bytes, known: str) -> bytes:
    """Text with the placeholder where it names the prefix, and not a neighbour of it."""
    plain = data.replace(prefix, placeholder)
    if known and _sha256(plain) == known:
        return plain
    return re.sub(re.escape(prefix) + _WORD, lambda _: placeholder, data)


def _padded_back(data: bytes, prefix: bytes, placeholder: bytes, known: str) -> bytes | None:
    """A program with the placeholder in each string that names the prefix; None when it cannot have been so."""
    longer = len(placeholder) - len(prefix)
    fits = True

    def lengthened(match: re.Match[bytes]) -> bytes:
        nonlocal fits
        text, padding = match[1], len(match[2])
        need = longer * text.count(prefix)
        fits = fits and longer >= 0 and padding > need
        return text.replace(prefix, placeholder) + b"\0" * (padding - need)

    found = re.sub(rb"(" + re.escape(prefix) + rb"[^\0]*)(\0+)", lengthened, data)
    return found if fits and len(found) == len(data) and known in ("", _sha256(found)) else None


def _packed(file: IO[bytes], members: Iterator[_Member]) -> list[dict[str, object]]:
    """Write a compressed tar; what paths.json says of each member."""
    told = []
    packer = zstandard.ZstdCompressor(level=_LEVEL)
    with packer.stream_writer(file, closefd=False) as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
        for one in members:
            entry = tarfile.TarInfo(one.name)
            entry.mtime = _TIME
            entry.mode = 0o755 if one.executable else 0o644
            if one.link:
                entry.type, entry.linkname = tarfile.SYMTYPE, os.fsdecode(one.data)
                archive.addfile(entry)
            else:
                entry.size = len(one.data)
                archive.addfile(entry, io.BytesIO(one.data))
            told.append(_told(one))
    return told


def _told(one: _Member) -> dict[str, object]:
    entry: dict[str, object] = {"_path": one.name, "path_type": "softlink" if one.link else "hardlink"}
    entry |= {"sha256": _sha256(one.data), "size_in_bytes": len(one.data)}
    if one.placeholder:
        entry |= {"prefix_placeholder": one.placeholder, "file_mode": "binary" if one.binary else "text"}
    return entry


def _index(note: Note, platform: str) -> dict[str, object]:
    """What the archive says of itself: laid out for one Python, it is no noarch package any more."""
    said: dict[str, object] = {key: note.said[key] for key in _INDEX if note.said.get(key) is not None}
    if note.said.get("python_site_packages_path"):
        said["python_site_packages_path"] = note.said["python_site_packages_path"]
    return {
        **said,
        "name": note.name,
        "version": note.version,
        "build": note.build,
        "depends": list(note.depends),
        "subdir": platform,
    }


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(_entry(name), data)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.external_attr = 0o644 << 16
    entry.create_system = 3  # Unix, whatever this runs on
    return entry


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogateescape")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
