"""Canonical codes of SciPy's sparse matrices and arrays: without duplicates and in order; stored zeros count.

Format, dtype and shape are part of the code. The matrix itself is not touched: SciPy would sort it in place.
"""

from __future__ import annotations

import math
import sys

from stillrun.canonical import Coder
from stillrun.canonical_arrays import code_of_array
from stillrun.canonical_objects import code_by_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["code_of_scipy"]


def code_of_scipy(coder: Coder, value: Any) -> bytes:
    """The code of a value from SciPy: a sparse matrix as such, all else by its state."""
    sparse: Any = sys.modules.get("scipy.sparse")
    if sparse is None or not sparse.issparse(value):
        return code_by_state(coder, value)
    layout = value.format
    if layout in ("csr", "csc", "bsr"):
        parts = _compressed(coder, value)
    elif layout == "lil":
        parts = _compressed(coder, coder.keep(value.tocsr(copy=True)))
    else:
        parts = _coordinates(coder, value)
    return coder.tagged(
        "scipy.sparse", coder.code(type(value)), coder.code(layout), coder.code(tuple(value.shape)), *parts
    )


def _compressed(coder: Coder, value: Any) -> list[bytes]:
    # a matrix of its own around the same memory: asking whether it is canonical leaves a mark
    own = coder.keep(type(value)((value.data, value.indices, value.indptr), shape=value.shape, copy=False))
    if not own.has_canonical_format:
        own = coder.keep(own.copy())
        own.sum_duplicates()
    arrays = (own.indptr.astype("<i8"), own.indices.astype("<i8"), own.data)
    return [code_of_array(coder, coder.keep(array)) for array in arrays]


def _coordinates(coder: Coder, value: Any) -> list[bytes]:
    """Coordinates in order of rows and columns, and the sum of what is stored at each."""
    numpy: Any = sys.modules["numpy"]
    held = coder.keep(value if value.format == "coo" else value.tocoo(copy=True))
    where = held.coords if hasattr(held, "coords") else (held.row, held.col)
    places, data = numpy.array(where, "<i8"), held.data
    if not _in_order(places, value.shape):
        order = numpy.lexsort(places[::-1])
        places, data = places[:, order], data[order]
        starts = numpy.flatnonzero(numpy.r_[True, (places[:, 1:] != places[:, :-1]).any(axis=0)])
        places, data = places[:, starts], numpy.add.reduceat(data, starts, dtype=data.dtype)
    return [code_of_array(coder, coder.keep(numpy.ascontiguousarray(array))) for array in (places, data)]


def _in_order(places: Any, shape: tuple[int, ...]) -> bool:
    """True when each place comes after the one before; places are told apart by one number as long as that is possible."""
    numpy: Any = sys.modules["numpy"]
    if places.shape[1] < 2:
        return True
    if math.prod(shape) >= 1 << 63:
        return False
    numbers = numpy.ravel_multi_index(tuple(places), shape)
    return bool((numbers[1:] > numbers[:-1]).all())
