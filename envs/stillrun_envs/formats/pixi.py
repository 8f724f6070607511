"""pixi.lock, versions 6 and 7: conda and pypi packages of several environments and platforms, as pixi reads and writes them."""

from __future__ import annotations

from collections.abc import Sequence

from stillrun_envs.formats.document import Document, Table
from stillrun_envs.formats.entries import (
    bare_reference,
    conda_entry,
    direct_entry,
    distinct,
    normal_name,
    require_platform,
)
from stillrun_envs.formats.listing import Listed, Listing
from stillrun_envs.formats.spelling import yaml_text
from stillrun_envs.formats.writing import channels_of, require_addresses
from stillrun_envs.location import without_credentials
from stillrun_envs.platforms import Target

__all__ = ["read_lock", "write"]

_DEFAULT = "default"


def read_lock(document: Document, target: Target, extras: Sequence[str] = (), groups: Sequence[str] = ()) -> Listing:
    """The packages for ``target`` of the default environment, or of the one that ``groups`` names."""
    root = document.yaml()
    version = root.maybe("version")
    if version not in ("6", "7"):
        raise document.refused(
            f"has version {version or 'none'}, and 6 and 7 are the ones that are read",
            "Write it again with 'pixi lock'.",
        )
    environments, wanted = root.table("environments"), (*groups, *extras) or (_DEFAULT,)
    if len(wanted) > 1:
        raise document.refused(f"is asked for {len(wanted)} environments at once", "A step runs in one: name one.")
    if wanted[0] not in environments:
        known = ", ".join(sorted(environments.values)) or "none"
        raise document.refused(f"has no environment {wanted[0]!r}", f"It has {known}; name one in groups=['…'].")
    environment = environments.table(wanted[0])
    per_platform = environment.table("packages")
    require_platform(
        document, sorted(per_platform.values), target, f"'pixi lock' and {target.platform} in its platforms"
    )
    described = {_key(one): one for one in root.tables("packages")}
    packages = []
    for reference in per_platform.tables(target.platform):
        key = _key(reference)
        if key not in described:
            raise reference.refused("is not described below 'packages'")
        packages.append(_entry(described[key]))
    found = distinct(document, packages)
    python = next((one.version for one in found if one.manager == "conda" and one.name == "python"), "")
    own = root.table("metadata").maybe("python")
    return Listing(
        python=python or own,
        platform=target.platform,
        packages=found,
        channels=tuple(without_credentials(one.text("url")) for one in environment.tables("channels")),
    )


def write(listing: Listing) -> str:
    """The listing as the text of a pixi.lock, version 7, with one environment. Raises LockError without addresses."""
    require_addresses(listing, "pixi.lock")
    lines = ["version: 7", "platforms:", f"- name: {yaml_text(listing.platform)}", "environments:", f"  {_DEFAULT}:"]
    channels = channels_of(listing)
    lines.append("    channels:" if channels else "    channels: []")
    lines += [f"    - url: {yaml_text(channel)}" for channel in channels]
    lines += ["    packages:", f"      {yaml_text(listing.platform)}:" + ("" if listing.packages else " []")]
    lines += [f"      - {_kind(one)}: {yaml_text(_place(one))}" for one in listing.packages]
    lines.append("packages:" if listing.packages else "packages: []")
    for one in listing.packages:
        lines += _described(one)
    return "\n".join(lines) + "\n"


def _key(table: Table) -> tuple[str, str]:
    for kind in ("conda", "pypi"):
        if kind in table:
            return kind, table.text(kind)
    raise table.refused("is neither a conda nor a pypi package")


def _entry(table: Table) -> Listed:
    kind, place = _key(table)
    if kind == "conda":
        address = place if "://" in place else f"file://{place}"
        return conda_entry(
            table,
            address,
            digest=table.digest("sha256"),
            md5=table.maybe("md5"),
            size=table.number("size"),
            depends=table.texts("depends"),
            subdir=table.maybe("subdir"),
        )
    name, version = normal_name(table, table.text("name")), table.maybe("version")
    address, _, fragment = place.partition("#")
    digest = table.digest("sha256")
    if digest is None and fragment.startswith("sha256="):
        digest = Table(table.document, table.place, {"sha256": fragment.removeprefix("sha256=")}).digest("sha256")
    reference = place if address.startswith("git+") else address
    return direct_entry(table, name, version, reference, digest=digest, depends=table.texts("requires_dist"))


def _kind(one: Listed) -> str:
    return one.manager


def _place(one: Listed) -> str:
    return without_credentials(one.url) if one.url else bare_reference(one.source)


def _described(one: Listed) -> list[str]:
    lines = [f"- {_kind(one)}: {yaml_text(_place(one))}"]
    if one.manager == "pypi":
        lines += [f"  name: {yaml_text(one.name)}", f"  version: {yaml_text(one.version)}"]
    elif one.subdir:
        lines.append(f"  subdir: {yaml_text(one.subdir)}")
    lines += [f"  sha256: {one.digest.hex}"] if one.digest else []
    lines += [f"  md5: {one.md5}"] if one.md5 else []
    if one.depends:
        lines.append("  depends:" if one.manager == "conda" else "  requires_dist:")
        lines += [f"  - {yaml_text(need)}" for need in one.depends]
    lines += [f"  size: {one.size}"] if one.size is not None and one.manager == "conda" else []
    return lines
