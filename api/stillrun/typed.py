"""A decorator as it is typed on a command line: ``retry:times=4,minutes_between_retries=0``."""

from __future__ import annotations

import json

from stillrun.errors import FlowError
from stillrun.nearest import did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

__all__ = ["typed_arguments", "typed_decorator"]

_ON_STEPS = frozenset(
    {"batch", "card", "catch", "conda", "environment", "inputs", "kubernetes", "parallel", "pypi", "resources", "retry"}
    | {"secrets", "timeout", "tolerance", "volatile"}
)
_ON_FLOWS = frozenset(
    {
        "conda_base",
        "exit_hook",
        "project",
        "pypi_base",
        "schedule",
        "tolerance",
        "trigger",
        "trigger_on_finish",
        "volatile",
    }
)
_LISTS = {"inputs": "patterns", "volatile": "names"}  # decorators that take what they are about by position


def typed_decorator(
    text: str, *, on_flow: bool = False, named: Mapping[str, Any] | None = None
) -> tuple[str, Callable[[Any], Any]]:
    """The name of a typed decorator and the decorator, with the arguments ``named`` as well. Raises FlowError."""
    import stillrun

    name, given = typed_arguments(text)
    given = {**given, **(named or {})}
    known = _ON_FLOWS if on_flow else _ON_STEPS
    if name not in known:
        raise FlowError(
            f"there is no decorator {name!r}.",
            cure=did_you_mean(name, known) or f"There are: {', '.join(sorted(known))}.",
        )
    positions = given.pop(_LISTS[name], ()) if name in _LISTS else ()
    try:
        made = getattr(stillrun, name)(*positions, **given)
    except TypeError as err:
        raise FlowError(f"@{name} does not take this ({err}).") from err
    return name, getattr(stillrun, name) if name == "parallel" else made


def typed_arguments(text: str) -> tuple[str, dict[str, Any]]:
    """The name of a typed decorator and its arguments. Values are JSON where they can be, else text. Raises FlowError."""
    name, _, rest = text.partition(":")
    named = {}
    for part in _parts(rest):
        key, equals, value = part.partition("=")
        if not equals:
            raise FlowError(f"{part!r} is not NAME=VALUE.", cure=f"Write {name}:NAME=VALUE,NAME=VALUE.")
        named[key.strip()] = _value(value.strip())
    return name, named


def _parts(text: str) -> list[str]:
    """Cut at commas that stand outside of brackets and quotes."""
    parts, depth, quote, begun = [], 0, "", 0
    for place, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign in "[{(":
            depth += 1
        elif sign in "]})":
            depth -= 1
        elif sign == "," and depth == 0:
            parts.append(text[begun:place])
            begun = place + 1
    parts.append(text[begun:])
    return [part for part in parts if part.strip()]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(text, text)
