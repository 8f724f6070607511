"""Objects, functions and the values of scientific libraries: the same have the same digest, one change gives another."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import functools
import io
import json
import operator
import os
import pickle
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp
import sklearn.cluster
import sklearn.datasets
import sklearn.decomposition
import sklearn.ensemble
import sklearn.feature_extraction.text
import sklearn.linear_model
import sklearn.neighbors
import sklearn.pipeline
import sklearn.preprocessing
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from stillrun.canonical import canonical_digest as digest

from .driver import FACE


class Plain:
    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


class Twin(Plain):
    pass


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, a: Any, b: Any = None) -> None:
        self.a, self.b = a, b


class Text(str):
    pass


class Names(set):  # type: ignore[type-arg]
    pass


class Table(dict):  # type: ignore[type-arg]
    pass


class Stateful:
    """Pickles a part of itself: the rest is a cache."""

    def __init__(self, kept: Any, cache: Any) -> None:
        self.kept, self.cache = kept, cache

    def __getstate__(self) -> dict[str, Any]:
        return {"kept": self.kept}


@dataclasses.dataclass
class Noted:
    a: int
    note: str = dataclasses.field(default="", compare=False)


class Colour(enum.Flag):
    RED = 1
    BLUE = 2


def ring(*values: Any) -> Plain:
    """Objects that refer to each other in a circle."""
    nodes = [Plain(value=value) for value in values]
    for node, following in zip(nodes, [*nodes[1:], nodes[0]], strict=True):
        node.__dict__["next"] = following
    return nodes[0]


def extra(value: Any, **more: Any) -> Any:
    for name, item in more.items():
        setattr(value, name, item)
    return value


def made(text: str, name: str = "f", file: str = "flow.py", blank: int = 0) -> Any:
    """A function out of source text, which may lie in any file and line."""
    space: dict[str, Any] = {"__name__": "flow"}
    exec(compile("\n" * blank + textwrap.dedent(text), file, "exec"), space)
    return space[name]


def closure(value: Any) -> Any:
    def inner() -> Any:
        return value

    inner.__qualname__ = "inner"
    return inner


def saved(image: Any) -> Any:
    """The image, read from a file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return Image.open(io.BytesIO(file.getvalue()))


COUNT = "def f(x, y=2):\n    return [x + i for i in range(y)]\n"
ERROR = extra(ValueError("no", 1), note={"b", "a"})

SAME: dict[str, tuple[Any, Any]] = {
    "attributes in another order": (Plain(a=1, b=[2]), Plain(b=[2], a=1)),
    "sets in attributes": (Plain(a={"x", "y", "z"}), Plain(a={"z", "y", "x"})),
    "slots": (Slotted(1, {"a"}), Slotted(1, {"a"})),
    "subclass of set": (Names("abcdef"), Names("fedcba")),
    "subclass of dict": (Table(a=1, b=2), Table(b=2, a=1)),
    "what is not pickled": (Stateful(1, "x"), Stateful(1, "y")),
    "shared or twice": (Plain(a=(shared := Plain(b=1)), c=shared), Plain(a=Plain(b=1), c=Plain(b=1))),
    "circle": (ring(1, 2, 3), ring(1, 2, 3)),
    "exceptions": (ERROR, extra(ValueError("no", 1), note={"a", "b"})),
    "regular expressions": (re.compile("a+", re.I), re.compile("a+", re.I)),
    "partials": (functools.partial(max, 1, key=len), functools.partial(max, 1, key=len)),
    "flags": (Colour.RED | Colour.BLUE, Colour.BLUE | Colour.RED),
    "functions in other files": (made(COUNT), made(COUNT, file="/elsewhere/other.py", blank=40)),
    "comments": (made(COUNT), made("def f(x, y=2):\n    # why\n    return [x + i for i in range(y)]\n")),
    "nested functions": (
        made("def f():\n    def g(): return {'a', 'b', 'c'}\n    return g"),
        made("\n\ndef f():\n    def g(): return {'a', 'b', 'c'}\n    return g"),
    ),
    "closures": (closure({"a", "b"}), closure({"b", "a"})),
    "bound methods": (Plain(a=1).__init__, Plain(a=1).__init__),  # type: ignore[misc]
    "methods of builtins": ([1].append, [1].append),
    "masked arrays": (
        np.ma.array([1.0, 2.0], mask=[False, True]),
        np.ma.array([1.0, 9.0], mask=[False, True]),
    ),
    "record arrays": (np.rec.array([(1, 2.0)], names="a,b"), np.rec.array([(1, 2.0)], names="a,b").copy()),
    "long doubles": (np.array([1, 2], "g") / 3, (np.array([2, 4], "g") / 6)[::-1][::-1]),
    "random generators": (np.random.default_rng(3), pickle.loads(pickle.dumps(np.random.default_rng(3)))),
    "random states": (np.random.RandomState(3), np.random.RandomState(3)),
    "ufuncs": (np.add, np.add),
    "attrs in another order": (
        extra(pd.DataFrame({"a": [1]}), attrs={"x": 1, "y": 2}),
        extra(pd.DataFrame({"a": [1]}), attrs={"y": 2, "x": 1}),
    ),
    "Arrow columns": (
        pd.Series(["a", None], dtype=pd.ArrowDtype(pa.string())),
        pd.concat([pd.Series([x], dtype=pd.ArrowDtype(pa.string())) for x in ("a", None)], ignore_index=True),
    ),
    "sparse columns": (
        pd.Series(pd.arrays.SparseArray([0, 0, 1])),
        pd.Series(pd.arrays.SparseArray([0, 0, 1], kind="block")),
    ),
    "extension arrays": (pd.array([1, None], dtype="Int64"), pd.array([1, None, 2], dtype="Int64")[:2]),
    "sparse duplicates": (
        sp.coo_array(([1.0, 2.0, 3.0], ([0, 0, 1], [1, 1, 0])), shape=(2, 2)),
        sp.coo_array(([3.0, 3.0], ([1, 0], [0, 1])), shape=(2, 2)),
    ),
    "sparse indices of another size": (
        sp.csr_array(np.eye(3)),
        sp.csr_array((np.ones(3), np.arange(3, dtype="i8"), np.arange(4, dtype="i8")), shape=(3, 3)),
    ),
    "Arrow chunks": (
        pa.table({"a": pa.chunked_array([[1, None], [3]]), "b": ["x", None, "z"]}),
        pa.table({"a": pa.chunked_array([[1], [None, 3]]), "b": ["x", None, "z"]}),
    ),
    "Arrow slices": (pa.array([1.5, None]), pa.array([9.0, 1.5, None, 2.0])[1:3]),
    "Arrow structs": (pa.array([{"a": 1}, None]), pa.array([{"a": 1}, None, {"a": 2}])[:2]),
    "Polars chunks": (
        pl.DataFrame({"a": [1, 2], "b": ["x", None]}),
        pl.concat([pl.DataFrame({"a": [1], "b": ["x"]}), pl.DataFrame({"a": [2], "b": [None]})], rechunk=False),
    ),
    "images of other files": (Image.new("RGB", (4, 3), "red"), saved(Image.new("RGB", (4, 3), "red"))),
}
DIFFERENT: dict[str, tuple[Any, Any]] = {
    "attributes": (Plain(a=1), Plain(a=2)),
    "names of attributes": (Plain(a=1), Plain(b=1)),
    "classes": (Plain(a=1), Twin(a=1)),
    "slots": (Slotted(1), Slotted(2)),
    "missing slots": (Slotted(1), (lambda one: (delattr(one, "b"), one)[1])(Slotted(1))),
    "subclass of text": (Text("a"), "a"),
    "subclass of set": (Names("ab"), Names("ac")),
    "attributes of a set": (Names("ab"), extra(Names("ab"), a=1)),
    "subclass of dict": (Table(a=1), Table(a=2)),
    "items and attributes": (Table(a=1), extra(Table(), a=1)),
    "what is pickled": (Stateful(1, "x"), Stateful(2, "x")),
    "circles": (ring(1, 2), ring(1, 3)),
    "circles of another length": (ring(1, 1), ring(1, 1, 1)),
    "exceptions": (ValueError("a"), KeyError("a")),
    "flags of expressions": (re.compile("a"), re.compile("a", re.I)),
    "more fields": (Noted(1), extra(Noted(1), b=2)),
    "fields that do not compare": (Noted(1, "x"), Noted(1, "y")),
    "operators": (operator.itemgetter(1), operator.itemgetter(2)),
    "partials": (functools.partial(max, 1), functools.partial(min, 1)),
    "instructions": (made(COUNT), made(COUNT.replace("x + i", "x - i"))),
    "constants": (made("def f(): return 1"), made("def f(): return 2")),
    "constants of another type": (made("def f(): return 1"), made("def f(): return True")),
    "names": (made("def f(a): return a.x"), made("def f(a): return a.y")),
    "defaults": (made(COUNT), made(COUNT.replace("y=2", "y=3"))),
    "defaults by name": (made("def f(*, y=2): pass"), made("def f(*, y=3): pass")),
    "inner functions": (
        made("def f():\n    return lambda: 1"),
        made("def f():\n    return lambda: 2"),
    ),
    "handlers": (
        made("def f():\n    try: g()\n    except ValueError: pass"),
        made("def f():\n    try: g()\n    except KeyError: pass"),
    ),
    "closures": (closure(1), closure(2)),
    "attributes of functions": (made(COUNT), extra(made(COUNT), a=1)),
    "builtins": (len, sum),
    "class and function": (int, len),
    "classes themselves": (Plain, Twin),
    "methods": ([1].append, [1].extend),
    "owners of methods": ([1].append, [2].append),
    "masks": (np.ma.array([1, 2], mask=[False, True]), np.ma.array([1, 2], mask=[True, False])),
    "behind no mask": (np.ma.array([1, 2]), np.array([1, 2])),
    "fill values": (np.ma.array([1], mask=[True]), np.ma.array([1], mask=[True], fill_value=7)),
    "long doubles": (np.array([1], "g") / 3, np.array([np.float64(1) / 3], "g")),
    "long doubles that end alike": (np.array([1], "g") + np.finfo("g").eps, np.array([1], "g")),
    "random generators": (np.random.default_rng(3), np.random.default_rng(4)),
    "generators that were used": (np.random.default_rng(3), (lambda one: (one.random(), one)[1])(np.random.default_rng(3))),
    "attrs": (pd.DataFrame({"a": [1]}), extra(pd.DataFrame({"a": [1]}), attrs={"x": 1})),
    "attrs of series": (pd.Series([1]), extra(pd.Series([1]), attrs={"x": 1})),
    "Arrow and text": (pd.Series(["a"], dtype=pd.ArrowDtype(pa.string())), pd.Series(["a"], dtype="str")),
    "sparse and dense": (pd.Series(pd.arrays.SparseArray([0, 1])), pd.Series([0, 1])),
    "sparse fill": (pd.Series(pd.arrays.SparseArray([0, 1])), pd.Series(pd.arrays.SparseArray([0, 1], fill_value=1))),
    "periods": (pd.Period("2020-01", "M"), pd.Period("2020-02", "M")),
    "intervals": (pd.Interval(0, 1), pd.Interval(0, 1, closed="left")),
    "offsets": (pd.offsets.Day(1), pd.offsets.Day(2)),
    "categories": (pd.CategoricalDtype(["a"]), pd.CategoricalDtype(["b"])),
    "sparse formats": (sp.csr_array(np.eye(2)), sp.csc_array(np.eye(2))),
    "sparse arrays and matrices": (sp.csr_array(np.eye(2)), sp.csr_matrix(np.eye(2))),
    "sparse shapes": (sp.csr_array((2, 3)), sp.csr_array((3, 2))),
    "sparse values": (sp.csr_array(np.eye(2)), sp.csr_array(np.eye(2) * 2)),
    "sparse types": (sp.csr_array(np.eye(2)), sp.csr_array(np.eye(2, dtype="f4"))),
    "explicit zeros": (
        sp.coo_array(([0.0], ([0], [0])), shape=(1, 1)),
        sp.coo_array((1, 1)),
    ),
    "Arrow types": (pa.array([1], pa.int32()), pa.array([1], pa.int64())),
    "Arrow nulls": (pa.array([0, None]), pa.array([0, 0])),
    "Arrow names": (pa.table({"a": [1]}), pa.table({"b": [1]})),
    "Arrow metadata": (pa.table({"a": [1]}), pa.table({"a": [1]}).replace_schema_metadata({"k": "v"})),
    "Arrow moments": (
        pa.array([1], pa.timestamp("ns")),
        pa.array([2], pa.timestamp("ns")),
    ),
    "Arrow tables and batches": (pa.table({"a": [1]}), pa.record_batch({"a": [1]})),
    "Polars types": (pl.Series("a", [1]), pl.Series("a", [1], pl.Int32)),
    "Polars nulls": (pl.Series("a", [1, None]), pl.Series("a", [1, 0])),
    "Polars names": (pl.Series("a", [1]), pl.Series("b", [1])),
    "Polars frames and series": (pl.Series("a", [1]), pl.DataFrame({"a": [1]})),
    "Polars moments": (
        pl.Series("a", [datetime.datetime(2020, 1, 1)]),
        pl.Series("a", [datetime.datetime(2020, 1, 2)]),
    ),
    "pixels": (Image.new("RGB", (4, 3), "red"), Image.new("RGB", (4, 3), "blue")),
    "modes": (Image.new("L", (4, 3)), Image.new("P", (4, 3))),
    "sizes": (Image.new("L", (4, 3)), Image.new("L", (3, 4))),
}  # fmt: skip


@pytest.mark.parametrize("what", SAME)
def test_same(what: str) -> None:
    one, other = SAME[what]
    assert digest(one) is not None
    assert digest(one) == digest(other)
    assert digest([one, {"a": other}]) == digest([other, {"a": one}])


@pytest.mark.parametrize("what", DIFFERENT)
def test_different(what: str) -> None:
    one, other = DIFFERENT[what]
    assert None not in (digest(one), digest(other))
    assert digest(one) != digest(other)


@pytest.mark.parametrize("what", [*SAME, *DIFFERENT])
def test_a_round_trip_changes_nothing(what: str) -> None:
    for value in (SAME.get(what) or ()) + (DIFFERENT.get(what) or ()):
        try:
            data = pickle.dumps(value, 5)
        except (TypeError, AttributeError, pickle.PicklingError):
            continue  # a function made here: it is no artifact
        assert digest(pickle.loads(data)) == digest(value)


def test_a_function_that_is_replaced_by_another_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest([COUNT, textwrap.dedent])
    monkeypatch.setattr(textwrap, "dedent", made("def dedent(text): return text", "dedent"))
    assert digest([COUNT, textwrap.dedent]) != before


# -- estimators ----------------------------------------------------------------------------------


def fitted(make: Callable[[], Any], scale: float = 1.0) -> Any:
    data, target = sklearn.datasets.make_classification(60, 6, random_state=0)
    data[0, 0] *= scale
    return make().fit(data, target)


ESTIMATORS: dict[str, Callable[[], Any]] = {
    "LogisticRegression": lambda: sklearn.linear_model.LogisticRegression(),
    "Ridge": lambda: sklearn.linear_model.Ridge(),
    "RandomForest": lambda: sklearn.ensemble.RandomForestClassifier(5, n_jobs=2, random_state=1),
    "HistGradientBoosting": lambda: sklearn.ensemble.HistGradientBoostingClassifier(max_iter=5, random_state=1),
    "PCA": lambda: sklearn.decomposition.PCA(2, random_state=1),
    "KMeans": lambda: sklearn.cluster.KMeans(2, n_init=1, random_state=1),
    "KNeighbors": lambda: sklearn.neighbors.KNeighborsClassifier(algorithm="kd_tree"),
    "Pipeline": lambda: sklearn.pipeline.make_pipeline(
        sklearn.preprocessing.StandardScaler(), sklearn.linear_model.LogisticRegression()
    ),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimator_counts_by_what_it_has_learnt(name: str) -> None:
    make = ESTIMATORS[name]
    first = digest(model := fitted(make))
    assert first is not None
    assert digest(fitted(make)) == digest(pickle.loads(pickle.dumps(model, 5))) == first
    assert digest(fitted(make, scale=50.0)) != first
    assert digest(make()) not in (None, first)


def test_a_vocabulary_counts_without_its_order() -> None:
    words = ["red green blue", "blue sky"]
    one = sklearn.feature_extraction.text.CountVectorizer().fit(words)
    other = sklearn.feature_extraction.text.CountVectorizer().fit(words)
    other.vocabulary_ = dict(reversed(one.vocabulary_.items()))
    assert digest(one) == digest(other) != digest(sklearn.feature_extraction.text.CountVectorizer().fit(words[:1]))


# -- figures -------------------------------------------------------------------------------------


def drawn(*values: float, title: str = "") -> Figure:
    figure = Figure()
    axes = figure.add_subplot()
    axes.plot(values)
    axes.set_title(title)
    return figure


def test_a_figure_counts_by_what_it_shows() -> None:
    first = digest(figure := drawn(1, 2, 3))
    assert first is not None
    figure.canvas.draw()
    assert digest(figure) == digest(drawn(1, 2, 3)) == digest(pickle.loads(pickle.dumps(drawn(1, 2, 3), 5))) == first
    assert len({first, digest(drawn(1, 2, 4)), digest(drawn(1, 2, 3, title="t"))}) == 3
    figure.set_size_inches(3, 3)
    assert digest(figure) != first


# -- laws ----------------------------------------------------------------------------------------

LEAVES = st.none() | st.integers() | st.text() | st.floats(allow_nan=False)
OBJECTS = st.recursive(
    LEAVES,
    lambda inner: (
        st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3).map(lambda found: Plain(**found))
        | st.builds(Slotted, inner, inner)
        | st.lists(inner, max_size=3).map(tuple)
        | st.frozensets(st.text("abc", max_size=2)).map(Names)
        | st.dictionaries(st.text("abc"), inner, max_size=2).map(Table)
    ),
    max_leaves=8,
)


@given(OBJECTS)
@settings(max_examples=100, deadline=None)
def test_any_object_survives_pickling(value: Any) -> None:
    assert digest(value) is not None
    assert digest(pickle.loads(pickle.dumps(value, 5))) == digest(value)


@given(st.lists(OBJECTS, min_size=1, max_size=4), OBJECTS, st.data())
@settings(max_examples=100, deadline=None)
def test_one_change_anywhere_counts(values: list[Any], other: Any, data: Any) -> None:
    at = data.draw(st.integers(0, len(values) - 1))
    changed = Plain(items=[*values[:at], other, *values[at + 1 :]])
    assert (digest(changed) == digest(Plain(items=values))) == (digest(other) == digest(values[at]))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.floats(-9, 9)), max_size=12), st.randoms())
@settings(max_examples=60, deadline=None)
def test_the_order_of_sparse_entries_does_not_count(entries: list[tuple[int, int, float]], random: Any) -> None:
    unique = list({(row, column): (row, column, value) for row, column, value in entries}.values())
    shuffled = random.sample(unique, len(unique))

    def built(rows: list[tuple[int, int, float]]) -> Any:
        return sp.coo_array(([r[2] for r in rows], ([r[0] for r in rows], [r[1] for r in rows])), shape=(6, 6))

    assert digest(built(unique)) == digest(built(shuffled))
    assert digest(built(unique).tocsr()) == digest(built(shuffled).tocsc().tocsr())


SEEDED = """
import collections, json, sys
sys.path.insert(0, sys.argv[1])
from stillrun.canonical import canonical_digest

class Plain:
    def __init__(self, **values):
        self.__dict__.update(values)

class Names(set):
    pass

def f(x):
    return x in {"a", "b", "c", "d"}

values = [Plain(a={"p", "q", "r"}), Names("abcdef"), f, lambda: {"u", "v", "w"}, collections.ChainMap({"a": {"x", "y"}}),
          Plain(f=f, n=Names("xyz")), frozenset([f.__name__, "k", "l"]), ValueError({"s", "t"})]
if len(sys.argv) > 2:
    import sklearn.ensemble
    values.append(sklearn.ensemble.RandomForestClassifier(3, random_state=0).fit([[0, 1], [1, 0]] * 9, [0, 1] * 9))
print(json.dumps([canonical_digest(value) for value in values]))
"""


@pytest.mark.slow
def test_equal_for_every_hash_seed() -> None:
    found = set()
    for seed in ("0", "1", "77"):
        environ = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", SEEDED, FACE, "all"], capture_output=True, env=environ, check=True)
        assert None not in json.loads(done.stdout)
        found.add(done.stdout)
    assert len(found) == 1


def test_none_of_the_libraries_is_imported_for_a_value_that_is_not_theirs() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\nfrom stillrun.canonical import canonical_digest\n"
        "canonical_digest([1, {'a': len}, ValueError('x')])\n"
        "assert not {'numpy', 'pandas', 'scipy', 'matplotlib', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, FACE], check=True, cwd=Path(__file__).parent)
