"""Environment locks: the exact interpreter and packages of an environment. Format: docs/spec/lock.md, version 2."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from stillrun_envs.errors import LockError
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import StoreError
from stillrun_snapshot.record import parse_record
from stillrun_snapshot.store import Store

__all__ = [
    "Interpreter",
    "Lock",
    "NotKept",
    "PinnedPackage",
    "Source",
    "interpreter_from_record",
    "package_from_record",
    "read_lock",
]

SCHEMA = "stillrun/lock/2"
_FIRST = "stillrun/lock/1"
Manager = Literal["conda", "pypi"]
Origin = Literal["fetched", "installed", "built"]
SourceKind = Literal["sdist", "git", "folder"]
_FILE = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.+!\-]*$")


@dataclass(frozen=True)
class Source:
    """What a wheel was built from, once, and the environment that built it."""

    kind: SourceKind
    digest: Digest  # of the kept source: the sdist as it was fetched, or a tar of the commit or folder
    size: int
    commit: str = ""  # of a git source, 40 or 64 hexadecimal digits
    subdirectory: str = ""  # where in the source the project lies
    build: Digest | None = None  # the lock of the environment that it was built in; None: nothing was needed

    def to_record(self) -> dict[str, object]:
        """The source as it stands in a lock record."""
        return {
            "kind": self.kind,
            "digest": str(self.digest),
            "size": self.size,
            "commit": self.commit,
            "subdirectory": self.subdirectory,
            "build": None if self.build is None else str(self.build),
        }


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
    origin: Origin = "fetched"  # "installed": packed again from the files of an environment; "built": from source
    edited: tuple[str, ...] = ()  # files that were changed after they were installed, kept as they were found
    source: Source | None = None  # of a wheel that was built here

    def __post_init__(self) -> None:
        if not self.name or not self.version:
            raise LockError(f"a pinned package has no name or version (file {self.file!r}, digest {self.digest}).")
        if not _FILE.match(self.file):
            raise LockError(f"{self.name} {self.version} has the file name {self.file!r}, which is not one.")
        if (self.origin == "built") != (self.source is not None):
            raise LockError(f"{self.name} {self.version} is {self.origin} and {self.source} stands as its source.")

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
            "source": None if self.source is None else self.source.to_record(),
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
    needs: tuple[str, ...] = ()  # what its conda packages ask of a machine, such as "__glibc >=2.17"
    link_scripts: tuple[str, ...] = ()  # conda packages whose scripts run when they are installed
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
        for name in ("needs", "link_scripts"):
            object.__setattr__(self, name, tuple(sorted(set(getattr(self, name)))))
        has_python = self.python.digest is not None or any(package.manager == "conda" for package in self.packages)
        if not has_python and not any(one.name == "python" for one in self.not_kept):
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

    def sources(self) -> tuple[Digest, ...]:
        """Every object that wheels were built from; an environment is built again without them."""
        return tuple(package.source.digest for package in self.packages if package.source is not None)

    def build_locks(self) -> tuple[Digest, ...]:
        """The locks of the environments that wheels were built in, each once."""
        found = {one.source.build for one in self.packages if one.source is not None and one.source.build is not None}
        return tuple(sorted(found))

    def to_record(self) -> dict[str, object]:
        """The lock as a record; equal locks give equal bytes."""
        return {
            "schema": SCHEMA,
            "python": self.python.to_record(),
            "packages": [package.to_record() for package in self.packages],
            "needs": list(self.needs),
            "link_scripts": list(self.link_scripts),
            "not_kept": [one.to_record() for one in self.not_kept],
        }

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> Lock:
        """The lock that a record holds; raises LockError when it is not one."""
        if record.get("schema") not in (SCHEMA, _FIRST):
            raise LockError(f"this record is {record.get('schema')!r}, not {SCHEMA!r}; a newer Stillrun may read it.")
        if record.get("schema") == _FIRST:
            record = {**record, "needs": [], "link_scripts": []}  # it told what the machine was, not what is needed
        try:
            return cls(
                python=interpreter_from_record(_mapping(record["python"])),
                packages=tuple(package_from_record(_mapping(item)) for item in _list(record["packages"])),
                needs=_texts(record["needs"]),
                link_scripts=_texts(record["link_scripts"]),
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
    record = parse_record(store.get(digest), None)
    try:
        return Lock.from_record(record)
    except LockError as err:
        raise LockError(f"lock {digest}: {err}") from err


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
    if manager not in ("conda", "pypi") or origin not in ("fetched", "installed", "built"):
        raise LockError(f"this lock has a package of {manager!r}, {origin!r}; a newer Stillrun may read it.")
    return PinnedPackage(
        manager=manager,
        name=_text(record["name"]),
        version=_text(record["version"]),
        file=_text(record["file"]),
        digest=Digest.parse(_text(record["digest"])),
        size=_int(record["size"]),
        build=_text(record["build"]),
        subdir=_text(record["subdir"]),
        origin=origin,
        edited=_texts(record["edited"]),
        source=_source(record.get("source")),
    )


def _source(value: object) -> Source | None:
    if value is None:
        return None
    record = _mapping(value)
    kind, build = record["kind"], record["build"]
    if kind not in ("sdist", "git", "folder"):
        raise LockError(f"this lock has a wheel built from {kind!r}; a newer Stillrun may read it.")
    return Source(
        kind=kind,
        digest=Digest.parse(_text(record["digest"])),
        size=_int(record["size"]),
        commit=_text(record["commit"]),
        subdirectory=_text(record["subdirectory"]),
        build=None if build is None else Digest.parse(_text(build)),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} stands where text belongs")
    return value


def _int(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"{value!r} stands where a size belongs")
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
