"""Differences between functions: in their source where it is kept, else in names, constants and instructions; and in what
they close over and the data that they refer to.
"""

from __future__ import annotations

import types

from stillrun.canonical_bytecode import global_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from stillrun.compare import Comparison

__all__ = ["compare_callables"]

_NOT_CODE = ("co_filename", "co_firstlineno")  # where it was written
_OF_CODE = (
    *("co_name", "co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_varnames", "co_names"),
    *("co_freevars", "co_cellvars", "co_flags"),
)
_OF_FUNCTION = ("__module__", "__qualname__", "__defaults__", "__kwdefaults__", "__dict__")


def compare_callables(walk: Comparison, a: Any, b: Any, place: str) -> bool:
    """Compare two functions, code objects, partials or calls of a pickle; False where they are none of these."""
    if isinstance(a, types.FunctionType) and isinstance(b, types.FunctionType):
        _functions(walk, a, b, place)
    elif isinstance(a, types.CodeType):
        _codes(walk, a, b, place)
    elif f"{type(a).__module__}.{type(a).__name__}" == "functools.partial":
        walk.state(_parts_of_partial(a), _parts_of_partial(b), place)
    elif "stillrun.compare_pickles" in (type(a).__module__, a.__module__ if isinstance(a, type) else None):
        from stillrun.compare_pickles import compare_calls

        compare_calls(walk, a, b, place)
    else:
        return False
    return True


def _functions(walk: Comparison, a: Any, b: Any, place: str) -> None:
    """Compare two functions that Python code made."""
    from stillrun.canonical import canonical_digest

    if canonical_digest(a) == canonical_digest(b) is not None:
        return
    before = walk.count
    sources = [_source(each) for each in (a, b)]
    if None not in sources and sources[0] != sources[1]:
        walk.text(f"inspect.getsource({place})", *sources)
    else:
        _codes(walk, a.__code__, b.__code__, f"{place}.__code__")
    for name in _OF_FUNCTION:
        walk.walk(walk.keep(getattr(a, name, None)), walk.keep(getattr(b, name, None)), f"{place}.{name}")
    for at, (x, y) in enumerate(zip(a.__closure__ or (), b.__closure__ or ())):
        walk.walk(_held(x), _held(y), f"{place}.__closure__[{at}].cell_contents")
    for name in sorted(global_names(a.__code__) & global_names(b.__code__)):
        if name in a.__globals__ and name in b.__globals__:
            walk.walk(a.__globals__[name], b.__globals__[name], f"{place}.__globals__[{name!r}]")
    if walk.count == before:
        walk.differs("value", place, "one function", "another of the same source")


def _codes(walk: Comparison, a: types.CodeType, b: types.CodeType, place: str) -> None:
    """Compare two code objects; where they were written is told when nothing else differs."""
    before = walk.count
    for name in _OF_CODE:
        walk.walk(walk.keep(getattr(a, name)), walk.keep(getattr(b, name)), f"{place}.{name}")
    walk.walk(walk.keep(a.co_consts), walk.keep(b.co_consts), f"{place}.co_consts")
    if a.co_code != b.co_code:
        walk.text(f"{place}.co_code", *(_instructions(each) for each in (a, b)))
    if walk.count == before:
        for name in _NOT_CODE:
            walk.walk(walk.keep(getattr(a, name)), walk.keep(getattr(b, name)), f"{place}.{name}")
    if walk.count > before:
        walk.only_numbers = False  # a number in code is no result


def _instructions(code: types.CodeType) -> str:
    """A line for each instruction, without its position: one more would change all of them."""
    import dis

    return "".join(f"{each.opname} {each.argrepr}".rstrip() + "\n" for each in dis.get_instructions(code))


def _source(function: Any) -> str | None:
    import inspect

    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return None


def _held(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not set yet
        return None


def _parts_of_partial(value: Any) -> dict[str, Any]:
    return {**vars(value), "func": value.func, "args": value.args, "keywords": value.keywords}
