"""Package files by their names: what a conda archive, wheel or sdist is called, and which wheel fits a target."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from packaging.utils import (
    InvalidName,
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from stillrun_envs.location import file_name
from stillrun_envs.platforms import Target

__all__ = [
    "CondaFile",
    "best_wheel",
    "conda_file",
    "name_of_file",
    "pypi_name",
    "same_version",
    "sdist_suffix",
    "version_of_file",
]

_CONDA = re.compile(r"^(?P<name>.+)-(?P<version>[^-]+)-(?P<build>[^-]+)(?:\.conda|\.tar\.bz2)$")
_SDISTS = (".tar.gz", ".zip", ".tar.bz2", ".tar.xz", ".tgz", ".tar", ".tar.zst")
_T = TypeVar("_T")


class CondaFile(NamedTuple):
    """What the address of a conda archive says."""

    name: str
    version: str
    build: str
    subdir: str
    file: str


def conda_file(url: str) -> CondaFile | None:
    """What the address of a conda archive says; None when it is no such address."""
    file = file_name(url)
    match = _CONDA.match(file)
    folders = [unquote(part) for part in urlsplit(url).path.split("/")][:-1]
    if match is None or "/" in file or not folders or not folders[-1]:
        return None
    return CondaFile(match["name"].lower(), match["version"], match["build"], folders[-1], file)


def pypi_name(name: str) -> str | None:
    """The normalised name; None for what is no name."""
    try:
        return canonicalize_name(name, validate=True)
    except InvalidName:
        return None


def name_of_file(file: str) -> str | None:
    """The normalised name of the distribution that a wheel or sdist holds; None for another file."""
    found = _parsed(file)
    return None if found is None else found[0]


def version_of_file(file: str) -> str | None:
    """The version of the distribution that a wheel or sdist holds; None for another file."""
    found = _parsed(file)
    return None if found is None else found[1]


def sdist_suffix(file: str) -> bool:
    """Whether the file name is that of a source archive."""
    return file.endswith(_SDISTS)


def best_wheel(wheels: Iterable[tuple[str, _T]], target: Target) -> _T | None:
    """The wheel that an installer would choose for the target, by file name; None when none fits."""
    ranks = {tag: rank for rank, tag in enumerate(target.tags())}
    fitting: list[tuple[int, tuple[int, str], str, _T]] = []
    for file, wheel in wheels:
        try:
            _, _, build, found = parse_wheel_filename(file)
        except (InvalidWheelFilename, InvalidVersion):
            continue
        known = [ranks[tag] for tag in found if tag in ranks]
        if known:
            number = build or (0, "")
            fitting.append((-min(known), (int(number[0]), str(number[1])), file, wheel))
    return max(fitting, key=lambda one: one[:3])[3] if fitting else None


def same_version(one: str, other: str) -> bool:
    """Whether two spellings are one version (PEP 440)."""
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other


def _parsed(file: str) -> tuple[str, str] | None:
    try:
        if file.endswith(".whl"):
            parsed: Sequence[object] = parse_wheel_filename(file)
        else:
            stem = next((file[: -len(suffix)] for suffix in _SDISTS if file.endswith(suffix)), None)
            if stem is None:
                return None
            parsed = parse_sdist_filename(f"{stem}.tar.gz")
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return None
    return str(parsed[0]), str(parsed[1])
