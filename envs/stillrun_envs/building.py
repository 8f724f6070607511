"""Building: a source becomes a wheel, once, in an environment that is locked and kept, without network.

The wheel is written anew so that the same files give the same bytes; what a backend does inside of it is its own affair.
Sources: PEP 517 and 518.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from functools import cache
from pathlib import Path
from typing import Any

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from stillrun_envs import command
from stillrun_envs.discovery import PythonFacts
from stillrun_envs.enclosure import Enclosure
from stillrun_envs.errors import BuildError, ResolveError
from stillrun_envs.hints import PackageOrigin
from stillrun_envs.location import without_credentials
from stillrun_envs.lock import PinnedPackage, Source, package_from_record
from stillrun_envs.memo import Memo
from stillrun_envs.network import Network
from stillrun_envs.platforms import Target
from stillrun_envs.prefix import Prefix
from stillrun_envs.sources import SourceRef, opened_source
from stillrun_envs.toml import parse_toml
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of_file
from stillrun_snapshot.store import Store

__all__ = ["Builder"]

_LAYOUT = 1  # raised when the same source would be built otherwise
_LEGACY = ("setuptools>=40.8.0",)
_LIMIT_S = 3600
_TAIL = 15  # lines of a build's output in a message
_COMPILERS = (
    "CC",
    "CXX",
    "FC",
    "AR",
    "LD",
    "CFLAGS",
    "CXXFLAGS",
    "FFLAGS",
    "LDFLAGS",
    "PKG_CONFIG_PATH",
    "CMAKE_PREFIX_PATH",
)
_NETWORK = re.compile(
    r"Temporary failure in name resolution|Network is unreachable|Name or service not known|Failed to establish a new "
    r"connection|Could not resolve host|nodename nor servname|127\.0\.0\.1:9\b",
)
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Builder:
    """Makes wheels of sources for one Python."""

    target: Target
    facts: PythonFacts  # a Python of this machine
    store: Store
    memo: Memo
    network: Network
    environ: Mapping[str, str]
    progress: Callable[[str], None]
    lock_build: Callable[[Sequence[str]], Digest]  # the lock of an environment with these requirements
    prefix_of: Callable[[Digest], Prefix]
    origins: list[PackageOrigin] = field(default_factory=list)  # of the sources, as they are met

    def wheel_of(self, ref: SourceRef) -> PinnedPackage:
        """The kept wheel of a source; built when this source was not built for this Python before.

        Raises BuildError with the end of what the build said, ResolveError when the wheel is for another machine.
        """
        with opened_source(ref, self.store, self.network, self.environ, self.progress) as kept:
            if ref.kind != "folder":
                self.origins.append(PackageOrigin(kept.digest, without_credentials(ref.location)))
            python = (self.target.version, self.target.soabi, self.target.platform)
            question = ("built", _LAYOUT, ref.name, str(kept.digest), kept.commit, ref.subdirectory, *python)
            known = self.memo.get(*question)
            if isinstance(known, dict):
                package = package_from_record(known)
                if not self.store.absent([package.digest, *_build_lock(package)]):
                    return package
            project = kept.folder / ref.subdirectory if ref.subdirectory else kept.folder
            if not any((project / name).is_file() for name in ("pyproject.toml", "setup.py")):
                raise BuildError(
                    f"{ref} has neither pyproject.toml nor setup.py; name its subdirectory, or another source."
                )
            self.progress(f"Building {ref}.")
            wheel, lock = self._built(ref, project)
            source = Source(ref.kind, kept.digest, kept.size, kept.commit, ref.subdirectory, lock)
            package = self._kept(ref, wheel, source)
        self.memo.set(package.to_record(), *question)
        return package

    def _built(self, ref: SourceRef, project: Path) -> tuple[Path, Digest]:
        """The wheel as the backend wrote it, beside the project, and the lock of what built it."""
        from pyproject_hooks import BackendUnavailable, BuildBackendHookCaller, HookMissing, UnsupportedOperation

        system = _build_system(project, ref)
        home = project.parent / "stillrun-home"
        out = project.parent / "stillrun-wheel"
        for folder in (home, out):
            folder.mkdir(exist_ok=True)
        requires = tuple(system.get("requires", _LEGACY))
        backend = system.get("build-backend") or "setuptools.build_meta:__legacy__"
        lock = self.lock_build(requires)
        more: tuple[str, ...] = ()
        try:
            for _ in range(2):  # a backend may ask for more once it has seen the project
                run = _Isolated(ref, self.prefix_of(lock), home, self.environ)
                caller = BuildBackendHookCaller(
                    str(project), backend, system.get("backend-path"), run, str(run.prefix.python)
                )
                if not more:
                    more = tuple(caller.get_requires_for_build_wheel())
                    if not set(more) <= set(requires):
                        lock = self.lock_build((*requires, *more))
                        continue
                break
            return out / caller.build_wheel(str(out)), lock
        except (BackendUnavailable, HookMissing, UnsupportedOperation) as err:
            raise BuildError(f"{ref} cannot be built: its backend {backend} does not work: {str(err)[-400:]}.") from err

    def _kept(self, ref: SourceRef, wheel: Path, source: Source) -> PinnedPackage:
        try:
            name, version, _, tags = parse_wheel_filename(wheel.name)
        except InvalidWheelFilename as err:
            raise BuildError(
                f"{ref} was built into {wheel.name!r}, which is no wheel; its backend is at fault."
            ) from err
        if canonicalize_name(name) != ref.name:
            raise BuildError(f"{ref} was built into the package {name}; ask for it by that name.")
        if not tags & set(self.target.tags()):
            raise ResolveError(
                f"{ref} was built into {wheel.name}, which does not run on {self.target.platform} with Python "
                f"{self.target.version}; build it there, or ask for a version with a wheel."
            )
        if not self.target.is_here and not all(str(tag).endswith("-none-any") for tag in tags):
            raise ResolveError(f"{ref} holds compiled code and cannot be built here for {self.target.platform}.")
        _written_anew(wheel)
        digest, size = digest_of_file(wheel)
        self.store.put_file(wheel, expect=digest)
        return PinnedPackage("pypi", ref.name, str(version), wheel.name, digest, size, origin="built", source=source)


def _build_lock(package: PinnedPackage) -> list[Digest]:
    source = package.source
    return [] if source is None else [source.digest, *([source.build] if source.build else [])]


def _build_system(project: Path, ref: SourceRef) -> Mapping[str, Any]:
    try:
        said = parse_toml((project / "pyproject.toml").read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, OSError) as err:
        raise BuildError(f"{ref}: its pyproject.toml cannot be read ({str(err).splitlines()[0]}).") from err
    system = said.get("build-system", {})
    if not isinstance(system, dict) or not isinstance(system.get("requires", []), list):
        raise BuildError(f"{ref}: [build-system] of its pyproject.toml is malformed.")
    if any(".." in Path(str(one)).parts or Path(str(one)).is_absolute() for one in system.get("backend-path", ())):
        raise BuildError(f"{ref}: backend-path of its pyproject.toml leads outside the project.")
    return system


class _Isolated:
    """Runs a backend's hooks: nothing of the user's settings, no network, an empty home."""

    def __init__(self, ref: SourceRef, prefix: Prefix, home: Path, environ: Mapping[str, str]) -> None:
        self._ref, self.prefix, self._home, self._environ = ref, prefix, home, environ

    def __call__(
        self, cmd: Sequence[str], cwd: str | None = None, extra_environ: Mapping[str, str] | None = None
    ) -> None:
        ended = command.run(
            [*_without_network(), *cmd],
            environ={**self._surroundings(), **(extra_environ or {})},
            cwd=Path(cwd or "/"),
            limit_s=_LIMIT_S,
        )
        if ended.code == 0:
            return
        lines = [line.rstrip() for line in (ended.output + "\n" + ended.errors).splitlines() if line.strip()]
        tail = "\n  ".join(lines[-_TAIL:])
        if _NETWORK.search("\n".join(lines)):
            raise BuildError(
                f"{self._ref} wanted the network while it was built; builds run without it. Ask for a wheel, or build one "
                f"yourself and name the file. It said:\n  {tail}"
            )
        raise BuildError(f"{self._ref} could not be built. Its build said:\n  {tail}")

    def _surroundings(self) -> dict[str, str]:
        kept = {name: self._environ[name] for name in _COMPILERS if self._environ.get(name)}
        folder = os.fspath(self._home.parent)
        flags = f"{kept.get('CFLAGS', '')} -ffile-prefix-map={folder}=.".strip()
        nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
        return {
            **kept,
            **self.prefix.variables,
            **nowhere,
            "CFLAGS": flags,
            "PATH": f"{self.prefix.python.parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self._home),
            "TMPDIR": str(self._home),
            "LANG": "C.UTF-8",
            "SOURCE_DATE_EPOCH": "315532800",  # 1980-01-01, the first day that a zip can tell
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUTF8": "1",
            "PIP_NO_INDEX": "1",
            "UV_OFFLINE": "1",
            "NO_COLOR": "1",
        }


@cache
def _without_network() -> tuple[str, ...]:
    """What starts a command in a network of its own that leads nowhere; empty where the system does not allow it."""
    alone = Enclosure(network=False)
    return alone.wrapper if alone.problem() is None else ()


def _written_anew(wheel: Path) -> None:
    """The same members, sorted and undated, uncompressed: how well zlib packs differs from machine to machine."""
    fresh = wheel.with_name(wheel.name + ".new")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(fresh, "w", zipfile.ZIP_STORED) as new:
        for member in sorted(old.infolist(), key=lambda one: (one.filename.endswith("/RECORD"), one.filename)):
            if member.is_dir():
                continue
            info = zipfile.ZipInfo(member.filename, _DATE)
            executable = (member.external_attr >> 16) & 0o111
            info.external_attr = (0o100755 if executable else 0o100644) << 16
            info.create_system = 3  # Unix, whatever this runs on
            new.writestr(info, old.read(member))
    fresh.replace(wheel)
