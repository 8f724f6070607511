"""Canonical codes of functions, methods, classes and modules.

Those of the standard library and of installed packages are known by their names, as are all classes that can be
imported. Functions of the user's own are known by their code: bytecode, constants, defaults, what they close over and
what they refer to; not by files and line numbers. Bytecode is that of one Python minor version.
"""

from __future__ import annotations

import os
import struct
import sys
import types

from stillrun.canonical import Coder, UnknownTypeError
from stillrun.canonical_bytecode import code_of_code, global_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from stillrun.canonical import Way

__all__ = ["CALLABLES", "code_of_class", "code_of_function", "code_of_name", "is_importable"]

CONSTANTS = (type(None), bool, int, float, complex, str, bytes, tuple, frozenset)  # globals that count by value
DATA = (list, dict, set, bytearray)  # these as well, when they hold nothing but more of both
DATA_MAX = 10_000  # values in one of them; a larger one counts by its type and length
_NOT_STATE = {  # what Python itself keeps in a class, much of it not in every version or not before first use
    *("__dict__", "__weakref__", "__module__", "__qualname__", "__slotnames__", "__abstractmethods__", "_abc_impl"),
    *("__firstlineno__", "__static_attributes__", "__classdictcell__"),
    *("__annotations__", "__annotations_cache__", "__annotate__", "__annotate_func__"),
}


def code_of_name(coder: Coder, module: str, name: str) -> bytes:
    """The code of what can be imported by its name."""
    return coder.record("name", module, name)


def is_importable(value: Any, name: str) -> bool:
    """True when the value's module holds it under this name."""
    found = sys.modules.get(getattr(value, "__module__", None) or "")
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is value


def code_of_class(coder: Coder, value: type) -> bytes:
    """The code of a class: its name, or all that it is made of when it cannot be imported."""
    if value.__module__ is None:
        raise UnknownTypeError(value.__qualname__)  # made by a library at run time, like a function of SymPy
    if is_importable(value, value.__qualname__) or value.__module__ == "builtins":
        module = "pathlib" if value.__module__ == "pathlib._local" else value.__module__
        return code_of_name(coder, module, value.__qualname__)
    held = {name: item for name, item in vars(value).items() if name not in _NOT_STATE and not _is_slot(item)}
    bases = coder.sequence(b"t", value.__bases__)
    parts = (coder.code(type(value)), bases, coder.mapping(b"d", held))
    return coder.tagged("class", coder.code(f"{value.__module__}.{value.__qualname__}"), *parts)


def _is_slot(item: Any) -> bool:
    return isinstance(item, (types.MemberDescriptorType, types.GetSetDescriptorType))


def code_of_function(coder: Coder, function: Any) -> bytes:
    """The code of a function: its own part, and that of each of the user's that it reaches by names of modules."""
    name = function.__qualname__
    library = _is_library(function.__globals__)
    if library and is_importable(function, name):
        return code_of_name(coder, function.__module__, name)
    reached: dict[str, bytes] = {}
    waiting = [] if library else [function]
    while waiting:
        each = waiting.pop()
        home = str(each.__globals__.get("__name__"))
        for used in global_names(each.__code__):
            key = f"{home}.{used}"
            if key in reached or used not in each.__globals__:
                continue  # known, or a builtin
            target = each.__globals__[used]
            reached[key] = _referred(coder, target)
            if type(target) is types.FunctionType and not _is_library(target.__globals__):
                waiting.append(target)
    listed = b"".join(coder.code(key) + reached[key] for key in sorted(reached))
    return coder.tagged("function", _own(coder, function), struct.pack("<Q", len(reached)) + listed)


def _own(coder: Coder, function: Any) -> bytes:
    """What is a function's own: nothing of what it calls."""
    cells = [_cell(coder, cell) for cell in function.__closure__ or ()]
    return coder.tagged(
        "function.own",
        coder.code(function.__module__),
        coder.code(function.__qualname__),
        code_of_code(coder, function.__code__),
        coder.code(function.__defaults__),
        coder.code(function.__kwdefaults__),
        coder.mapping(b"d", vars(function)),
        *cells,
    )


def _cell(coder: Coder, cell: Any) -> bytes:
    try:
        held = cell.cell_contents
    except ValueError:  # not set yet
        return coder.tagged("cell")
    return coder.tagged("cell", coder.code(held))


def _referred(coder: Coder, target: Any) -> bytes:
    """What a global name stands for, as far as it counts: constants by value, functions by their own part."""
    if type(target) is types.FunctionType:
        if _is_library(target.__globals__):
            return code_of_name(coder, target.__module__, target.__qualname__)
        return _own(coder, target)
    if isinstance(target, (type, types.ModuleType, types.BuiltinFunctionType)):
        return code_of_name(coder, getattr(target, "__module__", None) or "", target.__name__)
    if type(target) in CONSTANTS:
        try:
            return coder.code(target)
        except UnknownTypeError:  # a tuple of who knows what
            pass
    if type(target) in DATA:
        return coder.code(target) if _is_data(target) else coder.record("some", type(target).__qualname__, len(target))
    return coder.tagged("some", coder.code(type(target).__qualname__))


def _is_data(target: Any) -> bool:
    """True for plain data, and not too much of it; what refers to itself has no end."""
    waiting, seen = [target], 0
    while waiting:
        value = waiting.pop()
        seen += 1
        if type(value) not in CONSTANTS + DATA:
            return False
        if isinstance(value, (dict, list, tuple, set, frozenset)):
            if seen + len(waiting) + len(value) > DATA_MAX:
                return False
            waiting += value if not isinstance(value, dict) else [*value, *value.values()]
    return True


def _is_library(names: dict[str, Any]) -> bool:
    """True for the globals of a module of the standard library or of an installed package."""
    file = names.get("__file__")
    if not isinstance(file, str):
        return False
    parts = file.split(os.sep)
    return (
        "site-packages" in parts or "dist-packages" in parts or file.startswith(os.path.dirname(os.__file__) + os.sep)
    )


# -- other callables -----------------------------------------------------------------------------


def _builtin(coder: Coder, value: Any) -> bytes:
    owner: Any = value.__self__
    if owner is None or isinstance(owner, types.ModuleType):
        return code_of_name(coder, value.__module__ or "", value.__qualname__)
    return coder.record("method", owner, value.__name__)


def _method(coder: Coder, value: Any) -> bytes:
    return coder.record("method", value.__self__, value.__func__)


def _of_class(coder: Coder, value: Any) -> bytes:
    return coder.record("attribute", value.__objclass__, value.__name__)


def _wrapper(coder: Coder, value: Any) -> bytes:
    return coder.record("method", value.__self__, value.__name__)


def _module(coder: Coder, value: Any) -> bytes:
    found: Any = sys.modules.get(value.__name__)
    if found is not value:
        raise UnknownTypeError(value.__name__)  # made in memory
    return coder.record("module", value.__name__)


def _partial(coder: Coder, value: Any) -> bytes:
    attributes = coder.keep(value.__reduce__()[2][3] or {})  # asking for __dict__ would make one, and other pickles
    parts = (coder.code(value.func), coder.sequence(b"t", value.args), coder.mapping(b"d", value.keywords))
    return coder.tagged("functools.partial", *parts, coder.mapping(b"d", attributes))


def _property(coder: Coder, value: Any) -> bytes:
    return coder.record("builtins.property", value.fget, value.fset, value.fdel)


def _wrapped(coder: Coder, value: Any) -> bytes:
    return coder.record(f"builtins.{type(value).__name__}", value.__func__)


CALLABLES: dict[str, Way] = {
    "builtins.function": code_of_function,
    "builtins.builtin_function_or_method": _builtin,
    "builtins.method": _method,
    "builtins.method_descriptor": _of_class,
    "builtins.classmethod_descriptor": _of_class,
    "builtins.wrapper_descriptor": _of_class,
    "builtins.method-wrapper": _wrapper,
    "builtins.module": _module,
    "builtins.code": code_of_code,
    "builtins.property": _property,
    "builtins.staticmethod": _wrapped,
    "builtins.classmethod": _wrapped,
    "functools.partial": _partial,
}
