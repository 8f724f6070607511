"""The channel side of a lock: rattler solves and installs conda packages, without conda and in a process of its own."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from stillrun_envs import _wheels, command
from stillrun_envs.errors import BuildError, EnvError, FetchError, LockError, ResolveError
from stillrun_envs.link_scripts import run_link_scripts
from stillrun_envs.location import without_credentials_in
from stillrun_envs.lock import PinnedPackage
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["Solution", "Solved", "install", "solve"]

_CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGABRT)
_OUT_OF_REACH = ("error sending request", "failed to fetch", "could not fetch", "connect", "dns", "timed out", "404")


@dataclass(frozen=True)
class Solved:
    """One package that the solver chose."""

    name: str
    version: str
    build: str
    subdir: str
    file: str
    url: str
    digest: Digest | None
    md5: str | None
    size: int | None
    depends: tuple[str, ...]


@dataclass(frozen=True)
class Solution:
    """What the solver chose, and the machine that it chose for."""

    packages: tuple[Solved, ...]
    virtual_packages: tuple[str, ...]

    @property
    def python(self) -> Solved:
        """The Python among the packages."""
        found = next((one for one in self.packages if one.name == "python"), None)
        if found is None:
            raise ResolveError("the channels offer no package 'python'; name a channel that does.")
        return found

    @property
    def needs(self) -> tuple[str, ...]:
        """What the packages ask of a machine: match specs of virtual packages, each once."""
        return tuple(sorted({spec for one in self.packages for spec in one.depends if spec.startswith("__")}))


def solve(
    specs: Sequence[str],
    channels: Sequence[str],
    platform: str,
    store: Store,
    environ: Mapping[str, str],
    *,
    constraints: Sequence[str] = (),
    preferred: Sequence[str] = (),
    exclude_newer: str | None = None,
    virtual_packages: Sequence[str] = (),
    detect: bool = True,
) -> Solution:
    """The packages that satisfy ``specs``. Raises ResolveError with the solver's reason, or FetchError.

    preferred: match specs of packages to stay at where nothing speaks against it. exclude_newer: RFC 3339 time, packages
    made later do not count. virtual_packages: NAME=VERSION[=BUILD] that replace what is detected, or with detect=False
    are all that the machine has; 'NAME=' takes one away.
    """
    request = {
        "op": "solve",
        "specs": list(specs),
        "channels": list(channels),
        "alias": environ.get("CONDA_CHANNEL_ALIAS", ""),
        "platform": platform,
        "constraints": list(constraints),
        "preferred": list(preferred),
        "exclude_newer": exclude_newer,
        "virtual_packages": list(virtual_packages),
        "detect": detect,
        "cache": str(store.cache_dir("cache/channels")),
    }
    answer = _worked(request, environ)
    if "error" in answer:
        raise _failure(answer["error"], specs, channels)
    return Solution(
        tuple(sorted((_solved(item) for item in answer["ok"]["packages"]), key=lambda one: one.name)),
        tuple(answer["ok"]["virtual_packages"]),
    )


def install(
    packages: Sequence[PinnedPackage],
    folder: Path,
    final: Path,
    platform: str,
    store: Store,
    scratch: Path,
    environ: Mapping[str, str],
    *,
    needs: Sequence[str] = (),
    link_scripts: Collection[str] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Install kept archives into ``folder``, with ``final`` written where packages hold their own place.

    needs: match specs of virtual packages; what this machine lacks is told, since it may still do for a look.
    link_scripts: names of the packages whose link scripts may run; of others that have one it is told.
    """
    files = _wheels.as_files(packages, store, scratch / "archives")
    request = {
        "op": "install",
        "archives": [str(files[package.file]) for package in packages],
        "prefix": str(folder),
        "final": str(final),
        "platform": platform,
        "needs": list(needs),
        "cache": str(scratch / "pkgs"),
    }
    answer = _worked(request, environ, lambda: _empty(folder))
    if "error" in answer:
        raise BuildError(f"the kept conda packages cannot be installed: {_said(answer['error'])}.")
    if answer["ok"]["lacks"]:
        progress(
            f"This machine lacks {', '.join(answer['ok']['lacks'])}, which the packages need: what uses it will fail."
        )
    shutil.rmtree(scratch / "pkgs", ignore_errors=True)  # the second link of every file goes before they are sealed
    for path in sorted((folder / "conda-meta").glob("*.json")):
        _without_origin(path)
    run_link_scripts(folder, final, link_scripts, environ, progress)


def _solved(item: Mapping[str, Any]) -> Solved:
    return Solved(
        name=item["name"],
        version=item["version"],
        build=item["build"],
        subdir=item["subdir"],
        file=item["file"],
        url=item["url"],
        digest=Digest.parse(f"sha256:{item['sha256']}") if item["sha256"] else None,
        md5=item["md5"],
        size=item["size"],
        depends=tuple(item["depends"]),
    )


def _worked(
    request: Mapping[str, object], environ: Mapping[str, str], anew: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """The answer of a worker process; EnvError when it died without one.

    The native code in it has been seen to crash, and to work the next time: it is asked once more then, after ``anew``.
    """
    surroundings = {**environ, "PYTHONUTF8": "1", "RUST_BACKTRACE": "0", "NO_COLOR": "1"}
    words, given = [sys.executable, "-m", "stillrun_envs.rattler_worker"], json.dumps(request)
    ended = command.run(words, environ=surroundings, given=given)
    if -ended.code in _CRASHES:
        anew()
        ended = command.run(words, environ=surroundings, given=given)
    try:
        answer = json.loads(ended.output.rstrip("\n").rpartition("\n")[2])
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or not ({"ok", "error"} & answer.keys()):
        how = f"signal {-ended.code}" if ended.code < 0 else f"code {ended.code}"
        reason = (ended.errors.strip().splitlines() or ["it said nothing"])[-1]
        raise EnvError(f"the conda worker ended with {how} before it answered ({reason}); try again.")
    return answer


def _empty(folder: Path) -> None:
    for path in folder.iterdir() if folder.is_dir() else ():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _failure(error: Mapping[str, str], specs: Sequence[str], channels: Sequence[str]) -> EnvError:
    said = _said(error)
    where = ", ".join(map(without_credentials_in, channels))
    if error["type"] == "SolverError":
        return ResolveError(
            f"{_some(specs)} cannot be resolved from {where}: {said}. "
            "Check the names and the channels, or loosen one of the versions."
        )
    if any(sign in said.lower() for sign in _OUT_OF_REACH) or error["type"] in ("GatewayError", "FetchRepoDataError"):
        return FetchError(
            f"the conda channel {where} cannot be read: {said}. "
            "Check the network, the proxy settings and the channel address, then run again."
        )
    return LockError(f"the conda packages cannot be locked: {said} ({error['type']}).")


def _some(specs: Sequence[str]) -> str:
    return ", ".join(specs[:4]) + (f" and {len(specs) - 4} more" if len(specs) > 4 else "")


def _said(error: Mapping[str, str]) -> str:
    """A message of rattler on one line, free of credentials and drawings."""
    text = without_credentials_in(error["message"])
    lines = [re.sub(r"^[\s│├└─]+", "", line).strip() for line in text.splitlines()]
    return " ".join(line for line in lines if line)[:1000].rstrip(".")


def _without_origin(path: Path) -> None:
    """Drop from conda's note of an installed package where its archive lay while it was installed."""
    note = json.loads(path.read_bytes())
    for key in ("extracted_package_dir", "package_tarball_full_path", "link"):
        note.pop(key, None)
    note["url"] = note["channel"] = note.get("fn", "")
    path.unlink()  # a new file: this one may have a second link
    path.write_text(json.dumps(note, sort_keys=True, indent=1), "utf-8")
