"""pixi.lock: conda and PyPI packages of several environments and platforms. Versions 6 and 7 are read, 7 is written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs, urlsplit

from stillrun_envs.formats.document import Document, Table
from stillrun_envs.formats.entries import (
    absolute,
    bare_reference,
    conda_entry,
    direct_entry,
    distinct,
    git_reference,
    normal_name,
    require_platform,
)
from stillrun_envs.formats.listing import Listed, Listing
from stillrun_envs.formats.spelling import yaml_text
from stillrun_envs.formats.writing import channels_of, require_addresses
from stillrun_envs.location import without_credentials
from stillrun_envs.platforms import Target

__all__ = ["read_lock", "write"]

_VERSIONS = ("6", "7")
_DEFAULT = "default"
_COMMIT = re.compile(r"^([0-9a-f]{40}|[0-9a-f]{64})$")


def read_lock(document: Document, target: Target, extras: Sequence[str] = (), groups: Sequence[str] = ()) -> Listing:
    """The packages of one environment for ``target``: the default one, or the one that ``extras`` or ``groups`` names."""
    root = document.yaml()
    version = root.maybe("version")
    if version not in _VERSIONS:
        raise document.refused(
            f"has format version {version or 'none'}, and versions 6 and 7 are the ones that are read",
            "Write it again with 'pixi lock' of pixi 0.39 or later, or export another format.",
        )
    environment = _environment(document, root.table("environments"), [*extras, *groups])
    by_platform = environment.table("packages")
    names = {one.text("name"): one.maybe("subdir") or one.text("name") for one in root.tables("platforms")}
    platforms = {names.get(name, name): name for name in by_platform.values}
    cure = f"'pixi workspace platform add {target.platform}'"
    require_platform(document, sorted(platforms), target, cure)
    packages = {_location(one): one for one in reversed(root.tables("packages"))}
    chosen = [
        _entry(document, one, packages, target.platform) for one in by_platform.tables(platforms[target.platform])
    ]
    found = distinct(document, chosen)
    virtual = {one.text("name"): one.texts("virtual-packages") for one in root.tables("platforms")}
    return Listing(
        python=next((one.version for one in found if one.manager == "conda" and one.name == "python"), ""),
        platform=target.platform,
        packages=found,
        channels=tuple(without_credentials(one.text("url")) for one in environment.tables("channels")),
        virtual_packages=virtual.get(platforms[target.platform], ()),
        index_url=next(iter(environment.texts("indexes")), None),
        extra_indices=environment.texts("indexes")[1:],
    )


def write(listing: Listing) -> str:
    """The listing as the text of a pixi.lock of version 7. Raises LockError for packages without an address."""
    require_addresses(listing, "pixi.lock")
    platform = yaml_text(listing.platform)
    lines = ["version: 7", "platforms:", f"- name: {platform}"]
    if listing.virtual_packages:
        lines += ["  virtual-packages:", *(f"  - {yaml_text(one)}" for one in listing.virtual_packages)]
    lines += ["environments:", f"  {_DEFAULT}:"]
    channels = channels_of(listing)
    lines.append("    channels:" if channels else "    channels: []")
    lines += [f"    - url: {yaml_text(channel)}" for channel in channels]
    if listing.index_url:
        indexes = [listing.index_url, *listing.extra_indices]
        lines += ["    indexes:", *(f"    - {yaml_text(without_credentials(one))}" for one in indexes)]
    packages = sorted(listing.packages, key=lambda one: (one.manager, one.name))
    lines += ["    packages:", f"      {platform}:" if packages else f"      {platform}: []"]
    lines += [f"      - {_selector(one)}" for one in packages]
    lines.append("packages:" if packages else "packages: []")
    for one in packages:
        lines += _package(one)
    return "\n".join(lines) + "\n"


def _environment(document: Document, environments: Table, asked: Sequence[str]) -> Table:
    if len(asked) > 1:
        raise document.refused(
            f"is asked for the environments {', '.join(asked)}, and each of them is whole", "Name one of them."
        )
    name = asked[0] if asked else _DEFAULT
    if name not in environments:
        known = ", ".join(environments.values) or "none"
        raise document.refused(f"has no environment {name!r}", f"It has {known}: name one of these.")
    return environments.table(name)


def _location(table: Table) -> tuple[str, str]:
    for kind in ("conda", "pypi", "source"):
        if kind in table:
            return kind, table.text(kind)
    raise table.refused("is neither a conda nor a pypi package")


def _entry(document: Document, chosen: Table, packages: Mapping[tuple[str, str], Table], platform: str) -> Listed:
    kind, location = _location(chosen)
    table = packages.get((kind, location))
    if table is None:
        raise chosen.refused(f"names {without_credentials(location)[:120]!r}, which is not among its packages")
    if kind == "pypi":
        return _pypi_entry(document, table, location)
    entry = conda_entry(
        table,
        absolute(document, location),
        digest=table.digest("sha256"),
        md5=table.maybe("md5"),
        size=table.number("size"),
        depends=table.texts("depends"),
        subdir=table.maybe("subdir"),
    )
    if entry.subdir not in (platform, "noarch"):
        raise chosen.refused(f"names {entry.file}, which is for {entry.subdir} and not for {platform}")
    return entry


def _pypi_entry(document: Document, table: Table, location: str) -> Listed:
    name = normal_name(table, table.text("name"))
    address, _, told = location.partition("#sha256=")  # rattler's own writer puts the hash there
    digest = table.digest("sha256") or (
        Table(document, table.place, {"sha256": told}).digest("sha256") if told else None
    )
    if address.startswith("git+"):
        address = _commit(table, address)
    return direct_entry(
        table,
        name,
        table.maybe("version"),
        address if "+" in address.partition(":")[0] else absolute(document, address),
        digest=digest,
        depends=table.texts("requires_dist"),
    )


def _commit(table: Table, location: str) -> str:
    """The commit that an address such as git+https://host/repository?rev=main#COMMIT names, as PEP 508 does."""
    parts = urlsplit(location)
    asked = parse_qs(parts.query)
    path, _, told = parts.path.partition("@")
    commit = parts.fragment if _COMMIT.match(parts.fragment) else told
    if not _COMMIT.match(commit):
        raise table.refused(f"names no commit of {without_credentials(location)[:120]}")
    inside = parse_qs(parts.fragment) if "=" in parts.fragment else {}
    inner = [*asked.get("subdirectory", ()), *inside.get("subdirectory", ()), ""]
    return git_reference(parts._replace(path=path, query="", fragment="").geturl(), commit, inner[0])


def _selector(one: Listed) -> str:
    address = one.url or bare_reference(one.source)
    return f"{one.manager}: {yaml_text(without_credentials(address) if one.url else address)}"


def _package(one: Listed) -> list[str]:
    lines = [f"- {_selector(one)}"]
    if one.manager == "conda":
        lines.append(f"  subdir: {yaml_text(one.subdir)}")
    else:
        lines.append(f"  name: {yaml_text(one.name)}")
        lines += [f"  version: {yaml_text(one.version)}"] if one.version else []
    lines += [f"  sha256: {yaml_text(one.digest.hex)}"] if one.digest else []
    lines += [f"  md5: {yaml_text(one.md5)}"] if one.md5 else []
    if one.depends:
        lines.append("  depends:" if one.manager == "conda" else "  requires_dist:")
        lines += [f"  - {yaml_text(need)}" for need in one.depends]
    if one.size is not None and one.manager == "conda":
        lines.append(f"  size: {one.size}")
    return lines
