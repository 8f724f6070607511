"""pylock.toml (PEP 751): the packages of a Python environment, as uv, pip and others read and write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from packaging.markers import InvalidMarker, Marker
from packaging.utils import canonicalize_name

from stillrun_envs.formats.artifacts import best_wheel
from stillrun_envs.formats.document import Document, Table
from stillrun_envs.formats.entries import (
    absolute,
    direct_entry,
    distinct,
    file_entry,
    git_reference,
    normal_name,
    require_python,
)
from stillrun_envs.formats.listing import Listed, Listing
from stillrun_envs.formats.spelling import toml_list, toml_table, toml_text
from stillrun_envs.formats.writing import require_addresses, require_wheels
from stillrun_envs.location import file_name
from stillrun_envs.platforms import PLATFORMS, Target

__all__ = ["read_lock", "write"]


def read_lock(document: Document, target: Target, extras: Sequence[str] = (), groups: Sequence[str] = ()) -> Listing:
    """The packages for ``target``, with those of the named extras and dependency groups."""
    root = document.toml()
    version = root.maybe("lock-version")
    if version.partition(".")[0] != "1":
        raise document.refused(f"has lock-version {version or 'none'}, and 1.0 is the one that is read", "")
    require_python(document, root, target)
    _require_known(document, root, "extras", extras)
    _require_known(document, root, "dependency-groups", groups)
    context: dict[str, Any] = dict(target.markers())
    context.pop("extra", None)
    chosen = map(canonicalize_name, (*groups, *root.texts("default-groups")))
    context |= {"extras": frozenset(map(canonicalize_name, extras)), "dependency_groups": frozenset(chosen)}
    environments = root.texts("environments")
    if environments and not any(_holds(root, one, context) for one in environments):
        raise document.error(
            f"{document.name} is locked for other machines than {target.platform} with Python {target.version}; lock it with "
            f"'{document.tool}' there."
        )
    packages = [
        _entry(document, table, target)
        for table in root.tables("packages")
        if not table.maybe("marker") or _holds(table, table.maybe("marker"), context)
    ]
    own = root.table("tool").table("stillrun")
    return Listing(
        python=own.maybe("python"),
        platform=target.platform,
        packages=distinct(document, packages),
        requested=own.texts("requested"),
    )


def write(listing: Listing) -> str:
    """The listing as the text of a pylock.toml. Raises LockError for conda packages and files without an address."""
    require_wheels(listing, "pylock.toml")
    require_addresses(listing, "pylock.toml")
    lines = ["# Written by Stillrun; install with: uv pip sync FILE, or pip install -r FILE", 'lock-version = "1.0"']
    if listing.platform in PLATFORMS:
        machine, system = PLATFORMS[listing.platform][1:3]
        marker = f"sys_platform == '{system}' and platform_machine == '{machine}'"
        lines.append(f"environments = {toml_list([marker])}")
    family = ".".join(listing.python.split(".")[:2])
    lines += [f'requires-python = "=={family}.*"'] if family else []
    lines.append('created-by = "stillrun"')
    for one in listing.packages:
        lines += ["", "[[packages]]", f"name = {toml_text(one.name)}"]
        lines += [f"version = {toml_text(one.version)}"] if one.version and not _is_tree(one) else []
        lines += _origin(one)
    lines += ["", "[tool.stillrun]", f"python = {toml_text(listing.python)}"]
    lines.append(f"requested = {toml_list(list(listing.requested))}")
    return "\n".join(lines) + "\n"


def _require_known(document: Document, root: Table, key: str, asked: Sequence[str]) -> None:
    known = {canonicalize_name(name) for name in root.texts(key)}
    for name in asked:
        if canonicalize_name(name) not in known:
            what = "extra" if key == "extras" else "dependency group"
            raise document.refused(f"has no {what} {name!r}", f"It has {', '.join(sorted(known)) or 'none'}.")


def _holds(table: Table, text: str, context: dict[str, Any]) -> bool:
    try:
        return Marker(text).evaluate(context, context="lock_file")
    except (InvalidMarker, KeyError, ValueError) as err:
        raise table.refused(f"has the marker {text[:80]!r}, which is none") from err


def _entry(document: Document, table: Table, target: Target) -> Listed:
    name, version = normal_name(table, table.text("name")), table.maybe("version")
    if "wheels" in table:
        offered = [(_file(one), one) for one in table.tables("wheels")]
        wheel = best_wheel(offered, target)
        if wheel is not None:
            return _of_file(document, name, version, wheel)
    if "sdist" in table:
        return _of_file(document, name, version, table.table("sdist"))
    if "archive" in table:
        archive = table.table("archive")
        address = _address(document, archive)
        inner = archive.maybe("subdirectory")
        reference = address + (f"#subdirectory={inner}" if inner else "")
        return direct_entry(archive, name, version, reference, digest=archive.table("hashes").digest("sha256"))
    if "vcs" in table:
        vcs = table.table("vcs")
        if vcs.text("type") != "git":
            raise vcs.wrong("type", "git")
        url = vcs.maybe("url") or absolute(document, vcs.text("path"))
        reference = git_reference(url, vcs.text("commit-id"), vcs.maybe("subdirectory"))
        return direct_entry(vcs, name, version, reference)
    if "directory" in table:
        folder = table.table("directory")
        inner = folder.maybe("subdirectory")
        reference = absolute(document, folder.text("path")) + (f"#subdirectory={inner}" if inner else "")
        return direct_entry(folder, name, version, reference)
    raise document.error(
        f"{document.name} has no file of {name} {version} that runs on {target.platform} with Python {target.version}; "
        f"lock it with '{document.tool}' there."
    )


def _file(one: Table) -> str:
    return one.maybe("name") or file_name(one.maybe("url") or one.maybe("path"))


def _address(document: Document, one: Table) -> str:
    return one.maybe("url") or absolute(document, one.text("path"))


def _of_file(document: Document, name: str, version: str, one: Table) -> Listed:
    digest = one.table("hashes").digest("sha256")
    if digest is None:
        raise one.refused("has no sha256 among its hashes", "Lock it with a tool that writes SHA-256.")
    address = _address(document, one)
    return file_entry(one, name, version, address, file=_file(one), digest=digest, size=one.number("size"))


def _is_tree(one: Listed) -> bool:
    return bool(one.source) and not one.file


def _origin(one: Listed) -> list[str]:
    if one.source and not one.file:
        return _tree_origin(one.source)
    values = [("name", toml_text(one.file)), ("url", toml_text(one.url))]
    values += [("size", str(one.size))] if one.size is not None else []
    values.append(("hashes", toml_table([("sha256", toml_text(one.digest.hex if one.digest else ""))])))
    if one.source:
        return [f"sdist = {toml_table(values)}"]
    return [f"wheels = [{toml_table(values)}]"]


def _tree_origin(reference: str) -> list[str]:
    base, _, fragment = reference.partition("#")
    inner = [("subdirectory", toml_text(fragment.removeprefix("subdirectory=")))] if fragment else []
    if base.startswith("git+"):
        url, _, commit = base.removeprefix("git+").rpartition("@")
        values = [("type", '"git"'), ("url", toml_text(url)), ("commit-id", toml_text(commit)), *inner]
        return [f"vcs = {toml_table(values)}"]
    return [f"directory = {toml_table([('path', toml_text(base.removeprefix('file://'))), *inner])}"]
