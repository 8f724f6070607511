"""What lock files of all tools have in common: one file for each package of one Python on one platform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest

__all__ = ["Asked", "Listed", "Listing"]


@dataclass(frozen=True)
class Listed:
    """One package at one exact build, and where its file is."""

    manager: Literal["conda", "pypi"]
    name: str  # normalised: lower case, '-' between words
    version: str  # empty for a source that has not told it yet
    file: str  # file name of the wheel, conda archive or sdist; empty for a git commit, a folder, or when not known
    url: str  # address, without credentials; empty when it is not known
    digest: Digest | None = None  # of ``file``
    md5: str = ""  # 32 hexadecimal digits; conda packages only, and not always known
    size: int | None = None
    build: str = ""  # conda build string
    subdir: str = ""  # conda platform folder
    depends: tuple[str, ...] = ()  # as the package says: match specs (conda) or PEP 508 requirements
    source: str = (
        ""  # PEP 508 direct reference when there is no wheel: git+https://…@commit, file:///folder, …/x.tar.gz
    )
    hashes: tuple[Digest, ...] = ()  # what the file may be, where a lock names hashes but no file; sorted

    def __post_init__(self) -> None:
        object.__setattr__(self, "hashes", tuple(sorted(set(self.hashes))))


@dataclass(frozen=True)
class Listing:
    """The packages of one lock file for one target, sorted by manager and name."""

    python: str  # version, whole when the file says it: 3.11.7, else 3.11; empty when it says nothing
    platform: str  # conda's name of the platform
    packages: tuple[Listed, ...]
    requested: tuple[str, ...] = ()  # what was asked for, where the file says it: PEP 508 or match specs
    channels: tuple[str, ...] = ()
    virtual_packages: tuple[str, ...] = ()  # NAME=VERSION=BUILD
    index_url: str | None = None  # where packages that are listed by hash alone are looked for, as the file says it
    extra_indices: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()  # pages and folders of files; a folder as a file:// address

    def __post_init__(self) -> None:
        object.__setattr__(self, "packages", tuple(sorted(self.packages, key=lambda one: (one.manager, one.name))))


@dataclass(frozen=True)
class Asked:
    """What a file asks for, as decorators do: versions are not pinned yet."""

    python: str | None = None
    pypi: tuple[str, ...] | None = None  # PEP 508 requirements; a local path as 'name @ file:///…'
    conda: tuple[str, ...] | None = None  # match specs
    channels: tuple[str, ...] = ()
    index_url: str | None = None
    extra_indices: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)  # prereleases, exclude_newer, virtual_packages
    find_links: tuple[str, ...] = ()  # pages and folders of files; a folder as a file:// address
