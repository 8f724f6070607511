"""Environment requests: what the decorators of a step ask for, merged and checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from stillrun_envs.errors import RequestError
from stillrun_envs.location import without_credentials
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.record import canonical_bytes

__all__ = ["EnvRequest"]

DEFAULT_CHANNELS = ("conda-forge",)
_OPERATORS = ("<", ">", "=", "!", "~", "@", ";", "[")
_CONDA_NAME = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.\-]*$")
_PYTHON = re.compile(r"^\d+\.\d+(\.\d+)?$")
_KINDS = ("pypi", "conda")


@dataclass(frozen=True)
class EnvRequest:
    """What a step asks of its environment; two steps that ask the same share one lock."""

    python: str | None = None  # "3.11" or "3.11.7"; None: as the base Python
    pypi: tuple[str, ...] | None = None  # PEP 508 requirements, sorted; None: PyPI was not asked for
    conda: tuple[str, ...] | None = None  # match specs, sorted; None: conda was not asked for
    channels: tuple[str, ...] = DEFAULT_CHANNELS  # in order of priority
    index_url: str | None = None
    extra_indices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.python is not None and not _PYTHON.match(self.python):
            raise RequestError(
                f"python={self.python!r} is not a Python version; write the family, such as '3.11', "
                "or one release, such as '3.11.7'."
            )

    @classmethod
    def from_decorators(
        cls, decorators: Sequence[Mapping[str, object]], *, channels: Sequence[str] = DEFAULT_CHANNELS
    ) -> EnvRequest | None:
        """The request of one step, from its own and its flow's decorators; None: the caller's environment.

        decorators: as the flow description lists them; those with other names are passed over.
        channels: used when no decorator names any.
        """
        asked = {kind: _merged(decorators, kind) for kind in _KINDS}
        pypi, conda = asked["pypi"], asked["conda"]
        if pypi is None and conda is None:
            return None
        return cls(
            python=_one_python(pypi, conda),
            pypi=None if pypi is None else _pypi_requirements(pypi),
            conda=None if conda is None else _conda_specs(conda),
            channels=() if conda is None else _texts(conda, "channels") or tuple(channels),
            index_url=None if pypi is None else _text(pypi.values.get("index_url")),
            extra_indices=() if pypi is None else _texts(pypi, "extra_indices"),
        )

    @property
    def request_id(self) -> Digest:
        """The digest of what is asked; credentials in index addresses do not count."""
        return digest_of(canonical_bytes(self.to_record()))

    def to_record(self) -> dict[str, object]:
        """The request as a record, free of credentials."""
        return {
            "schema": "stillrun/request/1",
            "python": self.python,
            "pypi": None if self.pypi is None else list(self.pypi),
            "conda": None if self.conda is None else list(self.conda),
            "channels": [without_credentials(channel) for channel in self.channels],
            "index_url": None if self.index_url is None else without_credentials(self.index_url),
            "extra_indices": [without_credentials(url) for url in self.extra_indices],
        }


@dataclass(frozen=True)
class _Asked:
    """The merged attributes of one kind of decorator, and who to name when they are wrong."""

    values: Mapping[str, object]
    packages: Mapping[str, tuple[str, str]]  # name as written -> (specification, decorator)


def _merged(decorators: Sequence[Mapping[str, object]], kind: str) -> _Asked | None:
    values: dict[str, object] = {}
    packages: dict[str, tuple[str, str]] = {}
    found = False
    for name in (f"{kind}_base", kind):  # the step's own decorator comes second and wins
        for decorator in decorators:
            if decorator.get("name") != name:
                continue
            found = True
            attributes = decorator.get("attributes") or {}
            if not isinstance(attributes, Mapping):
                raise RequestError(f"{_spoken(decorator)} has attributes that are not named; write name=value.")
            values.update({key: value for key, value in attributes.items() if value is not None})
            packages.update(_packages(attributes, kind, _spoken(decorator), known=packages))
    return _Asked(values, packages) if found and not values.get("disabled") else None


def _packages(
    attributes: Mapping[str, object], kind: str, decorator: str, *, known: Iterable[str]
) -> dict[str, tuple[str, str]]:
    spelled = {_same_name(name, kind): name for name in known}
    chosen: dict[str, tuple[str, str]] = {}
    for attribute in ("libraries", "packages") if kind == "conda" else ("packages",):
        given = attributes.get(attribute) or {}
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
            chosen[spelled.get(_same_name(name, kind), name)] = (spec.strip(), decorator)
    return chosen


def _same_name(name: str, kind: str) -> str:
    return canonicalize_name(name) if kind == "pypi" else name.rpartition("::")[2].lower()


def _pypi_requirements(asked: _Asked) -> tuple[str, ...]:
    found = [_requirement(name, spec, decorator) for name, (spec, decorator) in asked.packages.items()]
    return tuple(sorted(str(requirement) for requirement in found))


def _requirement(name: str, spec: str, decorator: str) -> Requirement:
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
            f"{decorator}: package {name!r} with version {spec!r} is not a requirement "
            f"({str(err).splitlines()[0]}); write {name!r}: '1.2.3', '>=1.2' or '' for any version."
        ) from err
    if requirement.url is not None and not requirement.url.split("#")[0].endswith(".whl"):
        raise RequestError(
            f"{decorator}: package {name!r} is asked for as {without_credentials(requirement.url)}, which is "
            "source; only built wheels can be kept. Build it once ('pip wheel') and give the address of the .whl file."
        )
    requirement.name = canonicalize_name(requirement.name)
    return requirement


def _conda_specs(asked: _Asked) -> tuple[str, ...]:
    return tuple(sorted(_conda_spec(name, spec, decorator) for name, (spec, decorator) in asked.packages.items()))


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
        kind: _text(asked.values.get("python"))
        for kind, asked in (("@pypi", pypi), ("@conda", conda))
        if asked is not None and asked.values.get("python")
    }
    if len(set(versions.values())) > 1:
        said = " and ".join(f"{kind} asks for Python {version}" for kind, version in sorted(versions.items()))
        raise RequestError(f"{said}; a step has one Python: give the same version to both.")
    return next(iter(versions.values()), None)


def _texts(asked: _Asked, attribute: str) -> tuple[str, ...]:
    given = asked.values.get(attribute) or ()
    if isinstance(given, str):
        given = [part for part in re.split(r"[,\s]+", given) if part]
    if not isinstance(given, Sequence) or not all(isinstance(item, str) for item in given):
        raise RequestError(f"{attribute}={given!r} is not a list of strings; write {attribute}=['…'].")
    return tuple(str(item) for item in given)


def _text(value: object) -> str | None:
    return None if value is None or value == "" else str(value)


def _spoken(decorator: Mapping[str, object]) -> str:
    line = decorator.get("line")
    return f"@{decorator.get('name')}" + (f" on line {line}" if line else "")
