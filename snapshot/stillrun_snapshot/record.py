"""Records: canonical JSON objects that point at objects by digest. Rules: docs/spec/README.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from stillrun_snapshot.errors import RecordError

__all__ = ["RECORD_MAX", "canonical_bytes", "parse_record", "require_schema"]

RECORD_MAX = 256 << 20  # bytes: what is longer is not read into memory to be parsed
_SCHEMA = re.compile(r"stillrun/([a-z][a-z0-9-]*)/([1-9][0-9]*)")
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=dict)
_LEAVES = (str, int)
_DEPTH = 100  # records are shallow; deeper input is an attack on the parser's stack


def canonical_bytes(record: Mapping[str, Any]) -> bytes:
    """Return the one byte form of ``record``: sorted keys, no spaces, UTF-8.

    Raises RecordError for floats, keys that are not text, text that UTF-8 cannot hold, and foreign types.
    """
    if not _is_plain(record, 0):
        _require_plain(record, "record", 0)
    text = _ENCODER.encode(record)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        broken = ascii(text[max(0, error.start - 20) : error.end + 20])
        raise RecordError(f"a record holds text that UTF-8 cannot express, near {broken}.") from error


def parse_record(data: bytes, schema: str | None, *older: str) -> dict[str, Any]:
    """Return the record in ``data``; ``schema`` is what it must be, such as ``stillrun/run/1``, or None for any.

    older: other versions of it that it may be.
    Raises RecordError when it is another record, of a newer version, or not canonical JSON's subset.
    """
    try:
        record = _DECODER.decode(data.decode())
    except (ValueError, RecursionError) as error:
        raise RecordError(f"a record of {len(data):,} bytes cannot be read as JSON: {error}.") from error
    if not isinstance(record, dict):
        raise RecordError(f"a record must be a JSON object; found a {type(record).__name__}.")
    found = require_schema(record)
    if schema is not None and found != schema and found not in older:
        raise RecordError(_mismatch(found, schema))
    return record


def require_schema(record: Mapping[str, Any]) -> str:
    """Return the schema that a record names; raises RecordError when it names none."""
    found = record.get("schema")
    if not isinstance(found, str) or not _SCHEMA.fullmatch(found):
        raise RecordError(f"a record must name its schema as 'stillrun/NAME/VERSION'; found {found!r}.")
    return found


def _is_plain(value: object, depth: int) -> bool:
    """Whether all of a value is sure to be what a record may hold; most are, and need no closer look."""
    if depth > _DEPTH:
        return False
    if type(value) is dict:
        if any(type(key) is not str for key in value):
            return False
        items: Iterable[object] = value.values()
    elif type(value) is list or type(value) is tuple:
        items = value
    else:
        return False
    return all(isinstance(item, _LEAVES) or item is None or _is_plain(item, depth + 1) for item in items)


def _require_plain(value: object, where: str, depth: int) -> None:
    if depth > _DEPTH:
        raise RecordError(f"{where}: a record may not be nested deeper than {_DEPTH} levels.")
    if isinstance(value, Mapping):
        items: Iterable[tuple[object, object]] = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        what = "a float; use an integer or text" if isinstance(value, float) else f"of type {type(value).__name__}"
        raise RecordError(f"{where} cannot be in a record: it is {what}.")
    named = isinstance(value, Mapping)
    for key, item in items:
        if named and not isinstance(key, str):
            raise RecordError(f"{where}: the key {key!r} is not text.")
        if item is not None and not isinstance(item, (str, int)):
            _require_plain(item, f"{where}.{key}", depth + 1)


def _mismatch(found: str, wanted: str) -> str:
    name, version = _parts(found)
    wanted_name, wanted_version = _parts(wanted)
    if name == wanted_name and version > wanted_version:
        return (
            f"this record is '{found}', and this Stillrun reads up to '{wanted}'. "
            "It was written by a newer Stillrun; upgrade to read it."
        )
    return f"a record of schema '{wanted}' was expected; found '{found}'."


def _parts(schema: str) -> tuple[str, int]:
    match = _SCHEMA.fullmatch(schema)
    if match is None:
        raise ValueError(f"{schema!r} is no schema name")
    return match[1], int(match[2])


def _refuse_number(text: str) -> NoReturn:
    raise RecordError(f"a record may hold no float; found {text[:40]}.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise RecordError("a record names a key twice.")
    return record


_DECODER = json.JSONDecoder(parse_float=_refuse_number, parse_constant=_refuse_number, object_pairs_hook=_unique)
"""Made once: making one takes longer than reading a small record."""
