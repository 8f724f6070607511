from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillrun_snapshot.errors import RecordError
from stillrun_snapshot.record import canonical_bytes, parse_record

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
records = st.dictionaries(texts, values, max_size=6).map(lambda record: {**record, "schema": "stillrun/test/1"})


@settings(max_examples=40, deadline=None)
@given(records)
def test_round_trip(record: dict[str, Any]) -> None:
    """parse(canonical(r)) == r, and canonical bytes are a fixed point."""
    data = canonical_bytes(record)
    assert parse_record(data, "stillrun/test/1") == record
    assert canonical_bytes(parse_record(data, None)) == data


@settings(max_examples=40, deadline=None)
@given(records, st.randoms())
def test_key_order_does_not_matter(record: dict[str, Any], random: Any) -> None:
    """canonical(r) == canonical(any reordering of r)."""
    keys = list(record)
    random.shuffle(keys)
    assert canonical_bytes({key: record[key] for key in keys}) == canonical_bytes(record)


def test_mappings_of_any_kind_are_records() -> None:
    inner = MappingProxyType({"b": 1, "a": (1, 2)})
    assert canonical_bytes(MappingProxyType({"x": inner})) == b'{"x":{"a":[1,2],"b":1}}'


@pytest.mark.parametrize("value", [1.5, float("nan"), {1: "x"}, b"x", {"a": [{"b": 0.1}]}, object(), "\ud800"])
def test_what_json_cannot_say_exactly_is_refused(value: object) -> None:
    with pytest.raises(RecordError):
        canonical_bytes({"schema": "stillrun/test/1", "value": value})


def test_a_float_is_named_by_its_place() -> None:
    with pytest.raises(RecordError, match=r"record\.a\.0\.b .*float"):
        canonical_bytes({"a": [{"b": 0.5}]})


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        "{}",
        '{"schema":"x"}',
        '{"schema":"stillrun/a/1","x":1.0}',
        '{"schema":"stillrun/a/1","x":NaN}',
        '{"schema":"stillrun/a/1","x":1,"x":2}',
        '{"schema":"stillrun/a/0"}',
        "[" * 100_000,
    ],
)
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(RecordError):
        parse_record(text.encode(), None)


def test_a_newer_version_is_refused_by_name() -> None:
    data = json.dumps({"schema": "stillrun/run/2"}).encode()
    with pytest.raises(RecordError, match=r"'stillrun/run/2'.*up to 'stillrun/run/1'.*upgrade"):
        parse_record(data, "stillrun/run/1")


def test_another_record_is_refused_by_name() -> None:
    data = json.dumps({"schema": "stillrun/task/1"}).encode()
    with pytest.raises(RecordError, match=r"'stillrun/run/1' was expected; found 'stillrun/task/1'"):
        parse_record(data, "stillrun/run/1")


@pytest.mark.parametrize(
    "text",
    [
        '{"a":{"b":1,"b":2},"schema":"stillrun/run/1"}',
        '{"a":"\\":","a":1,"schema":"stillrun/run/1"}',
        '{"a":[{"b":1},{"c":1,"c":[]}],"schema":"stillrun/run/1"}',
        '{"a" :1,"b":{"c":1,"c":2},"schema":"stillrun/run/1"}',
    ],
)
def test_a_key_that_is_named_twice_is_found_at_any_depth(text: str) -> None:
    with pytest.raises(RecordError, match="twice"):
        parse_record(text.encode(), "stillrun/run/1")


def test_text_that_looks_like_keys_is_text() -> None:
    record = {"schema": "stillrun/run/1", "a": '":":', "b": ["\\", '":'], "c\\": {'"': 1}}
    assert parse_record(canonical_bytes(record), "stillrun/run/1") == record
