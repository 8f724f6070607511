"""The decorators of a flow: step, and the ones that ask for an environment.

They only write down what was asked for; the engine reads it from the flow's description and acts on it.
"""

from __future__ import annotations

import sys

from stillrun.errors import FlowError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, TypeVar

    Decorated = TypeVar("Decorated")

__all__ = ["ASKED", "STEP", "conda", "conda_base", "pypi", "pypi_base", "step"]

STEP = "__stillrun_step__"  # attribute of a function that is a step
ASKED = "__stillrun_decorators__"  # list on a step or a flow: what its decorators asked for, in source order


def step(function: Decorated) -> Decorated:
    """Make a method a step of its flow.

    A step ends with ``self.next(...)``, except ``end``. A step that joins branches takes ``inputs`` as well.
    """
    if isinstance(function, type) or not callable(function):
        raise FlowError(f"@step stands on {function!r}, which is not a method.", cure="Put it on a method.")
    setattr(function, STEP, True)
    return function


def pypi(
    target: Any = None,
    *,
    packages: Mapping[str, str] | None = None,
    python: str | None = None,
    index_url: str | None = None,
    extra_indices: Sequence[str] | None = None,
    disabled: bool | None = None,
) -> Any:
    """Run the step in an environment of packages from a Python package index.

    packages: name to version specifier, such as ``{"pandas": ">=2.2", "scikit-learn": "1.5.0"}``.
    python: the interpreter's version, such as "3.11"; the caller's when not given.
    disabled: take the step out of the flow's ``pypi_base``.
    """
    asked = {
        "packages": packages,
        "python": python,
        "index_url": index_url,
        "extra_indices": extra_indices,
        "disabled": disabled,
    }
    return _asking("pypi", "step", target, asked, sys._getframe(1).f_lineno)


def conda(
    target: Any = None,
    *,
    packages: Mapping[str, str] | None = None,
    libraries: Mapping[str, str] | None = None,
    channels: Sequence[str] | None = None,
    python: str | None = None,
    disabled: bool | None = None,
) -> Any:
    """Run the step in an environment of conda packages.

    packages: name to version, such as ``{"numpy": "1.26.*"}``; libraries is an older word for the same.
    channels: where to look, first one first. python: the interpreter's version.
    disabled: take the step out of the flow's ``conda_base``.
    """
    asked = {
        "packages": packages,
        "libraries": libraries,
        "channels": channels,
        "python": python,
        "disabled": disabled,
    }
    return _asking("conda", "step", target, asked, sys._getframe(1).f_lineno)


def pypi_base(
    target: Any = None,
    *,
    packages: Mapping[str, str] | None = None,
    python: str | None = None,
    index_url: str | None = None,
    extra_indices: Sequence[str] | None = None,
    disabled: bool | None = None,
) -> Any:
    """Do for every step of the flow what ``pypi`` does for one; a step's own words win."""
    asked = {
        "packages": packages,
        "python": python,
        "index_url": index_url,
        "extra_indices": extra_indices,
        "disabled": disabled,
    }
    return _asking("pypi_base", "flow", target, asked, sys._getframe(1).f_lineno)


def conda_base(
    target: Any = None,
    *,
    packages: Mapping[str, str] | None = None,
    libraries: Mapping[str, str] | None = None,
    channels: Sequence[str] | None = None,
    python: str | None = None,
    disabled: bool | None = None,
) -> Any:
    """Do for every step of the flow what ``conda`` does for one; a step's own words win."""
    asked = {
        "packages": packages,
        "libraries": libraries,
        "channels": channels,
        "python": python,
        "disabled": disabled,
    }
    return _asking("conda_base", "flow", target, asked, sys._getframe(1).f_lineno)


def _asking(name: str, level: str, target: Any, asked: dict[str, Any], line: int) -> Any:
    attributes = _checked(name, asked)

    def attach(decorated: Any) -> Any:
        _refuse_wrong_place(name, level, decorated)
        held = list(vars(decorated).get(ASKED, ()))
        # decorators are applied from the bottom up, so the one applied last stands first in the source
        held.insert(0, {"name": name, "attributes": attributes, "line": line})
        setattr(decorated, ASKED, held)
        return decorated

    return attach if target is None else attach(target)


def _refuse_wrong_place(name: str, level: str, decorated: Any) -> None:
    if isinstance(decorated, type) == (level == "flow") and callable(decorated):
        return
    here, there = ("a flow class", "a step") if level == "flow" else ("a step", "a flow class")
    other = name[: -len("_base")] if level == "flow" else name + "_base"
    raise FlowError(
        f"@{name} belongs on {here}, but stands on {getattr(decorated, '__name__', repr(decorated))}.",
        cure=f"Use @{other} there." if callable(decorated) else f"@{name} takes named arguments only ({there}).",
    )


def _checked(name: str, asked: dict[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in asked.items() if value is not None}
    for key, value in given.items():
        wanted = _WANTED[key]
        if not wanted(value):
            raise FlowError(f"@{name}({key}={value!r}): {_EXPECTED[key]} is expected.")
        if isinstance(value, (tuple, dict)):
            given[key] = dict(value) if isinstance(value, dict) else list(value)
    return given


def _is_packages(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(key, str) and isinstance(version, str) for key, version in value.items()
    )


def _is_texts(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_PACKAGES = "a dict from package name to version, both str, such as {'numpy': '1.26.*'},"
_WANTED: dict[str, Any] = {
    "packages": _is_packages,
    "libraries": _is_packages,
    "channels": _is_texts,
    "extra_indices": _is_texts,
    "python": _is_text,
    "index_url": _is_text,
    "disabled": lambda value: isinstance(value, bool),
}
_EXPECTED = {
    "packages": _PACKAGES,
    "libraries": _PACKAGES,
    "channels": "a list of channel names",
    "extra_indices": "a list of addresses",
    "python": "a version as text, such as '3.11',",
    "index_url": "an address",
    "disabled": "True or False",
}
