"""The canonical digest of objects by their state, and of registered types."""

from __future__ import annotations

import collections
import functools
import math
import pickle
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillrun import canonical
from stillrun.canonical import canonical_digest as digest

from .driver import FACE


class Plain:
    def __init__(self, **held: Any) -> None:
        self.__dict__.update(held)


class Slotted:
    __slots__ = ("a", "b")


class Tags(set):
    pass


class Words(list):
    pass


class Table(dict):
    pass


class Ordered(collections.OrderedDict):
    pass


class Both(Plain):
    __slots__ = ("z",)


class OwnState:
    def __init__(self, value: Any) -> None:
        self.value, self.cache = value, object()

    def __getstate__(self) -> Any:
        return {"value": self.value}

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("nothing is built to be looked at")


class Made:
    """Pickles as a call of a function."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        return (Made, (self.value,))


class Broken:
    def __reduce__(self) -> Any:
        raise ValueError("no")


class Endless:
    def __reduce__(self) -> Any:
        return (Endless, (), None, iter(int, 1))


class Addressed:
    def __init__(self) -> None:
        self.me = id(self)


def slotted(a: Any) -> Slotted:
    made = Slotted()
    made.a = a
    return made


def both(x: Any, z: Any) -> Both:
    made = Both(x=x)
    made.z = z
    return made


def linked(count: int) -> Plain:
    """A ring of objects, each of which knows its neighbours."""
    nodes = [Plain(at=at) for at in range(count)]
    for at, node in enumerate(nodes):
        node.after, node.before = nodes[(at + 1) % count], nodes[at - 1]
    return nodes[0]


SAME = [
    (Plain(a=1, b={"x", "y"}), Plain(b={"y", "x"}, a=1)),
    (Plain(), Plain()),
    (slotted([1]), slotted([1])),
    (both(1, 2), both(1, 2)),
    (Tags("abc"), Tags("cba")),
    (Table(a=1, b=2), Table(b=2, a=1)),
    (OwnState({1}), OwnState({1})),
    (Made(1), Made(1)),
    (linked(3), linked(3)),
    (functools.partial(int, base=2), functools.partial(int, base=2)),
    (Plain(f=math.sqrt), Plain(f=math.sqrt)),
]
DIFFERENT = [
    (Plain(a=1), Plain(a=2)),
    (Plain(a=1), Plain(a=True)),
    (Plain(a=1), Plain(a=1, b=None)),
    (Plain(a=1), {"a": 1}),
    (Plain(), both(1, 2)),
    (slotted(1), slotted(2)),
    (slotted(None), Slotted()),
    (both(1, 2), both(1, 3)),
    (both(1, 2), both(2, 2)),
    (Tags("abc"), Tags("abd")),
    (Tags("abc"), set("abc")),
    (Words([1, 2]), Words([2, 1])),
    (Words([1]), [1]),
    (Table(a=1), Table(a=2)),
    (Ordered(a=1, b=2), Ordered(b=2, a=1)),
    (OwnState(1), OwnState(2)),
    (Made(1), Made(2)),
    (linked(3), linked(4)),
    (functools.partial(int, base=2), functools.partial(int, base=8)),
    (Plain, Slotted),
    (math.sqrt, math.sin),
    (statistics.mean, statistics.median),
    ([].append, [1].append),
    (Plain(a=1).__init__, Plain(a=2).__init__),
    (math, statistics),
    (ValueError("a"), ValueError("b")),
    (ValueError("a"), TypeError("a")),
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
    "value", [pair[0] for pair in SAME + DIFFERENT if not isinstance(pair[0], (OwnState, ModuleType))]
)
def test_survives_pickling(value: Any) -> None:
    assert digest(pickle.loads(pickle.dumps(value, 5))) == digest(value)


def generator() -> Iterator[int]:
    yield 1


def test_what_cannot_be_pickled_has_none(tmp_path: Path) -> None:
    held = [Broken(), Endless(), Addressed(), threading.Lock(), generator(), iter({1})]
    with (tmp_path / "x").open("w") as file:
        for each in [*held, file]:
            assert digest(each) is None
            assert digest([Plain(a={"b": each})]) is None


def test_looking_changes_nothing() -> None:
    value = Plain(a={"x": [1]}, b=Tags("ab"))
    before = pickle.dumps(value)
    digest(value)
    assert pickle.dumps(value) == before


# -- one thing is changed anywhere -----------------------------------------------------------------

LEAVES = st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=3)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=2) | st.integers(0, 3), inner, max_size=4)
        | st.dictionaries(st.sampled_from("abc"), inner).map(lambda held: Plain(**held))
        | st.sets(st.text(max_size=2), max_size=4).map(Tags)
        | st.lists(inner, max_size=3).map(Words)
        | st.tuples(inner, inner).map(lambda pair: both(*pair))
        | inner.map(slotted)
        | inner.map(Made)
        | inner.map(lambda held: functools.partial(max, held))
    ),
    max_leaves=10,
)
MARK = b"here"


def replaced(value: Any, path: Iterator[int]) -> Any:
    """A copy of the value with one thing in it, chosen by the numbers of ``path``, replaced by a mark."""
    parts: list[Any]
    rebuild: Callable[[list[Any]], Any]
    if isinstance(value, list):
        parts, rebuild = list(value), type(value)
    elif isinstance(value, dict):
        parts, rebuild = list(value.values()), lambda new: dict(zip(value, new, strict=True))
    elif type(value) is Both:
        parts, rebuild = [value.x, value.z], lambda new: both(*new)
    elif type(value) is Plain:
        parts, rebuild = list(vars(value).values()), lambda new: Plain(**dict(zip(vars(value), new, strict=True)))
    elif type(value) is Slotted:
        parts, rebuild = [value.a], lambda new: slotted(*new)
    elif type(value) is Made:
        parts, rebuild = [value.value], lambda new: Made(*new)
    elif type(value) is functools.partial:
        parts, rebuild = list(value.args), lambda new: functools.partial(max, *new)
    else:
        return MARK
    at = next(path) % (len(parts) + 1)
    if at == len(parts):
        return MARK
    parts[at] = replaced(parts[at], path)
    return rebuild(parts)


def shuffled(value: Any, random: Any) -> Any:
    """A copy in which all that has no order comes in another one."""
    if isinstance(value, list):
        return type(value)(shuffled(each, random) for each in value)
    if isinstance(value, dict):
        return dict(random.sample([(key, shuffled(each, random)) for key, each in value.items()], len(value)))
    if isinstance(value, Tags):
        return Tags(random.sample(sorted(value), len(value)))
    if type(value) is Both:
        return both(shuffled(value.x, random), shuffled(value.z, random))
    if type(value) is Plain:
        return Plain(**shuffled(vars(value), random))
    return value


@given(TREES, st.lists(st.integers(0, 9), min_size=20, max_size=20))
@settings(max_examples=150, deadline=None)
def test_a_change_anywhere_changes_it(value: Any, path: list[int]) -> None:
    """Law: a value with one thing in it replaced has another digest."""
    assert digest(value) is not None
    assert digest(replaced(value, iter(path))) != digest(value)


@given(TREES, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_order_without_meaning_and_pickling_change_nothing(value: Any, random: Any) -> None:
    """Law: digest(shuffled(x)) == digest(load(dump(x))) == digest(x)."""
    assert digest(shuffled(value, random)) == digest(value)
    assert digest(pickle.loads(pickle.dumps(value, 5))) == digest(value)


# -- registered types ------------------------------------------------------------------------------


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, Any], None]:
    """``register_canonical``, until the end of the test."""
    monkeypatch.setattr(canonical, "REGISTERED", {})
    monkeypatch.setattr("stillrun.canonical_ways.REGISTERED", canonical.REGISTERED)
    return canonical.register_canonical


def test_a_registered_function_tells_what_counts(registered: Any) -> None:
    registered(Broken, lambda value: vars(value))
    one, other = Broken(), Broken()
    one.x, other.x = {"a", "b"}, {"b", "a"}  # type: ignore[attr-defined]
    assert digest(one) == digest(other) is not None
    other.x = {"a"}  # type: ignore[attr-defined]
    assert digest([one]) != digest([other])
    assert digest(one) != digest(vars(one))


def test_a_type_may_be_registered_by_its_name(registered: Any) -> None:
    registered(f"{__name__}.Plain", lambda value: value.a)
    assert digest(Plain(a=1, b=2)) == digest(Plain(a=1, b=3))
    assert digest(Plain(a=1)) != digest(Plain(a=2))
    registered(Made, lambda value: value.value)
    assert digest(Plain(a=1)) != digest(Made(1))
    registered(Made, lambda value: threading.Lock())
    assert digest(Made(1)) is None


def test_what_cannot_be_registered_is_refused(registered: Any) -> None:
    for kind in (int, list, "x"):
        with pytest.raises(TypeError):
            registered(kind, None)
    with pytest.raises(TypeError, match="'dict'"):
        registered(dict, list)


def test_nothing_is_imported_for_it() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); from stillrun.canonical import canonical_digest as d\n"
    code += "class A: pass\n"
    code += "d([A(), len, lambda: 1]); found = {'numpy', 'pandas', 'threading', 'inspect', 'typing', 'dis'} & set(sys.modules)\n"
    code += "assert not found, found"
    subprocess.run([sys.executable, "-I", "-S", "-c", code, str(FACE)], check=True)


class Record(dict):
    """A dict whose items are its attributes."""

    def __init__(self, **items: Any) -> None:
        super().__init__(items)
        self.__dict__ = self


def test_a_dict_that_is_its_own_attributes_survives_pickling() -> None:
    value = Record(a=1, b=[2])
    assert digest(value) == digest(pickle.loads(pickle.dumps(value, 5))) is not None
    assert digest(value) not in (digest(Record(a=1, b=[3])), digest(Record(a=1)), digest({"a": 1, "b": [2]}))


def test_looking_at_a_partial_changes_no_byte_of_its_pickle() -> None:
    value = functools.partial(max, 1, key=len)
    before = pickle.dumps(value, 5)
    assert digest(value) is not None
    assert pickle.dumps(value, 5) == before


def test_not_implemented_has_a_digest() -> None:
    assert digest(NotImplemented) not in (None, digest(None), digest("NotImplemented"))


def test_a_class_of_no_module_has_none() -> None:
    made = type("Made", (), {})
    made.__module__ = None  # type: ignore[assignment]  # as SymPy makes them
    assert digest(made()) is None
