"""Canonical codes of values from SciPy, Arrow, Polars, Pillow, Matplotlib and PyTorch: what they hold, not how.

None of these libraries is imported: a value of theirs has brought it.
"""

from __future__ import annotations

import pickle
import sys

from stillrun.canonical import Coder, UnknownTypeError, name_of
from stillrun.canonical_arrays import code_of_array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["LIBRARIES"]


def _of_scipy(coder: Coder, value: Any) -> bytes | None:
    """A sparse array or matrix: coordinates in order of rows, each once; an explicit zero counts, the index type does not."""
    if not hasattr(value, "tocoo") or not hasattr(value, "format"):
        return None
    numpy: Any = sys.modules["numpy"]
    plain = coder.keep(value.tocoo(copy=True))
    plain.sum_duplicates()
    axes = plain.coords if hasattr(plain, "coords") else (plain.row, plain.col)
    order = coder.keep(numpy.lexsort(tuple(reversed(axes))))
    parts = [coder.code(name_of(type(value))), coder.code(tuple(map(int, value.shape)))]
    parts += [code_of_array(coder, coder.keep(axis[order].astype("<i8"))) for axis in axes]
    return coder.tagged("scipy.sparse", *parts, code_of_array(coder, coder.keep(plain.data[order])))


def _of_arrow(coder: Coder, value: Any) -> bytes | None:
    """Tables and arrays: names, types, metadata and values; chunks, offsets and what lies behind nulls do not count."""
    arrow: Any = sys.modules["pyarrow"]
    if isinstance(value, (arrow.Table, arrow.RecordBatch)):
        columns = [_arrow_values(coder, value.column(at)) for at in range(value.num_columns)]
        return coder.tagged("pyarrow.Table", coder.code(type(value).__name__), _schema(coder, value.schema), *columns)
    if isinstance(value, arrow.Schema):
        return coder.tagged("pyarrow.Schema", _schema(coder, value))
    if isinstance(value, (arrow.Array, arrow.ChunkedArray)):
        chunked = isinstance(value, arrow.ChunkedArray)
        return coder.tagged(
            "pyarrow.Array", coder.code(chunked), coder.code(str(value.type)), _arrow_values(coder, value)
        )
    if isinstance(value, arrow.Scalar):
        return coder.record("pyarrow.Scalar", str(value.type), coder.keep(value.as_py()))
    if isinstance(value, arrow.DataType):
        return coder.record("pyarrow.DataType", str(value))
    return None


def _schema(coder: Coder, schema: Any) -> bytes:
    fields = [[one.name, str(one.type), one.nullable, one.metadata] for one in schema]
    return coder.record("schema", coder.keep(fields), coder.keep(dict(schema.metadata or {})))


def _arrow_values(coder: Coder, column: Any) -> bytes:
    arrow: Any = sys.modules["pyarrow"]
    kind = column.type
    whole = column.combine_chunks() if isinstance(column, arrow.ChunkedArray) else column
    if isinstance(whole, arrow.ChunkedArray):  # of none, or of more than fits in one
        whole = arrow.concat_arrays(whole.chunks) if whole.num_chunks else arrow.array([], kind)
    if arrow.types.is_integer(kind) or arrow.types.is_floating(kind):
        mask = coder.keep(whole.is_null().to_numpy(zero_copy_only=False))
        data = coder.keep(whole.fill_null(0).to_numpy(zero_copy_only=False))
        return coder.tagged("values", code_of_array(coder, mask), code_of_array(coder, data))
    return coder.tagged("values", coder.code(coder.keep(whole.to_pylist())))


def _of_polars(coder: Coder, value: Any) -> bytes | None:
    """Frames and series: names, types and values; chunks do not count."""
    polars: Any = sys.modules["polars"]
    if isinstance(value, polars.DataFrame):
        return coder.tagged("polars.DataFrame", *[_series(coder, column) for column in value.get_columns()])
    if isinstance(value, polars.Series):
        return coder.tagged("polars.Series", _series(coder, value))
    if isinstance(value, type) or not hasattr(value, "is_numeric"):
        return None
    return coder.record("polars.DataType", str(value))


def _series(coder: Coder, column: Any) -> bytes:
    head = [coder.code(column.name), coder.code(str(column.dtype)), coder.code(len(column))]
    if column.dtype.is_integer() or column.dtype.is_float():
        mask = coder.keep(column.is_null().to_numpy())
        data = coder.keep(column.fill_null(0).to_numpy())
        return coder.tagged("values", *head, code_of_array(coder, mask), code_of_array(coder, data))
    return coder.tagged("values", *head, coder.code(coder.keep(column.to_list())))


def _of_pillow(coder: Coder, value: Any) -> bytes | None:
    """An image: mode, size, pixels and palette, whatever file it came from."""
    image: Any = sys.modules.get("PIL.Image")
    if image is None or not isinstance(value, image.Image):
        return None
    palette = value.getpalette() if value.mode in ("P", "PA") else None
    seen = value.info.get("transparency")
    return coder.record("PIL.Image", value.mode, value.size, coder.keep(value.tobytes()), coder.keep(palette), seen)


def _of_matplotlib(coder: Coder, value: Any) -> bytes | None:
    """A figure: its size, and what it looks like at 100 dots per inch."""
    figure: Any = sys.modules.get("matplotlib.figure")
    if figure is None or not isinstance(value, figure.Figure):
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # type: ignore[import-not-found,unused-ignore]

    twin = coder.keep(pickle.loads(pickle.dumps(value, 5)))  # noqa: S301 - our own bytes; drawing changes a figure
    twin.set_dpi(100)
    canvas = coder.keep(FigureCanvasAgg(twin))
    canvas.draw()
    size = coder.keep([float(side) for side in value.get_size_inches()])
    pixels = code_of_array(coder, coder.keep(sys.modules["numpy"].asarray(canvas.buffer_rgba())))
    return coder.tagged("matplotlib.Figure", coder.code(size), coder.code(float(value.get_dpi())), pixels)


def _of_torch(coder: Coder, value: Any) -> bytes | None:
    """A dense tensor: type, shape and numbers; where they lie does not count."""
    torch: Any = sys.modules["torch"]
    if isinstance(value, (torch.dtype, torch.device, torch.Size)):
        return coder.record(name_of(type(value)), str(value))
    if not isinstance(value, torch.Tensor):
        return None
    if value.layout is not torch.strided or value.is_quantized:
        raise UnknownTypeError(str(value.layout))
    plain = coder.keep(value.detach().cpu().contiguous())
    kind = str(plain.dtype)
    if kind == "torch.bfloat16":
        plain = coder.keep(plain.view(torch.int16))
    parts = [coder.code(name_of(type(value))), coder.code(kind), coder.code(bool(value.requires_grad))]
    return coder.tagged("torch.Tensor", *parts, code_of_array(coder, coder.keep(plain.numpy())))


LIBRARIES: dict[str, Callable[[Coder, Any], bytes | None]] = {
    "scipy": _of_scipy,
    "pyarrow": _of_arrow,
    "polars": _of_polars,
    "PIL": _of_pillow,
    "matplotlib": _of_matplotlib,
    "torch": _of_torch,
}
"""By the first part of a class's module; None for a value that has no code of its own there."""
