"""Scripts that conda packages want run after they are installed: named always, run only where a lock allows it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from stillrun_envs import command
from stillrun_envs.errors import BuildError
from stillrun_snapshot.deferred import dataclass

__all__ = ["run_link_scripts"]

_LIMIT_S = 600
_MESSAGES = ".messages.txt"  # where such scripts leave what they have to say


@dataclass(frozen=True)
class _Installed:
    """A package in the environment."""

    name: str
    version: str
    build_number: int
    depends: frozenset[str]
    script: Path | None


def run_link_scripts(
    folder: Path,
    final: Path,
    allowed: Collection[str],
    environ: Mapping[str, str],
    progress: Callable[[str], None],
) -> None:
    """Run the post-link scripts of the allowed packages, those that others need first; tell of all others.

    They run before the environment is published. Text files that they wrote the temporary ``folder`` into are given
    ``final`` in its place. Raises BuildError when one fails.
    """
    for package in _in_order(_installed(folder)):
        if package.script is None:
            continue
        if package.name in allowed:
            before = _times(folder)
            _run(package, package.script, folder, environ, progress)
            _settle(folder, final, before)
        else:
            progress(
                f"{package.name} has a post-link script that was not run; "
                f"allow it with link_scripts=[{json.dumps(package.name)}]."
            )


def _installed(folder: Path) -> list[_Installed]:
    found = []
    for path in sorted((folder / "conda-meta").glob("*.json")):
        note = json.loads(path.read_bytes())
        script = folder / "bin" / f".{note['name']}-post-link.sh"
        depends = frozenset(str(spec).split()[0] for spec in note.get("depends", ()))
        build = note.get("build_number", 0)
        found.append(_Installed(note["name"], note["version"], build, depends, script if script.is_file() else None))
    return found


def _in_order(packages: list[_Installed]) -> list[_Installed]:
    ordered: list[_Installed] = []
    waiting = list(packages)
    while waiting:
        names = {one.name for one in waiting}
        ready = [one for one in waiting if not one.depends & (names - {one.name})] or waiting[:1]  # a circle is cut
        ordered += ready
        waiting = [one for one in waiting if one not in ready]
    return ordered


def _run(
    package: _Installed, script: Path, folder: Path, environ: Mapping[str, str], progress: Callable[[str], None]
) -> None:
    progress(f"Running the post-link script of {package.name} {package.version}.")
    surroundings = command.quiet_environment(environ) | {
        "PREFIX": str(folder),
        "ROOT_PREFIX": str(folder),
        "CONDA_PREFIX": str(folder),
        "PKG_NAME": package.name,
        "PKG_VERSION": package.version,
        "PKG_BUILDNUM": str(package.build_number),
        "PATH": f"{folder}/bin:{environ.get('PATH', '/usr/bin:/bin')}",
    }
    shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
    ended = command.run([shell, script], environ=surroundings, cwd=folder, limit_s=_LIMIT_S)
    messages = folder / _MESSAGES
    said = messages.read_text("utf-8", "replace").strip() if messages.is_file() else ""
    messages.unlink(missing_ok=True)
    if ended.code != 0:
        reason = " ".join((said or ended.errors or ended.output).split())[-500:]
        raise BuildError(
            f"the post-link script of {package.name} {package.version} ended with code {ended.code}: "
            f"{reason or 'it said nothing'}. Take {package.name} out of link_scripts to build without it."
        )
    if said:
        progress(f"{package.name}: {said}")


def _times(folder: Path) -> dict[str, tuple[int, int]]:
    return {path: (found.st_ctime_ns, found.st_ino) for path, found in _files(folder)}


def _files(folder: Path) -> list[tuple[str, os.stat_result]]:
    walked = ((top, name) for top, _, names in os.walk(folder) for name in names)
    found = [(f"{top}/{name}", os.lstat(f"{top}/{name}")) for top, name in walked]
    return [(path, facts) for path, facts in found if stat.S_ISREG(facts.st_mode)]


def _settle(folder: Path, final: Path, before: Mapping[str, tuple[int, int]]) -> None:
    """Put ``final`` in place of ``folder`` in the text files that a script wrote."""
    old, new = os.fsencode(folder), os.fsencode(final)
    for path, facts in _files(folder):
        if before.get(path) == (facts.st_ctime_ns, facts.st_ino):
            continue
        file = Path(path)
        data = file.read_bytes()
        if old in data and b"\0" not in data:
            file.unlink()  # a new file: this one may have a second link
            file.write_bytes(data.replace(old, new))
            file.chmod(stat.S_IMODE(facts.st_mode))
