"""Parsers of configurations: YAML, and files that ask for packages, as the arguments of ``@pypi`` and ``@conda``."""

from __future__ import annotations

import re

from stillrun.errors import ParameterError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["conda_environment_yml_parser", "pyproject_toml_parser", "requirements_txt_parser", "yaml_parser"]

_REQUIREMENT = re.compile(r"^([A-Za-z0-9][\w.\-]*(?:\[[^\]]*\])?)\s*(.*)$")


def requirements_txt_parser(content: str) -> dict[str, Any]:
    """``{"packages": {name: version}, "python": None}`` of a requirements.txt; a line may say ``python >= 3.10``."""
    packages: dict[str, str] = {}
    python = None
    for line in content.splitlines():
        text = re.sub(r"(^|\s)#.*$", "", line).strip()
        if not text:
            continue
        if text.startswith("-"):
            raise ParameterError(f"a line of the requirements is {text!r}.", cure="Name packages and versions alone.")
        name, version = _requirement(text)
        if name.lower() == "python":
            python = version
        else:
            packages[name] = version
    return {"packages": packages, "python": python}


def pyproject_toml_parser(content: str) -> dict[str, Any]:
    """The same of the dependencies in a pyproject.toml."""
    project = _toml(content).get("project")
    if not isinstance(project, dict):
        raise ParameterError("the pyproject.toml has no [project].", cure="Write its dependencies there.")
    packages = dict(_requirement(str(each)) for each in project.get("dependencies", ()))
    return {"packages": packages, "python": project.get("requires-python")}


def conda_environment_yml_parser(content: str) -> dict[str, Any]:
    """The same of an environment.yml for conda; packages for pip are not taken."""
    found = yaml_parser(content)
    packages: dict[str, str] = {}
    python = None
    for each in found.get("dependencies") or ():
        if not isinstance(each, str):
            raise ParameterError("the environment.yml asks for packages of pip.", cure="Ask for these with @pypi.")
        name, version = _requirement(each.strip())
        version = version.lstrip("=") if version.startswith("=") else version
        if name == "python":
            python = version or None
        else:
            packages[name] = version
    return {"packages": packages, "python": python}


def yaml_parser(content: str) -> Any:
    """YAML, with the package PyYAML."""
    try:
        import yaml
    except ImportError:
        raise ParameterError(
            "YAML needs the package PyYAML, which is not installed here.", cure="Install it, or write JSON."
        ) from None
    return yaml.safe_load(content)


def _requirement(text: str) -> tuple[str, str]:
    """Name and version; an exact version is given without its ``==``."""
    found = _REQUIREMENT.match(text)
    if found is None:
        raise ParameterError(f"{text!r} names no package.", cure="Write NAME==VERSION.")
    name, rest = found[1], found[2].strip()
    if rest.startswith("=="):
        return name, rest[2:].strip()
    return name, rest


def _toml(content: str) -> dict[str, Any]:
    for module in ("tomllib", "tomli"):
        try:
            found: dict[str, Any] = __import__(module).loads(content)
        except ImportError:
            continue
        return found
    raise ParameterError("TOML needs Python 3.11, or the package tomli.", cure="Install tomli, or write JSON.")
