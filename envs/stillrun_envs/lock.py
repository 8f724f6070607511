"""Environment locks: the exact interpreter and packages of an environment. Format: docs/spec/lock.md, version 1."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from stillrun_envs.errors import LockError
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import StoreError
from stillrun_snapshot.store import Store

__all__ = [
    "Interpreter",
    "Lock",
    "NotKept",
    "PinnedPackage",
    "interpreter_from_record",
    "package_from_record",
    "read_lock",
]

SCHEMA = "stillrun/lock/1"
Manager = Literal["conda", "pypi"]
Origin = Literal["fetched", "installed"]
_FILE = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.+!\-]*$")


@dataclass(frozen=True)
class PinnedPackage:
    """One package at one exact build."""

    manager: Manager
    name: str  # normalised: lower case, '-' between words
    version: str  # as the index spells it
    file: str  # the name under which an installer accepts it
    digest: Digest  # of the wheel or conda archive, not of the unpacked files
    size: int
    build: str = ""  # conda build string; empty for wheels
    subdir: str = ""  # conda platform folder, such as linux-64 or noarch; empty for wheels
    origin: Origin = "fetched"  # "installed": packed again from the files of an environment
    edited: tuple[str, ...] = ()  # files that were changed after they were installed, kept as they were found

    def __post_init__(self) -> None:
        if not self.name or not self.version:
            raise LockError(f"a pinned package has no name or version (file {self.file!r}, digest {self.digest}).")
        if not _FILE.match(self.file):
            raise LockError(f"{self.name} {self.version} has the file name {self.file!r}, which is not one.")

    def to_record(self) -> dict[str, object]:
        """The package as it stands in a lock record."""
        return {
            "manager": self.manager,
            "name": self.name,
            "version": self.version,
            "build": self.build,
            "subdir": self.subdir,
            "file": self.file,
            "digest": str(self.digest),
            "size": self.size,
            "origin": self.origin,
            "edited": list(self.edited),
        }


@dataclass(frozen=True)
class Interpreter:
    """The Python of a lock, and the file it is kept as."""

    version: str
    implementation: str
    soabi: str
    platform: str  # as sysconfig names it, such as linux-x86_64
    executable: str  # inside the kept tree or the prefix, such as bin/python3.11
    digest: Digest | None = None  # of the kept tree; None when Python is one of the conda packages
    size: int = 0
    glibc: str = ""  # the least GNU C library that it and its modules run on
    libraries: tuple[str, ...] = ()  # shared libraries it takes from the system
    modules: tuple[str, ...] = ()  # optional standard modules that it has

    def __post_init__(self) -> None:
        parts = self.executable.split("/")
        if not parts[-1] or any(part in ("", ".", "..") for part in parts):
            raise LockError(f"Python {self.version} has its executable at {self.executable!r}, outside its tree.")

    @property
    def family(self) -> str:
        """Major and minor version, such as 3.11."""
        return ".".join(self.version.split(".")[:2])

    def to_record(self) -> dict[str, object]:
        """The interpreter as it stands in a lock record."""
        return {
            "version": self.version,
            "implementation": self.implementation,
            "soabi": self.soabi,
            "platform": self.platform,
            "executable": self.executable,
            "digest": None if self.digest is None else str(self.digest),
            "size": self.size,
            "glibc": self.glibc,
            "libraries": list(self.libraries),
            "modules": list(self.modules),
        }


@dataclass(frozen=True)
class NotKept:
    """An installed distribution that could not be kept, and why."""

    name: str
    version: str
    reason: str

    def to_record(self) -> dict[str, object]:
        """The distribution as it stands in a lock record."""
        return {"name": self.name, "version": self.version, "reason": self.reason}


@dataclass(frozen=True)
class Lock:
    """Everything that is needed to build one environment again."""

    python: Interpreter
    packages: tuple[PinnedPackage, ...] = ()
    virtual_packages: tuple[str, ...] = ()  # conda's view of the machine when it was solved
    policies: Mapping[str, bool] = field(default_factory=lambda: {"wheels_only": True})
    not_kept: tuple[NotKept, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "packages", tuple(sorted(self.packages, key=_order)))
        object.__setattr__(
            self, "not_kept", tuple(sorted(self.not_kept, key=lambda one: (one.name, one.version, one.reason)))
        )
        names = [(package.manager, package.name) for package in self.packages]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise LockError(f"{twice[0][1]} stands twice in a lock; a lock pins one version of a package.")
        if self.python.digest is None and not any(package.manager == "conda" for package in self.packages):
            raise LockError(f"a lock for Python {self.python.version} keeps no interpreter and no conda package.")

    @property
    def complete(self) -> bool:
        """Whether the environment can be built again whole."""
        return not self.not_kept

    def of(self, manager: Manager) -> tuple[PinnedPackage, ...]:
        """The packages of one manager, in order."""
        return tuple(package for package in self.packages if package.manager == manager)

    def digests(self) -> tuple[Digest, ...]:
        """Every object that a build needs."""
        own = () if self.python.digest is None else (self.python.digest,)
        return own + tuple(package.digest for package in self.packages)

    def to_record(self) -> dict[str, object]:
        """The lock as a record; equal locks give equal bytes."""
        return {
            "schema": SCHEMA,
            "python": self.python.to_record(),
            "packages": [package.to_record() for package in self.packages],
            "virtual_packages": sorted(self.virtual_packages),
            "policies": dict(self.policies),
            "not_kept": [one.to_record() for one in self.not_kept],
        }

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> Lock:
        """The lock that a record holds; raises LockError when it is not one."""
        if record.get("schema") != SCHEMA:
            raise LockError(f"this record is {record.get('schema')!r}, not {SCHEMA!r}; a newer Stillrun may read it.")
        try:
            return cls(
                python=interpreter_from_record(_mapping(record["python"])),
                packages=tuple(package_from_record(_mapping(item)) for item in _list(record["packages"])),
                virtual_packages=_texts(record["virtual_packages"]),
                policies={key: _bool(value) for key, value in _mapping(record["policies"]).items()},
                not_kept=tuple(
                    NotKept(_text(one["name"]), _text(one["version"]), _text(one["reason"]))
                    for one in map(_mapping, _list(record["not_kept"]))
                ),
            )
        except KeyError as err:
            raise LockError(f"this lock has no field {err}; it was not written by Stillrun.") from err
        except (TypeError, StoreError) as err:
            raise LockError(f"this lock is malformed: {err}") from err


def read_lock(store: Store, digest: Digest) -> Lock:
    """The lock that ``digest`` names in the store."""
    return Lock.from_record(store.get_record(digest, "lock"))


def _order(package: PinnedPackage) -> tuple[str, str, str, str]:
    return package.manager, package.name, package.version, package.file


def interpreter_from_record(record: Mapping[str, object]) -> Interpreter:
    """The interpreter that stands in a record."""
    digest = record["digest"]
    return Interpreter(
        version=_text(record["version"]),
        implementation=_text(record["implementation"]),
        soabi=_text(record["soabi"]),
        platform=_text(record["platform"]),
        executable=_text(record["executable"]),
        digest=None if digest is None else Digest.parse(_text(digest)),
        size=_int(record["size"]),
        glibc=_text(record["glibc"]),
        libraries=_texts(record["libraries"]),
        modules=_texts(record["modules"]),
    )


def package_from_record(record: Mapping[str, object]) -> PinnedPackage:
    """The package that stands in a record."""
    manager, origin = record["manager"], record["origin"]
    if manager not in ("conda", "pypi") or origin not in ("fetched", "installed"):
        raise LockError(f"this lock has a package of {manager!r}, {origin!r}; a newer Stillrun may read it.")
    return PinnedPackage(
        manager="conda" if manager == "conda" else "pypi",
        name=_text(record["name"]),
        version=_text(record["version"]),
        file=_text(record["file"]),
        digest=Digest.parse(_text(record["digest"])),
        size=_int(record["size"]),
        build=_text(record["build"]),
        subdir=_text(record["subdir"]),
        origin="installed" if origin == "installed" else "fetched",
        edited=_texts(record["edited"]),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} stands where text belongs")
    return value


def _int(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"{value!r} stands where a size belongs")
    return value


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} stands where true or false belongs")
    return value


def _list(value: object) -> Sequence[object]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{value!r} stands where a list belongs")
    return value


def _texts(value: object) -> tuple[str, ...]:
    return tuple(_text(item) for item in _list(value))


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r} stands where named fields belong")
    return value
