"""@EXPLICIT lists: addresses of conda archives, as 'conda list --explicit' writes and 'conda create --file' reads them.

Wheels have no place in them. conda-lock and micromamba read '# pip NAME @ ADDRESS#sha256=…' lines, conda passes over them;
so they are written only when the caller says that it may be so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from stillrun_envs.errors import LockError
from stillrun_envs.formats.document import Document, Table
from stillrun_envs.formats.entries import absolute, bare_reference, conda_entry, direct_entry, distinct, normal_name
from stillrun_envs.formats.listing import Listed, Listing
from stillrun_envs.formats.writing import named
from stillrun_envs.location import without_credentials
from stillrun_envs.platforms import Target
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import StoreError

__all__ = ["read_lock", "write"]

_PLATFORM = re.compile(r"^#\s*platform:\s*(\S+)")
_PIP = re.compile(
    r"^# pip (?P<name>[A-Za-z0-9._-]+)(?:\s*==\s*(?P<version>\S+))?(?:\s*@\s*(?P<url>\S+))?"
    r"(?:\s+--hash=sha256:(?P<hash>[0-9a-fA-F]{64}))?\s*$"
)


def read_lock(document: Document, target: Target, extras: Sequence[str] = (), groups: Sequence[str] = ()) -> Listing:
    """The packages of the list, wheels in its '# pip' lines too."""
    if extras or groups:
        raise document.refused("is an @EXPLICIT list, which has no extras and groups", "Leave them out.")
    packages: list[Listed] = []
    said: set[str] = set()
    for number, line in enumerate(document.text().splitlines(), 1):
        stripped, place = line.strip(), Table(document, f"line {number}", {})
        match = _PLATFORM.match(stripped)
        if match:
            said.add(match[1])
        elif stripped.startswith("# pip "):
            packages.append(_wheel(place, stripped))
        elif stripped and not stripped.startswith("#") and stripped != "@EXPLICIT":
            packages.append(_archive(document, place, stripped))
    platforms = said or {one.subdir for one in packages if one.subdir not in ("", "noarch")}
    if platforms - {target.platform}:
        raise document.error(
            f"{document.name} is a list for {' and '.join(sorted(platforms))}, this is {target.platform}; "
            "write one there with 'conda list --explicit --md5'."
        )
    found = distinct(document, packages)
    python = next((one.version for one in found if one.manager == "conda" and one.name == "python"), "")
    return Listing(python=python, platform=target.platform, packages=found)


def write(listing: Listing, *, drop_wheels: bool = False) -> str:
    """The listing as an @EXPLICIT list. drop_wheels: have wheels in it as comments, which conda passes over."""
    wheels = [one for one in listing.packages if one.manager == "pypi"]
    if wheels and not drop_wheels:
        raise LockError(
            f"an @EXPLICIT list cannot hold wheels, and conda would leave out {named(wheels)}; write conda-lock, or say "
            "that they may stand there as comments (conda-lock and micromamba install those)."
        )
    archives = [one for one in listing.packages if one.manager == "conda"]
    lost = [one for one in archives if not one.url]
    if lost:
        raise LockError(f"an @EXPLICIT list gives the address of each archive, and that of {named(lost)} is not known.")
    lines = ["# Written by Stillrun. Install with: conda create --prefix FOLDER --file FILE"]
    lines += [f"# platform: {listing.platform}", "@EXPLICIT"]
    lines += [_line(one) for one in sorted(archives, key=lambda one: one.name)]
    lines += [_comment(one) for one in sorted(wheels, key=lambda one: one.name)]
    return "\n".join(lines) + "\n"


def _archive(document: Document, place: Table, line: str) -> Listed:
    url, _, told = line.partition("#")
    if "://" not in url and not url.startswith(("/", ".")):
        raise place.refused(f"is {line[:60]!r}, which is no address", "An @EXPLICIT list has one address on each line.")
    told = told.removeprefix("sha256:")
    digest = _digest(place, told) if len(told) == 64 else None
    return conda_entry(place, absolute(document, url), digest=digest, md5="" if digest else told)


def _wheel(place: Table, line: str) -> Listed:
    match = _PIP.match(line)
    if match is None or not (match["url"] or match["version"]):
        raise place.refused(f"is {line[:80]!r}, which names no wheel", "Write '# pip name @ https://…whl#sha256=…'.")
    name, version = normal_name(place, match["name"]), match["version"] or ""
    if not match["url"]:
        hashes = (_digest(place, match["hash"]),) if match["hash"] else ()
        return Listed("pypi", name, version, "", "", hashes=hashes)
    url, _, fragment = match["url"].partition("#sha256=")
    told = fragment or match["hash"] or ""
    entry = direct_entry(place, name, version, url, digest=_digest(place, told) if told else None)
    return entry if entry.version else _with_version(entry)


def _with_version(entry: Listed) -> Listed:
    from dataclasses import replace

    from stillrun_envs.formats.artifacts import version_of_file

    return replace(entry, version=version_of_file(entry.file) or "")


def _digest(place: Table, told: str) -> Digest:
    try:
        return Digest.parse(f"sha256:{told.lower()}")
    except StoreError:
        raise place.refused(f"has the SHA-256 {told[:70]!r}, which has not 64 hexadecimal digits") from None


def _line(one: Listed) -> str:
    told = f"#sha256:{one.digest.hex}" if one.digest else f"#{one.md5}" if one.md5 else ""
    return f"{without_credentials(one.url)}{told}"


def _comment(one: Listed) -> str:
    if one.url or one.source:
        address = without_credentials(one.url) if one.url else bare_reference(one.source)
        return f"# pip {one.name} @ {address}" + (f"#sha256={one.digest.hex}" if one.digest and one.url else "")
    known = one.digest or next(iter(one.hashes), None)
    return f"# pip {one.name} == {one.version}" + (f" --hash={known}" if known else "")
