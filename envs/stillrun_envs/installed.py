"""Installed distributions, read from disk: what they are called, what they own and what they need.

Read without the Python they belong to, from the folders it looks in. Sources: PEP 376, 427, 610 and 660.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from stillrun_envs.location import without_credentials
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of

__all__ = ["Installed", "RecordRow", "installed_distributions", "owned_modules", "read_record"]

_HEADER_MAX = 1 << 16  # name and version stand at the top
_HEADER = re.compile(rb"^(Name|Version):[ \t]*([^\r\n]*)", re.MULTILINE)
_SUFFIX = re.compile(r"\.(?:[A-Za-z0-9_\-]+\.)?(?:so|pyd)$|\.py$")


@dataclass(frozen=True)
class Installed:
    """One distribution in one of the folders that a Python looks in."""

    name: str  # normalised
    version: str
    site: int  # which of the folders
    metadata: str  # the name of its .dist-info or .egg-info in there
    record: Digest | None  # of its RECORD; None when it has none
    direct_url: Mapping[str, Any] | None  # PEP 610, without credentials
    editable: bool

    def to_record(self) -> dict[str, object]:
        """The distribution as it stands in an environment record."""
        return {
            "name": self.name,
            "version": self.version,
            "site": self.site,
            "metadata": self.metadata,
            "record": None if self.record is None else str(self.record),
            "direct_url": self.direct_url,
            "editable": self.editable,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Installed:
        """The distribution that stands in an environment record."""
        return cls(
            name=record["name"],
            version=record["version"],
            site=record["site"],
            metadata=record["metadata"],
            record=None if record["record"] is None else Digest.parse(record["record"]),
            direct_url=record["direct_url"],
            editable=record["editable"],
        )


@dataclass(frozen=True)
class RecordRow:
    """One line of a RECORD."""

    path: str
    digest: str  # as written, such as sha256=<urlsafe base64>; empty when not given


def installed_distributions(sites: Iterable[Path]) -> list[Installed]:
    """The distributions that a Python with these folders sees, by name; of two called the same, the first found."""
    found: dict[str, Installed] = {}
    for index, site in enumerate(sites):
        for metadata in _metadata_folders(site):
            one = _read(site, index, metadata)
            if one is not None:
                found.setdefault(one.name, one)
    return [found[name] for name in sorted(found)]


def read_record(site: Path, metadata: str) -> list[RecordRow]:
    """The files that a distribution says it installed; paths are relative to its folder."""
    with open(site / metadata / "RECORD", encoding="utf-8", newline="") as file:
        return [RecordRow(row[0], row[1] if len(row) > 1 else "") for row in csv.reader(file) if row and row[0]]


def owned_modules(site: Path, one: Installed) -> set[str]:
    """The top-level modules that a distribution installed."""
    if one.record is None:
        try:
            return set((site / one.metadata / "top_level.txt").read_text("utf-8").split())
        except OSError:
            return set()
    owned = set()
    for row in read_record(site, one.metadata):
        top, slash, _ = row.path.partition("/")
        if slash:
            owned.add(top)
        elif (bare := _SUFFIX.sub("", top)) != top:
            owned.add(bare)
    return {name for name in owned if name.isidentifier()}


def headers(site: Path, metadata: str) -> Any:
    """The parsed METADATA (or PKG-INFO) of a distribution."""
    for name in ("METADATA", "PKG-INFO", ""):
        path = site / metadata / name if name else site / metadata
        if path.is_file():
            return HeaderParser().parsestr(path.read_text("utf-8", "replace"))
    return HeaderParser().parsestr("")


def _metadata_folders(site: Path) -> Iterator[str]:
    try:
        names = os.listdir(site)  # noqa: PTH208 - names only, and in the thousands
    except OSError:
        return  # a folder that is named but not there, or a zip file
    yield from sorted(name for name in names if name.endswith((".dist-info", ".egg-info")))


def _read(site: Path, index: int, metadata: str) -> Installed | None:
    folder = site / metadata
    described = next((path for path in (folder / "METADATA", folder / "PKG-INFO", folder) if path.is_file()), None)
    if described is None:
        return None
    with open(described, "rb") as file:
        fields = {
            key.decode(): value.decode("utf-8", "replace") for key, value in _HEADER.findall(file.read(_HEADER_MAX))
        }
    if not fields.get("Name") or not fields.get("Version"):
        return None  # a leftover of an upgrade that was cut off
    direct_url = _direct_url(folder)
    return Installed(
        name=canonicalize_name(fields["Name"].strip()),
        version=fields["Version"].strip(),
        site=index,
        metadata=metadata,
        record=_digest(folder / "RECORD"),
        direct_url=direct_url,
        editable=bool(direct_url and direct_url.get("dir_info", {}).get("editable")),
    )


def _digest(path: Path) -> Digest | None:
    try:
        return digest_of(path.read_bytes())
    except OSError:
        return None


def _direct_url(folder: Path) -> dict[str, Any] | None:
    try:
        said = json.loads((folder / "direct_url.json").read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(said, dict) or not isinstance(said.get("url"), str):
        return None
    kept = {key: said[key] for key in ("vcs_info", "archive_info", "dir_info", "subdirectory") if key in said}
    return {**kept, "url": without_credentials(said["url"])}
