"""Canonical codes of compiled Python: what it does, not where it was written.

Left out: file names, line numbers, and in the bodies of classes the line and the list of attributes that Python 3.13
and later compile into them.
"""

from __future__ import annotations

import opcode
import struct
import types

from stillrun.canonical import Coder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["code_of_code", "global_names"]

_LOAD_GLOBAL = opcode.opmap["LOAD_GLOBAL"]
_GLOBAL_SHIFT = 1 if "PUSH_NULL" in opcode.opmap else 0  # since 3.11 the lowest bit tells whether it is called
_STORE_NAME = opcode.opmap["STORE_NAME"]
_EXTENDED = opcode.EXTENDED_ARG
_OF_PLACE = ("__firstlineno__", "__static_attributes__")  # what class bodies know of their source


def code_of_code(coder: Coder, code: Any) -> bytes:
    """The code of a code object."""
    sizes = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    names = (code.co_name, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    if any(name in code.co_names for name in _OF_PLACE):
        body = coder.tagged("body", *_body(coder, code))
    else:
        body = coder.tagged("bytes", coder.code(code.co_code), coder.sequence(b"t", code.co_consts))
    handlers = coder.code(getattr(code, "co_exceptiontable", b""))
    return coder.tagged("code", coder.code(sizes), coder.code(names), body, handlers)


def global_names(code: Any) -> set[str]:
    """The global names that a function reads, in its body and in those of functions within it."""
    names = {code.co_names[argument >> _GLOBAL_SHIFT] for op, argument in _instructions(code) if op == _LOAD_GLOBAL}
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            names |= global_names(each)
    return names


def _instructions(code: Any) -> Iterator[tuple[int, int]]:
    """Operation and argument of each instruction; caches look like operations that are not used."""
    data, extended = code.co_code, 0
    for at in range(0, len(data), 2):
        op, argument = data[at], data[at + 1] | extended
        extended = argument << 8 if op == _EXTENDED else 0
        yield op, argument


def _body(coder: Coder, code: Any) -> Iterator[bytes]:
    """Each instruction of a class's body with the constant that it loads; the place of constants tells of lines too."""
    before: bytes | None = None
    for op, argument in _instructions(code):
        if before is not None:
            of_place = op == _STORE_NAME and code.co_names[argument] in _OF_PLACE
            yield coder.tagged("of place") if of_place else before
        before = struct.pack("<BI", op, argument)
        if op in opcode.hasconst:
            before = bytes([op]) + coder.code(code.co_consts[argument])
    yield before or b""
