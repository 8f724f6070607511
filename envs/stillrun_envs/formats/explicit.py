"""@EXPLICIT lists: the addresses of conda archives, as conda writes and installs them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from stillrun_envs.errors import LockError
from stillrun_envs.formats.artifacts import conda_file
from stillrun_envs.formats.document import Document, Table
from stillrun_envs.formats.entries import conda_entry, distinct, require_platform
from stillrun_envs.formats.listing import Listed, Listing
from stillrun_envs.formats.writing import named, require_addresses
from stillrun_envs.platforms import Target
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import StoreError

__all__ = ["read_lock", "write"]

_HASH = re.compile(r"^(?:md5:|sha256:)?([0-9a-fA-F]{32}|[0-9a-fA-F]{64})$")


def read_lock(document: Document, target: Target, extras: Sequence[str] = (), groups: Sequence[str] = ()) -> Listing:
    """The archives of the list. Raises LockError when they are for another platform than ``target``."""
    if extras or groups:
        raise document.refused(f"has no groups, and {(*extras, *groups)[0]!r} is asked for", "Leave that out.")
    packages = []
    for number, line in enumerate(document.text().splitlines(), 1):
        bare = line.strip()
        if not bare or bare.startswith("#") or bare == "@EXPLICIT":
            continue
        packages.append(_entry(Table(document, f"line {number}", {}), bare))
    subdirs = sorted({one.subdir for one in packages} - {"noarch"})
    if subdirs:
        require_platform(document, subdirs, target, "'conda list --explicit --md5' there")
    found = distinct(document, packages)
    python = next((one.version for one in found if one.name == "python"), "")
    return Listing(python=python, platform=target.platform, packages=found)


def write(listing: Listing, *, drop_wheels: bool = False) -> str:
    """The listing as an @EXPLICIT list. Raises LockError for wheels, which it cannot hold, unless they may be dropped."""
    wheels = [one for one in listing.packages if one.manager == "pypi"]
    if wheels and not drop_wheels:
        raise LockError(
            f"an @EXPLICIT list cannot hold wheels, and {named(wheels)} would be lost; write conda-lock or pixi, "
            "or leave the wheels out with --drop-wheels."
        )
    require_addresses(Listing(listing.python, listing.platform, _archives(listing)), "an @EXPLICIT list")
    lines = ["# The exact conda packages of an environment. Written by Stillrun; install with:"]
    lines += ["#   conda create --name NAME --file FILE", f"# platform: {listing.platform}"]
    for one in wheels:
        lines.append(f"# left out, since it is a wheel: {one.name}=={one.version} {one.digest or ''}".rstrip())
    lines.append("@EXPLICIT")
    for one in _archives(listing):
        mark = one.md5 or (f"sha256:{one.digest.hex}" if one.digest else "")
        lines.append(one.url + (f"#{mark}" if mark else ""))
    return "\n".join(lines) + "\n"


def _archives(listing: Listing) -> tuple[Listed, ...]:
    return tuple(one for one in listing.packages if one.manager == "conda")


def _entry(table: Table, line: str) -> Listed:
    url, _, mark = line.partition("#")
    if conda_file(url) is None:
        raise table.refused(f"is {line[:100]!r}, which is no address of a conda archive")
    match = _HASH.match(mark) if mark else None
    if mark and match is None:
        raise table.refused(f"has {mark[:70]!r} where an MD5 or SHA-256 is expected")
    found = match[1].lower() if match else ""
    try:
        digest = Digest.parse(f"sha256:{found}") if len(found) == 64 else None
    except StoreError as err:
        raise table.refused(f"has {mark[:70]!r}, which is no SHA-256") from err
    return conda_entry(table, url, digest=digest, md5=found if len(found) == 32 else "")
