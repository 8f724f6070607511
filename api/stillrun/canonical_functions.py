"""Canonical codes of functions, by what they do: their instructions and constants, without file names and line numbers.

Instructions differ between versions of Python, so these digests are comparable within one (its major and minor version).
What a function finds by name when it is called (globals, attributes) counts by its name.
"""

from __future__ import annotations

import sys
import types

from stillrun.canonical import Coder, UnknownTypeError, name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["code_of_callable"]

_COUNTED = (
    "co_argcount",
    "co_posonlyargcount",
    "co_kwonlyargcount",
    "co_nlocals",
    "co_flags",
    "co_name",
    "co_names",
    "co_varnames",
    "co_freevars",
    "co_cellvars",
    "co_code",
    "co_exceptiontable",
)
_PYTHON = f"{sys.implementation.name}-{sys.version_info[0]}.{sys.version_info[1]}"


def code_of_callable(coder: Coder, value: Any) -> bytes:
    """The code of a function, method or class. Raises UnknownTypeError."""
    if isinstance(value, type):
        return coder.record("class", name_of(value))
    if isinstance(value, types.FunctionType):
        return _function(coder, value)
    if isinstance(value, types.CodeType):
        return coder.tagged("code", coder.code(_PYTHON), *_instructions(coder, value))
    if isinstance(value, types.MethodType):
        return coder.record("method", value.__func__, value.__self__)
    if isinstance(value, types.CellType):
        return coder.record("cell", value.cell_contents) if _is_filled(value) else coder.tagged("empty cell")
    if isinstance(value, types.BuiltinFunctionType):
        owner = value.__self__
        if owner is None or isinstance(owner, types.ModuleType):
            return coder.record("builtin", name_of(value))
        return coder.record("builtin method", value.__name__, owner)
    if isinstance(value, (types.WrapperDescriptorType, types.MethodDescriptorType)):
        return coder.record("descriptor", name_of(value.__objclass__), value.__name__)
    raise UnknownTypeError(type(value).__qualname__)


def _function(coder: Coder, value: types.FunctionType) -> bytes:
    parts = [coder.code(_PYTHON), coder.code(value.__module__), coder.code(value.__qualname__)]
    parts += _instructions(coder, value.__code__)
    parts += [coder.code(value.__defaults__), coder.code(value.__kwdefaults__)]
    parts += [coder.code(cell) for cell in value.__closure__ or ()]
    own = {name: item for name, item in vars(value).items() if name != "__wrapped__"}
    parts.append(coder.code(coder.keep(own)))
    return coder.tagged("function", *parts)


def _instructions(coder: Coder, code: types.CodeType) -> list[bytes]:
    facts = [getattr(code, name, None) for name in _COUNTED]
    return [coder.code(coder.keep(facts)), coder.code(coder.keep(list(code.co_consts)))]


def _is_filled(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True
