"""Differences between tables of columns, as of pyarrow and Polars: shape, names, types, size of what changed, rows."""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from stillrun.compare import Comparison

__all__ = ["compare_columns"]

ROWS_MAX = 10
COLUMNS_MAX = 20


def compare_columns(
    walk: Comparison, a: Mapping[str, Any], b: Mapping[str, Any], place: str, arrays: Callable[..., None]
) -> None:
    """Compare two tables, given as their columns by name. arrays: compares two arrays of NumPy, as of compare_science."""
    heights = [len(next(iter(columns.values()), ())) for columns in (a, b)]
    if (heights[0], len(a)) != (heights[1], len(b)):
        walk.differs("shape", place, str((heights[0], len(a))), str((heights[1], len(b))))
    gone, new = ([name for name in one if name not in other] for one, other in ((a, b), (b, a)))
    if gone or new:
        walk.differs("columns", f"{place}.columns", f"has {gone}" if gone else "", f"has {new}" if new else "")
    elif list(a) != list(b):
        walk.differs("order", f"{place}.columns", str(list(a)), str(list(b)))
    changed = [name for name in a if name in b and _column(walk, a[name], b[name], f"{place}[{name!r}]", arrays)]
    if changed and heights[0] == heights[1]:
        walk.found[-1].setdefault("rows", _rows(a, b, changed[:COLUMNS_MAX]))


def _column(walk: Comparison, a: Any, b: Any, place: str, arrays: Callable[..., None]) -> bool:
    """Compare two columns; True when they hold values that differ."""
    types = [each.dtype if hasattr(each, "dtype") else each.type for each in (a, b)]
    if types[0] != types[1]:
        walk.differs("dtype", place, str(types[0]), str(types[1]))
        return False
    if len(a) != len(b):
        return False  # the shape tells it
    before = walk.count
    one, other = _numbers(a), _numbers(b)
    if one is not None and other is not None:
        arrays(walk, walk.keep(one), walk.keep(other), place)
    else:
        walk.walk(walk.keep(_values(a)), walk.keep(_values(b)), place)
    return walk.count > before


def _numbers(column: Any) -> Any:
    """The column as an array of NumPy, where it holds numbers and all of them."""
    nulls = column.null_count
    if not _has_numpy() or (nulls() if callable(nulls) else nulls):
        return None
    array = column.to_numpy()
    return array if array.dtype.kind in "fiub" else None


def _has_numpy() -> bool:
    """Whether NumPy is there: neither library needs it."""
    try:
        importlib.import_module("numpy")
    except ImportError:
        return False
    return True


def _values(column: Any) -> list[Any]:
    values: list[Any] = column.to_list() if hasattr(column, "to_list") else column.to_pylist()
    return values


def _rows(a: Mapping[str, Any], b: Mapping[str, Any], changed: list[str]) -> list[dict[str, Any]]:
    """The first rows in which something changed, before and after."""
    before, after = ({name: _values(columns[name]) for name in changed} for columns in (a, b))
    height = len(before[changed[0]])
    unlike = [at for at in range(height) if any(repr(before[name][at]) != repr(after[name][at]) for name in changed)]
    return [
        {
            "row": str(at),
            "before": {name: repr(before[name][at]) for name in changed},
            "after": {name: repr(after[name][at]) for name in changed},
        }
        for at in unlike[:ROWS_MAX]
    ]
