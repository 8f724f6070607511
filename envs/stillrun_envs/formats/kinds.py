"""Kinds of files: which tool wrote one, told by its name and else by what is in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillrun_envs.errors import EnvError, LockError, RequestError
from stillrun_envs.formats.document import Document
from stillrun_snapshot.deferred import dataclass

if TYPE_CHECKING:
    from stillrun_envs.formats.listing import Asked, Listing
    from stillrun_envs.platforms import Target

__all__ = ["Kind", "kind_of", "write"]


@dataclass(frozen=True)
class Kind:
    """One kind of file."""

    module: str  # of this package; imported when such a file is read
    lock: bool  # whether it lists files, not wishes
    tool: str  # what writes it

    def read_lock(self, path: Path, target: Target, extras: Sequence[str], groups: Sequence[str]) -> Listing:
        """The packages that such a lock lists."""
        document = Document(path, LockError, self.tool)
        try:
            listing: Listing = self._module().read_lock(document, target, extras, groups)
        except ValueError as err:  # urllib's, of an address such as https://[host
            raise document.refused(f"holds an address that is none ({err})") from err
        return listing

    def read_request(self, path: Path, target: Target, extras: Sequence[str], groups: Sequence[str]) -> Asked:
        """What such a request asks for."""
        document = Document(path, RequestError)
        try:
            asked: Asked = self._module().read_request(document, target, extras, groups)
        except ValueError as err:  # as above
            raise document.refused(f"holds an address that is none ({err})") from err
        return asked

    def _module(self) -> Any:
        return import_module(f"stillrun_envs.formats.{self.module}")


_CONDA_LOCK = Kind("conda_lock", True, "conda-lock lock")
_PYLOCK = Kind("pylock", True, "uv export --format pylock.toml")
_UV = Kind("uv_lock", True, "uv lock")
_PIXI = Kind("pixi", True, "pixi lock")
_EXPLICIT = Kind("explicit", True, "conda list --explicit --md5")
_PINS = Kind("requirements", True, "uv pip compile --generate-hashes")
_REQUIREMENTS = Kind("requirements", False, "")
_ENVIRONMENT = Kind("environment_yml", False, "")
_PROJECT = Kind("project", False, "")
_PIXI_PROJECT = Kind("pixi_toml", False, "")

_BY_NAME: Sequence[tuple[str, Kind]] = (
    (r"(.+[.-])?conda-lock\.ya?ml", _CONDA_LOCK),
    (r"pylock\.([^.]+\.)?toml", _PYLOCK),
    (r"uv\.lock|.+\.py\.lock", _UV),
    (r"pixi\.lock", _PIXI),
    (r"environment\.ya?ml", _ENVIRONMENT),
    (r"pixi\.toml", _PIXI_PROJECT),
)
_FOREIGN = {
    "poetry.lock": "poetry.lock is not read; write a pylock.toml with 'poetry export --format pylock.toml'.",
    "pdm.lock": "pdm.lock is not read; write a pylock.toml with 'pdm export --format pylock -o pylock.toml'.",
    "Pipfile.lock": "Pipfile.lock is not read; write hashed requirements with 'pipenv requirements --hash'.",
    "Pipfile": "Pipfile is not read; write its packages in a pyproject.toml or requirements.txt.",
    "setup.py": "setup.py is a program and is not run; write its requirements in a pyproject.toml or requirements.txt.",
    "setup.cfg": "setup.cfg is not read; write its requirements in a pyproject.toml or requirements.txt.",
}
_KNOWN = (
    "Name a conda-lock.yml, pylock.toml, uv.lock, pixi.lock, @EXPLICIT list, requirements.txt, environment.yml, "
    "pyproject.toml or pixi.toml."
)
_HASHED = re.compile(r"(?m)^[^#\n]*\s--hash[= ]")
_LISTED = re.compile(r"(?m)^\s*@EXPLICIT\s*$")


def kind_of(path: Path, error: type[EnvError]) -> Kind:
    """What kind of file it is. Raises ``error`` for one that cannot be read or is of no kind that is known."""
    if path.name in _FOREIGN:
        raise error(_FOREIGN[path.name])
    for pattern, kind in _BY_NAME:
        if re.fullmatch(pattern, path.name):
            return kind
    document = Document(path, error)
    text = document.text()
    suffix = path.suffix.lower()
    if path.name == "pyproject.toml":
        return _PIXI_PROJECT if "pixi" in document.toml(text).table("tool") else _PROJECT
    if suffix in (".yml", ".yaml"):
        return _yaml_kind(document, text)
    if suffix == ".toml":
        return _toml_kind(document, text)
    if _LISTED.search(text):
        return _EXPLICIT
    if suffix in (".txt", ".in", ".pip") or path.name.startswith("requirements"):
        return _PINS if _HASHED.search(text) else _REQUIREMENTS
    raise document.refused("is of no kind that is known", _KNOWN)


def write(form: str, listing: Listing, *, drop_wheels: bool) -> str:
    """The listing as the text of a lock file of one of ``FORMATS``."""
    module = import_module(f"stillrun_envs.formats.{form.replace('-', '_')}")
    if form == "explicit":
        text: str = module.write(listing, drop_wheels=drop_wheels)
        return text
    writer: Callable[[Listing], str] = module.write
    return writer(listing)


def _yaml_kind(document: Document, text: str) -> Kind:
    root = document.yaml(text)
    if "package" in root and "metadata" in root:
        return _CONDA_LOCK
    if "environments" in root and "packages" in root:
        return _PIXI
    if "dependencies" in root:
        return _ENVIRONMENT
    raise document.refused("is of no kind that is known", _KNOWN)


def _toml_kind(document: Document, text: str) -> Kind:
    root = document.toml(text)
    if "lock-version" in root:
        return _PYLOCK
    if "workspace" in root or ("project" in root and "channels" in root.table("project")):
        return _PIXI_PROJECT
    if "project" in root or "dependency-groups" in root:
        return _PROJECT
    raise document.refused("is of no kind that is known", _KNOWN)
