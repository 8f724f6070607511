"""From chosen files to kept packages: each fetched, checked against what it was promised under, and pinned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

from stillrun_envs.conda import Solved
from stillrun_envs.contents import md5_of
from stillrun_envs.errors import FetchError
from stillrun_envs.fetch import Wanted, fetch
from stillrun_envs.formats.listing import Listed
from stillrun_envs.hints import PackageOrigin, read_hints
from stillrun_envs.location import local_path, without_credentials
from stillrun_envs.lock import PinnedPackage, read_lock
from stillrun_envs.network import Network
from stillrun_envs.pypi import Chosen
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["KEEP_PACKAGES", "KeepPackages", "Kept", "as_solved", "bring_back", "keep_archives", "keep_wheels"]

KeepPackages = Literal["all", "missing-from-index", "none"]
"""all: every file of an environment is kept. missing-from-index: those that no index or channel on the network offers.
none: only what was built or packed here, which nobody else has. What is not kept lies in a cache meanwhile."""

KEEP_PACKAGES: tuple[KeepPackages, ...] = get_args(KeepPackages)


@dataclass(frozen=True)
class Kept:
    """Packages that are in the store now, and where they came from."""

    packages: tuple[PinnedPackage, ...] = ()
    origins: tuple[PackageOrigin, ...] = ()

    def __add__(self, other: Kept) -> Kept:
        return Kept(self.packages + other.packages, self.origins + other.origins)


def keep_wheels(
    chosen: Sequence[Chosen],
    store: Store,
    network: Network,
    progress: Callable[[str], None],
    which: KeepPackages = "all",
) -> Kept:
    """The wheels that an index offers, kept as far as ``which`` says."""
    wanted = [Wanted(one.url, one.digest, one.size) for one in chosen]
    fetched = fetch(wanted, store, network, spare=_is_spare(which), progress=progress)
    pairs = list(zip(chosen, fetched, strict=True))
    packages = (PinnedPackage("pypi", one.name, one.version, one.file, kept.digest, kept.size) for one, kept in pairs)
    origins = (PackageOrigin(kept.digest, without_credentials(one.url)) for one, kept in pairs)
    return Kept(tuple(packages), tuple(origins))


def keep_archives(
    solved: Sequence[Solved],
    store: Store,
    network: Network,
    progress: Callable[[str], None],
    which: KeepPackages = "all",
) -> Kept:
    """The archives that channels offer, kept as far as ``which`` says."""
    wanted = [Wanted(one.url, one.digest, one.size) for one in solved]
    fetched = fetch(wanted, store, network, spare=_is_spare(which), progress=progress)
    pairs = list(zip(solved, fetched, strict=True))
    for one, kept in pairs:
        if one.digest is None and one.md5 and md5_of(store, kept.digest) != one.md5:
            raise FetchError(
                f"{one.file} from {without_credentials(one.url)}: expected MD5 {one.md5}, received "
                f"{md5_of(store, kept.digest)}; the file was replaced on the server, or the lock is for another."
            )
    packages = (
        PinnedPackage(
            "conda", one.name, one.version, one.file, kept.digest, kept.size, build=one.build, subdir=one.subdir
        )
        for one, kept in pairs
    )
    origins = (PackageOrigin(kept.digest, without_credentials(one.url), one.md5 or "") for one, kept in pairs)
    return Kept(tuple(packages), tuple(origins))


def as_solved(one: Listed) -> Solved:
    """A conda package of another tool's lock as if a solver had chosen it."""
    md5, depends = one.md5 or None, one.depends
    return Solved(one.name, one.version, one.build, one.subdir, one.file, one.url, one.digest, md5, one.size, depends)


def bring_back(store: Store, lock: Digest, environ: Mapping[str, str], progress: Callable[[str], None]) -> None:
    """Fetch the packages of ``lock`` that are not in the store from where they came, to be held for now.

    What has no known origin stays missing. Raises FetchError when an index is out of reach or has another file now.
    """
    what, hints = read_lock(store, lock), read_hints(store, lock)
    absent = store.absent(what.digests())
    origins = [one for package in what.packages if package.digest in absent and (one := hints.origin(package.digest))]
    sizes = {package.digest: package.size for package in what.packages}
    wanted = [Wanted(one.url, one.digest, sizes[one.digest]) for one in origins if one.url]
    if wanted:
        network = Network(environ, tuple(one.url for one in wanted))
        fetch(wanted, store, network, spare=lambda _: True, progress=progress)


def _is_spare(which: KeepPackages) -> Callable[[str], bool]:
    if which == "missing-from-index":
        return lambda url: local_path(url) is None
    return lambda _: which == "none"
