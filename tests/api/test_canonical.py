"""The canonical digest: what is the same has the same, in any process and any Python; what differs differs."""

from __future__ import annotations

import collections
import copy
import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import pathlib
import pickle
import re
import struct
import subprocess
import sys
import threading
import types
import uuid
import weakref
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillrun.canonical import canonical_digest as digest

from .driver import FACE, pythons

SPEC = pathlib.Path(__file__).resolve().parents[2] / "docs/spec/canonical.md"

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text()
    | st.binary()
    | st.decimals()
    | st.dates()
    | st.datetimes()
    | st.timedeltas()
    | st.fractions()
    | st.uuids()
)
KEYS = st.none() | st.booleans() | st.integers() | st.text() | st.tuples(st.integers(), st.text())
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(KEYS, inner)
        | st.frozensets(KEYS)
        | st.sets(KEYS)
        | st.lists(st.floats())
        | st.lists(st.integers())
        | st.lists(st.text())
        | st.lists(st.booleans())
    ),
    max_leaves=12,
)


@given(VALUES)
@settings(max_examples=100, deadline=None)
def test_survives_pickling_and_copying(value: Any) -> None:
    """Law: digest(load(dump(x))) == digest(deepcopy(x)) == digest(x), and it has one."""
    first = digest(value)
    assert first is not None
    assert re.fullmatch("sha256:[0-9a-f]{64}", first)
    assert digest(pickle.loads(pickle.dumps(value, 5))) == first
    assert digest(copy.deepcopy(value)) == first


@given(st.lists(VALUES, min_size=1), st.data())
@settings(max_examples=100, deadline=None)
def test_a_change_of_one_thing_changes_it(values: list[Any], data: Any) -> None:
    """Law: replacing one item by one with another digest gives another digest."""
    at = data.draw(st.integers(0, len(values) - 1))
    other = data.draw(VALUES)
    changed = [*values[:at], other, *values[at + 1 :]]
    assert (digest(changed) == digest(values)) == (digest(other) == digest(values[at]))


@given(st.dictionaries(KEYS, st.integers() | st.text()), st.randoms())
def test_order_of_dicts_and_sets_does_not_count(value: dict[Any, Any], random: Any) -> None:
    """Law: digest is the same for every order of insertion."""
    items = list(value.items())
    random.shuffle(items)
    assert digest(dict(items)) == digest(value)
    assert digest({key for key, _ in items}) == digest(set(value))


class Colour(enum.Enum):
    RED = 1
    ALSO = 2


class Pair(NamedTuple):
    a: int
    b: int


@dataclasses.dataclass
class Shape:
    sides: int
    tags: set[str]


@dataclasses.dataclass
class Other:
    sides: int
    tags: set[str]


def cycle(depth: int) -> list[Any]:
    value: list[Any] = []
    inner = value
    for _ in range(depth):
        inner.append([])
        inner = inner[0]
    inner.append(value)
    return value


UTC = datetime.timezone.utc
BERLIN = datetime.timezone(datetime.timedelta(hours=1))
NOON = datetime.datetime(2020, 1, 1, 12, tzinfo=UTC)
SHARED = ["x"]
NAN = float("nan")
ODD_NAN = struct.unpack("<d", struct.pack("<Q", 0xFFF8000000000001))[0]

SAME = [
    ([SHARED, SHARED], [["x"], ["x"]]),
    ({"a": 1, "b": [2]}, json.loads('{"b": [2], "a": 1}')),
    ({"a", "b", "c"}, {"c", "b", "a"}),
    ([NAN], [ODD_NAN]),
    ([NAN, 1], [ODD_NAN, 1]),
    (complex(NAN, 1), complex(ODD_NAN, 1)),
    (cycle(3), cycle(3)),
    (range(0), range(5, 2)),
    (range(0, 5, 2), range(0, 6, 2)),
    (Shape(1, {"a", "b"}), Shape(1, {"b", "a"})),
]
DIFFERENT = [
    (1, True),
    (1, 1.0),
    (0.0, -0.0),
    ([0.0], [-0.0]),
    ("1", 1),
    ("1", b"1"),
    (b"1", bytearray(b"1")),
    ([1], (1,)),
    ([1, 2], [2, 1]),
    ([True], [1]),
    ([1], [1.0]),
    (["ab", "c"], ["a", "bc"]),
    ([], [[]]),
    ([None], []),
    ({1}, frozenset({1})),
    ({"a": 1}, {"a": 2}),
    ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
    ({1: "a"}, {True: "a"}),
    ({}, []),
    ({"a": 1}, collections.OrderedDict(a=1)),
    (collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1)),
    (collections.Counter("a"), {"a": 1}),
    (collections.defaultdict(int), collections.defaultdict(list)),
    (decimal.Decimal("1.0"), decimal.Decimal("1.00")),
    (NOON, NOON.astimezone(BERLIN)),
    (NOON, NOON.replace(tzinfo=None)),
    (NOON.date(), NOON),
    (fractions.Fraction(1, 2), 0.5),
    (pathlib.PurePosixPath("a"), "a"),
    (pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("a")),
    (Colour.RED, Colour.ALSO),
    (Colour.RED, 1),
    (Pair(1, 2), (1, 2)),
    (Shape(1, set()), Other(1, set())),
    (Shape(1, {"a"}), Shape(1, {"b"})),
    (cycle(2), cycle(3)),
    ([10**30], [10**31]),
    ([2**63 - 1], [2**63]),
    ("x" * 5000, "x" * 4999 + "y"),
    (types.SimpleNamespace(a=1), types.SimpleNamespace(a=2)),
    (uuid.UUID(int=1), uuid.UUID(int=2)),
]


@pytest.mark.parametrize(("one", "other"), SAME, ids=[f"{at}" for at in range(len(SAME))])
def test_same(one: Any, other: Any) -> None:
    assert digest(one) is not None
    assert digest(one) == digest(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids=[f"{at}" for at in range(len(DIFFERENT))])
def test_different(one: Any, other: Any) -> None:
    assert digest(one) is not None and digest(other) is not None
    assert digest(one) != digest(other)


class Refuses:
    def __reduce__(self) -> Any:
        raise TypeError("never")


@pytest.mark.parametrize(
    "value",
    [sys, (item for item in ()), threading.Lock(), memoryview(b"a"), weakref.ref(Shape), sys._getframe(), Refuses()],
)
def test_what_holds_a_place_in_a_process_has_none(value: Any) -> None:
    assert digest(value) is None
    assert digest([1, {"a": (value,)}]) is None


def test_too_deep_has_none() -> None:
    value: Any = 1
    for _ in range(1000):
        value = [value]
    assert digest(value) is not None
    assert digest([value]) is None


def test_shared_parts_are_looked_at_once() -> None:
    value: Any = ["x"]
    for _ in range(90):
        value = [value, value]
    assert digest(value) is not None


def test_a_shared_part_of_a_cycle_is_coded_where_it_stands() -> None:
    """A part that refers to what is around it has another code elsewhere, and must not be remembered."""

    def build(share: bool) -> list[Any]:
        top: list[Any] = []
        part = [top]
        top.extend([part, [part if share else [top]]])
        return top

    assert digest(build(True)) == digest(build(False))


CORPUS = """
import sys, json, collections, datetime, decimal, fractions, pathlib, uuid
sys.path.insert(0, sys.argv[1])
from stillrun.canonical import canonical_digest
values = [
    None, True, 5, -2**70, 1.5, float("nan"), 2j, "é\\udc80", b"\\xff", {"b", "a", "c"}, frozenset(["x", "y"]),
    {"k": {"s": {"p", "q"}}, 1: 2.0, None: ()}, [1.0] * 50, [1, 2**62], ["a", "é"], [True, False],
    [1, "a", None, {"z": [{"y"}]}], collections.Counter("hello"), collections.OrderedDict(a=1), decimal.Decimal("1.10"),
    fractions.Fraction(1, 3), datetime.datetime(2020, 1, 2, 3, 4, 5, 6, datetime.timezone.utc), datetime.timedelta(1, 2, 3),
    datetime.date(2020, 1, 1), datetime.time(1, 2), pathlib.PurePosixPath("/a/b"), uuid.UUID(int=7), range(3), slice(1, None),
    "x" * 3000, bytearray(b"x"), collections.deque([1], 5), collections.defaultdict(list, a=[1]),
]
print(json.dumps([canonical_digest(value) for value in values]))
"""


def corpus(executable: str, seed: str) -> list[str]:
    done = subprocess.run(
        [executable, "-I", "-c", CORPUS, str(FACE)], capture_output=True, env={"PYTHONHASHSEED": seed}
    )
    assert done.returncode == 0, done.stderr.decode()
    found: list[str] = json.loads(done.stdout)
    return found


def test_equal_in_every_python_and_for_every_hash_seed() -> None:
    first = corpus(sys.executable, "0")
    assert None not in first
    assert len(set(first)) == len(first)
    for seed in ("1", "12345"):
        assert corpus(sys.executable, seed) == first
    for executable in pythons().values():
        assert corpus(executable, "random") == first


def test_the_vectors_of_the_specification() -> None:
    rows = re.findall(r"^\| `(.+?)` \| `(sha256:[0-9a-f]{64})` \|$", SPEC.read_text(), re.M)
    assert len(rows) >= 12
    for expression, expected in rows:
        assert digest(eval(expression)) == expected, expression  # our own page


# -- NumPy and pandas ------------------------------------------------------------------------------


def arrays() -> tuple[list[Any], list[Any]]:
    np = pytest.importorskip("numpy")
    grid = np.arange(12.0).reshape(3, 4)
    odd = np.array([1.0, 0.0])
    odd.view("u8")[1] = 0xFFF8000000000001
    halves = np.array([1, np.nan], "f2")
    pair = np.dtype([("a", "<i4"), ("b", "<f8")])
    padded = np.dtype({"names": ["a", "b"], "formats": ["<i4", "<f8"], "offsets": [0, 8]})
    same = [
        (grid, np.asfortranarray(grid)),
        (grid[:, ::2], grid[:, ::2].copy()),
        (grid, grid.astype(">f8")),
        (np.float64(1), np.array([1.0]).astype(">f8")[0]),
        (odd, np.array([1.0, np.nan])),
        (odd * 1j * 0 + odd, np.array([1.0, np.nan]) * 1j * 0 + np.array([1.0, np.nan])),
        (halves, halves[::-1][::-1]),
        (np.array([{"a", "b"}, None], object), np.array([{"b", "a"}, None], object)),
        (np.array([(1, 2.0)], pair), np.array([(1, 2.0)], padded)),
        (np.array(["2020-01-01", "NaT"], "M8[D]"), np.array(["2020-01-01", "NaT"], ">M8[D]")),
        ([grid, grid], [grid, grid.copy()]),
        (np.array("a"), np.array("a").astype(">U1")),
        (np.zeros((0, 3)), np.asfortranarray(np.zeros((0, 3)))),
        (np.broadcast_to(np.float64(1), (1000, 1000)), np.ones((1000, 1000))),
        (np.dtype("<f8"), np.dtype(">f8").newbyteorder("<")),
    ]
    different = [
        (grid, grid.astype("f4")),
        (grid, grid.reshape(4, 3)),
        (grid, grid.tolist()),
        (np.float64(1), 1.0),
        (np.float64(1), np.array(1.0)),
        (np.array([0.0]), np.array([-0.0])),
        (np.array([1]), np.array([1], "u8")),
        (np.array([1], object), np.array([1.0], object)),
        (np.array(["a"]), np.array(["a"], "U2")),
        (np.array(["a"]), np.array([b"a"])),
        (np.array(["2020-01-01"], "M8[D]"), np.array(["2020-01-01"], "M8[s]")),
        (np.array([(1, 2.0)], pair), np.array([(1, 3.0)], pair)),
        (np.zeros((0, 3)), np.zeros((3, 0))),
        (np.bool_(True), True),
    ]
    return same, different


def test_arrays_that_are_the_same() -> None:
    for at, (one, other) in enumerate(arrays()[0]):
        assert digest(one) is not None, at
        assert digest(one) == digest(other), at
        assert digest(pickle.loads(pickle.dumps(one, 5))) == digest(one), at


def test_arrays_that_differ() -> None:
    for at, (one, other) in enumerate(arrays()[1]):
        assert None not in (digest(one), digest(other)), at
        assert digest(one) != digest(other), at


@given(st.integers(0, 999), st.sampled_from(["<f8", "<f4", ">i2", "c16", "?", "U3", "M8[s]"]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_one_element_counts(at: int, dtype: str, fortran: bool) -> None:
    """Law: changing one element of an array changes its digest, whatever its layout."""
    np = pytest.importorskip("numpy")
    array = np.zeros((10, 100), dtype, order="F" if fortran else "C")
    before = digest(array)
    array[at // 100, at % 100] = 1 if array.dtype.kind != "M" else "2020-01-01"
    assert digest(array) != before
    assert digest(array) == digest(np.ascontiguousarray(array))


def test_a_known_buffer_is_not_hashed_again() -> None:
    np = pytest.importorskip("numpy")
    array = np.arange(1000.0)
    address = array.__array_interface__["data"][0]
    told = {(address, array.nbytes): "sha256:" + "00" * 32}
    assert digest(array, told) != digest(array)
    assert digest(array[::-1], told) == digest(array[::-1])


def tables() -> tuple[list[Any], list[Any]]:
    pd = pytest.importorskip("pandas")
    np = pytest.importorskip("numpy")
    frame = pd.DataFrame({"a": [1, 2], "b": [3, 4], "c": ["x", None]})
    blocks = pd.DataFrame({"a": [1, 2]})
    blocks["b"] = [3, 4]
    blocks["c"] = ["x", None]
    marked = frame.copy()
    marked.attrs["note"] = 1
    days = pd.date_range("2020-01-01", periods=2, tz="UTC")
    categories = pd.Categorical(["u", "v"], ["u", "v"])
    odd = pd.array([1, None], "Int64")
    same = [
        (frame, blocks),
        (frame, frame.copy()),
        (frame, frame.set_axis(pd.Index([0, 1]), axis=0)),
        (pd.RangeIndex(3), pd.Index([0, 1, 2])),
        (pd.Series(days), pd.Series(list(days))),
        (pd.DatetimeIndex(days), pd.DatetimeIndex(list(days))),
        (pd.Series(categories), pd.Series(categories.copy())),
        (pd.Series(odd), pd.Series(odd.copy())),
        (pd.MultiIndex.from_product([[1, 2], ["a"]]), pd.MultiIndex.from_tuples([(1, "a"), (2, "a")])),
        (
            pd.Series(pd.period_range("2020", periods=2, freq="M")),
            pd.Series(pd.PeriodIndex(["2020-01", "2020-02"], freq="M")),
        ),
        (pd.interval_range(0, 2), pd.IntervalIndex.from_tuples([(0, 1), (1, 2)])),
        (pd.Timestamp("2020", tz="UTC"), pd.Timestamp("2020", tz="UTC")),
    ]
    different = [
        (frame, marked),
        (frame, frame.assign(a=[1, 9])),
        (frame, frame.astype({"a": "i4"})),
        (frame, frame.rename(columns={"a": "z"})),
        (frame, frame.set_axis([5, 6], axis=0)),
        (frame, frame[["b", "a", "c"]]),
        (frame, frame.rename_axis("i")),
        (frame["c"], frame["c"].astype(object)),
        (frame["a"], frame["a"].rename("z")),
        (frame["a"], frame["a"].set_axis([5, 6])),
        (frame["a"], frame[["a"]]),
        (pd.Series(days), pd.Series(days.tz_convert("Europe/Berlin"))),
        (pd.Series(days), pd.Series(days.tz_localize(None))),
        (pd.Series(categories), pd.Series(categories.as_ordered())),
        (pd.Series(categories), pd.Series(categories.reorder_categories(["v", "u"]))),
        (pd.Series(odd), pd.Series([1.0, np.nan])),
        (pd.Series(odd), pd.Series(pd.array([1, 0], "Int64"))),
        (pd.Index([1, 2]), pd.Index([1, 2], name="x")),
        (pd.interval_range(0, 2), pd.interval_range(0, 2, closed="left")),
        (pd.NaT, pd.NA),
        (pd.Timestamp("2020"), pd.Timestamp("2020", tz="UTC")),
    ]
    return same, different


def test_tables_that_are_the_same() -> None:
    for at, (one, other) in enumerate(tables()[0]):
        assert digest(one) is not None, at
        assert digest(one) == digest(other), at
        assert digest(pickle.loads(pickle.dumps(one, 5))) == digest(one), at


def test_tables_that_differ() -> None:
    for at, (one, other) in enumerate(tables()[1]):
        assert None not in (digest(one), digest(other)), at
        assert digest(one) != digest(other), at
