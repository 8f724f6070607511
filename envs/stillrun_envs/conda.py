"""The channel side of a lock: rattler solves and installs conda packages, without conda and in a process of its own."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import zstandard
from packaging.utils import canonicalize_name

from stillrun_envs import _wheels, command
from stillrun_envs.errors import BuildError, EnvError, FetchError, LockError, ResolveError
from stillrun_envs.location import without_credentials_in
from stillrun_envs.lock import PinnedPackage
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["Solution", "Solved", "install", "platform_of", "solve", "supplied_distributions"]

_PLATFORMS = {
    "linux-x86_64": "linux-64",
    "linux-aarch64": "linux-aarch64",
    "linux-ppc64le": "linux-ppc64le",
}
_OUT_OF_REACH = ("error sending request", "failed to fetch", "could not fetch", "connect", "dns", "timed out", "404")
_DIST_INFO = re.compile(
    r"(?:^|/)site-packages/([^/]+?)-([^/-]+)(?:\.dist-info/METADATA|(?:-py[\d.]+)?\.egg-info(?:/PKG-INFO)?)$"
)
_INFO_MAX = 64 << 20  # bytes of package metadata that are read
_WINDOW_MAX = 128 << 20


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


def platform_of(platform: str) -> str:
    """conda's name of a platform that ``sysconfig`` names; macOS carries its release in the latter."""
    if platform in _PLATFORMS:
        return _PLATFORMS[platform]
    if platform.startswith("macosx"):
        return "osx-arm64" if platform.endswith("arm64") else "osx-64"
    raise LockError(f"conda has no packages for {platform}; use @pypi there.")


def solve(
    specs: Sequence[str],
    channels: Sequence[str],
    platform: str,
    store: Store,
    environ: Mapping[str, str],
) -> Solution:
    """The packages that satisfy ``specs``. Raises ResolveError with the solver's reason, or FetchError."""
    request = {
        "op": "solve",
        "specs": list(specs),
        "channels": list(channels),
        "alias": environ.get("CONDA_CHANNEL_ALIAS", ""),
        "platform": platform,
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
) -> None:
    """Install kept archives into ``folder``, with ``final`` written where packages hold their own place."""
    files = _wheels.as_files(packages, store, scratch / "archives")
    request = {
        "op": "install",
        "archives": [str(files[package.file]) for package in packages],
        "prefix": str(folder),
        "final": str(final),
        "platform": platform,
        "cache": str(scratch / "pkgs"),
    }
    answer = _worked(request, environ)
    if "error" in answer:
        raise BuildError(f"the kept conda packages cannot be installed: {_said(answer['error'])}.")
    shutil.rmtree(scratch / "pkgs", ignore_errors=True)  # the second link of every file goes before they are sealed
    for path in sorted((folder / "conda-meta").glob("*.json")):
        _without_origin(path)


def supplied_distributions(store: Store, packages: Sequence[PinnedPackage]) -> dict[str, str]:
    """The Python distributions inside of kept conda packages: normalised name to version.

    conda's names are not the index's, so the archives themselves are asked.
    """
    found: dict[str, str] = {}
    for package in packages:
        try:
            with _opened(store, package.digest) as stream:
                names = list(_file_names(stream, package.file))
        except (OSError, ValueError, KeyError, tarfile.TarError, zipfile.BadZipFile, zstandard.ZstdError) as err:
            raise LockError(f"the conda package {package.file} cannot be read: {err}; fetch it again.") from err
        for name in names:
            match = _DIST_INFO.search(name)
            if match:
                found[canonicalize_name(match[1])] = match[2]
    return found


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


def _worked(request: Mapping[str, object], environ: Mapping[str, str]) -> dict[str, Any]:
    """The answer of a worker process; EnvError when it died without one."""
    surroundings = {**environ, "PYTHONUTF8": "1", "RUST_BACKTRACE": "0", "NO_COLOR": "1"}
    ended = command.run(
        [sys.executable, "-m", "stillrun_envs.rattler_worker"], environ=surroundings, given=json.dumps(request)
    )
    try:
        answer = json.loads(ended.output.rstrip("\n").rpartition("\n")[2])
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or not ({"ok", "error"} & answer.keys()):
        how = f"signal {-ended.code}" if ended.code < 0 else f"code {ended.code}"
        reason = (ended.errors.strip().splitlines() or ["it said nothing"])[-1]
        raise EnvError(f"the conda worker ended with {how} before it answered ({reason}); try again.")
    return answer


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


def _opened(store: Store, digest: Digest) -> BinaryIO:
    """A kept object as a file that can be read in any order."""
    location = store.checked(digest)
    whole = location.path is not None and location.path.stat().st_size == location.size
    return open(location.path, "rb") if location.path is not None and whole else io.BytesIO(store.get(digest))


def _file_names(stream: BinaryIO, file: str) -> Iterator[str]:
    """The paths that an archive installs, from its own list."""
    if file.endswith(".conda"):
        with zipfile.ZipFile(stream) as archive:
            inner = next(name for name in archive.namelist() if name.startswith("info-") and name.endswith(".tar.zst"))
            unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW_MAX)
            with archive.open(inner) as packed, unpacker.stream_reader(packed) as plain:
                yield from _listed(plain, "r|")
    else:
        yield from _listed(stream, "r|bz2")


def _listed(stream: Any, mode: Literal["r|", "r|bz2"]) -> Iterator[str]:
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for member in archive:
            if member.name == "info/files" and member.isfile() and member.size <= _INFO_MAX:
                file = archive.extractfile(member)
                assert file is not None, "info/files is a regular file"
                yield from file.read().decode("utf-8", "replace").splitlines()
                return
            if member.name == "info/paths.json" and member.isfile() and member.size <= _INFO_MAX:
                file = archive.extractfile(member)
                assert file is not None, "info/paths.json is a regular file"
                yield from (entry["_path"] for entry in json.loads(file.read())["paths"])
                return
