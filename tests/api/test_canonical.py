"""The canonical digest: what is the same has the same, in any process and any Python; what differs differs."""

from __future__ import annotations

import argparse
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


class Bits(enum.Flag):
    A = 1
    B = 2


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
    ([None, 1] * 20, [1, None] * 20),
    ([None, 1] * 20, [None, 1.0] * 20),
    ([None, True] * 20, [None, 1] * 20),
    ([None] * 40, [None] * 41),
    (Bits.A | Bits.B, Bits.A),
    (Bits.A, Colour.RED),
]


@pytest.mark.parametrize(("one", "other"), SAME, ids=[f"{at}" for at in range(len(SAME))])
def test_same(one: Any, other: Any) -> None:
    assert digest(one) is not None
    assert digest(one) == digest(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids=[f"{at}" for at in range(len(DIFFERENT))])
def test_different(one: Any, other: Any) -> None:
    assert digest(one) is not None and digest(other) is not None
    assert digest(one) != digest(other)


@pytest.mark.parametrize(
    "value",
    [iter([]), iter({1}), object(), (each for each in ()), threading.Lock(), types.CellType(1), sys._getframe()],
    ids=lambda value: type(value).__name__,
)
def test_what_is_of_this_moment_only_has_none(value: Any) -> None:
    assert digest(value) is None
    assert digest([1, {"a": (value,)}]) is None


def nested(depth: int, kind: str) -> Any:
    value: Any = 1
    for at in range(depth):
        value = {
            "list": [value],
            "dict": {at: value, "k": 2},
            "tuple": (value, 1),
            "object": argparse.Namespace(a=value),
        }[kind]
    return value


@pytest.mark.parametrize("kind", ["list", "dict", "tuple", "object"])
def test_deep_values_have_one(kind: str) -> None:
    for depth in (79, 81, 2500):
        assert digest(nested(depth, kind)) == digest(nested(depth, kind)) is not None
    assert digest(nested(2500, kind)) != digest(nested(2501, kind))
    assert digest(nested(5001, kind)) is None
    assert sys.getrecursionlimit() < 60_000 and threading.stack_size() == 0


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
import sys, json, collections, datetime, decimal, enum, fractions, functools, operator, pathlib, random, re, types, uuid
def deep(levels):
    value = []
    for _ in range(levels): value = [value, {1: 2}]
    return value
class Set(set): pass
class List(list): pass
class Dict(dict): pass
class Ordered(collections.OrderedDict): pass
class Plain:
    def __init__(self): self.tags, self.more = {"a", "b", "c"}, [self]
class Slots:
    __slots__ = ("x", "y")
    def __init__(self): self.x = 1
sys.path.insert(0, sys.argv[1])
from stillrun.canonical import canonical_digest
values = [
    None, True, 5, -2**70, 1.5, float("nan"), 2j, "é\\udc80", b"\\xff", {"b", "a", "c"}, frozenset(["x", "y"]),
    {"k": {"s": {"p", "q"}}, 1: 2.0, None: ()}, [1.0] * 50, [1, 2**62], ["a", "é"], [True, False],
    [1, "a", None, {"z": [{"y"}]}], collections.Counter("hello"), collections.OrderedDict(a=1), decimal.Decimal("1.10"),
    fractions.Fraction(1, 3), datetime.datetime(2020, 1, 2, 3, 4, 5, 6, datetime.timezone.utc), datetime.timedelta(1, 2, 3),
    datetime.date(2020, 1, 1), datetime.time(1, 2), pathlib.PurePosixPath("/a/b"), uuid.UUID(int=7), range(3), slice(1, None),
    [1, None, "a"] * 20, [None] * 50, enum.Flag("F", "A B").A, re.compile("a", re.I), ValueError("x", 1), random.Random(3),
    functools.partial(int, base=2), len, int, [].append, str.upper, sys, operator.itemgetter(1), deep(2500),
    types.SimpleNamespace(a={"x", "y"}),
    Set(["a", "b", "c"]), Plain(), Slots(), List([1]), Ordered(a=1), Dict(a=1), datetime.timezone.utc,
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
    assert len(rows) >= 30
    for expression, expected in rows:
        assert digest(eval(expression)) == expected, expression  # our own page
