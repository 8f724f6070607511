"""Packages of a lock as package URLs (purl), and what they say of themselves."""

from __future__ import annotations

from stillrun_envs.contents import PackageFacts, package_facts
from stillrun_envs.errors import LockError
from stillrun_envs.hints import Hints
from stillrun_envs.lock import PinnedPackage
from stillrun_snapshot.errors import StoreError
from stillrun_snapshot.store import Store

__all__ = ["facts_of", "package_url"]


def package_url(one: PinnedPackage, hints: Hints | None = None) -> str:
    """The package's purl; of conda with build, platform, kind of archive and, where known, its channel."""
    from packageurl import PackageURL  # late: only exports need it

    origin = None if hints is None else hints.origin(one.digest)
    if one.manager == "pypi":
        return str(PackageURL("pypi", None, one.name, one.version, {"file_name": one.file}).to_string())
    kind = "tar.bz2" if one.file.endswith(".tar.bz2") else "conda"
    channel = "" if origin is None else channel_of(origin.url)
    facts = {"build": one.build, "channel": channel, "subdir": one.subdir, "type": kind}
    known = {name: value for name, value in facts.items() if value}
    return str(PackageURL("conda", None, one.name, one.version, known).to_string())


def channel_of(url: str) -> str:
    """The channel's name in the address of a conda package: all between host and platform; of a folder, its last name."""
    scheme, _, rest = url.partition("://")
    parts = rest.split("/")[1:-2]
    return "/".join(parts[-1:] if scheme == "file" else parts)


def facts_of(store: Store, one: PinnedPackage) -> PackageFacts | None:
    """What the kept file says of itself; None when it is not here or cannot be read."""
    if not store.has(one.digest):
        return None
    try:
        return package_facts(store, one)
    except (LockError, StoreError):
        return None
