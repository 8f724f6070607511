"""Canonical codes of NumPy arrays and scalars: little-endian, C order, one bit pattern for NaN."""

from __future__ import annotations

import hashlib
import sys

from stillrun.canonical import Coder, UnknownTypeError
from stillrun.canonical_objects import code_by_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["code_of_array", "code_of_numbers", "code_of_numpy"]

BLOCK = 1 << 18  # items looked at in one go: 2 MiB of float64, which a processor's cache still holds


def code_of_numpy(coder: Coder, value: Any) -> bytes:
    """The code of a value from NumPy. Raises UnknownTypeError."""
    numpy: Any = sys.modules["numpy"]
    if isinstance(value, numpy.ndarray):
        return code_of_array(coder, value) if type(value) is numpy.ndarray else _subclass(coder, value)
    if isinstance(value, numpy.generic):
        kind = [] if type(value) is not numpy.record else [coder.code("record")]
        return coder.tagged("numpy.scalar", code_of_array(coder, coder.keep(numpy.asarray(value))), *kind)
    if isinstance(value, numpy.dtype):
        return _dtype(coder, value)
    return code_by_state(coder, value)


def code_of_array(coder: Coder, value: Any) -> bytes:
    """The code of an ndarray."""
    dtype, shape = value.dtype, coder.sequence(b"t", value.shape)
    if dtype.names is not None:
        fields = [part for name in dtype.names for part in (coder.code(name), code_of_array(coder, value[name]))]
        return coder.tagged("numpy.structured", shape, *fields)
    if dtype.kind == "O":
        return coder.tagged("numpy.object", shape, coder.sequence(b"l", coder.keep(value.ravel().tolist())))
    if dtype.kind == "T":  # NumPy 2's text of any length
        texts = coder.sequence(b"l", coder.keep(value.ravel().tolist()))
        return coder.tagged("numpy.text", shape, texts, *_missing_text(coder, dtype))
    if _is_long(dtype):
        return coder.tagged("numpy.longdouble", coder.code(dtype.kind), shape, _long_digest(value))
    return coder.tagged("numpy.ndarray", coder.code(_dtype_text(dtype)), shape, _data_digest(coder, value))


def code_of_numbers(coder: Coder, kind: type, items: Any) -> list[bytes] | None:
    """The pieces of a sequence of NumPy numbers that are all of one type; None for times, text and the like."""
    numpy: Any = sys.modules["numpy"]
    if not issubclass(kind, (numpy.number, numpy.bool_)) or issubclass(kind, numpy.timedelta64):
        return None
    return [b"#", code_of_array(coder, coder.keep(numpy.array(items, kind)))]


def _subclass(coder: Coder, value: Any) -> bytes:
    """The code of an array of another class: as an ndarray, with its attributes if its class pickles them."""
    numpy: Any = sys.modules["numpy"]
    kind = type(value)
    if value is numpy.ma.masked:
        return coder.tagged("numpy.ma.masked")
    if isinstance(value, numpy.ma.MaskedArray):
        fill = numpy.ma.default_fill_value(value.dtype) if value._fill_value is None else value._fill_value
        parts = (_masked(coder, value), code_of_array(coder, coder.keep(numpy.asarray(fill, value.dtype))))
        return coder.tagged("numpy.ma", coder.code(kind), *parts)
    plain = code_of_array(coder, coder.keep(value.view(numpy.ndarray)))
    own = kind.__reduce__ is not numpy.ndarray.__reduce__ or kind.__reduce_ex__ is not numpy.ndarray.__reduce_ex__
    attributes = [coder.mapping(b"d", vars(value))] if own and kind.__module__.split(".")[0] != "numpy" else []
    return coder.tagged("numpy.subclass", coder.code(kind), plain, *attributes)


def _masked(coder: Coder, value: Any) -> bytes:
    """The mask, and the data with what is masked set to nothing."""
    numpy: Any = sys.modules["numpy"]
    if value.dtype.names is not None:
        fields = [part for name in value.dtype.names for part in (coder.code(name), _masked(coder, value[name]))]
        return coder.tagged("numpy.structured", *fields)
    data, mask = coder.keep(numpy.array(value.data)), coder.keep(numpy.array(numpy.ma.getmaskarray(value)))
    data[mask] = None if data.dtype.kind == "O" else numpy.zeros((), data.dtype)
    return coder.tagged("masked", code_of_array(coder, mask), code_of_array(coder, data))


def _dtype(coder: Coder, dtype: Any) -> bytes:
    """The code of a dtype; offsets and padding do not count."""
    if dtype.names is not None:
        fields = [part for name in dtype.names for part in (coder.code(name), _dtype(coder, dtype.fields[name][0]))]
        return coder.tagged("numpy.dtype", *fields, *([coder.code("record")] if _is_record(dtype) else []))
    if dtype.subdtype is not None:
        return coder.tagged("numpy.dtype", _dtype(coder, dtype.subdtype[0]), coder.code(dtype.subdtype[1]))
    if dtype.kind == "T":
        return coder.tagged("numpy.dtype", coder.code("T"), *_missing_text(coder, dtype))
    return coder.record("numpy.dtype", "longdouble " + dtype.kind if _is_long(dtype) else _dtype_text(dtype))


def _is_record(dtype: Any) -> bool:
    return dtype.type is sys.modules["numpy"].record


def _missing_text(coder: Coder, dtype: Any) -> list[bytes]:
    return [coder.code(dtype.na_object)] if hasattr(dtype, "na_object") else []


def _is_long(dtype: Any) -> bool:
    """True for floats beyond binary64, whose memory holds padding and depends on the processor."""
    return dtype.kind in "fc" and dtype.itemsize > (8 if dtype.kind == "f" else 16)


def _dtype_text(dtype: Any) -> str:
    if dtype.kind not in "biufcmMSUVO":
        raise UnknownTypeError(str(dtype))
    return str(dtype.newbyteorder("<").str)


def _long_digest(value: Any) -> bytes:
    """SHA-256 over each number as sign, exponent and 128 bits of fraction; complex ones as two numbers."""
    numpy: Any = sys.modules["numpy"]
    digest = hashlib.sha256()
    for block in _blocks(value):
        parts = numpy.stack([block.real, block.imag], -1).reshape(-1) if block.dtype.kind == "c" else block
        missing, endless = numpy.isnan(parts), numpy.isinf(parts)
        fraction, exponent = numpy.frexp(numpy.where(missing | endless, 0, numpy.abs(parts)))
        rows = numpy.zeros((len(parts), 6), "<i8")
        rows[:, 0] = numpy.where(missing, 2, numpy.signbit(parts))
        rows[:, 1] = numpy.where(endless, 1 << 32, exponent.astype("i8"))  # frexp's 32 bits are too few
        for at in range(2, 6):
            fraction = fraction * 4294967296
            rows[:, at] = numpy.floor(fraction)
            fraction = fraction - numpy.floor(fraction)
        digest.update(rows.view("u1"))
    return digest.digest()


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
