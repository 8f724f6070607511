"""Canonical codes of any object, by what pickle would keep of it: its class and its state.

Only ``__reduce_ex__`` and what it calls are run, as when the artifact was pickled; nothing is ever built from a state.
"""

from __future__ import annotations

import copyreg
import sys
from itertools import islice

from stillrun.canonical import NODES_MAX, Coder, UnknownTypeError
from stillrun.canonical_functions import code_of_name, is_importable
from stillrun.canonical_states import state_that_counts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["code_by_state"]

PROTOCOL = 4  # the newest of Python 3.8's that takes no buffers apart


def code_by_state(coder: Coder, value: Any) -> bytes:
    """The code of an object. Raises UnknownTypeError, or whatever its class raises when it cannot be pickled."""
    kind = type(value)
    reduced = coder.keep(_reduced(kind, value))
    if isinstance(reduced, str):  # there is one of it, and this is its name
        return code_of_name(coder, getattr(value, "__module__", None) or kind.__module__, reduced)
    make, made_of, state, items, pairs, setter = (*reduced, None, None, None, None)[:6]
    if isinstance(value, (set, frozenset)) and _pickles_as_builtin(kind):
        first = coder.tagged("set", coder.code(kind), coder.code(frozenset(set.union(set(), value))))
    else:
        first = _made(coder, make, made_of)
    state = coder.keep(_normal(value, coder.keep(state_that_counts(value, state))))
    parts = [
        first,
        coder.mapping(b"d", state) if type(state) is dict else coder.code(state),  # the same code, and less deep
        coder.code(None) if items is None else coder.sequence(b"l", coder.keep(_listed(items))),
        coder.code(None) if pairs is None else _pairs(coder, kind, pairs),
    ]
    return coder.tagged("object", *parts, *([] if setter is None else [_maker(coder, setter)]))


def _reduced(kind: type, value: Any) -> Any:
    reducer = copyreg.dispatch_table.get(kind)
    return value.__reduce_ex__(PROTOCOL) if reducer is None else reducer(value)


def _made(coder: Coder, make: Any, made_of: tuple[Any, ...]) -> bytes:
    """What the object is made of before it gets its state: a class, and arguments."""
    name = getattr(make, "__name__", "")
    if name == "__newobj__":
        return coder.tagged("new", coder.code(made_of[0]), coder.sequence(b"t", made_of[1:]))
    if name == "__newobj_ex__":
        kind, arguments, named = made_of
        return coder.tagged("new", coder.code(kind), coder.sequence(b"t", arguments), coder.mapping(b"d", named))
    return coder.tagged("call", _maker(coder, make), coder.sequence(b"t", made_of))


def _maker(coder: Coder, make: Any) -> bytes:
    """A function that makes objects is a detail of a library: its name stands for it, if it has one."""
    name = getattr(make, "__qualname__", None)
    if isinstance(name, str) and is_importable(make, name):
        return code_of_name(coder, make.__module__, name)
    return coder.code(make)


def _normal(value: Any, state: Any) -> Any:
    """The state, with one spelling of "nothing". Raises UnknownTypeError if the object's address is part of it."""
    parts: tuple[Any, ...] = state if type(state) is tuple and len(state) == 2 else (state,)
    for part in parts:
        if type(part) is dict and id(value) in [each for each in part.values() if type(each) is int]:
            raise UnknownTypeError(type(value).__qualname__)
    if all(part is None or type(part) is dict for part in parts):  # attributes, and those in slots
        parts = tuple(part or None for part in parts)
        return parts[0] if len(parts) == 1 else parts
    return state


def _listed(items: Iterable[Any]) -> list[Any]:
    listed = list(islice(items, NODES_MAX + 1))
    if len(listed) > NODES_MAX:
        raise UnknownTypeError
    return listed


def _pairs(coder: Coder, kind: type, pairs: Iterable[Any]) -> bytes:
    listed = coder.keep(_listed(pairs))
    collections: Any = sys.modules.get("collections")
    if collections is not None and issubclass(kind, collections.OrderedDict):
        return coder.sequence(b"l", listed)
    return coder.mapping(b"d", coder.keep(dict(listed)))


def _pickles_as_builtin(kind: type) -> bool:
    """True for a set whose class lets it be pickled as the list of its items, in the order of their hashes."""
    made: Any = kind
    return made.__reduce__ in (set.__reduce__, frozenset.__reduce__) and made.__reduce_ex__ is object.__reduce_ex__
