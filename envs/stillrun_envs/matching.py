"""Finds on an index the very wheels that packages of an environment were installed from: the same files, byte by byte.

What a run borrows of the caller's environment is packed from its files, which only the store has. Where an index holds a
wheel of exactly these files, that wheel can stand in a lock instead, and other tools can fetch it.
"""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from packaging.utils import InvalidWheelFilename, canonicalize_version, parse_wheel_filename

from stillrun_envs._wheel_files import read_wheels
from stillrun_envs._wheels import as_files
from stillrun_envs.errors import BuildError
from stillrun_envs.fetch import Wanted, fetch
from stillrun_envs.hints import Hints, PackageOrigin, keep_hints, read_hints
from stillrun_envs.location import without_credentials
from stillrun_envs.lock import PinnedPackage, read_lock
from stillrun_envs.network import Network, index_environment
from stillrun_envs.simple_index import Indexes, IndexFile, files_of
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["Match", "match_index"]

_AT_ONCE = 8
_SHEBANG = re.compile(rb"^#!.*python[^\n]*")
_SCRIPTS = re.compile(r"^[^/]+\.data/scripts/([^/]+)$")


@dataclass(frozen=True)
class Match:
    """A package that was packed from its files, and the wheel of an index that holds the same; None and why not."""

    package: PinnedPackage
    found: PinnedPackage | None
    url: str = ""
    reason: str = ""


def match_index(
    store: Store, lock: Digest, environ: Mapping[str, str], progress: Callable[[str], None]
) -> tuple[Digest, list[Match]]:
    """A lock like ``lock`` with wheels of the index wherever they hold what was installed; and what became of each package.

    environ: names the indexes, as uv's and pip's variables do. Raises FetchError when an index is out of reach.
    """
    what, hints = read_lock(store, lock), read_hints(store, lock)
    network = Network(environ)
    indexes = Indexes.of(index_environment(environ, None, ()))
    installed = [one for one in what.of("pypi") if one.origin == "installed"]
    if installed:
        progress(f"Comparing {len(installed)} package{'s' * (len(installed) > 1)} with the index.")
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        matches = list(pool.map(lambda one: _matched(one, what.python.family, store, indexes, network), installed))
    found = {one.package.name: one.found for one in matches if one.found is not None}
    if not found:
        return lock, matches
    packages = [found.get(one.name, one) if one.manager == "pypi" else one for one in what.packages]
    better = replace(what, packages=tuple(packages))
    digest = store.put_record(better.to_record())
    origins = (PackageOrigin(one.found.digest, one.url) for one in matches if one.found is not None)
    keep_hints(store, digest, Hints(hints.request, (*hints.origins, *origins), hints.machine))
    return digest, matches


def _matched(one: PinnedPackage, family: str, store: Store, indexes: Indexes, network: Network) -> Match:
    if one.edited:
        return Match(one, None, reason=f"{one.edited[0]} was changed after it was installed")
    offered = [each for each in files_of(one.name, indexes, network) if _same_release(each, one)]
    if not offered:
        return Match(one, None, reason=f"no index has a wheel of {one.version} for this machine")
    for each in offered:
        wanted = Wanted(each.url, each.digest, each.size)
        (kept,) = fetch([wanted], store, network, spare=lambda _: True, progress=lambda _: None)
        pinned = PinnedPackage("pypi", one.name, one.version, each.file, kept.digest, kept.size)
        if _contents(one, family, store) == _contents(pinned, family, store):
            store.keep_spare(kept.digest)
            return Match(one, pinned, without_credentials(each.url))
    return Match(one, None, reason="its files are others than those of the index's wheel")


def _same_release(offered: IndexFile, one: PinnedPackage) -> bool:
    """Whether the file is a wheel of that version for the machines that the installed one says it is for."""
    try:
        _, version, _, tags = parse_wheel_filename(offered.file)
        _, _, _, installed = parse_wheel_filename(one.file)
    except InvalidWheelFilename:
        return False
    return canonicalize_version(str(version)) == canonicalize_version(one.version) and tags == installed


def _contents(one: PinnedPackage, family: str, store: Store) -> tuple[dict[str, object], dict[str, bytes]]:
    """What a wheel installs: digests by path, and its scripts but for their first line, which installers write."""
    folder = store.scratch("match")
    try:
        files = as_files([one], store, folder / "wheels")
        (held,) = read_wheels([one], files, family)
        scripts = dict(_scripts(files[one.file]))
    except (BuildError, OSError, zipfile.BadZipFile):
        return {"unreadable": one.digest}, {}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {path: digest for path, digest in held.digests.items() if digest is not None}, scripts


def _scripts(path: Path) -> Iterable[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as wheel:
        for name in wheel.namelist():
            match = _SCRIPTS.match(name)
            if match:
                yield match[1], _SHEBANG.sub(b"#!python", wheel.read(name), count=1)
