"""The canonical digest of many rows: one change anywhere counts, the order of keys does not, and it takes no time."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillrun.canonical import NODES_MAX
from stillrun.canonical import canonical_digest as digest

SCALARS: Any = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, -0.0, 1.5, 2.0]) | st.text("ab")
COUNT = 40


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_one_change_in_a_row_counts(data: Any) -> None:
    """Law: the digest of many rows is another one exactly when the digest of a row is."""
    rows = data.draw(
        st.lists(st.tuples(SCALARS, SCALARS), min_size=COUNT, max_size=COUNT)
        | st.lists(st.fixed_dictionaries({"a": SCALARS, "b": SCALARS}), min_size=COUNT, max_size=COUNT)
        | st.lists(st.dictionaries(st.sampled_from("abc"), SCALARS), min_size=COUNT, max_size=COUNT)
    )
    other = data.draw(st.sampled_from(rows) | st.tuples(SCALARS, SCALARS) | st.fixed_dictionaries({"a": SCALARS}))
    at = data.draw(st.integers(0, COUNT - 1))
    changed = [*rows[:at], other, *rows[at + 1 :]]
    assert digest(rows) == digest(pickle.loads(pickle.dumps(rows, 5))) is not None
    assert (digest(changed) == digest(rows)) == (digest(other) == digest(rows[at]))


def test_rows_that_look_alike_differ() -> None:
    alike: list[Any] = [
        [{"a": 1, "b": 2}] * COUNT,
        [{"a": 2, "b": 1}] * COUNT,
        [{"a": 1, "b": 2}] * (COUNT + 1),
        [{"a": 1, "c": 2}] * COUNT,
        [{"a": 1}] * COUNT,
        [{}] * COUNT,
        [()] * COUNT,
        [(1, 2)] * COUNT,
        [(1, 2.0)] * COUNT,
        [(1, True)] * COUNT,
        [(2, 1)] * COUNT,
        [(1,)] * COUNT,
        [[1, 2]] * COUNT,
        [(1, [2])] * COUNT,
        [(1, (2,))] * COUNT,
        ((1, 2),) * COUNT,
    ]
    assert len({digest(rows) for rows in alike}) == len(alike)
    assert digest([{"a": 1, "b": 2}, {"b": 2, "a": 1}] * COUNT) == digest([{"a": 1, "b": 2}] * 2 * COUNT)


def test_rows_that_hold_themselves_have_a_digest() -> None:
    def knot() -> Any:
        row: dict[str, Any] = {"a": 1}
        row["self"] = row
        return row

    assert digest([knot() for _ in range(COUNT)]) == digest([knot()] * COUNT) is not None


def test_keys_that_are_ints_count_by_their_value() -> None:
    values: list[Any] = [{1: "a", 2: "b"}, {1: "b", 2: "a"}, {1: "a"}, {"1": "a", "2": "b"}, {True: "a", 2: "b"}]
    values += [{1.0: "a", 2: "b"}, {1: "a", 1 << 70: "b"}, {}]
    assert len({digest(value) for value in values}) == len(values)
    assert digest({2: "b", 1: "a"}) == digest(values[0])


def test_numpy_numbers_in_a_list() -> None:
    np = pytest.importorskip("numpy")
    array = np.arange(40.0)
    values: list[Any] = [list(array), array.tolist(), list(array.astype("f4")), tuple(array), array, list(array[::-1])]
    values += [list(array.astype("i8")), list(array > 3), [np.float64(9), *array[1:]], list(array.astype("M8[s]"))]
    assert None not in [digest(value) for value in values]
    assert len({digest(value) for value in values}) == len(values)
    assert digest([np.float64("nan")] * 40) == digest([-np.float64("nan")] * 40)


def test_a_million_rows_have_a_digest() -> None:
    np = pytest.importorskip("numpy")
    many = NODES_MAX // 2
    assert digest([(at, 0.5) for at in range(many)]) is not None
    assert digest([{"a": at, "b": "x"} for at in range(many)]) is not None
    assert digest(dict.fromkeys(range(NODES_MAX), "x")) is not None
    assert digest(list(np.zeros(NODES_MAX))) is not None
