"""pyproject.toml: what a project needs, its extras and groups, and what uv is told of where to take it from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from stillrun_envs.formats.document import Document, Table
from stillrun_envs.formats.entries import absolute, git_reference
from stillrun_envs.formats.listing import Asked
from stillrun_envs.platforms import Target

__all__ = ["read_request"]


def read_request(document: Document, target: Target, extras: Sequence[str] = (), groups: Sequence[str] = ()) -> Asked:
    """What the project needs: its dependencies, those of the named extras, and those of the named dependency groups."""
    root = document.toml()
    project, uv = root.table("project"), root.table("tool").table("uv")
    if "project" not in root and "dependency-groups" not in root:
        other = next((name for name in ("poetry", "conda-lock", "pdm") if name in root.table("tool")), None)
        said = f"asks for its packages in [tool.{other}]" if other else "has no [project]"
        raise document.refused(said, "Write them in [project] dependencies (PEP 621).")
    _require_python(document, project, target)
    _require_static(document, project, extras)
    texts = [*_dependencies(document, project, extras), *_grouped(document, root, groups)]
    sources = _Sources(document, uv, target)
    general = [one for one in uv.tables("index") if not one.flag("explicit")]
    default = [one.text("url") for one in general if one.flag("default")]
    others = [one.text("url") for one in general if not one.flag("default")]
    return Asked(
        pypi=tuple(sources.applied(text) for text in dict.fromkeys(texts)),
        index_url=uv.maybe("index-url") or (default[0] if default else None),
        extra_indices=(*others, *uv.texts("extra-index-url")),
        constraints=tuple(map(str, _requirements(uv, uv.texts("constraint-dependencies")))),
        overrides=tuple(map(str, _requirements(uv, uv.texts("override-dependencies")))),
        settings=_settings(uv),
    )


def _settings(uv: Table) -> Mapping[str, str]:
    found = {}
    if uv.maybe("prerelease") in ("allow", "disallow"):
        found["prereleases"] = uv.maybe("prerelease")
    if "exclude-newer" in uv:
        found["exclude_newer"] = str(uv.values["exclude-newer"])
    return found


def _require_python(document: Document, project: Table, target: Target) -> None:
    wanted = project.maybe("requires-python")
    try:
        fits = SpecifierSet(wanted).contains(
            target.version if target.version.count(".") > 1 else f"{target.version}.99"
        )
    except InvalidSpecifier as err:
        raise project.wrong("requires-python", "a version specifier") from err
    if not fits:
        raise document.refused(
            f"is for Python {wanted}, and the step runs on {target.version}", "Ask for another with python=…"
        )


def _require_static(document: Document, project: Table, extras: Sequence[str]) -> None:
    """Refuse a project whose dependencies only its build backend knows."""
    for name in ("dependencies", *(["optional-dependencies"] if extras else [])):
        if name in project.texts("dynamic"):
            raise document.refused(
                f"leaves its {name} to its build backend ('dynamic')",
                "Lock it with 'uv lock' or 'uv pip compile pyproject.toml -o pylock.toml', and name that file.",
            )


def _dependencies(document: Document, project: Table, extras: Sequence[str]) -> Iterator[str]:
    own = canonicalize_name(project.maybe("name") or "-")
    offered = {canonicalize_name(name): name for name in project.table("optional-dependencies").values}
    waiting, seen = [canonicalize_name(extra) for extra in extras], set[str]()
    lists = [project.texts("dependencies")]
    while lists or waiting:
        for requirement in _requirements(project, lists.pop() if lists else ()):
            if canonicalize_name(requirement.name) == own:  # an extra made of other extras
                waiting += [canonicalize_name(extra) for extra in requirement.extras]
            else:
                yield str(requirement)
        if waiting and (extra := waiting.pop()) not in seen:
            seen.add(extra)
            if extra not in offered:
                known = ", ".join(sorted(offered.values())) or "none"
                raise document.refused(f"has no extra {extra!r}", f"It has {known}.")
            lists.append(project.table("optional-dependencies").texts(offered[extra]))


def _grouped(document: Document, root: Table, groups: Sequence[str]) -> Iterator[str]:
    table = root.table("dependency-groups")
    offered = {canonicalize_name(name): name for name in table.values}
    waiting, seen = [canonicalize_name(group) for group in groups], set[str]()
    while waiting:
        group = waiting.pop()
        if group in seen:
            continue
        seen.add(group)
        if group not in offered:
            known = ", ".join(sorted(offered.values())) or "none"
            raise document.refused(f"has no dependency group {group!r}", f"It has {known}.")
        for item in table.items(offered[group]):
            if isinstance(item, dict) and isinstance(item.get("include-group"), str):
                waiting.append(canonicalize_name(item["include-group"]))
            elif isinstance(item, str):
                yield from map(str, _requirements(table, (item,)))
            else:
                raise table.wrong(offered[group], "a list of requirements")


def _requirements(table: Table, texts: Sequence[str]) -> Iterator[Requirement]:
    for text in texts:
        try:
            yield Requirement(text)
        except InvalidRequirement as err:
            raise table.refused(f"holds {text[:80]!r}, which is no requirement ({str(err).splitlines()[0]})") from err


class _Sources:
    """[tool.uv.sources]: where packages are taken from instead of the index."""

    def __init__(self, document: Document, uv: Table, target: Target) -> None:
        self._document, self._target = document, target
        self._table = uv.table("sources")
        self._names = {canonicalize_name(name): name for name in self._table.values}
        indexes = uv.tables("index")
        self._indexes = {one.maybe("name"): one for one in indexes}
        general = [one for one in indexes if not one.flag("explicit")]
        self._first = next((one for one in general if not one.flag("default")), next(iter(general), None))

    def applied(self, text: str) -> str:
        """The requirement, with the address that its source names."""
        requirement = Requirement(text)
        name = self._names.get(canonicalize_name(requirement.name))
        if name is None or requirement.url is not None:
            return text
        given = self._table.values[name]
        options = self._table.tables(name) if isinstance(given, list) else [self._table.table(name)]
        for one in options:
            if self._counts(one):
                address = self._address(name, one)
                if address is None:
                    return text
                extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
                marker = f" ; {requirement.marker}" if requirement.marker else ""
                return f"{requirement.name}{extras} @ {address}{marker}"
        return text

    def _counts(self, one: Table) -> bool:
        marker = one.maybe("marker")
        try:
            return not marker or Marker(marker).evaluate(dict(self._target.markers()))
        except InvalidMarker as err:
            raise one.wrong("marker", "a marker") from err

    def _address(self, name: str, one: Table) -> str | None:
        if "git" in one:
            revision = next((one.maybe(key) for key in ("rev", "tag", "branch") if key in one), "")
            return git_reference(one.text("git"), revision, one.maybe("subdirectory"))
        if "path" in one:
            return absolute(self._document, one.text("path"))
        if "url" in one:
            inner = one.maybe("subdirectory")
            return one.text("url") + (f"#subdirectory={inner}" if inner else "")
        if "index" in one:
            index = self._indexes.get(one.text("index"))
            if index is None or index is not self._first:  # others would be asked for the package before it
                raise one.refused(
                    f"takes {name} from the index {one.text('index')!r} alone, and here one list of indexes serves all packages",
                    "Lock the project with 'uv lock' and write lock='uv.lock', or name the wheel with url=….",
                )
            return None  # it is asked first
        kind: Any = next(iter(one.values), "nothing")
        raise one.refused(f"takes {name} from {kind!r}, which is not read here", "Name its folder with path=…")
