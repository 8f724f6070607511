"""conda-lock.yml, version 1: conda and pip packages of several platforms, as conda-lock reads and writes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence

from packaging.requirements import InvalidRequirement, Requirement

from stillrun_envs.errors import LockError
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
from stillrun_envs.formats.writing import channels_of, require_addresses, target_of
from stillrun_envs.location import without_credentials
from stillrun_envs.platforms import Target

__all__ = ["read_lock", "write"]

_HEAD = """\
# The exact packages of an environment, in the format of conda-lock. Written by Stillrun; install with
#   conda-lock install --prefix FOLDER FILE
"""
_ALWAYS = "main"  # the category of what is installed without being asked for


def read_lock(document: Document, target: Target, extras: Sequence[str] = (), groups: Sequence[str] = ()) -> Listing:
    """The packages for ``target``: those of the category main, and of the categories that ``extras`` and ``groups`` are."""
    categories = (*extras, *groups)
    root = document.yaml()
    version = root.maybe("version")
    if version != "1":
        raise document.refused(
            f"has format version {version or 'none'}, and version 1 is the one that is read",
            "Write it again with a conda-lock of version 1 to 4.",
        )
    metadata = root.table("metadata")
    require_platform(
        document, metadata.texts("platforms"), target, f"'conda-lock lock -p {target.platform}' and name its sources"
    )
    wanted = {_ALWAYS, *categories}
    chosen, known = [], {_ALWAYS}
    for table in root.tables("package"):
        category = table.maybe("category") or _ALWAYS
        known.add(category)
        if category in wanted and table.text("platform") == target.platform and not table.text("name").startswith("__"):
            chosen.append(_entry(table))
    for category in categories:
        if category not in known:
            raise document.refused(
                f"has no category {category!r}", f"Ask for one of {', '.join(sorted(known))}, or lock it with that."
            )
    packages = distinct(document, chosen)
    said = metadata.table("custom_metadata")
    python = next((one.version for one in packages if one.manager == "conda" and one.name == "python"), "")
    return Listing(
        python=python or said.maybe("python"),
        platform=target.platform,
        packages=packages,
        requested=tuple(said.maybe("requested").splitlines()),
        channels=tuple(_channels(metadata)),
        virtual_packages=tuple(said.maybe("virtual_packages").split()),
    )


def write(listing: Listing) -> str:
    """The listing as the text of a conda-lock.yml. Raises LockError for packages without an address."""
    require_addresses(listing, "conda-lock.yml")
    for one in listing.packages:
        if one.manager == "conda" and not one.md5:
            raise LockError(f"conda-lock.yml wants the MD5 of {one.name} {one.version}, which is not known.")
    lines = ["version: 1", "metadata:", "  content_hash:", f"    {yaml_text(listing.platform)}: {_content(listing)}"]
    channels = channels_of(listing)
    lines.append("  channels:" if channels else "  channels: []")
    for channel in channels:
        lines += [f"  - url: {yaml_text(channel)}", "    used_env_vars: []"]
    lines += ["  platforms:", f"  - {yaml_text(listing.platform)}", "  sources: []", "  custom_metadata:"]
    lines += [f"    {key}: {yaml_text(value)}" for key, value in _said(listing).items()]
    lines.append("package:" if listing.packages else "package: []")
    for one in sorted(listing.packages, key=lambda one: (one.manager, one.name)):
        lines += _package(one, listing)
    return _HEAD + "\n".join(lines) + "\n"


def _entry(table: Table) -> Listed:
    manager, hashes = table.text("manager"), table.table("hash")
    needs = table.table("dependencies").pairs()
    if manager == "conda":
        depends = [f"{name} {version}".strip() for name, version in sorted(needs.items())]
        entry = conda_entry(
            table, table.text("url"), digest=hashes.digest("sha256"), md5=hashes.maybe("md5"), depends=depends
        )
        if (entry.name, entry.version) != (table.text("name").lower(), table.text("version")):
            raise table.refused(f"is {table.text('name')} {table.text('version')} with the address of {entry.file}")
        return entry
    if manager != "pip":
        raise table.wrong("manager", "conda or pip")
    name, version = normal_name(table, table.text("name")), table.text("version")
    depends = [f"{need}{'' if spec == '*' else spec}" for need, spec in sorted(needs.items())]
    reference = table.table("source").maybe("url") or table.text("url")
    return direct_entry(table, name, version, reference, digest=hashes.digest("sha256"), depends=depends)


def _channels(metadata: Table) -> Iterator[str]:
    for index, item in enumerate(metadata.items("channels")):
        if isinstance(item, str):
            yield without_credentials(item)
        else:
            yield without_credentials(metadata.tables("channels")[index].text("url"))


def _package(one: Listed, listing: Listing) -> list[str]:
    address = one.url or bare_reference(one.source)
    lines = [
        f"- name: {yaml_text(one.name)}",
        f"  version: {yaml_text(one.version)}",
        f"  manager: {'conda' if one.manager == 'conda' else 'pip'}",
        f"  platform: {yaml_text(listing.platform)}",
    ]
    needs = _conda_needs(one) if one.manager == "conda" else _pip_needs(one, listing)
    lines.append("  dependencies:" if needs else "  dependencies: {}")
    lines += [f"    {yaml_text(name)}: {yaml_text(spec)}" for name, spec in sorted(needs.items())]
    lines.append(f"  url: {yaml_text(without_credentials(address) if one.url else address)}")
    hashes = [f"    md5: {yaml_text(one.md5)}"] if one.md5 else []
    hashes += [f"    sha256: {yaml_text(one.digest.hex)}"] if one.digest else []
    lines += ["  hash:", *hashes] if hashes else ["  hash: {}"]
    if one.source:
        lines += ["  source:", "    type: url", f"    url: {yaml_text(bare_reference(one.source))}"]
    return [*lines, f"  category: {_ALWAYS}", "  optional: false"]


def _conda_needs(one: Listed) -> dict[str, str]:
    """conda-lock keeps name and version of a match spec, and no build."""
    found: dict[str, list[str]] = {}
    for spec in one.depends:
        words = spec.split()
        if words:
            found.setdefault(words[0], []).extend(words[1:2])
    return {name: ",".join(dict.fromkeys(versions)) for name, versions in found.items()}


def _pip_needs(one: Listed, listing: Listing) -> dict[str, str]:
    """conda-lock keeps what is needed on the platform, without extras and markers."""
    target = target_of(listing)
    found: dict[str, list[str]] = {}
    for text in one.depends:
        try:
            need = Requirement(text)
        except InvalidRequirement:
            continue  # older packages say such things; the packages themselves are all listed
        if need.marker is None or (target is not None and need.marker.evaluate(dict(target.markers()))):
            found.setdefault(need.name, []).extend([str(need.specifier)] if str(need.specifier) else [])
    return {name: ",".join(specs) or "*" for name, specs in found.items()}


def _said(listing: Listing) -> Mapping[str, str]:
    told = {
        "created_by": "stillrun",
        "python": listing.python,
        "requested": "\n".join(listing.requested),
        "virtual_packages": " ".join(listing.virtual_packages),
    }
    return {key: value for key, value in told.items() if value}


def _content(listing: Listing) -> str:
    """A digest of what was asked for; conda-lock compares it to see whether a lock is up to date."""
    asked = [listing.platform, listing.python, *listing.requested, *channels_of(listing), *listing.virtual_packages]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()
