"""Installs kept wheels with uv, from the store alone: no index, no network, no cache of the user's."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from stillrun_envs import _wheel_files, command
from stillrun_envs.errors import BuildError
from stillrun_envs.lock import PinnedPackage
from stillrun_snapshot.store import Store

__all__ = ["as_files", "install", "make_venv", "move_scripts"]

# the cache that uv links from is thrown away after the build: its files are then the environment's alone, and an
# edit in one environment cannot reach another through a shared inode
_LINK_MODE = "hardlink"
_SANDBOX = (
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_CONSTRAINT",
    "UV_OVERRIDE",
    "UV_EXCLUDE_NEWER",
    "UV_REQUIRE_HASHES",
    "UV_PYTHON",
    "UV_COMPILE_BYTECODE",
    "UV_LINK_MODE",
    "UV_NO_BINARY",
    "UV_PROJECT_ENVIRONMENT",
    "UV_TORCH_BACKEND",
)
_SCRIPT_LINE = re.compile(r"^((?:\.\./)+bin/([^,/\n]+)),sha256=[^,\n]*,\d*$", re.MULTILINE)
_TOOL_VERSION = re.compile(r"^uv = .*\n", re.MULTILINE)


def make_venv(folder: Path, python: Path, scratch: Path, environ: Mapping[str, str]) -> None:
    """Make the empty ``folder`` a virtual environment of ``python`` whose scripts may be moved with it."""
    arguments = ["venv", "--relocatable", "--python", str(python), "--no-project", "--allow-existing", "--quiet"]
    _uv([*arguments, str(folder)], scratch, environ, "the environment cannot be made")
    _without_leavings(folder)
    settings = folder / "pyvenv.cfg"
    settings.write_text(_TOOL_VERSION.sub("", settings.read_text("utf-8")), "utf-8")


def install(
    packages: Sequence[PinnedPackage],
    folder: Path,
    store: Store,
    scratch: Path,
    environ: Mapping[str, str],
    *,
    family: str,
    into_foreign: bool = False,
) -> Callable[[Sequence[Mapping[str, object]]], None]:
    """Install kept wheels into the environment in ``folder``, none of their dependencies and nothing else.

    family: major and minor version of its Python. into_foreign: the environment is another manager's, and what it holds
    stays: raises BuildError when a wheel brings a file that is there with other contents. Returns the proof that what
    was installed is what the wheels hold: given the tree's entries while ``scratch`` stands, it raises BuildError.
    """
    files = as_files(packages, store, scratch / "wheels")
    lock = scratch / "pylock.toml"
    lock.write_text(_pylock(packages, files), "utf-8")
    command_name = ["pip", "install", "--no-deps"] if into_foreign else ["pip", "sync"]
    given = ["--requirements", str(lock)] if into_foreign else [str(lock)]
    arguments = [
        "--python",
        str(folder / "bin" / "python"),
        "--no-index",
        "--no-build",
        "--link-mode",
        _LINK_MODE,
        "--quiet",
    ]
    if into_foreign:
        arguments.append("--break-system-packages")
    with ThreadPoolExecutor(max_workers=1) as beside:  # reading takes as long as uv leaves a core idle
        held = beside.submit(_wheel_files.read_wheels, packages, files, family)
        if into_foreign:
            _wheel_files.refuse_clashes(held.result(), folder)
        _uv([*command_name, *given, *arguments], scratch, environ, "the kept wheels cannot be installed")
    shutil.rmtree(scratch / "uv", ignore_errors=True)  # the second link of every file goes before they are sealed
    for path in folder.glob("lib*/python*/site-packages/*.dist-info/uv_cache.json"):
        _without_cache_note(path)
    _without_leavings(folder)
    return partial(_wheel_files.refuse_strangers, held.result(), files)


def move_scripts(folder: Path, final: Path) -> None:
    """Make the commands that were installed into ``folder`` start from ``final``, where it will be."""
    before, after = os.fsencode(folder), os.fsencode(final)
    moved: dict[str, str] = {}
    for path in sorted((folder / "bin").iterdir()):
        if path.is_symlink() or not path.is_file():
            continue
        data = path.read_bytes()
        if before in data and b"\0" not in data:
            mode = path.stat().st_mode & 0o777
            data = data.replace(before, after)
            path.unlink()  # a new file: this one may have a second link
            path.write_bytes(data)
            path.chmod(mode)
            moved[path.name] = f"sha256={_base64(data)},{len(data)}"
    for record in folder.glob("lib/python*/site-packages/*.dist-info/RECORD"):
        _corrected(record, moved)


def _corrected(record: Path, moved: Mapping[str, str]) -> None:
    text = record.read_text("utf-8")
    fixed = _SCRIPT_LINE.sub(lambda line: f"{line[1]},{moved[line[2]]}" if line[2] in moved else line[0], text)
    if fixed != text:
        record.unlink()
        record.write_text(fixed, "utf-8", newline="")


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _without_leavings(folder: Path) -> None:
    for name in (".lock", ".gitignore", "CACHEDIR.TAG"):
        (folder / name).unlink(missing_ok=True)


def _without_cache_note(path: Path) -> None:
    """Remove uv's note of when it saw a wheel file, which differs from build to build."""
    path.unlink(missing_ok=True)  # seen twice where lib64 is a link to lib
    record = path.with_name("RECORD")
    lines = [line for line in record.read_text("utf-8").splitlines(keepends=True) if "/uv_cache.json," not in line]
    record.unlink()  # a new file: this one may have a second link
    record.write_text("".join(lines), "utf-8", newline="")


def as_files(packages: Sequence[PinnedPackage], store: Store, folder: Path) -> dict[str, Path]:
    """Every kept package as a file that has its legal name, by that name; each is hashed or known to be whole.

    Raises ObjectMissing or ObjectCorrupt before anything is built of it.
    """
    folder.mkdir()
    found = {}
    for package in packages:
        path = folder / package.file
        _place(package, store, path)
        found[package.file] = path
    return found


def _place(package: PinnedPackage, store: Store, path: Path) -> None:
    location = store.checked(package.digest)
    if location.path is not None and location.offset == 0 and location.path.stat().st_size == location.size:
        path.symlink_to(location.path)  # not a hard link: that would change the ctime by which the object is known
    else:
        path.write_bytes(store.get(package.digest))


def _pylock(packages: Sequence[PinnedPackage], files: Mapping[str, Path]) -> str:
    """A lock of installers (PEP 751) that names files by path: unlike other ways it leaves no trace of where they lay."""
    lines = ['lock-version = "1.0"', 'created-by = "stillrun"']
    for package in packages:
        lines += ["", "[[packages]]", f"name = {_toml(package.name)}", f"version = {_toml(package.version)}"]
        wheel = f"name = {_toml(package.file)}, path = {_toml(str(files[package.file]))}, size = {package.size}"
        lines.append(f'wheels = [{{ {wheel}, hashes = {{ sha256 = "{package.digest.hex}" }} }}]')
    return "\n".join(lines) + "\n"


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # JSON strings are TOML strings, DEL apart


def _uv(arguments: Sequence[str], scratch: Path, environ: Mapping[str, str], what: str) -> None:
    surroundings = command.quiet_environment(environ)
    for name in _SANDBOX:
        surroundings.pop(name, None)
    surroundings |= {"UV_OFFLINE": "1", "UV_NO_CONFIG": "1", "UV_CACHE_DIR": str(scratch / "uv")}
    surroundings |= {"UV_PYTHON_DOWNLOADS": "never", "UV_ALLOW_EMPTY_REQUIREMENTS": "1"}
    ended = command.run([command.uv(), *arguments], environ=surroundings)
    if ended.code != 0:
        reason = " ".join(line.strip() for line in ended.errors.splitlines() if line.strip())
        raise BuildError(f"{what}: {reason.removeprefix('error: ')[:1000] or f'uv ended with code {ended.code}'}.")
