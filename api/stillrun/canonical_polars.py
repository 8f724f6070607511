"""Canonical codes of Polars frames and series: chunks, buffers and what lies under nulls do not count. Lazy ones have none."""

from __future__ import annotations

import sys
from array import array

from stillrun.canonical import Coder, UnknownTypeError
from stillrun.canonical_buffers import WIDTHS, code_of_numbers, code_of_texts
from stillrun.canonical_objects import code_by_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["code_of_polars"]

_FORMS = {
    "Float32": "f",
    "Float64": "d",
    **{
        f"{sign}Int{8 * size}": form
        for sign, forms in (("", "bhiq"), ("U", "BHIQ"))
        for size, form in zip((1, 2, 4, 8), forms)
    },
}


def code_of_polars(coder: Coder, value: Any) -> bytes:
    """The code of a value from Polars. Raises UnknownTypeError."""
    polars: Any = sys.modules["polars"]
    if isinstance(value, polars.DataFrame):
        columns = [_series(coder, column) for column in value.get_columns()]
        return coder.tagged("polars.DataFrame", coder.code(type(value)), coder.code(value.height), *columns)
    if isinstance(value, polars.Series):
        return coder.tagged("polars.Series", coder.code(type(value)), _series(coder, value))
    if isinstance(value, (polars.LazyFrame, polars.Expr)):
        raise UnknownTypeError(type(value).__qualname__)  # what is still to be done has no value yet
    if isinstance(value, polars.DataType):
        return coder.record("polars.DataType", str(value))
    return code_by_state(coder, value)


def _series(coder: Coder, series: Any) -> bytes:
    return coder.tagged("column", coder.code(series.name), coder.code(str(series.dtype)), _values(coder, series))


def _values(coder: Coder, series: Any) -> bytes:
    """The code of the values: which are null, and those that are not."""
    if series.null_count() == 0:
        return coder.tagged("values", coder.code(len(series)), _present(coder, series))
    missing = _numbers(coder, series.is_null().cast(sys.modules["polars"].UInt8), "B")
    return coder.tagged("values", coder.code(len(series)), _present(coder, series.drop_nulls()), missing)


def _present(coder: Coder, series: Any) -> bytes:
    polars: Any = sys.modules["polars"]
    name = type(series.dtype).__name__ if isinstance(series.dtype, polars.DataType) else series.dtype.__name__
    if name in ("Date", "Datetime", "Duration", "Time", "Decimal"):
        return _present(coder, series.to_physical())
    if name in ("Categorical", "Enum"):
        return _present(coder, series.cast(polars.Utf8))
    if name in _FORMS or name == "Boolean":
        plain = series.cast(polars.UInt8) if name == "Boolean" else series
        return _numbers(coder, plain, _FORMS.get(name, "B"))
    if name in ("String", "Utf8") and hasattr(series.str, "join"):
        lengths = series.str.len_chars().cast(polars.UInt64)
        joined = series.str.join("").to_list() if len(series) else [""]
        return code_of_texts(len(series), [_memory(lengths, "Q")], [joined[0].encode("utf-8")])
    if name == "List":
        lengths = series.list.len().cast(polars.UInt64)
        items = series.filter(lengths > 0).explode()
        return coder.tagged("list", _numbers(coder, lengths, "Q"), _values(coder, items))
    if name == "Array":
        return coder.tagged("list", _values(coder, series.explode()))
    if name == "Struct":
        return coder.tagged("struct", *[_values(coder, series.struct.field(each)) for each in series.struct.fields])
    return coder.sequence(b"l", coder.keep(series.to_list()))


def _numbers(coder: Coder, series: Any, form: str) -> bytes:
    return code_of_numbers(coder, form, len(series), [_memory(series, form)])


def _memory(series: Any, form: str) -> Any:
    """The numbers of a series as little-endian memory; NumPy need not be there, and gets there faster."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and hasattr(numpy, "ascontiguousarray"):
        return numpy.ascontiguousarray(series.to_numpy().astype(f"<{_kind(form)}{WIDTHS[form]}", copy=False)).view("u1")
    numbers = array(form, series.to_list())
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _kind(form: str) -> str:
    return "f" if form in "fd" else "i" if form.islower() else "u"
