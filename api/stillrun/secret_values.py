"""Where ``@secrets`` finds its values: in the task, which sets them in its environment and nowhere else."""

from __future__ import annotations

import os

from stillrun.errors import FlowError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

__all__ = ["SOURCES", "secret_values"]


def secret_values(sources: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The environment variables of all sources. Raises FlowError, which names what is missing and never a value."""
    found: dict[str, str] = {}
    for source in sources:
        found.update(SOURCES[source["type"]](source))
    return found


def _environment(source: Mapping[str, Any]) -> dict[str, str]:
    names = source.get("names", ())
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise FlowError(
            f"@secrets: the environment has no variable {missing[0]}.", cure="Set it where the run is started."
        )
    return {name: os.environ[name] for name in names}


def _file(source: Mapping[str, Any]) -> dict[str, str]:
    path = os.path.expanduser(str(source.get("path", "")))
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file]
    except (OSError, UnicodeDecodeError) as err:
        raise FlowError(f"@secrets: {path or 'no path'} cannot be read ({type(err).__name__}).") from None
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    return {name.strip(): value.strip().strip("'\"") for name, equals, value in pairs if equals}


def _inline(source: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in source.get("options", {}).get("env_vars", {}).items()}


def _keyring(source: Mapping[str, Any]) -> dict[str, str]:
    try:
        import keyring  # type: ignore[import-not-found,unused-ignore]  # of the step's environment
    except ImportError:
        raise FlowError(
            "@secrets: the package 'keyring' is not in the step's environment.", cure="Add it to its packages."
        ) from None
    found = {}
    for name in source.get("names", ()):
        value = keyring.get_password(str(source.get("service", "stillrun")), name)
        if value is None:
            raise FlowError(f"@secrets: the keyring holds no {name} for {source.get('service', 'stillrun')}.")
        found[name] = value
    return found


SOURCES: dict[str, Callable[[Mapping[str, Any]], dict[str, str]]] = {
    "environment": _environment,
    "file": _file,
    "inline": _inline,
    "keyring": _keyring,
}
"""How each type of source is read."""
