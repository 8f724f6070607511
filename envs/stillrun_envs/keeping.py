"""From chosen files to kept packages: each fetched, checked against what it was promised under, and pinned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stillrun_envs.conda import Solved
from stillrun_envs.contents import md5_of
from stillrun_envs.errors import FetchError
from stillrun_envs.fetch import Wanted, fetch
from stillrun_envs.formats.listing import Listed
from stillrun_envs.hints import PackageOrigin
from stillrun_envs.location import without_credentials
from stillrun_envs.lock import PinnedPackage
from stillrun_envs.network import Network
from stillrun_envs.pypi import Chosen
from stillrun_snapshot.store import Store

__all__ = ["Kept", "as_solved", "keep_archives", "keep_wheels"]


@dataclass(frozen=True)
class Kept:
    """Packages that are in the store now, and where they came from."""

    packages: tuple[PinnedPackage, ...] = ()
    origins: tuple[PackageOrigin, ...] = ()

    def __add__(self, other: Kept) -> Kept:
        return Kept(self.packages + other.packages, self.origins + other.origins)


def keep_wheels(chosen: Sequence[Chosen], store: Store, network: Network, progress: Callable[[str], None]) -> Kept:
    """The wheels that an index offers, kept."""
    fetched = fetch([Wanted(one.url, one.digest, one.size) for one in chosen], store, network, progress=progress)
    pairs = list(zip(chosen, fetched, strict=True))
    packages = (PinnedPackage("pypi", one.name, one.version, one.file, kept.digest, kept.size) for one, kept in pairs)
    origins = (PackageOrigin(kept.digest, without_credentials(one.url)) for one, kept in pairs)
    return Kept(tuple(packages), tuple(origins))


def keep_archives(solved: Sequence[Solved], store: Store, network: Network, progress: Callable[[str], None]) -> Kept:
    """The archives that channels offer, kept."""
    fetched = fetch([Wanted(one.url, one.digest, one.size) for one in solved], store, network, progress=progress)
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
