"""uv.lock: every package of a project for every machine; read for one of them, with the extras and groups that are named."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from typing import Any

from packaging.markers import InvalidMarker, Marker
from packaging.utils import canonicalize_name

from stillrun_envs.formats.artifacts import best_wheel
from stillrun_envs.formats.document import Document, Table
from stillrun_envs.formats.entries import absolute, direct_entry, distinct, file_entry, git_reference, require_python
from stillrun_envs.formats.listing import Listed, Listing
from stillrun_envs.location import file_name
from stillrun_envs.platforms import Target

__all__ = ["read_lock"]

_Node = tuple[str, str]  # name, version
# how uv writes, in a marker, that an extra or a group of the project is chosen: extra-7-project-cpu, the name's length first
_CONFLICT = re.compile(r"extra (?P<sign>==|!=) '(?P<kind>extra|group)-(?P<size>\d+)-(?P<rest>[^']+)'")


def read_lock(document: Document, target: Target, extras: Sequence[str] = (), groups: Sequence[str] = ()) -> Listing:
    """The packages that the project needs on ``target``; the project itself is not among them."""
    root = document.toml()
    if root.number("version") != 1:
        raise document.refused(f"has version {root.number('version')}, and 1 is the one that is read", "")
    require_python(document, root, target)
    project = _Project(document, root, target)
    packages = [project.entry(node) for node in project.needed(extras, groups)]
    return Listing(python="", platform=target.platform, packages=distinct(document, packages))


class _Project:
    """The packages of a uv.lock and what needs what."""

    def __init__(self, document: Document, root: Table, target: Target) -> None:
        self._document, self._target, self._root = document, target, root
        self._chosen: set[tuple[str, str, str]] = set()  # kind, project, extra or group
        self._markers: dict[str, Any] = {**target.markers(), "extra": ""}
        self._packages: dict[_Node, Table] = {}
        self._versions: dict[str, list[_Node]] = {}
        for table in root.tables("package"):
            node = canonicalize_name(table.text("name")), table.maybe("version")
            self._packages[node] = table
            self._versions.setdefault(node[0], []).append(node)
        self._roots = [node for node, table in self._packages.items() if _is_root(table)]
        if not self._packages:
            raise document.refused("lists no package")

    def needed(self, extras: Sequence[str], groups: Sequence[str]) -> list[_Node]:
        """Every package that the project needs here, each once."""
        if len(self._roots) != 1:
            found = ", ".join(node[0] for node in self._roots) or "none"
            raise self._document.refused(
                f"locks {len(self._roots)} projects ({found})",
                "Export the one you mean: uv export --format pylock.toml.",
            )
        root = self._roots[0]
        self._choose(root[0], extras, groups)
        waiting: deque[tuple[_Node, str]] = deque([(root, "")])
        table = self._packages[root]
        for extra in extras:
            self._require(table.table("optional-dependencies"), extra, "extra")
            waiting.append((root, canonicalize_name(extra)))
        for group in groups:
            self._require(table.table("dev-dependencies"), group, "group")
            waiting += self._from(table.table("dev-dependencies").tables(_spelled(table, "dev-dependencies", group)))
        seen: dict[tuple[_Node, str], None] = {}
        while waiting:
            state = waiting.popleft()
            if state not in seen:
                seen[state] = None
                node, extra = state
                waiting += self._from(self._needs(self._packages[node], extra))
        return [node for node in dict.fromkeys(node for node, _ in seen) if node != root]

    def entry(self, node: _Node) -> Listed:
        """The file of a package that runs on the target, or its source."""
        table = self._packages[node]
        name, version = node
        source = table.table("source")
        if "git" in source:
            address, _, commit = source.text("git").partition("#")
            base, _, query = address.partition("?")
            inner = next((part.partition("=")[2] for part in query.split("&") if part.startswith("subdirectory=")), "")
            return direct_entry(table, name, version, git_reference(base, commit, inner))
        for key in ("directory", "editable", "virtual"):
            if key in source:
                return direct_entry(table, name, version, absolute(self._document, source.text(key)))
        wheel = best_wheel([(_file(one), one) for one in table.tables("wheels")], self._target)
        chosen = wheel if wheel is not None else table.table("sdist") if "sdist" in table else None
        if chosen is None:
            raise self._document.error(
                f"{self._document.name} has no file of {name} {version} that runs on {self._target.platform} with Python "
                f"{self._target.version}; lock it with '{self._document.tool}' for that."
            )
        digest = chosen.digest("hash")
        if digest is None:
            raise chosen.refused("has no hash", "Lock it again; an index without hashes cannot be held to anything.")
        address = chosen.maybe("url") or source.maybe("url") or absolute(self._document, _path(chosen, source))
        size = chosen.number("size")
        return file_entry(
            chosen, name, version, address, file=_file(chosen) or file_name(address), digest=digest, size=size
        )

    def _needs(self, table: Table, extra: str) -> list[Table]:
        if not extra:
            return table.tables("dependencies")
        return table.table("optional-dependencies").tables(_spelled(table, "optional-dependencies", extra))

    def _from(self, needs: Sequence[Table]) -> list[tuple[_Node, str]]:
        found = []
        for need in needs:
            if not self._holds(need):
                continue
            node = self._node(need)
            found += [(node, ""), *((node, canonicalize_name(extra)) for extra in need.texts("extra"))]
        return found

    def _node(self, need: Table) -> _Node:
        name, version = canonicalize_name(need.text("name")), need.maybe("version")
        known = self._versions.get(name, [])
        fitting = [node for node in known if not version or node[1] == version]
        if len(fitting) > 1:  # forks: each says for which machines it is
            fitting = [node for node in fitting if self._is_for_target(self._packages[node])]
        if len(fitting) != 1:
            raise need.refused(f"asks for {name} {version}".rstrip() + f", of which it lists {len(fitting)}")
        return fitting[0]

    def _is_for_target(self, table: Table) -> bool:
        marks = table.texts("resolution-markers")
        return not marks or any(self._true(table, mark) for mark in marks)

    def _holds(self, need: Table) -> bool:
        return not need.maybe("marker") or self._true(need, need.maybe("marker"))

    def _true(self, table: Table, text: str) -> bool:
        try:
            return Marker(_CONFLICT.sub(self._settled, text)).evaluate(self._markers)
        except (InvalidMarker, ValueError, KeyError) as err:
            raise table.refused(f"has the marker {text[:80]!r}, which is none") from err

    def _settled(self, match: re.Match[str]) -> str:
        """A marker that is true where the project's extra or group was asked for, which uv writes into markers of packages."""
        kind, size, rest = match["kind"], int(match["size"]), match["rest"]
        chosen = (kind, rest[:size], rest[size + 1 :]) in self._chosen
        return f"python_version {'>' if chosen == (match['sign'] == '==') else '<'} '0'"

    def _choose(self, root: str, extras: Sequence[str], groups: Sequence[str]) -> None:
        """Take note of the extras and groups that were asked for. Refuses two that the file says exclude each other."""
        named = (*(("extra", one) for one in extras), *(("group", one) for one in groups))
        self._chosen = {(kind, root, canonicalize_name(name)) for kind, name in named}
        for index, one in enumerate(self._root.items("conflicts")):
            members = Table(self._document, "", {"conflicts": one}).tables("conflicts")
            both = [
                item.maybe(kind)
                for item in members
                for kind in ("extra", "group")
                if (kind, canonicalize_name(item.maybe("package")), canonicalize_name(item.maybe(kind))) in self._chosen
            ]
            if len(both) > 1:
                raise self._document.refused(
                    f"says in conflicts[{index}] that {' and '.join(both)} exclude each other", "Ask for one of them."
                )

    def _require(self, table: Table, name: str, what: str) -> None:
        if canonicalize_name(name) not in map(canonicalize_name, table.values):
            known = ", ".join(sorted(table.values)) or "none"
            raise self._document.refused(f"has no {what} {name!r}", f"It has {known}.")


def _spelled(table: Table, kind: str, name: str) -> str:
    """The key of an extra or group, as the file spells it."""
    return next((key for key in table.table(kind).values if canonicalize_name(key) == canonicalize_name(name)), name)


def _is_root(table: Table) -> bool:
    source = table.table("source")
    return any(source.maybe(key) == "." for key in ("editable", "virtual"))


def _file(one: Table) -> str:
    return one.maybe("filename") or file_name(one.maybe("url") or one.maybe("path"))


def _path(chosen: Table, source: Table) -> str:
    inner = chosen.maybe("path")
    folder = source.maybe("registry")
    return f"{folder}/{inner}" if folder and inner else inner or source.maybe("path")
