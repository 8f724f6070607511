"""Packs an installed distribution into a wheel again: the same files give the same bytes.

A file that is not what its RECORD says was changed after it was installed. It is packed as it is found, since that is
what the run used, and named.
"""

from __future__ import annotations

import base64
import configparser
import csv
import hashlib
import io
import os
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from stillrun_envs.installed import Installed, headers, read_record
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of_file

__all__ = ["Repacked", "UnpackableError", "repack", "source_files"]

_LEVEL = 1  # half the size of none at all; level 6 saves another tenth and takes three times as long
_DATE = (1980, 1, 1, 0, 0, 0)
# written by whoever installs, not part of what is installed
_INSTALLERS = frozenset(
    {"RECORD", "RECORD.jws", "RECORD.p7s", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"}
)
_SHEBANG = re.compile(rb"^#!.*python[^\n]*")
_COMPILED = (".so", ".pyd", ".dylib")


class UnpackableError(ValueError):
    """The distribution cannot be packed; the text says why."""


@dataclass(frozen=True)
class Repacked:
    """A wheel made of an installed distribution."""

    file: str
    digest: Digest
    size: int
    edited: tuple[str, ...]


@dataclass(frozen=True)
class _Member:
    name: str
    path: Path
    promised: str = ""
    script: bool = False


def repack(one: Installed, site: Path, prefix: Path, modules: Iterable[str], target: Path) -> Repacked:
    """Write the wheel of ``one`` to ``target``; raises UnpackableError.

    modules: what was imported of it, which is what an editable distribution is packed from.
    """
    members = list(_members_of_source(one, site, modules) if one.editable else _members(one, site, prefix))
    tags = _tags(site / one.metadata)
    stem = one.metadata.removesuffix(".dist-info")
    file = f"{stem}-{tags}.whl"
    try:
        parse_wheel_filename(file)
    except InvalidWheelFilename as err:
        raise UnpackableError(f"its metadata does not make a wheel name ({file})") from err
    edited = _write(target, members, f"{stem}.dist-info")
    digest, size = digest_of_file(target)
    return Repacked(file, digest, size, tuple(edited))


def source_files(one: Installed, site: Path, module: str) -> Path | None:
    """Where an editable distribution has the source of ``module``: a package folder or one file."""
    for root in _source_roots(one, site):
        for path in (root / module, root / f"{module}.py"):
            if (path.is_dir() and path.suffix == "") or path.is_file():
                return path
    return None


def _members(one: Installed, site: Path, prefix: Path) -> Iterator[_Member]:
    """The files of a distribution by the name they have in its wheel."""
    if one.record is None:
        raise UnpackableError("it has no RECORD of its files; it was not installed from a wheel")
    folder = site / one.metadata
    conda = _installer(folder) == "conda"
    scripts = _script_names(folder)
    data = f"{one.metadata.removesuffix('.dist-info')}.data"
    for row in read_record(site, one.metadata):
        path = Path(os.path.normpath(site / row.path))
        if "__pycache__" in path.parts or path.suffix == ".pyc" or _is_installers(row.path, one.metadata):
            continue
        if conda and path.name.endswith(_COMPILED):
            raise UnpackableError("conda installed it, with shared libraries outside of it; ask for it with @conda")
        if site in path.parents:
            yield _Member(path.relative_to(site).as_posix(), path, row.digest)
        elif prefix not in path.parents:
            raise UnpackableError(f"it installed {path}, outside its environment")
        elif path.parent.name in ("bin", "Scripts"):
            if path.name not in scripts:
                yield _Member(f"{data}/scripts/{path.name}", path, row.digest, script=True)
        else:
            yield _Member(f"{data}/data/{path.relative_to(prefix).as_posix()}", path, row.digest)


def _members_of_source(one: Installed, site: Path, modules: Iterable[str]) -> Iterator[_Member]:
    """The imported packages of an editable distribution, from where they are edited, and its metadata."""
    found = [path for module in sorted(modules) if (path := source_files(one, site, module)) is not None]
    if not found:
        raise UnpackableError("it is editable, and where its source lies cannot be told")
    for top in found:
        if top.is_file():
            yield _Member(top.name, top)
            continue
        for folder, folders, files in os.walk(top):
            folders[:] = sorted(name for name in folders if name != "__pycache__" and not name.startswith("."))
            for name in sorted(files):
                path = Path(folder) / name
                if path.suffix != ".pyc" and path.is_file():
                    yield _Member(path.relative_to(top.parent).as_posix(), path)
    for path in sorted((site / one.metadata).rglob("*")):
        if path.is_file() and path.name not in _INSTALLERS:
            yield _Member(f"{one.metadata}/{path.relative_to(site / one.metadata).as_posix()}", path)


def _source_roots(one: Installed, site: Path) -> Iterator[Path]:
    if one.record is not None:
        for row in read_record(site, one.metadata):
            if row.path.endswith(".pth") and "/" not in row.path:
                lines = (
                    (site / row.path).read_text("utf-8", "replace").splitlines() if (site / row.path).is_file() else []
                )
                yield from (Path(line.strip()) for line in lines if line.startswith("/"))
    url = (one.direct_url or {}).get("url", "")
    if url.startswith("file://"):
        from urllib.parse import unquote, urlsplit

        root = Path(unquote(urlsplit(url).path))
        yield from (root / "src", root)


def _write(target: Path, members: list[_Member], metadata: str) -> list[str]:
    """Write the wheel and its RECORD; returns the files that were changed or lost since they were installed."""
    lines: list[tuple[str, str, str]] = []
    edited: list[str] = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as wheel:
        for member in sorted({one.name: one for one in members}.values(), key=lambda one: one.name):
            try:
                data = member.path.read_bytes()
            except OSError:
                edited.append(member.name)
                continue
            if member.promised.startswith("sha256=") and member.promised[7:].rstrip("=") != _base64(data):
                edited.append(member.name)
            if member.script:
                data = _SHEBANG.sub(b"#!python", data, count=1)
            executable = member.script or os.access(member.path, os.X_OK)
            _add(wheel, member.name, data, executable=executable)
            lines.append((member.name, f"sha256={_base64(data)}", str(len(data))))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([*lines, (f"{metadata}/RECORD", "", "")])
        _add(wheel, f"{metadata}/RECORD", text.getvalue().encode(), executable=False)
    return edited


def _add(wheel: zipfile.ZipFile, name: str, data: bytes, *, executable: bool) -> None:
    info = zipfile.ZipInfo(name, _DATE)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = (0o100755 if executable else 0o100644) << 16
    info.create_system = 3  # Unix, whatever this runs on
    wheel.writestr(info, data, compresslevel=_LEVEL)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _is_installers(path: str, metadata: str) -> bool:
    pure = PurePosixPath(path)
    return str(pure.parent) == metadata and pure.name in _INSTALLERS


def _installer(folder: Path) -> str:
    try:
        return (folder / "INSTALLER").read_text("utf-8").strip()
    except OSError:
        return ""


def _script_names(folder: Path) -> set[str]:
    """The commands that an installer writes itself, from the entry points."""
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # the documented way to keep case
    try:
        parser.read_string((folder / "entry_points.txt").read_text("utf-8"))
    except (OSError, configparser.Error):
        return set()
    return {name for section in ("console_scripts", "gui_scripts") if section in parser for name in parser[section]}


def _tags(folder: Path) -> str:
    """The compatibility part of the wheel's name, from its WHEEL file."""
    if not (folder / "WHEEL").is_file():
        raise UnpackableError("it has no WHEEL file; it was not installed from a wheel")
    found = [tag.strip() for tag in headers(folder, "WHEEL").get_all("Tag", [])]
    parts = [tag.split("-") for tag in found if tag.count("-") == 2]
    if not parts:
        raise UnpackableError("its WHEEL file names no tag")
    return "-".join(".".join(sorted({part[place] for part in parts})) for place in range(3))
