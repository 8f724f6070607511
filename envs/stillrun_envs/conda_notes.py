"""What conda noted of the packages that it installed in an environment: PREFIX/conda-meta, a JSON file for each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from stillrun_snapshot.deferred import dataclass

__all__ = ["Note", "NotedFile", "read_notes"]

_SITE = "/site-packages/"
_SPEC = re.compile(r"^(?:[^\s\[]*::)?([A-Za-z0-9_.\-]+)")  # the name in a match spec
_HEX = re.compile(r"^[0-9a-f]+$")


@dataclass(frozen=True)
class NotedFile:
    """One file of a package."""

    path: str  # below the prefix
    digest: str  # SHA-256 as it was installed, hexadecimal; empty when it was not noted
    original: str  # the same of the file in the archive
    placeholder: str  # what stands in the archive for the prefix; empty when nothing does
    binary: bool  # whether the prefix was padded with NULs to the length of the placeholder
    link: bool
    generated: bool  # made by the installer, such as the command of an entry point


@dataclass(frozen=True)
class Note:
    """One package as conda noted it."""

    source: Path
    said: Mapping[str, Any]

    @property
    def name(self) -> str:
        """As the channel spells it, which is lower case."""
        return str(self.said["name"])

    @property
    def version(self) -> str:
        """As the channel spells it."""
        return str(self.said["version"])

    @property
    def build(self) -> str:
        """Build string."""
        return str(self.said.get("build") or self.said.get("build_string") or "")

    @property
    def subdir(self) -> str:
        """Platform folder of the channel."""
        return str(self.said.get("subdir") or "")

    @property
    def url(self) -> str:
        """Where the archive came from; empty when it is not noted."""
        return str(self.said.get("url") or "")

    @property
    def file(self) -> str:
        """File name of the archive."""
        named = str(self.said.get("fn") or "")
        if named.endswith((".conda", ".tar.bz2")):
            return named
        suffix = ".tar.bz2" if self.url.endswith(".tar.bz2") else ".conda"
        return f"{self.name}-{self.version}-{self.build}{suffix}"

    @property
    def sha256(self) -> str:
        """Of the archive; empty when it is not noted."""
        return _hexadecimal(self.said.get("sha256"), 64)

    @property
    def md5(self) -> str:
        """Of the archive; empty when it is not noted."""
        return _hexadecimal(self.said.get("md5"), 32)

    @property
    def size(self) -> int | None:
        """Of the archive in bytes."""
        size = self.said.get("size")
        return size if isinstance(size, int) and size > 0 else None

    @property
    def depends(self) -> tuple[str, ...]:
        """Match specs of what it needs."""
        return tuple(map(str, self.said.get("depends") or ()))

    @property
    def depends_on(self) -> tuple[str, ...]:
        """The names of what it needs."""
        return tuple(match[1] for spec in self.depends if (match := _SPEC.match(spec)))

    @cached_property
    def files(self) -> tuple[NotedFile, ...]:
        """Every file, bytecode and folders apart."""
        noted = (self.said.get("paths_data") or {}).get("paths") or ()
        entries = noted or [{"_path": path} for path in self.said.get("files") or ()]
        return tuple(sorted(_files(entries), key=lambda one: one.path))

    def parts(self) -> Iterator[str]:
        """What it has right in a site-packages folder: paths below the prefix, single modules without suffix too."""
        for path in {str(path) for path in self.said.get("files") or ()} | {one.path for one in self.files}:
            head, found, inner = path.partition(_SITE)
            top, nested, _ = inner.partition("/")
            if found and top:
                yield f"{head}{_SITE}{top}"
                if not nested:
                    yield f"{head}{_SITE}{top.partition('.')[0]}"


def read_notes(prefix: Path) -> dict[str, Note]:
    """The packages of a conda environment by name; a note that was cut off is passed over, its files belong to nobody."""
    found = {}
    for path in sorted((prefix / "conda-meta").glob("*.json")):
        try:
            note = Note(path, json.loads(path.read_bytes()))
            if note.name and note.version:
                found[note.name] = note
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def _files(entries: Iterable[Mapping[str, Any]]) -> Iterator[NotedFile]:
    for one in entries:
        path, kind = str(one["_path"]), str(one.get("path_type") or "hardlink")
        if path.endswith(".pyc") or kind == "directory" or ".." in path.split("/") or path.startswith("/"):
            continue
        placeholder = str(one.get("prefix_placeholder") or "")
        original = _hexadecimal(one.get("sha256"), 64)
        installed = _hexadecimal(one.get("sha256_in_prefix"), 64) or ("" if placeholder else original)
        link = kind == "softlink"
        binary = one.get("file_mode") == "binary"
        yield NotedFile(path, "" if link else installed, original, placeholder, binary, link, "entry_point" in kind)


def _hexadecimal(value: object, length: int) -> str:
    text = str(value or "").lower()
    return text if len(text) == length and _HEX.match(text) else ""
