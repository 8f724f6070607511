"""Whether records that come from elsewhere have the shape that their JSON Schema says: looked at once, when they come.

What was written here is not looked at. The schemas are those of docs/spec/schemas; of JSON Schema this knows the words that
they use. Keys that a schema does not name may be there: a newer Stillrun may have written them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import RecordError
from stillrun_snapshot.record import RECORD_MAX, parse_record
from stillrun_snapshot.store import Store

__all__ = ["check_shapes", "misfit"]

_SCHEMAS = Path(__file__).parent / "schemas"  # a link to docs/spec/schemas
_TYPES: dict[str, type] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": int,  # records hold no others
    "boolean": bool,
    "null": type(None),
}
_AROUND = 60  # characters of a value that are shown
Schema = Mapping[str, Any]


def check_shapes(store: Store, digests: Iterable[Digest]) -> None:
    """RecordError for the first of some records, all of them held, that is not what its schema says.

    An object that is a JSON list and no record (docs/spec/run.md, ``item_digests``) is passed over.
    """
    for digest in digests:
        data = store.get(digest, RECORD_MAX)
        if data[:1] != b"[":
            record = parse_record(data, None)
            if wrong := misfit(record):
                raise RecordError(f"the record {digest} ({record['schema']}) is not what its schema says: {wrong}.")


def misfit(record: Mapping[str, Any]) -> str | None:
    """What of a record is not as its schema says, None when all is, or when there is no schema of that name."""
    schema = _schema(str(record["schema"]))
    wrong = None if schema is None else _misfit(record, schema, schema)
    return wrong and f"it{wrong}"


@cache
def _schema(name: str) -> Schema | None:
    _, kind, version = name.split("/")
    try:
        schema: Schema = json.loads((_SCHEMAS / f"{kind}-{version}.json").read_text("utf-8"))
    except FileNotFoundError:
        return None
    return schema


def _misfit(value: Any, schema: Schema, root: Schema) -> str | None:
    """The first thing that is wrong with a value, told from where it stands."""
    if "$ref" in schema:
        return _misfit(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    for one in ("anyOf", "oneOf"):
        if one in schema and all(_misfit(value, each, root) for each in schema[one]):
            return _other(value)
    if not _is_plainly(value, schema):
        return _other(value)
    if isinstance(value, dict):
        return _misfit_of_keys(value, schema, root)
    if isinstance(value, list) and "items" in schema:
        for place, each in enumerate(value):
            if wrong := _misfit(each, schema["items"], root):
                return f"[{place}]{wrong}"
    return None


def _misfit_of_keys(value: Mapping[str, Any], schema: Schema, root: Schema) -> str | None:
    for key in schema.get("required", ()):
        if key not in value:
            return f" has no '{key}'"
    named, others, names = schema.get("properties", {}), schema.get("additionalProperties"), schema.get("propertyNames")
    for key, each in value.items():
        if names and _misfit(key, names, root):
            return f" has the key {json.dumps(key)[:_AROUND]}"
        known = named.get(key, others)
        if isinstance(known, dict) and (wrong := _misfit(each, known, root)):  # false: keys that it does not name
            return f".{key}{wrong}"
    return None


def _is_plainly(value: Any, schema: Schema) -> bool:
    """Whether a value is what the words say that need no look inside it."""
    return all(_WORDS[word](value, told) for word, told in schema.items() if word in _WORDS)


def _is_of_type(value: Any, types: str | list[str]) -> bool:
    if isinstance(types, str):
        return type(value) is _TYPES[types]
    return any(type(value) is _TYPES[each] for each in types)


def _same(value: Any, other: Any) -> bool:
    return type(value) is type(other) and bool(value == other)


_WORDS: dict[str, Callable[[Any, Any], bool]] = {
    "type": _is_of_type,
    "const": _same,
    "enum": lambda value, known: any(_same(value, each) for each in known),
    "pattern": lambda value, form: not isinstance(value, str) or re.search(form, value) is not None,
    "minimum": lambda value, least: type(value) is not int or value >= least,
    "maximum": lambda value, most: type(value) is not int or value <= most,
    "minLength": lambda value, least: not isinstance(value, str) or len(value) >= least,
    "maxLength": lambda value, most: not isinstance(value, str) or len(value) <= most,
    "minItems": lambda value, least: not isinstance(value, list) or len(value) >= least,
    "maxItems": lambda value, most: not isinstance(value, list) or len(value) <= most,
}


def _other(value: Any) -> str:
    return f" is {json.dumps(value, default=str)[:_AROUND]}"
