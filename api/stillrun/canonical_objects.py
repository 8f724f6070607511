"""Canonical codes of objects by what they would be pickled as (PEP 307): their class, what makes them, and their state.

An object is never changed or made anew: nothing but the reduction that pickling has asked for already is asked for again.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from copyreg import __newobj__, __newobj_ex__, dispatch_table  # type: ignore[attr-defined]  # undocumented, and stable

from stillrun.canonical import Coder, UnknownTypeError, name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["code_of_reduced"]

_PROTOCOL = 4


def code_of_reduced(coder: Coder, value: Any) -> bytes:
    """The code of an object by its reduction. Raises UnknownTypeError, and whatever the object's own code raises."""
    kind = type(value)
    if issubclass(kind, (set, frozenset)) and kind.__reduce__ in (set.__reduce__, frozenset.__reduce__):
        # its reduction lists the items in the order of their hashes
        items = coder.unordered(b"S" if issubclass(kind, set) else b"Z", value)
        return coder.tagged("object", coder.code(name_of(kind)), items, coder.code(_attributes(value)))
    reducer = dispatch_table.get(kind)
    reduced = coder.keep(reducer(value) if reducer is not None else value.__reduce_ex__(_PROTOCOL))
    if isinstance(reduced, str):
        return coder.record("global", _home_of(value, reduced), reduced)
    function, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    if function is __newobj__ or function is __newobj_ex__:
        made, arguments = name_of(arguments[0]), arguments[1:]
    else:
        made = name_of(function)
    parts = [coder.code(made), coder.code(coder.keep(arguments)), coder.code(coder.keep(state))]
    parts.append(coder.code(None if items is None else coder.keep(list(items))))
    if pairs is None or isinstance(value, OrderedDict):
        parts.append(coder.code(None if pairs is None else coder.keep(list(pairs))))
    else:
        parts.append(coder.mapping(b"d", coder.keep(dict(pairs))))
    return coder.tagged("object", coder.code(name_of(kind)), *parts)


def _attributes(value: Any) -> dict[str, Any] | None:
    slots = [name for each in type(value).__mro__ for name in vars(each).get("__slots__", ())]
    if slots:
        raise UnknownTypeError(type(value).__qualname__)
    found: dict[str, Any] | None = getattr(value, "__dict__", None)
    return found or None


def _home_of(value: Any, name: str) -> str:
    """The module that a reduction by name means; pickle looks for it the same way."""
    home = getattr(value, "__module__", None)
    if isinstance(home, str):
        return home
    top = name.split(".")[0]
    for module, loaded in list(sys.modules.items()):
        if module != "__main__" and getattr(loaded, top, None) is value:
            return module
    raise UnknownTypeError(name)
