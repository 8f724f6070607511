"""pixi.toml, and [tool.pixi] of pyproject.toml: what a pixi project asks of conda and of the package index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from stillrun_envs.formats.document import Document, Table
from stillrun_envs.formats.entries import absolute, git_reference
from stillrun_envs.formats.environment_yml import plain_python
from stillrun_envs.formats.listing import Asked
from stillrun_envs.platforms import PLATFORMS, Target

__all__ = ["read_request"]

_SYSTEM = {"libc": "__glibc", "cuda": "__cuda", "linux": "__linux", "macos": "__osx", "archspec": "__archspec"}


def read_request(document: Document, target: Target, extras: Sequence[str] = (), groups: Sequence[str] = ()) -> Asked:
    """What the default environment asks for on ``target``, with the features or environments that are named."""
    root = document.toml()
    if document.name == "pyproject.toml":
        root = root.table("tool").table("pixi")
    workspace = root.table("workspace") if "workspace" in root else root.table("project")
    features = list(_features(document, root, (*extras, *groups)))
    conda: dict[str, str] = {}
    pypi: dict[str, str] = {}
    system: dict[str, str] = {}
    channels = list(_channels(workspace))
    for feature in features:
        channels = [*_channels(feature), *channels]
        for place in _tables(feature, target):
            conda.update(_specs(place.table("dependencies"), workspace.table("dependencies")))
            pypi.update(_requirements(document, place.table("pypi-dependencies")))
            system.update(_machine(place.table("system-requirements")))
    python = plain_python(conda.get("python", ""))
    if python is not None:
        del conda["python"]
    options = root.table("pypi-options")
    _refuse_others(options, ("index-url", "extra-index-urls", "find-links", "index-strategy", "no-build-isolation"))
    return Asked(
        python=python,
        pypi=tuple(pypi.values()) or None,
        conda=tuple(conda.values()),
        channels=tuple(dict.fromkeys(channels)),
        index_url=options.maybe("index-url") or None,
        extra_indices=options.texts("extra-index-urls"),
        find_links=tuple(
            absolute(document, one.maybe("path") or one.text("url")) for one in options.tables("find-links")
        ),
        platforms=tuple(one for one in workspace.texts("platforms") if one in PLATFORMS),
        settings={"virtual_packages": " ".join(f"{name}={version}" for name, version in sorted(system.items()))}
        if system
        else {},
    )


def _features(document: Document, root: Table, names: Sequence[str]) -> Iterator[Table]:
    """The default feature and those named, or those of the environments named."""
    environments, features = root.table("environments"), root.table("feature")
    wanted: list[str] = []
    with_default = True
    for name in names:
        if name in environments:
            value = environments.values[name]
            if isinstance(value, list):
                wanted += environments.texts(name)
            else:
                wanted += environments.table(name).texts("features")
                with_default = with_default and not environments.table(name).flag("no-default-feature")
        elif name in features:
            wanted.append(name)
        else:
            known = ", ".join(sorted({*environments.values, *features.values})) or "none"
            raise document.refused(f"has no environment or feature {name!r}", f"It has {known}.")
    if with_default:
        yield root
    for name in dict.fromkeys(wanted):
        if name not in features:
            raise document.refused(f"has no feature {name!r}")
        yield features.table(name)


def _channels(table: Table) -> Iterator[str]:
    for item in table.items("channels"):
        channel: Any = item.get("channel") if isinstance(item, dict) else item
        if not isinstance(channel, str):
            raise table.wrong("channels", "a list of channels")
        yield channel


def _tables(feature: Table, target: Target) -> Iterator[Table]:
    """The feature's own words, then those for the target's kind of machine, the most special last."""
    yield feature
    special = feature.table("target")
    system = PLATFORMS[target.platform][2] if target.platform in PLATFORMS else ""
    for name in ("unix", "linux" if system == "linux" else "osx", target.platform):
        if name in special:
            yield special.table(name)


def _specs(table: Table, shared: Table) -> Iterator[tuple[str, str]]:
    """Match specs by name. shared: what ``workspace = true`` refers to."""
    for name, value in table.values.items():
        if isinstance(value, dict) and table.table(name).flag("workspace"):
            if name not in shared:
                raise table.table(name).refused("takes its version from the workspace, which says none")
            yield from _specs(Table(table.document, shared.place, {name: shared.values[name]}), shared)
            continue
        if isinstance(value, str):
            version, channel, build = value, "", ""
        elif isinstance(value, dict):
            one = table.table(name)
            if any(key in one for key in ("git", "path", "url")):
                raise one.refused("is built from source by pixi, which is not done here", "Take it from a channel.")
            _refuse_others(one, ("version", "channel", "build"))
            version, channel, build = one.maybe("version") or "*", one.maybe("channel"), one.maybe("build")
        else:
            raise table.wrong(name, "a version or a table")
        whole = f"{channel}::{name}" if channel else name
        bare = "" if version in ("*", "") and not build else f" {version}"
        exact = bare if not bare or any(sign in version for sign in "<>=!~*|,") else f" =={version}"
        yield name, f"{whole}{exact}{' ' + build if build else ''}"


def _requirements(document: Document, table: Table) -> Iterator[tuple[str, str]]:
    for name, value in table.values.items():
        if isinstance(value, str):
            yield name, f"{name}{_version(table, name, value)}"
            continue
        if not isinstance(value, dict):
            raise table.wrong(name, "a version or a table")
        one = table.table(name)
        _refuse_others(
            one, ("version", "extras", "git", "rev", "tag", "branch", "subdirectory", "path", "url", "editable")
        )
        extras = f"[{','.join(one.texts('extras'))}]" if one.texts("extras") else ""
        if "git" in one:
            revision = next((one.maybe(key) for key in ("rev", "tag", "branch") if key in one), "")
            yield name, f"{name}{extras} @ {git_reference(one.text('git'), revision, one.maybe('subdirectory'))}"
        elif "path" in one or "url" in one:
            inner = f"#subdirectory={one.text('subdirectory')}" if "subdirectory" in one else ""
            yield name, f"{name}{extras} @ {absolute(document, one.maybe('path') or one.text('url'))}{inner}"
        else:
            yield name, f"{name}{extras}{_version(one, 'version', one.maybe('version') or '*')}"


def _version(table: Table, key: str, version: str) -> str:
    if version == "*":
        return ""
    try:
        return str(SpecifierSet(version))
    except InvalidSpecifier as err:
        raise table.wrong(key, f"a version with its operator, such as '=={version[:20]}',") from err


def _refuse_others(one: Table, known: Sequence[str]) -> None:
    """Refuse what would be left out in silence."""
    other = sorted(set(one.values) - set(known))
    if other:
        raise one.refused(f"says {other[0]!r}, which cannot be held to here", f"Known are {', '.join(known)}.")


def _machine(table: Table) -> Iterator[tuple[str, str]]:
    for name, value in table.values.items():
        version = value.get("version") if isinstance(value, dict) else value
        if name not in _SYSTEM or not isinstance(version, str):
            raise table.wrong(name, f"a version of {', '.join(_SYSTEM)}")
        yield _SYSTEM[name], version
