"""Canonical codes of NumPy arrays and scalars: little-endian, C order, one bit pattern for NaN."""

from __future__ import annotations

import hashlib
import sys

from stillrun.canonical import Coder, UnknownTypeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["code_of_array", "code_of_numpy"]

BLOCK = 1 << 18  # items looked at in one go: 2 MiB of float64, which a processor's cache still holds


def code_of_numpy(coder: Coder, value: Any) -> bytes:
    """The code of a value from NumPy. Raises UnknownTypeError."""
    numpy: Any = sys.modules["numpy"]
    if type(value) is numpy.ndarray:
        return code_of_array(coder, value)
    if isinstance(value, numpy.generic):
        return coder.tagged("numpy.scalar", code_of_array(coder, coder.keep(numpy.asarray(value))))
    if isinstance(value, numpy.dtype):
        return coder.record("numpy.dtype", _dtype_text(value))
    raise UnknownTypeError(type(value).__qualname__)


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
    return coder.tagged("numpy.ndarray", coder.code(_dtype_text(dtype)), shape, _data_digest(coder, value))


def _dtype_text(dtype: Any) -> str:
    if dtype.names is not None or dtype.subdtype is not None or dtype.kind not in "biufcmMSUVO":
        raise UnknownTypeError(str(dtype))
    if dtype.kind in "fc" and dtype.itemsize not in (2, 4, 8, 16)[: 3 if dtype.kind == "f" else 4]:
        raise UnknownTypeError(str(dtype))  # long double: its padding is whatever was in memory
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
