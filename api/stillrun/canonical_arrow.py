"""Canonical codes of pyarrow's tables, arrays and schemas: chunks, offsets and what lies under nulls do not count."""

from __future__ import annotations

import sys

from stillrun.canonical import Coder, UnknownTypeError
from stillrun.canonical_buffers import code_of_numbers, code_of_texts
from stillrun.canonical_objects import code_by_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["code_of_arrow", "text_of_arrow"]

_FORMS = {
    "halffloat": "e",
    "float": "f",
    "double": "d",
    **{
        f"{sign}int{8 * size}": form
        for sign, forms in (("", "bhiq"), ("u", "BHIQ"))
        for size, form in zip((1, 2, 4, 8), forms)
    },
}


def code_of_arrow(coder: Coder, value: Any) -> bytes:
    """The code of a value from pyarrow. Raises UnknownTypeError."""
    arrow: Any = sys.modules["pyarrow"]
    if isinstance(value, (arrow.Table, arrow.RecordBatch)):
        columns = [_values(coder, _chunked(value.column(at))) for at in range(value.num_columns)]
        parts = (_schema(coder, value.schema), coder.code(value.num_rows), *columns)
        return coder.tagged(f"pyarrow.{type(value).__name__}", *parts)
    if isinstance(value, (arrow.Array, arrow.ChunkedArray)):
        kind = "ChunkedArray" if isinstance(value, arrow.ChunkedArray) else "Array"
        return coder.tagged(f"pyarrow.{kind}", _type(coder, value.type), _values(coder, _chunked(value)))
    if isinstance(value, arrow.Scalar):
        array = arrow.array([value.as_py()], value.type)
        return coder.tagged("pyarrow.Scalar", _type(coder, value.type), _values(coder, _chunked(array)))
    if isinstance(value, arrow.Schema):
        return _schema(coder, value)
    if isinstance(value, arrow.Field):
        return _field(coder, value)
    if isinstance(value, arrow.DataType):
        return _type(coder, value)
    if isinstance(value, arrow.Buffer):
        return coder.record("pyarrow.Buffer", value.to_pybytes())
    return code_by_state(coder, value)


def text_of_arrow(value: Any) -> bytes:
    """The code of the list of strings in an array, nulls left out."""
    compute, arrow = _compute(), sys.modules["pyarrow"]
    present = _chunked(value).drop_null().cast(arrow.large_string())
    lengths = compute.utf8_length(present).cast(arrow.int64())
    return code_of_texts(len(present), _fixed(lengths, 8), _data(present))


def _compute() -> Any:
    return __import__("pyarrow.compute", fromlist=("_",))  # pyarrow's own arrays import it when they are asked anything


def _chunked(value: Any) -> Any:
    return value if hasattr(value, "chunks") else sys.modules["pyarrow"].chunked_array([value])


# -- types ---------------------------------------------------------------------------------------


def _schema(coder: Coder, schema: Any) -> bytes:
    fields = [_field(coder, schema.field(at)) for at in range(len(schema))]
    return coder.tagged("pyarrow.Schema", _metadata(coder, schema), *fields)


def _field(coder: Coder, field: Any) -> bytes:
    parts = (coder.code(field.name), coder.code(field.nullable), _type(coder, field.type), _metadata(coder, field))
    return coder.tagged("pyarrow.Field", *parts)


def _metadata(coder: Coder, value: Any) -> bytes:
    return coder.mapping(b"d", dict(value.metadata or {}))


def _type(coder: Coder, kind: Any) -> bytes:
    """The code of a data type: its text, and that of each field within it."""
    if hasattr(kind, "extension_name"):
        serialized = kind.__arrow_ext_serialize__() if hasattr(kind, "__arrow_ext_serialize__") else str(kind)
        parts = (coder.code(kind.extension_name), coder.code(serialized), _type(coder, kind.storage_type))
        return coder.tagged("pyarrow.ExtensionType", *parts)
    fields = [_field(coder, kind.field(at)) for at in range(kind.num_fields)]
    return coder.tagged("pyarrow.DataType", coder.code(str(kind)), *fields)


# -- values --------------------------------------------------------------------------------------


def _values(coder: Coder, column: Any) -> bytes:
    """The code of a chunked array: which are null, and the values of the others."""
    types = sys.modules["pyarrow"].types
    kind = column.type
    if types.is_null(kind):
        return coder.tagged("nulls", coder.code(len(column)))
    if types.is_union(kind):
        which = coder.keep([code for chunk in column.chunks for code in chunk.type_codes.to_pylist()])
        return coder.tagged("union", coder.code(which), coder.code(column.to_pylist()))
    if "list_view" in str(kind) or "_view" in str(kind).partition("<")[2]:  # which pyarrow can only show
        return coder.tagged("objects", coder.code(column.to_pylist()))
    if hasattr(kind, "extension_name"):
        chunks = [chunk.storage for chunk in column.chunks]
        return _values(coder, sys.modules["pyarrow"].chunked_array(chunks, kind.storage_type))
    if types.is_run_end_encoded(kind) if hasattr(types, "is_run_end_encoded") else False:
        decoded = [_compute().run_end_decode(chunk) for chunk in column.chunks]
        return _values(coder, sys.modules["pyarrow"].chunked_array(decoded, kind.value_type))
    column = column.cast(_without_views(kind)) if "_view" in str(kind) else column
    if column.null_count == 0:
        return coder.tagged("column", coder.code(len(column)), _present(coder, column))
    mask = _present(coder, column.is_null())
    return coder.tagged("column", coder.code(len(column)), _present(coder, column.drop_null()), mask)


def _without_views(kind: Any) -> Any:
    """The type with offsets that holds what a type with views does; pyarrow can do more with it."""
    arrow: Any = sys.modules["pyarrow"]
    return arrow.large_string() if "string" in str(kind) else arrow.large_binary()


def _present(coder: Coder, column: Any) -> bytes:
    """The code of values none of which is null."""
    arrow: Any = sys.modules["pyarrow"]
    types, kind = arrow.types, column.type
    form = _FORMS.get(str(kind))
    if form is not None or types.is_boolean(kind):
        plain = column.cast(arrow.uint8()) if form is None else column
        width = plain.type.bit_width // 8
        return code_of_numbers(coder, form or "B", len(column), _fixed(plain, width))
    if types.is_dictionary(kind):
        return _dictionary(coder, column)
    if types.is_nested(kind):
        return _nested(coder, column)
    if "string" in str(kind):
        return text_of_arrow(column)
    if "binary" in str(kind) and not types.is_fixed_size_binary(kind):
        long = column.cast(arrow.large_binary())
        lengths = _compute().binary_length(long).cast(arrow.int64())
        return coder.tagged("binary", code_of_texts(len(column), _fixed(lengths, 8), _data(long)))
    return code_of_numbers(coder, "B", len(column), _fixed(column, kind.bit_width // 8))


def _fixed(column: Any, width: int) -> list[Any]:
    """The memory of values of one width, without what is before and after it."""
    chunks = [chunk for chunk in column.chunks if len(chunk)]
    return [memoryview(each.buffers()[1])[each.offset * width : (each.offset + len(each)) * width] for each in chunks]


def _data(column: Any) -> list[Any]:
    """The joined bytes of large_string or large_binary chunks."""
    found = []
    for chunk in column.chunks:
        if len(chunk):
            _, offsets, data = chunk.buffers()
            places = memoryview(offsets).cast("B").cast("q")
            first, last = places[chunk.offset], places[chunk.offset + len(chunk)]
            found.append(memoryview(data)[first:last] if data is not None else b"")
    return found


def _dictionary(coder: Coder, column: Any) -> bytes:
    plain = sys.modules["pyarrow"].chunked_array(
        [chunk.dictionary_decode() for chunk in column.chunks], column.type.value_type
    )
    if not column.type.ordered:
        return _values(coder, plain)
    whole = column.unify_dictionaries()
    order = _chunked(whole.chunk(0).dictionary) if whole.num_chunks else plain
    return coder.tagged("ordered", _values(coder, order), _values(coder, plain))


def _nested(coder: Coder, column: Any) -> bytes:
    arrow: Any = sys.modules["pyarrow"]
    types, kind = arrow.types, column.type
    if types.is_struct(kind):
        children = [[chunk.flatten()[at] for chunk in column.chunks] for at in range(kind.num_fields)]
        columns = [arrow.chunked_array(parts, kind.field(at).type) for at, parts in enumerate(children)]
        return coder.tagged("struct", *[_values(coder, each) for each in columns])
    if types.is_map(kind):
        pairs = coder.keep(column.to_pylist())
        return coder.tagged("map", coder.sequence(b"l", pairs))
    if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
        raise UnknownTypeError(str(kind))
    lengths = _compute().list_value_length(column).cast(arrow.int64())
    items = arrow.chunked_array([chunk.flatten() for chunk in column.chunks], kind.value_type)
    sizes = code_of_numbers(coder, "q", len(column), _fixed(lengths, 8))
    return coder.tagged("list", sizes, _values(coder, items))
