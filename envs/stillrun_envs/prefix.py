"""Prefixes: a lock as a folder that a step runs in, built offline from kept objects and checked before each use."""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from stillrun_envs import _wheels, conda
from stillrun_envs.activation import activation_variables
from stillrun_envs.built import (
    Built,
    Changes,
    Entry,
    built_folder,
    changes_by_content,
    discard,
    standing,
    suspects,
    work_folder,
)
from stillrun_envs.errors import BuildError, EnvDamaged
from stillrun_envs.interpreter import unpacked_interpreter
from stillrun_envs.lock import Lock, read_lock
from stillrun_envs.platforms import platform_of, runs_here, spoken
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import StoreError
from stillrun_snapshot.record import canonical_bytes
from stillrun_snapshot.store import Store

__all__ = [
    "ExpectedPrefix",
    "Prefix",
    "drop_prefix",
    "expected_prefix",
    "prefix_for",
    "verify_prefix",
]

BUILDER = 2  # raised when the same lock would be laid out otherwise
_NAME_LENGTH = 16  # of folders: short, since conda scripts hold the path in a line of at most 127 bytes
_Proof = Callable[[Sequence[Entry]], None]


@dataclass(frozen=True)
class Prefix:
    """An environment that is whole and ready to run in."""

    path: Path
    python: Path
    env_id: str  # 64 hexadecimal digits: lock, builder version and place
    lock: Digest
    tree: Digest  # record stillrun/environment/1, kind "built": every file
    variables: Mapping[str, str]  # that a process in it runs with


class ExpectedPrefix:
    """An environment that is there but whose files were not looked at yet, so that a process in it can start meanwhile."""

    def __init__(self, prefix: Prefix, check: Callable[[], tuple[Prefix, bool]] | None) -> None:
        """Use ``expected_prefix``."""
        self.prefix = prefix
        self._check = check

    def checked(self) -> bool:
        """Whether every file was as it was built; nothing that was made in it may be trusted before this was asked.

        False: it was not, ``prefix`` is the environment built anew, and what was started in it has to be started again.
        """
        if self._check is None:
            return True
        self.prefix, fresh = self._check()
        self._check = None
        return not fresh


def prefix_for(
    lock: Digest,
    store: Store,
    *,
    environ: Mapping[str, str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Prefix:
    """The built environment of ``lock``: the one that is there if it is as it was built, else built anew.

    Never uses the network. While this process lives, upkeep leaves it alone. Raises ObjectMissing or ObjectCorrupt when
    a kept object is not there or not whole, BuildError when the objects cannot be made into an environment here.
    """
    return _Work(lock, store, os.environ if environ is None else environ, progress).built()[0]


def expected_prefix(
    lock: Digest,
    store: Store,
    *,
    environ: Mapping[str, str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> ExpectedPrefix:
    """``prefix_for`` in two halves: what is there by its marker now, in milliseconds; ``checked()`` looks at its files.

    Between the two a process may be started in it, which takes longer than the look. When none is there it is built now.
    """
    work = _Work(lock, store, os.environ if environ is None else environ, progress)
    there = standing(work.final, work.facts)
    if there is None:
        return ExpectedPrefix(work.built()[0], None)
    return ExpectedPrefix(work.prefix(there), work.built)


class _Work:
    """All that finding or building one environment needs."""

    def __init__(self, lock: Digest, store: Store, environ: Mapping[str, str], progress: Callable[[str], None]) -> None:
        self.lock, self.store, self.environ, self.progress = lock, store, environ, progress
        self.what = read_lock(store, lock)
        self.env_id = _env_id(lock, store)
        self.final = _place(self.env_id, store)
        self.facts = {"schema": "stillrun/built/2", "env": self.env_id, "lock": str(lock), "builder": BUILDER}
        self._proof: _Proof = lambda _: None

    def built(self) -> tuple[Prefix, bool]:
        """The environment, checked or made, and whether it or its Python was made just now."""
        fresh: list[str] = []
        tell = self.progress

        def note(message: str) -> None:
            fresh.append(message)
            tell(message)

        python = self.what.python
        interpreter = None if python.digest is None else unpacked_interpreter(python, self.store, self.environ, note)
        scratch = _Scratch(self.final)
        try:
            found = built_folder(
                self.final,
                self.store,
                partial(self._made, interpreter, scratch),
                facts=self.facts,
                progress=note,
                proof=lambda entries: self._proof(entries),
            )
        finally:
            scratch.remove()
        return self.prefix(found), found.fresh or bool(fresh)

    def prefix(self, built: Built) -> Prefix:
        """The built folder as an environment."""
        variables = _variables(self.store, self.what, built)
        return Prefix(built.path, built.path / "bin" / "python", self.env_id, self.lock, built.tree, variables)

    def _made(self, interpreter: Path | None, scratch: _Scratch, folder: Path) -> Mapping[str, object]:
        what = self.what
        _require_buildable(what, self.lock)
        number = len(what.packages)
        counted = f"{number} package{'s' * (number != 1)}"
        self.progress(
            f"Building the environment of lock {self.lock.hex[:12]} (Python {what.python.version}, {counted})."
        )
        _forget_bytecode(self.final, self.store)
        self._proof = self._filled(folder, interpreter, scratch.made())
        foreign = interpreter is None
        variables = activation_variables(folder, self.final, self.progress) if foreign else {}
        return {"python": what.python.version, "variables": variables}

    def _filled(self, folder: Path, interpreter: Path | None, scratch: Path) -> _Proof:
        """Fill ``folder``: conda packages or a virtual environment first, wheels on top."""
        lock, store, environ = self.what, self.store, self.environ
        archives, wheels = lock.of("conda"), lock.of("pypi")
        family = ".".join(lock.python.version.split(".")[:2])
        if interpreter is not None:
            _wheels.make_venv(folder, interpreter, scratch, environ)
        else:
            conda.install(
                archives,
                folder,
                self.final,
                platform_of(lock.python.platform),
                store,
                scratch,
                environ,
                needs=lock.needs,
                link_scripts=lock.link_scripts,
                progress=self.progress,
            )
        if not wheels:
            return lambda _: None
        foreign = interpreter is None
        proof = _wheels.install(wheels, folder, store, scratch, environ, family=family, into_foreign=foreign)
        if foreign:
            _wheels.move_scripts(folder, self.final)
        return proof


def _require_buildable(lock: Lock, digest: Digest) -> None:
    """Raise BuildError for a lock of another kind of machine, and for one that could not keep its Python."""
    if not runs_here(lock.python.platform):
        here = spoken(sysconfig.get_platform())
        raise BuildError(
            f"lock {digest.hex[:12]} is for {spoken(lock.python.platform)}, and this machine is {here}; build it on such a one, "
            "or lock the same request here."
        )
    if lock.python.digest is None and not any(one.name == "python" for one in lock.of("conda")):
        raise BuildError(
            f"lock {digest.hex[:12]} was made on another kind of machine and keeps no Python {lock.python.version}; "
            "lock the same request here."
        )


class _Scratch:
    """A work folder that is made when it is needed."""

    def __init__(self, final: Path) -> None:
        self._final = final
        self._path: Path | None = None

    def made(self) -> Path:
        """The folder."""
        self._path = self._path or work_folder(self._final)
        return self._path

    def remove(self) -> None:
        """Remove it if it was made."""
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)


def verify_prefix(prefix: Prefix, store: Store, *, full: bool = True) -> None:
    """Raise EnvDamaged that names what is not as it was built.

    full: read and hash every file; otherwise go by what the file system says.
    """
    found = suspects(prefix.path)
    if full:
        found = changes_by_content(prefix.path, store.get_record(prefix.tree, "environment"))
    if found:
        raise EnvDamaged(_told(prefix.path, found))


def usable_here(said: Mapping[str, object], final: Path, store: Store) -> bool:
    """Whether a folder whose marker says ``said`` is one that ``prefix_for`` would still find and use."""
    try:
        lock = Digest.parse(said.get("lock"))
    except StoreError:
        return False
    return store.has(lock) and said.get("builder") == BUILDER and _place(_env_id(lock, store), store) == final


def bytecode_folder(store: Store) -> Path:
    """One folder for all environments: bytecode lies in it by the full path of its source."""
    return store.root.resolve() / "cache" / "pycache"


def drop_prefix(lock: Digest, store: Store) -> None:
    """Remove the built environment of ``lock``; its kept objects stay, and it can be built again."""
    final = _place(_env_id(lock, store), store)
    discard(final)
    _forget_bytecode(final, store)


def _env_id(lock: Digest, store: Store) -> str:
    root = str(store.root.resolve())
    return digest_of(
        canonical_bytes({"schema": "stillrun/env-id/1", "lock": str(lock), "builder": BUILDER, "root": root})
    ).hex


def _place(env_id: str, store: Store) -> Path:
    return store.cache_dir("envs").resolve() / env_id[:_NAME_LENGTH]


def _variables(store: Store, lock: Lock, built: Built) -> dict[str, str]:
    """What keeps a process inside its environment, its bytecode outside of it, and what its packages set."""
    noted = built.notes.get("variables")
    found = {str(name): str(value) for name, value in (noted.items() if isinstance(noted, dict) else ())}
    found |= {"PYTHONNOUSERSITE": "1", "PYTHONPYCACHEPREFIX": str(bytecode_folder(store))}
    return found | ({} if lock.python.digest is not None else {"CONDA_PREFIX": str(built.path)})


def _forget_bytecode(final: Path, store: Store) -> None:
    """Drop the bytecode of what was at ``final``: Python matches it by size and time, which a damaged file may share."""
    shutil.rmtree(bytecode_folder(store) / str(final).lstrip("/"), ignore_errors=True)


def _told(path: Path, found: Changes) -> str:
    return (
        f"the environment {path} is not as it was built: {found}. "
        "Results made in it are in doubt; it is built again at its next use."
    )
