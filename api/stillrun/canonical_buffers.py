"""Canonical codes of columns that lie in memory as numbers or joined text: hashed where they are.

``forms`` of numbers are those of the array module, and ``e`` for binary16.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from array import array

from stillrun.canonical import Coder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["WIDTHS", "code_of_numbers", "code_of_texts"]

WIDTHS = {"b": 1, "B": 1, "h": 2, "H": 2, "e": 2, "i": 4, "I": 4, "f": 4, "q": 8, "Q": 8, "d": 8}
_BITS = {"e": ("H", 0x7C00, 0x7E00), "f": ("I", 0x7F800000, 0x7FC00000), "d": ("Q", 0x7FF << 52, 0xFFF << 51)}


def code_of_numbers(coder: Coder, form: str, count: int, buffers: Iterable[Any]) -> bytes:
    """The code of ``count`` numbers without a gap, in one or more little-endian buffers; every NaN is one."""
    digest = hashlib.sha256()
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        digest.update(_one_nan(form, view) if form in _BITS else view)
    return coder.tagged("numbers", coder.code(form), coder.code(count), coder.code(digest.digest()))


def code_of_texts(count: int, lengths: Iterable[Any], texts: Iterable[Any]) -> bytes:
    """The code of a list of ``count`` strings, from buffers with their lengths as u64 and with their UTF-8."""
    digest = hashlib.sha256(struct.pack("<Q", count) + (b"s" if count else b"*"))
    for buffer in (*lengths, *texts):
        digest.update(buffer)
    return b"l" + digest.digest()


def _one_nan(form: str, view: memoryview) -> Any:
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and hasattr(numpy, "frombuffer"):
        numbers = numpy.frombuffer(view, f"<f{WIDTHS[form]}")
        wrong = numbers != numbers
        if not wrong.any():
            return view
        numbers = numbers.copy()
        numbers[wrong] = float("nan")
        return numbers.view("u1")
    kind, endless, nan = _BITS[form]
    bits = array(kind)
    bits.frombytes(view)
    if sys.byteorder == "big":
        bits.byteswap()
    rest = (1 << (8 * WIDTHS[form] - 1)) - 1  # all but the sign
    bits = array(kind, [nan if each & rest > endless else each for each in bits])
    if sys.byteorder == "big":
        bits.byteswap()
    return bits
