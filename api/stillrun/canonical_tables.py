"""Canonical codes of pandas tables, columns, indexes and scalars: how they are laid out in memory does not count.

Counts: values, dtype, names, labels, categories and their order, time zone, ``attrs``. Does not: blocks, RangeIndex or
Index, where text is stored, flags, the ``freq`` of an index.
"""

from __future__ import annotations

import sys

from stillrun.canonical import Coder, UnknownTypeError
from stillrun.canonical_arrays import code_of_array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["code_of_pandas"]


def code_of_pandas(coder: Coder, value: Any) -> bytes | None:
    """The code of a value from pandas; None for one that has no code of its own. Raises UnknownTypeError."""
    pandas: Any = sys.modules["pandas"]
    kind = type(value)
    if kind is pandas.DataFrame:
        columns = [_values(coder, value.iloc[:, at]) for at in range(value.shape[1])]
        parts = [_index(coder, value.index), _index(coder, value.columns), *columns, *_attributes(coder, value)]
        return coder.tagged("pandas.DataFrame", *parts)
    if kind is pandas.Series:
        parts = [coder.code(value.name), _index(coder, value.index), _values(coder, value)]
        return coder.tagged("pandas.Series", *parts, *_attributes(coder, value))
    if isinstance(value, pandas.Index):
        return _index(coder, value)
    if isinstance(value, pandas.api.extensions.ExtensionArray):
        return coder.tagged("pandas.array", _values(coder, coder.keep(pandas.Series(value, copy=False))))
    if isinstance(value, pandas.api.extensions.ExtensionDtype):
        return coder.record(
            "pandas.dtype", str(value), getattr(value, "categories", None), getattr(value, "ordered", None)
        )
    return _scalar(coder, value, kind)


def _attributes(coder: Coder, value: Any) -> list[bytes]:
    return [coder.record("attrs", value.attrs)] if value.attrs else []


def _scalar(coder: Coder, value: Any, kind: type) -> bytes | None:
    pandas: Any = sys.modules["pandas"]
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
        return coder.record("pandas.Interval", value.left, value.right, value.closed)
    return None


def _index(coder: Coder, index: Any) -> bytes:
    pandas: Any = sys.modules["pandas"]
    names = coder.sequence(b"l", list(index.names))
    if isinstance(index, pandas.MultiIndex):
        levels = [_values(coder, index.get_level_values(at)) for at in range(index.nlevels)]
        return coder.tagged("pandas.MultiIndex", names, *levels)
    if type(index).__module__.split(".")[0] != "pandas":
        raise UnknownTypeError(type(index).__qualname__)
    return coder.tagged("pandas.Index", names, _values(coder, index))


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
    raise UnknownTypeError(str(dtype))


def _missing(column: Any) -> Any:
    return column.array.isna()


def _text(coder: Coder, column: Any, dtype: Any) -> bytes:
    mask = _missing(column)
    present = column.to_numpy(dtype=object)[~mask].tolist()
    kind = "NA" if dtype.na_value is sys.modules["pandas"].NA else "nan"
    return coder.tagged("pandas.str", coder.code(kind), code_of_array(coder, mask), coder.sequence(b"l", present))


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


def _sparse(coder: Coder, column: Any, dtype: Any) -> bytes:
    dense = column.sparse.to_dense() if hasattr(column, "sparse") else column.astype(dtype.subtype)
    return coder.tagged("pandas.sparse", coder.code(str(dtype)), code_of_array(coder, coder.keep(dense.to_numpy())))


def _arrow(coder: Coder, column: Any, dtype: Any) -> bytes:
    from stillrun.canonical_science import LIBRARIES

    found = LIBRARIES["pyarrow"](coder, coder.keep(column.array.__arrow_array__()))
    if found is None:
        raise UnknownTypeError(str(dtype))
    return coder.tagged("pandas.arrow", found)


def _masked(coder: Coder, column: Any, dtype: Any) -> bytes:
    data = column.array.to_numpy(dtype=dtype.numpy_dtype, na_value=dtype.numpy_dtype.type(0))
    return coder.tagged("pandas.masked", code_of_array(coder, _missing(column)), code_of_array(coder, data))


_BY_DTYPE = {
    "StringDtype": _text,
    "CategoricalDtype": _category,
    "DatetimeTZDtype": _zoned,
    "PeriodDtype": _period,
    "IntervalDtype": _interval,
    "SparseDtype": _sparse,
    "ArrowDtype": _arrow,
}
