"""A kept lock as a file of another tool, and back."""

from __future__ import annotations

from urllib.parse import quote

from stillrun_envs.contents import md5_of, package_facts
from stillrun_envs.formats.entries import git_reference
from stillrun_envs.formats.listing import Listed, Listing
from stillrun_envs.hints import Hints, read_hints
from stillrun_envs.location import file_name
from stillrun_envs.lock import PinnedPackage, Source, read_lock
from stillrun_envs.platforms import platform_of
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["exported", "listing_of"]


def exported(store: Store, lock: Digest, form: str, *, drop_wheels: bool = False) -> str:
    """The lock as the text of a file of another tool; form: one of ``formats.FORMATS``.

    drop_wheels: leave out what an @EXPLICIT list cannot hold, instead of refusing. Raises LockError when the form
    cannot hold what the lock says.
    """
    from stillrun_envs import formats

    return formats.write_lock(form, listing_of(store, lock), drop_wheels=drop_wheels)


def listing_of(store: Store, digest: Digest) -> Listing:
    """A kept lock the way lock files of other tools tell it, with addresses where they are known."""
    lock, hints = read_lock(store, digest), read_hints(store, digest)
    return Listing(
        python=lock.python.version,
        platform=platform_of(lock.python.platform),
        packages=tuple(_listed(store, one, hints) for one in lock.packages),
        requested=hints.requested(),
        channels=tuple((hints.request or {}).get("channels") or ()),
        virtual_packages=hints.machine,
    )


def _listed(store: Store, one: PinnedPackage, hints: Hints) -> Listed:
    if one.source is not None and (built := _of_source(store, one, one.source, hints)) is not None:
        return built
    origin = hints.origin(one.digest)
    return Listed(
        manager=one.manager,
        name=one.name,
        version=one.version,
        file=one.file,
        url="" if origin is None else origin.url,
        digest=one.digest,
        md5=_md5(store, one, "" if origin is None else origin.md5),
        size=one.size,
        build=one.build,
        subdir=one.subdir,
        depends=package_facts(store, one).depends,
    )


def _of_source(store: Store, one: PinnedPackage, source: Source, hints: Hints) -> Listed | None:
    """A wheel that was built here, as the source that others can fetch and build; None when nobody else has that."""
    origin = hints.origin(source.digest)
    if origin is None or not origin.url or source.kind == "folder":
        return None
    depends, inner = package_facts(store, one).depends, source.subdirectory
    fragment = f"#subdirectory={quote(inner)}" if inner else ""
    if source.kind == "git":
        reference = git_reference(origin.url, source.commit, inner)
        return Listed("pypi", one.name, one.version, "", "", depends=depends, source=reference)
    return Listed(
        "pypi",
        one.name,
        one.version,
        file_name(origin.url),
        origin.url,
        source.digest,
        size=source.size,
        depends=depends,
        source=origin.url + fragment,
    )


def _md5(store: Store, one: PinnedPackage, promised: str) -> str:
    """conda-lock's format wants it of every conda package; nothing is checked by it here."""
    if one.manager != "conda" or promised:
        return promised
    return md5_of(store, one.digest)
