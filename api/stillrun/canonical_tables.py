"""Canonical codes of pandas tables, columns, indexes and scalars: how they are laid out in memory does not count.

Counts: values, dtype, names, labels, categories and their order, time zone, ``attrs``. Does not: blocks, RangeIndex or
Index, where text is stored, flags, the ``freq`` of an index, the kind of a sparse index.
"""

from __future__ import annotations

import sys

from stillrun.canonical import Coder, UnknownTypeError
from stillrun.canonical_arrays import code_of_array
from stillrun.canonical_arrow import text_of_arrow
from stillrun.canonical_objects import code_by_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["code_of_pandas"]

_CACHES = ("_cache", "_readonly", "_sindex")  # of extension arrays: no part of their values


def code_of_pandas(coder: Coder, value: Any) -> bytes:
    """The code of a value from pandas. Raises UnknownTypeError."""
    pandas: Any = sys.modules["pandas"]
    if isinstance(value, pandas.DataFrame):
        columns = [_values(coder, value.iloc[:, at]) for at in range(value.shape[1])]
        parts = (_index(coder, value.index), _index(coder, value.columns), *columns)
        return _with_metadata(coder, value, pandas.DataFrame, *parts)
    if isinstance(value, pandas.Series):
        parts = (coder.code(value.name), _index(coder, value.index), _values(coder, value))
        return _with_metadata(coder, value, pandas.Series, *parts)
    if isinstance(value, pandas.Index):
        return _index(coder, value)
    if isinstance(value, pandas.api.extensions.ExtensionArray):
        return coder.tagged("pandas.array", _values(coder, pandas.Series(value, copy=False)))
    if isinstance(value, pandas.api.extensions.ExtensionDtype):
        return _dtype(coder, value)
    return _scalar(coder, pandas, value)


def _scalar(coder: Coder, pandas: Any, value: Any) -> bytes:
    kind = type(value)
    if value is pandas.NaT or value is pandas.NA:
        return coder.tagged(f"pandas.{'NaT' if value is pandas.NaT else 'NA'}")
    if kind in (pandas.Timestamp, pandas.Timedelta):
        zone = getattr(value, "tz", None)
        fold = getattr(value, "fold", 0)
        moment = value if zone is None else value.tz_convert("UTC").tz_localize(None)
        plain = coder.keep(moment.to_numpy())
        return coder.record(f"pandas.{kind.__name__}", plain, None if zone is None else str(zone), fold)
    if kind is pandas.Period:
        return coder.record("pandas.Period", value.freqstr, value.ordinal)
    if kind is pandas.Interval:
        return coder.record("pandas.Interval", value.closed, value.left, value.right)
    return code_by_state(coder, value)


def _with_metadata(coder: Coder, value: Any, base: type, *parts: bytes) -> bytes:
    """The code of a table or column, with its ``attrs``, and for a subclass with what it pickles beside."""
    plain = coder.tagged(f"pandas.{base.__name__}", *parts, coder.mapping(b"d", value.attrs))
    if type(value) is base:
        return plain
    metadata = {name: getattr(value, name, None) for name in value._metadata if name not in ("name", "_name")}
    return coder.tagged("pandas.subclass", coder.code(type(value)), plain, coder.mapping(b"d", metadata))


def _index(coder: Coder, index: Any) -> bytes:
    pandas: Any = sys.modules["pandas"]
    names = coder.sequence(b"l", list(index.names))
    if isinstance(index, pandas.MultiIndex):
        levels = [_values(coder, index.get_level_values(at)) for at in range(index.nlevels)]
        return coder.tagged("pandas.MultiIndex", names, *levels)
    if type(index).__module__.split(".")[0] != "pandas":
        raise UnknownTypeError(type(index).__qualname__)
    return coder.tagged("pandas.Index", names, _values(coder, index))


def _dtype(coder: Coder, dtype: Any) -> bytes:
    name = type(dtype).__name__
    if name == "CategoricalDtype":
        categories = coder.code(None) if dtype.categories is None else _values(coder, dtype.categories)
        return coder.tagged("pandas.dtype", coder.code(name), coder.code(dtype.ordered), categories)
    if name == "ArrowDtype":
        return coder.record("pandas.dtype", name, dtype.pyarrow_dtype)
    missing = getattr(dtype, "na_value", None)
    return coder.record("pandas.dtype", name, str(dtype), missing)


def _values(coder: Coder, column: Any) -> bytes:
    """The code of the values of a Series or an Index."""
    numpy: Any = sys.modules["numpy"]
    coder.keep(column)
    dtype = column.dtype
    if isinstance(dtype, numpy.dtype):
        return code_of_array(coder, coder.keep(column.to_numpy()))
    code = _BY_DTYPE.get(type(dtype).__name__)
    if code is not None:
        return code(coder, column, dtype)
    if hasattr(dtype, "numpy_dtype") and hasattr(column.array, "_mask"):
        return _masked(coder, column, dtype)
    objects = coder.sequence(b"l", coder.keep(column.to_numpy(dtype=object).tolist()))
    beside = coder.mapping(b"d", coder.keep(_beside(column.array)))
    return coder.tagged("pandas.extension", coder.code(type(dtype)), coder.code(str(dtype)), objects, beside)


def _beside(array: Any) -> dict[str, Any]:
    """What an array of another package knows apart from its values, such as where its coordinates are."""
    held = getattr(array, "__dict__", None) or {}
    known = {name: item for name, item in held.items() if item is not None and name not in _CACHES}
    return {name: item for name, item in known.items() if not hasattr(item, "__array__")}


def _missing(column: Any) -> Any:
    return column.array.isna()


def _text(coder: Coder, column: Any, dtype: Any) -> bytes:
    mask = _missing(column)
    if getattr(dtype, "storage", None) == "pyarrow":
        present = text_of_arrow(column.array.__arrow_array__())
    else:
        present = coder.sequence(b"l", column.to_numpy(dtype=object)[~mask].tolist())
    kind = "NA" if dtype.na_value is sys.modules["pandas"].NA else "nan"
    return coder.tagged("pandas.str", coder.code(kind), code_of_array(coder, mask), present)


def _category(coder: Coder, column: Any, dtype: Any) -> bytes:
    codes = column.array.codes.astype("<i8")
    categories = _values(coder, dtype.categories)
    return coder.tagged("pandas.category", coder.code(bool(dtype.ordered)), categories, code_of_array(coder, codes))


def _zoned(coder: Coder, column: Any, dtype: Any) -> bytes:
    plain = column.array.tz_convert("UTC").tz_localize(None).to_numpy()
    return coder.tagged("pandas.datetimetz", coder.code(str(dtype.tz)), code_of_array(coder, plain))


def _period(coder: Coder, column: Any, dtype: Any) -> bytes:
    return coder.tagged("pandas.period", coder.code(str(dtype)), code_of_array(coder, column.array.asi8))


def _interval(coder: Coder, column: Any, dtype: Any) -> bytes:
    sides = (_values(coder, column.array.left), _values(coder, column.array.right))
    return coder.tagged("pandas.interval", coder.code(dtype.closed), *sides)


def _masked(coder: Coder, column: Any, dtype: Any) -> bytes:
    data = column.array.to_numpy(dtype=dtype.numpy_dtype, na_value=dtype.numpy_dtype.type(0))
    return coder.tagged("pandas.masked", code_of_array(coder, _missing(column)), code_of_array(coder, data))


def _sparse(coder: Coder, column: Any, dtype: Any) -> bytes:
    numpy: Any = sys.modules["numpy"]
    held, fill = column.array.sp_values, dtype.fill_value
    blank = (held != held) if fill != fill else (held == fill)
    at = column.array.sp_index.indices.astype("<i8")[~blank]
    present = coder.keep(numpy.ascontiguousarray(held[~blank]))
    parts = (coder.code(len(column)), coder.code(fill), code_of_array(coder, at), code_of_array(coder, present))
    return coder.tagged("pandas.sparse", *parts)


def _arrow(coder: Coder, column: Any, dtype: Any) -> bytes:
    held: Any = column.array.__arrow_array__()
    return coder.record("pandas.arrow", dtype.pyarrow_dtype, coder.keep(_chunked(held)))


def _chunked(held: Any) -> Any:
    return held if hasattr(held, "chunks") else sys.modules["pyarrow"].chunked_array([held])


_BY_DTYPE = {
    "ArrowDtype": _arrow,
    "SparseDtype": _sparse,
    "StringDtype": _text,
    "CategoricalDtype": _category,
    "DatetimeTZDtype": _zoned,
    "PeriodDtype": _period,
    "IntervalDtype": _interval,
}
