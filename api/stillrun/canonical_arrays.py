"""Canonical codes of NumPy arrays and scalars: little-endian, C order, one bit pattern for NaN."""

from __future__ import annotations

import hashlib
import sys

from stillrun.canonical import Coder, UnknownTypeError, name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["code_of_array", "code_of_numpy"]

BLOCK = 1 << 18  # items looked at in one go: 2 MiB of float64, which a processor's cache still holds


def code_of_numpy(coder: Coder, value: Any) -> bytes | None:
    """The code of a value from NumPy; None for one that is neither array, scalar nor dtype. Raises UnknownTypeError."""
    numpy: Any = sys.modules["numpy"]
    if type(value) is numpy.ndarray:
        return code_of_array(coder, value)
    if isinstance(value, numpy.generic):
        return coder.tagged("numpy.scalar", code_of_array(coder, coder.keep(numpy.asarray(value))))
    if isinstance(value, numpy.dtype):
        return coder.record(
            "numpy.dtype", coder.keep(value.newbyteorder("<").descr) if value.names else _dtype_text(value)
        )
    if isinstance(value, numpy.ma.MaskedArray):
        mask = coder.keep(numpy.ma.getmaskarray(value))
        data = coder.keep(numpy.where(mask, numpy.zeros((), value.dtype), value.data).astype(value.dtype))
        filled = code_of_array(coder, coder.keep(numpy.asarray(value.fill_value)))
        return coder.tagged("numpy.masked", code_of_array(coder, mask), code_of_array(coder, data), filled)
    if isinstance(value, numpy.ndarray):
        plain = coder.keep(value.view(numpy.ndarray))
        own = {} if isinstance(value, numpy.memmap) else getattr(value, "__dict__", {})
        name = "numpy.ndarray" if isinstance(value, numpy.memmap) else name_of(type(value))
        if name == "numpy.ndarray":
            return code_of_array(coder, plain)
        return coder.tagged("numpy.subclass", coder.code(name), code_of_array(coder, plain), coder.code(dict(own)))
    return None


def code_of_array(coder: Coder, value: Any) -> bytes:
    """The code of an ndarray."""
    dtype, shape = value.dtype, coder.sequence(b"t", value.shape)
    if dtype.names is not None:
        fields = [part for name in dtype.names for part in (coder.code(name), code_of_array(coder, value[name]))]
        return coder.tagged("numpy.structured", shape, *fields)
    if dtype.kind == "O":
        return coder.tagged("numpy.object", shape, coder.sequence(b"l", coder.keep(value.ravel().tolist())))
    if dtype.kind == "T":  # NumPy 2's text of any length
        return coder.tagged("numpy.text", shape, coder.sequence(b"l", coder.keep(value.ravel().tolist())))
    if dtype.kind in "fc" and dtype.itemsize > (8 if dtype.kind == "f" else 16):
        return _extended(coder, value, shape)
    return coder.tagged("numpy.ndarray", coder.code(_dtype_text(dtype)), shape, _data_digest(coder, value))


def _extended(coder: Coder, value: Any, shape: bytes) -> bytes:
    """Numbers longer than 64 bits, whose padding is whatever was in memory: as a sum of two or three that are not."""
    numpy: Any = sys.modules["numpy"]
    kind = "c16" if value.dtype.kind == "c" else "f8"
    parts, rest = [], coder.keep(value)
    for _ in range(3):
        with numpy.errstate(all="ignore"):
            head = coder.keep(rest.astype(kind))
            finite = numpy.isfinite(rest)
            if (finite & ~numpy.isfinite(head)).any():
                raise UnknownTypeError("a number that no 64 bits can hold")
            rest = coder.keep(numpy.where(finite, rest - head, 0))
        parts.append(code_of_array(coder, head))
    if rest.any():
        raise UnknownTypeError("a number finer than three times 64 bits can hold")
    return coder.tagged("numpy.extended", coder.code(value.dtype.kind), shape, *parts)


def _dtype_text(dtype: Any) -> str:
    if dtype.names is not None or dtype.subdtype is not None or dtype.kind not in "biufcmMSUVO":
        raise UnknownTypeError(str(dtype))
    return str(dtype.newbyteorder("<").str)


def _data_digest(coder: Coder, value: Any) -> bytes:
    plain = value.flags.c_contiguous and value.dtype.str == value.dtype.newbyteorder("<").str
    if plain and not _has_nan(value):
        if value.nbytes == 0:
            return hashlib.sha256().digest()
        known = coder.digests.get((value.__array_interface__["data"][0], value.nbytes))
        if known is not None:
            return bytes.fromhex(known.split(":")[1])
        return hashlib.sha256(value.reshape(-1).view("u1")).digest()
    digest = hashlib.sha256()
    for block in _blocks(value):
        digest.update(_normal(block).view("u1"))
    return digest.digest()


def _has_nan(value: Any) -> bool:
    return value.dtype.kind in "fc" and any(bool((block != block).any()) for block in _blocks(value))


def _blocks(value: Any) -> Iterator[Any]:
    """Flat pieces of an array, in C order."""
    numpy: Any = sys.modules["numpy"]
    if value.size == 0:
        return
    if value.flags.c_contiguous:
        flat = value.reshape(-1)
        for at in range(0, flat.size, BLOCK):
            yield flat[at : at + BLOCK]
        return
    rows = max(1, BLOCK * len(value) // value.size)
    for at in range(0, len(value), rows):
        yield numpy.ascontiguousarray(value[at : at + rows]).reshape(-1)


def _normal(block: Any) -> Any:
    """The block in little-endian order, with one bit pattern for NaN."""
    block = block.astype(block.dtype.newbyteorder("<"), copy=False)
    if block.dtype.kind == "c":
        block = block.view(f"<f{block.dtype.itemsize // 2}")
    if block.dtype.kind == "f":
        wrong = block != block
        if wrong.any():
            block = block.copy()
            block[wrong] = float("nan")
    return block
