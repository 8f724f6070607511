"""From decorators and files to a request: what a step and its flow ask for, merged and checked.

As in Metaflow a step's own words win over its flow's, package by package, and a version without an operator is exact.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from stillrun_envs.errors import RequestError
from stillrun_envs.formats.listing import Asked, Listing
from stillrun_envs.location import without_credentials_in
from stillrun_envs.platforms import Target
from stillrun_envs.request import DEFAULT_CHANNELS, EnvRequest
from stillrun_snapshot.deferred import dataclass

__all__ = ["asked_of_file", "platforms_in", "platforms_of", "request_from"]

_KINDS: tuple[Kind, ...] = ("pypi", "conda")
_OPERATORS = ("<", ">", "=", "!", "~", "@", ";", "[")
_CONDA_NAME = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.\-]*$")
_FOLDER = re.compile(r"^(?:@|-e)\s*(?!\w+://|git\+)(\S.*)$")  # "@ ./libs/mine" or "-e ../mine": a folder, by path

Kind = Literal["pypi", "conda"]
Decorators = Sequence[Mapping[str, Any]]
TargetOf = Callable[["str | None"], Target]  # Python version, or None for the caller's -> what is locked for


def request_from(
    decorators: Decorators,
    folder: Path,
    target_of: TargetOf,
    *,
    channels: Sequence[str] = DEFAULT_CHANNELS,
    platform: str | None = None,
) -> EnvRequest | None:
    """The request of one step, from its own and its flow's decorators; None: the caller's environment.

    decorators: as the flow description lists them; those with other names are passed over. folder: where paths begin.
    channels: used when no decorator names any. platform: another machine than this one.
    """
    asked = {kind: _Asked.of(decorators, kind, folder) for kind in _KINDS}
    pypi, conda = asked["pypi"], asked["conda"]
    present = [one for one in (pypi, conda) if one is not None]
    if not present:
        return None
    python = _one_python(pypi, conda)
    for one in present:
        one.read_files(target_of(python))
    python = python or next((one.file_python for one in present if one.file_python), None)
    return _request(pypi, conda, python, channels, platform)


def asked_of_file(path: Path, target: Target, *, extras: Sequence[str] = (), groups: Sequence[str] = ()) -> EnvRequest:
    """The request that a file of another tool makes: requirements.txt, environment.yml, pyproject.toml, a lock…"""
    from stillrun_envs import formats

    if formats.is_lock(path):
        return _listed(formats.read_lock_file(path, target, extras=extras, groups=groups))
    asked = formats.read_request_file(path, target, extras=extras, groups=groups)
    return EnvRequest(
        python=asked.python,
        pypi=asked.pypi,
        conda=None if asked.conda is None else tuple(sorted(asked.conda)),
        channels=asked.channels or (DEFAULT_CHANNELS if asked.conda is not None else ()),
        index_url=asked.index_url,
        extra_indices=asked.extra_indices,
        find_links=asked.find_links,
        constraints=asked.constraints,
        overrides=asked.overrides,
        **_file_settings(asked),
    )


def platforms_in(path: Path, target: Target) -> tuple[str, ...]:
    """The platforms that a file of wishes says it is for, as environment.yml and pixi.toml do; none when it says nothing."""
    from stillrun_envs import formats

    return () if formats.is_lock(path) else formats.read_request_file(path, target).platforms


def platforms_of(decorators: Decorators) -> tuple[str, ...]:
    """The platforms that decorators name to lock for besides this machine."""
    found = [name for one in decorators for name in (one.get("attributes") or {}).get("platforms", ())]
    return tuple(sorted(set(found)))


@dataclass
class _Asked:
    """The merged words of one kind of decorator."""

    kind: Kind
    folder: Path
    values: dict[str, Any] = field(default_factory=dict)
    sources: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)  # (decorator, its words), flow's first
    packages: dict[str, tuple[str, ...]] = field(default_factory=dict)  # normalised name -> requirements or specs
    lists: dict[str, tuple[str, ...]] = field(default_factory=dict)  # what files add
    listing: Listing | None = None
    file_python: str | None = None

    @classmethod
    def of(cls, decorators: Decorators, kind: Kind, folder: Path) -> _Asked | None:
        asked = cls(kind, folder)
        for name in (f"{kind}_base", kind):  # the step's own decorator comes second and wins
            for decorator in decorators:
                if decorator.get("name") != name:
                    continue
                words = decorator.get("attributes") or {}
                if not isinstance(words, Mapping):
                    raise RequestError(f"{_spoken(decorator)} has attributes that are not named; write name=value.")
                asked.values.update({key: value for key, value in words.items() if value is not None})
                asked.sources.append((_spoken(decorator), words))
        return asked if asked.sources and not asked.values.get("disabled") else None

    def read_files(self, target: Target) -> None:
        """Take in, in order, what each decorator's file and packages ask for."""
        for decorator, words in self.sources:
            if words.get("lock"):
                self.packages.clear()
                self.listing = self._read_lock(str(words["lock"]), words, decorator, target)
            if words.get("file"):
                self._take_file(str(words["file"]), words, decorator, target)
            self._take_packages(words, decorator)
        if self.listing is not None and self.packages:
            raise RequestError(
                f"@{self.kind} names a lock and the package {next(iter(self.packages))}; a lock says exactly which packages "
                "there are. Add the package to the lock with the tool that wrote it, or leave the lock out."
            )

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of words: the decorators', else what files say."""
        given = self.values.get(name) or ()
        if isinstance(given, str):
            given = [part for part in re.split(r"[,\s]+", given) if part]
        if not isinstance(given, Sequence) or not all(isinstance(item, str) for item in given):
            raise RequestError(f"{name}={given!r} is not a list of strings; write {name}=['…'].")
        return tuple(given) or self.lists.get(name, ())

    def text(self, name: str) -> str | None:
        """One word, or None; the decorators', else what files say."""
        value = self.values.get(name)
        found = self.lists.get(name, ())
        return str(value) if value not in (None, "") else (found[0] if found else None)

    def _take_packages(self, words: Mapping[str, Any], decorator: str) -> None:
        for attribute in ("libraries", "packages") if self.kind == "conda" else ("packages",):
            given = words.get(attribute) or {}
            if not isinstance(given, Mapping):
                raise RequestError(
                    f"{decorator}: {attribute} is {type(given).__name__}, not a dict; "
                    f"write {attribute}={{'name': 'version'}}."
                )
            for name, spec in given.items():
                if not isinstance(name, str) or not isinstance(spec, str):
                    raise RequestError(
                        f"{decorator}: {attribute}[{name!r}] is {spec!r}; a name and its version are strings, "
                        "such as {'pandas': '2.2.3'}."
                    )
                text = (
                    _requirement(name, spec.strip(), decorator, self.folder)
                    if self.kind == "pypi"
                    else _conda_spec(name, spec.strip(), decorator)
                )
                self.packages[_key(text, self.kind)] = (text,)

    def _take_file(self, name: str, words: Mapping[str, Any], decorator: str, target: Target) -> None:
        from stillrun_envs import formats

        path = self._path(name, decorator)
        if formats.is_lock(path):
            raise RequestError(f"{decorator}: {name} is a lock; write lock={name!r}.")
        asked = formats.read_request_file(path, target, **_selection(words))
        mine, other = (asked.pypi, asked.conda) if self.kind == "pypi" else (asked.conda, asked.pypi)
        if mine is None and other is not None:
            raise RequestError(
                f"{decorator}: {name} asks for {'conda' if self.kind == 'pypi' else 'PyPI'} packages only; "
                f"use @{'conda' if self.kind == 'pypi' else 'pypi'} for it."
            )
        found: dict[str, tuple[str, ...]] = {}
        for text in mine or ():
            key = _key(text, self.kind)
            found[key] = (*found.get(key, ()), text)
        self.packages.update(found)
        if self.kind == "conda" and other is not None:
            self.lists["pip"] = other  # the pip section of an environment.yml
        self.file_python = asked.python or self.file_python
        for attribute in ("channels", "extra_indices", "find_links", "constraints", "overrides"):
            if getattr(asked, attribute):
                self.lists[attribute] = getattr(asked, attribute)
        if asked.index_url:
            self.lists["index_url"] = (asked.index_url,)
        self.lists.update({key: tuple(str(value).split()) for key, value in asked.settings.items()})

    def _read_lock(self, name: str, words: Mapping[str, Any], decorator: str, target: Target) -> Listing:
        from stillrun_envs import formats

        return formats.read_lock_file(self._path(name, decorator), target, **_selection(words))

    def _path(self, name: str, decorator: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise RequestError(f"{decorator}: there is no file {path}; paths begin at the folder of the flow file.")
        return path


def _request(
    pypi: _Asked | None, conda: _Asked | None, python: str | None, channels: Sequence[str], platform: str | None
) -> EnvRequest:
    """The request of what was merged."""
    listings = [one.listing for one in (conda, pypi) if one is not None and one.listing is not None]
    if listings:
        if any(one is not None and one.listing is None and one.packages for one in (pypi, conda)):
            raise RequestError("a step has a lock in one decorator and packages in the other; lock both, or none.")
        packages = tuple(package for listing in listings for package in listing.packages)
        whole = Listing(listings[0].python, listings[0].platform, packages, listings[0].requested)
        scripts = () if conda is None else conda.texts("link_scripts")
        return EnvRequest(python=python, channels=(), listing=whole, link_scripts=scripts, platform=platform)
    first, either = pypi or conda, [one for one in (pypi, conda) if one is not None]
    assert first is not None, "one of them asked"
    wanted = None if pypi is None else {**pypi.packages}
    if conda is not None and conda.lists.get("pip") is not None:
        wanted = {**{_key(text, "pypi"): (text,) for text in conda.lists["pip"]}, **(wanted or {})}
    return EnvRequest(
        python=python,
        pypi=None if wanted is None else tuple(sorted(text for texts in wanted.values() for text in texts)),
        conda=None if conda is None else tuple(sorted(text for texts in conda.packages.values() for text in texts)),
        channels=() if conda is None else conda.texts("channels") or tuple(channels),
        index_url=_first(either, "index_url"),
        extra_indices=_every(either, "extra_indices"),
        find_links=_every(either, "find_links"),
        constraints=_every(either, "constraints"),
        overrides=_every(either, "overrides"),
        prereleases=_first(either, "prereleases") or "if-necessary-or-explicit",  # type: ignore[arg-type] # checked there
        exclude_newer=_first(either, "exclude_newer"),
        resolver=_first(either, "resolver") or "uv",  # type: ignore[arg-type] # checked there
        link_scripts=_every(either, "link_scripts"),
        virtual_packages=_virtual_packages(conda),
        platform=platform,
    )


def _listed(listing: Listing) -> EnvRequest:
    return EnvRequest(python=listing.python or None, channels=listing.channels, listing=listing)


def _first(asked: Sequence[_Asked], name: str) -> str | None:
    return next((text for one in asked if (text := one.text(name)) is not None), None)


def _every(asked: Sequence[_Asked], name: str) -> tuple[str, ...]:
    return tuple(text for one in asked for text in one.texts(name))


def _virtual_packages(conda: _Asked | None) -> tuple[str, ...]:
    given = {} if conda is None else conda.values.get("virtual_packages") or {}
    told = tuple(f"{name}={version}" for name, version in given.items())
    return told or (() if conda is None else conda.lists.get("virtual_packages", ()))


def _file_settings(asked: Asked) -> dict[str, Any]:
    found: dict[str, Any] = {
        key: asked.settings[key] for key in ("prereleases", "exclude_newer") if key in asked.settings
    }
    if "virtual_packages" in asked.settings:
        found["virtual_packages"] = tuple(asked.settings["virtual_packages"].split())
    return found


def _selection(words: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    return {"extras": words.get("extras") or (), "groups": words.get("groups") or ()}


def _key(text: str, kind: Kind) -> str:
    """The name that a requirement or match spec is about."""
    if kind == "pypi":
        try:
            return canonicalize_name(Requirement(text).name)
        except InvalidRequirement as err:
            raise RequestError(
                f"{text!r} is not a requirement ({str(err).splitlines()[0]}); write 'name==1.2'."
            ) from err
    return re.split(r"[\s<>=!~\[]", text.rpartition("::")[2], maxsplit=1)[0].lower()


def _requirement(name: str, spec: str, decorator: str, folder: Path) -> str:
    local = _FOLDER.match(spec)
    if local:
        path = (folder / local[1]).resolve()
        if not path.exists():
            raise RequestError(f"{decorator}: package {name!r} is asked for at {path}, which is not there.")
        spec = f"@ {path.as_uri()}"
    if spec in ("", "*"):
        text = name
    elif spec.startswith(_OPERATORS):
        text = f"{name} {spec}" if spec.startswith("@") else f"{name}{spec}"
    else:
        text = f"{name}=={spec}"
    try:
        requirement = Requirement(text)
    except InvalidRequirement as err:
        raise RequestError(
            f"{decorator}: package {name!r} with version {without_credentials_in(spec)!r} is not a requirement "
            f"({str(err).splitlines()[0]}); write {name!r}: '1.2.3', '>=1.2' or '' for any version."
        ) from err
    requirement.name = canonicalize_name(requirement.name)
    return str(requirement)


def _conda_spec(name: str, spec: str, decorator: str) -> str:
    channel, _, bare = name.rpartition("::")
    if not _CONDA_NAME.match(bare):
        raise RequestError(
            f"{decorator}: {name!r} is not a conda package name; write 'name' or 'channel::name', without a version."
        )
    whole = (f"{channel}::" if channel else "") + bare.lower()
    if spec in ("", "*"):
        return whole
    if any(sign in spec for sign in "<>=!~*|,"):
        return f"{whole} {spec}"
    try:
        Version(spec)
    except InvalidVersion:
        if not re.match(r"^[A-Za-z0-9_.+!]+$", spec):
            raise RequestError(
                f"{decorator}: package {bare!r} has version {spec!r}; write '1.2.3', '>=1.2,<2' or '' for any version."
            ) from None
    return f"{whole} =={spec}"


def _one_python(pypi: _Asked | None, conda: _Asked | None) -> str | None:
    versions = {
        kind: version
        for kind, asked in (("@pypi", pypi), ("@conda", conda))
        if asked is not None and (version := asked.text("python"))
    }
    if len(set(versions.values())) > 1:
        said = " and ".join(f"{kind} asks for Python {version}" for kind, version in sorted(versions.items()))
        raise RequestError(f"{said}; a step has one Python: give the same version to both.")
    return next(iter(versions.values()), None)


def _spoken(decorator: Mapping[str, object]) -> str:
    line = decorator.get("line")
    return f"@{decorator.get('name')}" + (f" on line {line}" if line else "")
