"""What a value looks like in a line: for people, never for comparison."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

__all__ = ["PREVIEW_MAX", "preview_of", "type_name"]

PREVIEW_MAX = 200
ITEMS = 12
TEXT = 120
DEPTH = 3
_BRACKETS: dict[type, tuple[str, str]] = {list: ("[", "]"), tuple: ("(", ")")}


def type_name(value: Any) -> str:
    """The type's full name; a builtin's without its module."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def preview_of(value: Any) -> str:
    """At most 200 characters about a value; the same for equal values of plain types. Never raises.

    Code of unknown classes is not called: their __repr__ may be slow, or show an address.
    """
    try:
        text = _about(value)
    except Exception:  # a broken object must not fail a task that has succeeded
        text = type_name(value)
    text = " ".join(text.split())
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= PREVIEW_MAX else text[: PREVIEW_MAX - 1] + "…"


def _about(value: Any) -> str:
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return _about_array(value)
    if numpy is not None and isinstance(value, numpy.generic):
        return f"{type(value).__name__} {value.item()!r}"
    if pandas is not None and isinstance(value, pandas.DataFrame):
        return _about_frame(value)
    if pandas is not None and isinstance(value, (pandas.Series, pandas.Index)):
        return f"{type(value).__name__} {value.dtype} ({len(value)},): {_joined(map(str, _some(value)), len(value))}"
    return _shown(value, 0)


def _about_array(value: Any) -> str:
    head = f"{type(value).__name__} {value.dtype} {value.shape}"
    if value.dtype.kind in "biufc" and value.size:
        some = [item.item() for item in value.flat[:ITEMS]]
        return f"{head}: {_joined((_shown(item, DEPTH) for item in some), value.size)}"
    return head


def _about_frame(value: Any) -> str:
    rows, columns = value.shape
    names = (f"{value.columns[at]!s:.40} {value.dtypes.iloc[at]}" for at in range(min(columns, ITEMS)))
    return f"{type(value).__name__} {rows:,} rows x {columns:,} columns: {_joined(names, columns)}"


def _some(value: Any) -> Iterator[Any]:
    return (value[at] if type(value).__name__ != "Series" else value.iloc[at] for at in range(min(len(value), ITEMS)))


def _joined(texts: Iterable[str], count: int) -> str:
    shown: list[str] = []
    for text in texts:
        if len(shown) == ITEMS:
            break
        shown.append(text)
    return ", ".join(shown) + (", …" if count > len(shown) else "")


def _shown(value: Any, depth: int) -> str:
    kind = type(value)
    if kind in (str, bytes, bytearray):
        cut = value[:TEXT]
        return repr(cut) + (f"… ({len(value):,})" if len(value) > TEXT else "")
    if kind is int and value.bit_length() > 400:
        return f"int of {value.bit_length():,} bits"
    if value is None or kind in (bool, int, float, complex, range):
        return repr(value)
    if kind.__module__ in ("datetime", "decimal", "fractions", "uuid", "pathlib", "pathlib._local"):
        return str(value)
    if kind in (list, tuple, set, frozenset, dict):
        return _about_container(value, depth)
    if isinstance(value, type) or kind.__name__ in ("function", "builtin_function_or_method"):
        return f"{kind.__name__} {getattr(value, '__qualname__', '')}"
    return type_name(value) + (f" of {len(value):,}" if isinstance(value, (list, tuple, dict, set)) else "")


def _about_container(value: Any, depth: int) -> str:
    opening, closing = _BRACKETS.get(type(value), ("{", "}"))
    count = len(value)
    if depth >= DEPTH:
        return f"{opening}…{closing}"
    if isinstance(value, dict):
        items: Iterator[str] = (f"{_shown(key, DEPTH)}: {_shown(item, depth + 1)}" for key, item in value.items())
    elif isinstance(value, (set, frozenset)):
        # the order of a set is not the same in two processes
        items = iter(sorted(_shown(item, DEPTH) for item in value)) if count <= 1000 else iter(())
    else:
        items = (_shown(item, depth + 1) for item in value)
    inner = f"{opening}{_joined(items, count)}{closing}"
    return f"{type(value).__name__} of {count:,}: {inner}" if depth == 0 and count > ITEMS else inner
