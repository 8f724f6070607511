"""Differences between arrays and tables: shape, types, share and size of what changed, a few examples."""

from __future__ import annotations

import sys

from stillrun.compare_columns import compare_columns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from stillrun.compare import Comparison

__all__ = ["compare_science"]

ROWS_MAX = 10
COLUMNS_MAX = 20
MOVED_MIN = 3  # numbers that share an offset or a factor by chance
MOVED_WITHIN = 1e-9  # relative; less is rounding


def compare_science(walk: Comparison, a: Any, b: Any, place: str) -> bool:
    """Compare two values of one class of a library that is known; False when it is not."""
    root = type(a).__module__.split(".")[0]
    compare = _LIBRARIES.get(root)
    return compare is not None and compare(walk, a, b, place)


# -- NumPy ---------------------------------------------------------------------------------------


def _numpy(walk: Comparison, a: Any, b: Any, place: str) -> bool:
    numpy: Any = sys.modules["numpy"]
    if isinstance(a, numpy.ma.MaskedArray):
        _arrays(walk, numpy.ma.getmaskarray(a), numpy.ma.getmaskarray(b), f"{place}.mask")
        _arrays(walk, a.filled(), b.filled(), place)
        walk.walk(walk.keep(a.fill_value), walk.keep(b.fill_value), f"{place}.fill_value")
    elif isinstance(a, (numpy.ndarray, numpy.generic)):
        _arrays(walk, numpy.asarray(a), numpy.asarray(b), place)
        walk.walk(getattr(a, "__dict__", None), getattr(b, "__dict__", None), f"{place}.__dict__")
    else:
        return False
    return True


def _arrays(walk: Comparison, a: Any, b: Any, place: str, labels: Any = None) -> None:
    """labels: of the rows, where they have names."""
    numpy: Any = sys.modules["numpy"]
    if a.shape != b.shape:
        walk.differs("shape", place, str(a.shape), str(b.shape))
        return
    if a.dtype != b.dtype.newbyteorder(a.dtype.byteorder) and a.dtype != b.dtype:
        walk.differs("dtype", place, str(a.dtype), str(b.dtype))
        return
    if a.dtype.names:
        for name in a.dtype.names:
            _arrays(walk, a[name], b[name], f"{place}[{name!r}]", labels)
        return
    if a.dtype.kind in "OT":
        for at in numpy.ndindex(a.shape):
            walk.walk(a[at], b[at], f"{place}{_index(at, labels)}")
        return
    if a.dtype.kind in "fciub":
        _numbers(walk, a, b, place, labels)
        return
    unlike = a != b
    if a.dtype.kind in "mM":
        unlike &= ~(numpy.isnat(a) & numpy.isnat(b))
    _unlike(walk, a, b, unlike, place, labels)


def _unlike(walk: Comparison, a: Any, b: Any, unlike: Any, place: str, labels: Any) -> None:
    """Values that are no numbers."""
    numpy: Any = sys.modules["numpy"]
    count = int(numpy.count_nonzero(unlike))
    if count:
        at = tuple(int(i) for i in numpy.argwhere(unlike)[0]) if unlike.ndim else ()
        more = {"differing": count, "of": int(a.size), "share": count / max(1, a.size)}
        walk.differs("values", f"{place}{_index(at, labels)}", _shown(a[at]), _shown(b[at]), **more)


def _numbers(walk: Comparison, a: Any, b: Any, place: str, labels: Any) -> None:
    numpy: Any = sys.modules["numpy"]
    if a.dtype.kind == "c":
        _numbers(walk, a.real, b.real, f"{place}.real", labels)
        _numbers(walk, a.imag, b.imag, f"{place}.imag", labels)
        return
    with numpy.errstate(all="ignore"):
        unlike = a != b
        if a.dtype.kind == "f":
            absent = numpy.isnan(a), numpy.isnan(b)
            masks = absent[0] != absent[1]
            unlike = (unlike & ~(absent[0] & absent[1])) | (
                (a == 0) & (b == 0) & (numpy.signbit(a) != numpy.signbit(b))
            )
            if masks.any():
                _unlike(walk, a, b, masks, place, labels)
                unlike &= ~masks
        count = int(numpy.count_nonzero(unlike))
        if not count:
            return
        if a.dtype.kind == "b":
            _unlike(walk, a, b, unlike, place, labels)
            return
        _sized(walk, a, b, unlike, count, place, labels)


def _sized(walk: Comparison, a: Any, b: Any, unlike: Any, count: int, place: str, labels: Any) -> None:
    """How large the differences are, and where the largest is."""
    numpy: Any = sys.modules["numpy"]
    wide = "f8" if a.dtype.itemsize <= 8 else a.dtype
    before, after = a[unlike].astype(wide), b[unlike].astype(wide)
    distance = numpy.abs(after - before)
    size = numpy.maximum(numpy.abs(before), numpy.abs(after))
    rel = numpy.where(size > 0, distance / numpy.where(size > 0, size, 1), 0)
    rel = numpy.where(numpy.isfinite(distance), rel, numpy.inf)
    top = int(numpy.argmax(rel))
    flat = numpy.argwhere(unlike)
    at = tuple(int(i) for i in flat[top]) if a.ndim else ()
    ulp = distance / numpy.spacing(numpy.abs(before).astype(a.dtype)) if a.dtype.kind == "f" else distance
    tolerated = bool((distance <= walk.atol + walk.rtol * numpy.abs(before)).all())
    walk.numeric(
        f"{place}{_index(at, labels)}",
        _shown(a[at]),
        _shown(b[at]),
        float(distance.max()),
        float(rel.max()),
        float(numpy.nanmax(ulp)),
        count,
        tolerated=tolerated,
        differing=count,
        of=int(a.size),
        share=count / max(1, a.size),
        histogram=_histogram(rel),
        **_moved(before, after),
    )


def _moved(before: Any, after: Any) -> dict[str, float]:
    """The factor or the offset, where it is the same for all numbers that differ."""
    numpy: Any = sys.modules["numpy"]
    if len(before) <= MOVED_MIN or not (numpy.isfinite(before).all() and numpy.isfinite(after).all()):
        return {}
    offsets = after - before
    if numpy.ptp(offsets) <= MOVED_WITHIN * abs(offsets[0]):
        return {"offset": float(offsets[0])}
    factors = after / numpy.where(before == 0, numpy.nan, before)
    return {"factor": float(factors[0])} if numpy.ptp(factors) <= MOVED_WITHIN * abs(factors[0]) else {}


def _histogram(rel: Any) -> dict[str, int]:
    """How many relative differences there are of each power of ten."""
    numpy: Any = sys.modules["numpy"]
    known = rel[(rel > 0) & numpy.isfinite(rel)]
    powers, counts = numpy.unique(numpy.floor(numpy.log10(known)).astype(int), return_counts=True)
    return {f"1e{int(power)}": int(count) for power, count in zip(powers, counts)}


def _index(at: tuple[int, ...], labels: Any) -> str:
    if not at:
        return ""
    if labels is not None:
        return f".loc[{labels[at[0]]!r}]"
    return "[" + ", ".join(map(str, at)) + "]"


def _shown(value: Any) -> str:
    return repr(value.item()) if hasattr(value, "item") else repr(value)


# -- pandas --------------------------------------------------------------------------------------


def _pandas(walk: Comparison, a: Any, b: Any, place: str) -> bool:
    pandas: Any = sys.modules["pandas"]
    if isinstance(a, pandas.DataFrame):
        _frames(walk, a, b, place)
    elif isinstance(a, pandas.Series):
        _labels(walk, a.index, b.index, f"{place}.index")
        walk.walk(a.name, b.name, f"{place}.name")
        _columns(walk, a, b, place)
        walk.walk(a.attrs, b.attrs, f"{place}.attrs")
    elif isinstance(a, pandas.Index):
        _labels(walk, a, b, place)
    elif isinstance(a, pandas.api.extensions.ExtensionArray):
        _columns(walk, pandas.Series(a), pandas.Series(b), place)
    else:
        return False
    return True


def _frames(walk: Comparison, a: Any, b: Any, place: str) -> None:
    if a.shape != b.shape:
        walk.differs("shape", place, str(a.shape), str(b.shape))
    gone = [name for name in a.columns if name not in b.columns]
    new = [name for name in b.columns if name not in a.columns]
    if gone or new:
        walk.differs("columns", f"{place}.columns", f"has {gone}" if gone else "", f"has {new}" if new else "")
    elif list(a.columns) != list(b.columns):
        walk.differs("order", f"{place}.columns", str(list(a.columns)), str(list(b.columns)))
    _labels(walk, a.index, b.index, f"{place}.index")
    if not (a.columns.is_unique and b.columns.is_unique):
        return
    if len(a) != len(b):
        if not (a.index.is_unique and b.index.is_unique):
            return
        common = a.index.intersection(b.index)  # of the rows that both have, what differs
        a, b = a.loc[common], b.loc[common]
    same_labels = a.index.equals(b.index)
    before = walk.count
    changed = [name for name in a.columns if name in b.columns and _column(walk, a[name], b[name], place, name)]
    if walk.count > before and same_labels and walk.found:
        walk.found[-1].setdefault("rows", _rows(a, b, changed[:COLUMNS_MAX]))
    walk.walk(a.attrs, b.attrs, f"{place}.attrs")


def _column(walk: Comparison, a: Any, b: Any, place: str, name: Any) -> bool:
    before = walk.count
    _columns(walk, a, b, f"{place}[{name!r}]")
    return walk.count > before


def _columns(walk: Comparison, a: Any, b: Any, place: str) -> None:
    numpy: Any = sys.modules["numpy"]
    if len(a) != len(b):
        walk.differs("length", place, f"{len(a):,} rows", f"{len(b):,} rows")
        return
    if a.dtype != b.dtype:
        walk.differs("dtype", place, str(a.dtype), str(b.dtype))
        return
    labels = a.index if a.index.equals(b.index) else None
    if isinstance(a.dtype, numpy.dtype) and a.dtype.kind != "O":
        _arrays(walk, a.to_numpy(), b.to_numpy(), place, labels)
        return
    if hasattr(a.array, "_mask"):  # nullable numbers
        absent = a.isna().to_numpy(), b.isna().to_numpy()
        _arrays(walk, absent[0], absent[1], f"{place}.isna()", labels)
        there = ~(absent[0] | absent[1])
        kind = a.dtype.numpy_dtype
        named = None if labels is None else labels[there]
        _arrays(walk, a[there].to_numpy(dtype=kind), b[there].to_numpy(dtype=kind), place, named)
        return
    one, other = a.to_numpy(dtype=object), b.to_numpy(dtype=object)
    if hasattr(a.dtype, "categories") and a.dtype.categories is not None:
        walk.walk(list(a.dtype.categories), list(b.dtype.categories), f"{place}.categories")
    missing = a.isna().to_numpy(), b.isna().to_numpy()
    for at in numpy.flatnonzero(~(missing[0] & missing[1])):
        label = _index((int(at),), labels)
        if missing[0][at] or missing[1][at]:
            walk.differs("values", f"{place}{label}", repr(one[at]), repr(other[at]))
        else:
            walk.walk(one[at], other[at], f"{place}{label}")


def _labels(walk: Comparison, a: Any, b: Any, place: str) -> None:
    if len(a) == len(b) and a.equals(b) and a.dtype == b.dtype:
        walk.walk(list(a.names), list(b.names), f"{place}.names")
        return
    if len(a) != len(b):
        gone, new = a.difference(b), b.difference(a)
        more = {"gone": [repr(x) for x in gone[:ROWS_MAX]], "new": [repr(x) for x in new[:ROWS_MAX]]}
        walk.differs("labels", place, f"{len(a):,} labels", f"{len(b):,} labels", **more)
    elif a.dtype != b.dtype:
        walk.differs("dtype", place, str(a.dtype), str(b.dtype))
    elif len(a.unique()) == len(a) and not len(a.difference(b)):
        walk.differs("order", place, repr(list(a[:5])), repr(list(b[:5])), length=len(a))
    else:
        at = next(i for i in range(len(a)) if a[i] is not b[i] and repr(a[i]) != repr(b[i]))
        walk.differs("labels", f"{place}[{at}]", repr(a[at]), repr(b[at]))


def _rows(a: Any, b: Any, changed: list[Any]) -> list[dict[str, Any]]:
    """The first rows in which something changed, before and after."""
    numpy: Any = sys.modules["numpy"]
    unlike = numpy.zeros(len(a), bool)
    for name in changed:
        if a[name].dtype == b[name].dtype:
            one, other = a[name].to_numpy(dtype=object), b[name].to_numpy(dtype=object)
            unlike |= numpy.array([x is not y and repr(x) != repr(y) for x, y in zip(one, other)], bool)
    return [
        {
            "row": repr(a.index[at]),
            "before": {str(name): _shown(a[name].iloc[at]) for name in changed},
            "after": {str(name): _shown(b[name].iloc[at]) for name in changed},
        }
        for at in numpy.flatnonzero(unlike)[:ROWS_MAX]
    ]


# -- others --------------------------------------------------------------------------------------


def _scipy(walk: Comparison, a: Any, b: Any, place: str) -> bool:
    if not hasattr(a, "tocoo") or not hasattr(a, "format"):
        return False
    if a.shape != b.shape:
        walk.differs("shape", place, str(a.shape), str(b.shape))
        return True
    one, other = a.tocsr().copy(), b.tocsr().copy()
    for each in (one, other):
        each.sum_duplicates()
    for name in ("indptr", "indices"):
        before, after = (getattr(each, name).astype("i8") for each in (one, other))
        _arrays(walk, before, after, f"{place}.tocsr().{name}")
    _arrays(walk, one.data, other.data, f"{place}.tocsr().data")
    return True


def _arrow(walk: Comparison, a: Any, b: Any, place: str) -> bool:
    if hasattr(a, "schema") and hasattr(a, "column"):
        compare_columns(walk, _named(a), _named(b), place, _arrays)
        walk.walk(a.schema.metadata, b.schema.metadata, f"{place}.schema.metadata")
        fields = [walk.keep([(each.nullable, each.metadata) for each in one.schema]) for one in (a, b)]
        walk.walk(fields[0], fields[1], f"{place}.schema.<nullable, metadata>")
        return True
    if not hasattr(a, "to_pylist"):
        return False
    walk.walk(str(a.type), str(b.type), f"{place}.type")
    walk.walk(walk.keep(a.to_pylist()), walk.keep(b.to_pylist()), place)
    return True


def _named(table: Any) -> dict[str, Any]:
    """The columns by name; a name that was there already gets its place."""
    found: dict[str, Any] = {}
    for at, (name, column) in enumerate(zip(table.schema.names, table.columns)):
        found[f"{name} (column {at})" if name in found else name] = column
    return found


def _polars(walk: Comparison, a: Any, b: Any, place: str) -> bool:
    if hasattr(a, "get_columns"):
        tables = [{one.name: one for one in each.get_columns()} for each in (a, b)]
        compare_columns(walk, tables[0], tables[1], place, _arrays)
        return True
    if not hasattr(a, "to_list") or not hasattr(a, "dtype"):
        return False
    walk.walk(a.name, b.name, f"{place}.name")
    if a.dtype != b.dtype:
        walk.differs("dtype", place, str(a.dtype), str(b.dtype))
        return True
    walk.walk(walk.keep(a.to_list()), walk.keep(b.to_list()), place)
    return True


def _torch(walk: Comparison, a: Any, b: Any, place: str) -> bool:
    torch: Any = sys.modules["torch"]
    if not isinstance(a, torch.Tensor):
        return False
    if a.dtype != b.dtype or a.layout is not torch.strided:
        walk.differs("dtype", place, str(a.dtype), str(b.dtype))
        return True
    wide = torch.float32 if a.dtype in (torch.bfloat16,) else a.dtype
    one, other = (each.detach().cpu().to(wide).numpy() for each in (a, b))
    _arrays(walk, one, other, place)
    return True


def _picture(walk: Comparison, a: Any, b: Any, place: str) -> bool:
    from stillrun.compare_pictures import compare_figures, compare_images

    if hasattr(a, "get_size_inches"):
        compare_figures(walk, a, b, place)
    elif hasattr(a, "tobytes") and hasattr(a, "mode"):
        compare_images(walk, a, b, place)
    else:
        return False
    return True


_LIBRARIES: dict[str, Callable[[Comparison, Any, Any, str], bool]] = {
    "numpy": _numpy,
    "pandas": _pandas,
    "scipy": _scipy,
    "pyarrow": _arrow,
    "polars": _polars,
    "PIL": _picture,
    "matplotlib": _picture,
    "torch": _torch,
}
