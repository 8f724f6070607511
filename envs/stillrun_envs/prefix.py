"""Prefixes: a lock as a folder that a step runs in, built offline from kept objects and checked before each use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stillrun_envs import _wheels, conda
from stillrun_envs.built import Changes, built_folder, changes_by_content, discard, suspects
from stillrun_envs.errors import EnvDamaged
from stillrun_envs.interpreter import unpacked_interpreter
from stillrun_envs.lock import Lock, read_lock
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.record import canonical_bytes
from stillrun_snapshot.store import Store

__all__ = ["Prefix", "drop_prefix", "prefix_for", "verify_prefix"]

BUILDER = 1  # raised when the same lock would be laid out otherwise
_NAME_LENGTH = 16  # of folders: short, since conda scripts hold the path in a line of at most 127 bytes


@dataclass(frozen=True)
class Prefix:
    """An environment that is whole and ready to run in."""

    path: Path
    python: Path
    env_id: str  # 64 hexadecimal digits: lock, builder version and place
    lock: Digest
    tree: Digest  # record stillrun/environment/1, kind "built": every file
    variables: Mapping[str, str]  # that a process in it runs with


def prefix_for(
    lock: Digest,
    store: Store,
    *,
    environ: Mapping[str, str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Prefix:
    """The built environment of ``lock``: the one that is there if it is as it was built, else built anew.

    Never uses the network. Raises ObjectMissing or ObjectCorrupt when a kept object is not there or not whole,
    BuildError when the objects cannot be made into an environment here.
    """
    surroundings = os.environ if environ is None else environ
    what = read_lock(store, lock)
    env_id = _env_id(lock, store)
    final = _place(env_id, store)
    interpreter = (
        unpacked_interpreter(what.python, store, surroundings, progress) if what.python.digest is not None else None
    )

    def make(folder: Path) -> None:
        progress(f"Building the environment of lock {lock.hex[:12]} (Python {what.python.version}, {_counted(what)}).")
        _forget_bytecode(final, store)
        scratch = store.scratch("env")
        try:
            _filled(folder, final, what, interpreter, store, scratch, surroundings)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    facts = {"schema": "stillrun/built/1", "env": env_id, "lock": str(lock), "builder": BUILDER}
    built = built_folder(final, store, make, facts=facts, progress=progress)
    python = built.path / "bin" / "python"
    return Prefix(built.path, python, env_id, lock, built.tree, _variables(store, what, built.path))


def verify_prefix(prefix: Prefix, store: Store, *, full: bool = True) -> None:
    """Raise EnvDamaged that names what is not as it was built.

    full: read and hash every file; otherwise go by what the file system says.
    """
    found = suspects(prefix.path)
    if full:
        found = changes_by_content(prefix.path, store.get_record(prefix.tree, "environment"))
    if found:
        raise EnvDamaged(_told(prefix.path, found))


def drop_prefix(lock: Digest, store: Store) -> None:
    """Remove the built environment of ``lock``; its kept objects stay, and it can be built again."""
    final = _place(_env_id(lock, store), store)
    discard(final)
    _forget_bytecode(final, store)


def _counted(lock: Lock) -> str:
    number = len(lock.packages)
    return f"{number} package{'s' * (number != 1)}"


def _filled(
    folder: Path,
    final: Path,
    lock: Lock,
    interpreter: Path | None,
    store: Store,
    scratch: Path,
    environ: Mapping[str, str],
) -> None:
    """Fill ``folder``, which will be ``final``: conda packages or a virtual environment first, wheels on top."""
    archives, wheels = lock.of("conda"), lock.of("pypi")
    if interpreter is None:
        platform = conda.platform_of(lock.python.platform)
        conda.install(archives, folder, final, platform, store, scratch, environ)
        if wheels:
            _wheels.install(wheels, folder, store, scratch, environ, into_foreign=True)
            _wheels.move_scripts(folder, final)
        return
    _wheels.make_venv(folder, interpreter, scratch, environ)
    if wheels:
        _wheels.install(wheels, folder, store, scratch, environ)


def _env_id(lock: Digest, store: Store) -> str:
    root = str(store.root.resolve())
    return digest_of(
        canonical_bytes({"schema": "stillrun/env-id/1", "lock": str(lock), "builder": BUILDER, "root": root})
    ).hex


def _place(env_id: str, store: Store) -> Path:
    return store.cache_dir("envs").resolve() / env_id[:_NAME_LENGTH]


def _variables(store: Store, lock: Lock, path: Path) -> dict[str, str]:
    """What keeps a process inside its environment, and its bytecode outside of it."""
    found = {"PYTHONNOUSERSITE": "1", "PYTHONPYCACHEPREFIX": str(_bytecode(store))}
    return found | ({} if lock.python.digest is not None else {"CONDA_PREFIX": str(path)})


def _bytecode(store: Store) -> Path:
    """One folder for all environments: bytecode lies in it by the full path of its source."""
    return store.root.resolve() / "cache" / "pycache"


def _forget_bytecode(final: Path, store: Store) -> None:
    """Bytecode is matched to its source by size and time, which a damaged file may share with the good one."""
    shutil.rmtree(_bytecode(store) / str(final).lstrip("/"), ignore_errors=True)


def _told(path: Path, found: Changes) -> str:
    return (
        f"the environment {path} is not as it was built: {found}. "
        "Results made in it are in doubt; it is built again at its next use."
    )
