"""What kept wheels put where: to refuse one that would overwrite a conda package, and to prove what was installed."""

from __future__ import annotations

import base64
import binascii
import configparser
import csv
import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from stillrun_envs.errors import BuildError
from stillrun_envs.lock import PinnedPackage
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of, digest_of_file

__all__ = ["WheelFiles", "read_wheels", "refuse_clashes", "refuse_strangers"]

_WRITTEN_BY_INSTALLERS = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "RECORD.jws", "RECORD.p7s")


@dataclass(frozen=True)
class WheelFiles:
    """The files of one wheel by the path in an environment that they are installed to."""

    file: str  # the wheel's
    digests: Mapping[str, Digest | None]  # None: an installer writes or changes it


def read_wheels(packages: Sequence[PinnedPackage], files: Mapping[str, Path], family: str) -> list[WheelFiles]:
    """The files of wheels, as they list them themselves. family: major and minor version of Python."""
    found = []
    for package in packages:
        try:
            with zipfile.ZipFile(files[package.file]) as wheel:
                found.append(WheelFiles(package.file, dict(_placed(wheel, package.name, family))))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, configparser.Error) as err:
            raise BuildError(f"the kept wheel {package.file} cannot be read: {err}; fetch it again.") from err
    return found


def refuse_clashes(wheels: Sequence[WheelFiles], folder: Path) -> None:
    """Raise BuildError when a wheel would put a different file where a conda package has one."""
    for wheel in wheels:
        for path, digest in wheel.digests.items():
            there = folder / path
            if not os.path.lexists(there) or path.endswith("/RECORD"):
                continue
            if digest is None or not there.is_file() or digest_of_file(there)[0] != digest:
                raise BuildError(
                    f"{path} comes from the conda package {_owner(path, folder)} and, with other contents, from the wheel "
                    f"{wheel.file}; ask for one of the two only."
                )


def refuse_strangers(
    wheels: Sequence[WheelFiles], files: Mapping[str, Path], entries: Sequence[Mapping[str, object]]
) -> None:
    """Raise BuildError when a file that was installed is not what one of the wheels that bring it holds.

    entries: of the tree. An installer checks a wheel when it unpacks it, not what it later links into the environment.
    """
    found = {str(entry["path"]): entry.get("digest") for entry in entries}
    allowed: dict[str, set[str]] = {}
    for wheel in wheels:
        for path, digest in wheel.digests.items():
            allowed.setdefault(path, set()).add(str(digest))
    for wheel in wheels:
        for path, digest in wheel.digests.items():
            if digest is None or "None" in allowed[path] or found.get(path) in allowed[path]:
                continue
            if not _is_in(files[wheel.file], path, found.get(path)):
                raise BuildError(
                    f"{path} was installed otherwise than the wheel {wheel.file} holds it; something wrote into the "
                    "environment while it was built. Find out what, and build again."
                )


def _placed(wheel: zipfile.ZipFile, name: str, family: str) -> Iterator[tuple[str, Digest | None]]:
    site = f"lib/python{family}/site-packages"
    places = {"purelib": site, "platlib": site, "data": "", "headers": f"include/site/python{family}/{name}"}
    record = next(one for one in wheel.namelist() if one.endswith(".dist-info/RECORD") and one.count("/") == 1)
    info = record.removesuffix("/RECORD")
    for row in csv.reader(io.StringIO(wheel.read(record).decode("utf-8"))):
        if not row or "__pycache__" in row[0] or row[0].startswith("/") or ".." in row[0].split("/"):
            continue
        digest = None if row[0].rpartition("/")[2] in _WRITTEN_BY_INSTALLERS else _digest(row)
        top, _, rest = row[0].partition("/")
        if top != info.removesuffix(".dist-info") + ".data":
            yield f"{site}/{row[0]}", digest
        elif rest.startswith("scripts/"):
            yield f"bin/{rest.removeprefix('scripts/')}", None  # its first line is written by the installer
        else:
            kind, _, rest = rest.partition("/")
            yield f"{places[kind]}/{rest}".lstrip("/"), digest
    if f"{info}/entry_points.txt" in wheel.namelist():
        points = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
        points.optionxform = str  # type: ignore[method-assign,assignment] # names of commands keep their case
        points.read_string(wheel.read(f"{info}/entry_points.txt").decode("utf-8"))
        for group in ("console_scripts", "gui_scripts"):
            for command in points[group] if points.has_section(group) else ():
                yield f"bin/{command}", None


def _digest(row: Sequence[str]) -> Digest | None:
    """The SHA-256 of a line of RECORD (PEP 376); None when it has another or none."""
    algorithm, _, text = row[1].partition("=") if len(row) > 1 else ("", "", "")
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return None
    return Digest.of_raw(raw) if algorithm == "sha256" and len(raw) == 32 else None


def _is_in(wheel: Path, path: str, digest: object) -> bool:
    """Whether the wheel holds a file of that end of the path and that digest: its own list of files may be wrong."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if path.endswith(f"/{name}") or name.endswith(f"/{path}")]
        return any(str(digest_of(archive.read(name))) == digest for name in names)


def _owner(path: str, folder: Path) -> str:
    """The conda package that brought a file, by conda's notes."""
    for note in sorted((folder / "conda-meta").glob("*.json")):
        told = json.loads(note.read_bytes())
        if path in told.get("files", ()):
            return f"{told['name']} {told['version']}"
    return "that is there"
