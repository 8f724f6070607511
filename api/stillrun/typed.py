"""A decorator as it is typed on a command line: ``retry:times=4,minutes_between_retries=0``."""

from __future__ import annotations

import json

from stillrun.errors import FlowError
from stillrun.nearest import did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["typed_decorator"]

_KNOWN = frozenset(
    {"batch", "card", "catch", "conda", "environment", "inputs", "kubernetes", "pypi", "resources", "retry", "secrets"}
    | {"timeout", "tolerance", "volatile"}
)


def typed_decorator(text: str) -> tuple[str, Callable[[Any], Any]]:
    """The name of a typed decorator and the decorator. Values are JSON where they can be, else text. Raises FlowError."""
    import stillrun

    name, _, rest = text.partition(":")
    if name not in _KNOWN:
        raise FlowError(
            f"there is no decorator {name!r}.",
            cure=did_you_mean(name, _KNOWN) or f"There are: {', '.join(sorted(_KNOWN))}.",
        )
    named = {}
    for part in _parts(rest):
        key, equals, value = part.partition("=")
        if not equals:
            raise FlowError(f"{part!r} is not NAME=VALUE.", cure=f"Write {name}:NAME=VALUE,NAME=VALUE.")
        named[key.strip()] = _value(value.strip())
    try:
        return name, getattr(stillrun, name)(**named)
    except TypeError as err:
        raise FlowError(f"@{name} does not take this ({err}).") from err


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
