"""What differs between two values: found, placed, measured, and never passed over where a tolerance is granted."""

from __future__ import annotations

import copy
import datetime
import enum
import functools
import json
import math
import pickle
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp
import sklearn.linear_model
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from stillrun.canonical import canonical_digest
from stillrun.compare import compared

from .test_canonical_pairs import DIFFERENT, OBJECTS, SAME, Plain, drawn, made


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


def places(a: Any, b: Any, **more: float) -> list[str]:
    return [one["place"] for one in compared(a, b, "x", **more)["found"]]


@pytest.mark.parametrize("what", SAME)
def test_of_the_same_nothing_differs(what: str) -> None:
    found = compared(*SAME[what], "x")
    assert (found["count"], found["found"], found["within"]) == (0, [], False)


# two rings of equal values look the same from each of their places, however long they are
_NOT_TOLD = (
    "circles of another length",
    "functions",
    "methods",
    "builtins",
    "class and function",
    "classes themselves",
    "owners of methods",
)


@pytest.mark.parametrize("what", [name for name in DIFFERENT if name not in _NOT_TOLD])
def test_of_what_differs_something_is_found(what: str) -> None:
    found = compared(*DIFFERENT[what], "x")
    json.dumps(found, allow_nan=False)
    assert found["count"] or found["opaque"], what
    assert not found["within"]


@pytest.mark.parametrize(
    ("one", "other", "place", "before", "after"),
    [
        ({"a": [1, (2, 3.5)]}, {"a": [1, (2, 3.25)]}, "x['a'][1][1]", "3.5", "3.25"),
        (Plain(a=Plain(b=[1])), Plain(a=Plain(b=[2])), "x.a.b[0]", "1", "2"),
        ([1, "a"], [1, b"a"], "x[1]", "str", "bytes"),
        ({"a": 1}, {}, "x['a']", "1", "not there"),
        ({}, {"b": 1}, "x['b']", "not there", "1"),
        ({1, 2}, {1, 3}, "x", "2", "3"),
        ({1: 0}, {True: 0}, "key 1 of x", "int", "bool"),
        (np.arange(6).reshape(2, 3), np.array([[0, 1, 2], [3, 9, 5]]), "x[1, 1]", "4", "9"),
        (np.zeros(3), np.zeros((1, 3)), "x", "(3,)", "(1, 3)"),
        (np.zeros(3), np.zeros(3, "f4"), "x", "float64", "float32"),
        (np.array([0.0]), np.array([-0.0]), "x[0]", "0.0", "-0.0"),
        (np.array([1.0, np.nan]), np.array([1.0, 2.0]), "x[1]", "nan", "2.0"),
        (np.array(["a", "b"]), np.array(["a", "c"]), "x[1]", "'b'", "'c'"),
        (pd.DataFrame({"a": [1.0]}, ["q"]), pd.DataFrame({"a": [3.0]}, ["q"]), "x['a'].loc['q']", "1.0", "3.0"),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]}), "x.columns", "has ['a']", "has ['b']"),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1.0]}), "x['a']", "int64", "float64"),
        (pd.DataFrame({"a": ["u", None]}), pd.DataFrame({"a": ["v", None]}), "x['a'].loc[0]", "'u'", "'v'"),
        (pd.Series([1, None], dtype="Int64"), pd.Series([1, 2], dtype="Int64"), "x.isna().loc[1]", "True", "False"),
        (pd.Series([1, 2], name="s"), pd.Series([1, 2], name="t"), "x.name", "'s'", "'t'"),
        (pd.Series([1, 2]), pd.Series([1, 2], [1, 0]), "x.index", "[0, 1]", "[1, 0]"),
        (pl.DataFrame({"a": [1, 2]}), pl.DataFrame({"a": [1, 3]}), "x['a'][1]", "2", "3"),
        (pa.table({"a": [1, 2]}), pa.table({"a": [1, 3]}), "x['a'][1]", "2", "3"),
        (sp.csr_array(np.eye(2)), sp.csr_array(np.diag([1.0, 2.0])), "x.tocsr().data[1]", "1.0", "2.0"),
        (ValueError("a"), ValueError("b"), "x.args[0]", "a", "b"),
        (Colour.RED, Colour.BLUE, "x", "Colour.RED", "Colour.BLUE"),
        (
            datetime.datetime(2020, 1, 1, 12, tzinfo=datetime.timezone.utc),
            datetime.datetime(2020, 1, 1, 13, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
            "x.tzinfo",
            "datetime.timezone.utc",
            "datetime.timezone(datetime.timedelta(seconds=3600))",
        ),
        (datetime.date(2020, 1, 1), datetime.date(2020, 1, 2), "x", "datetime.date(2020, 1, 1)", "datetime.date(2020, 1, 2)"),
    ],
)  # fmt: skip
def test_the_place_is_named(one: Any, other: Any, place: str, before: str, after: str) -> None:
    found = compared(one, other, "x")
    first = found["first"]
    assert (first["place"], first["before"].strip("'"), first["after"].strip("'")) == (
        place,
        before.strip("'"),
        after.strip("'"),
    )


def test_numbers_are_measured() -> None:
    found = compared([1.0, 100.0], [1.0 + 2**-52, 101.0], "x")
    first, second = found["found"]
    assert (first["abs"], first["ulp"]) == (2**-52, 1.0)
    assert (second["abs"], second["rel"]) == (1.0, pytest.approx(1 / 101))
    assert found["worst"]["place"] == "x[1]"


def test_large_whole_numbers_are_measured_exactly() -> None:
    found = compared(10**50, 10**50 + 1, "x")["first"]
    assert (found["abs"], found["rel"]) == (1.0, 1 / (10**50 + 1))
    assert compared(0, 1 << 2000, "x")["first"]["rel"] == 1.0


def test_arrays_are_measured_as_a_whole() -> None:
    before = np.linspace(1, 2, 1000)
    after = before.copy()
    after[:10] *= 1 + 1e-9
    after[500] *= 2
    found = compared(before, after, "x")["first"]
    assert (found["differing"], found["of"], found["place"]) == (11, 1000, "x[500]")
    assert found["histogram"].keys() >= {"1e-1"} and sum(found["histogram"].values()) == 11


def test_frames_show_the_rows_that_changed() -> None:
    before = pd.DataFrame({"a": range(50), "b": [float(n) for n in range(50)], "c": ["x"] * 50})
    after = before.copy()
    after.loc[[7, 9], "b"] = -1.0
    found = compared(before, after, "x")
    assert found["found"][-1]["rows"] == [
        {"row": "7", "before": {"b": "7.0"}, "after": {"b": "-1.0"}},
        {"row": "9", "before": {"b": "9.0"}, "after": {"b": "-1.0"}},
    ]


def test_frames_of_other_lengths_tell_the_rows_and_what_changed_in_the_others() -> None:
    before = pd.DataFrame({"a": range(9)}, index=list("abcdefghi"))
    after = before.drop(index=["c", "d"])
    after.loc["e", "a"] = 40
    found = compared(before, after, "x")["found"]
    assert [one["kind"] for one in found] == ["shape", "labels", "number"]
    assert found[1]["gone"] == ["'c'", "'d'"]
    assert found[2]["rows"] == [{"row": "'e'", "before": {"a": "4"}, "after": {"a": "40"}}]


@pytest.mark.parametrize("made_of", [pl.DataFrame, pa.table])
def test_tables_of_columns_are_told_as_frames_are(made_of: Callable[[Any], Any]) -> None:
    before = {"a": list(range(50)), "b": [str(n) for n in range(50)], "c": [None, *range(49)]}
    after = {**before, "a": [-1 if n in (7, 9) else n for n in range(50)]}
    first = compared(made_of(before), made_of(after), "x")["first"]
    assert (first["differing"], first["of"]) == (2, 50)
    assert [(row["row"], row["before"], row["after"]) for row in first["rows"]] == [
        ("7", {"a": "7"}, {"a": "-1"}),
        ("9", {"a": "9"}, {"a": "-1"}),
    ]
    shorter = {name: values[:40] for name, values in before.items()}
    first = compared(made_of(before), made_of(shorter), "x")["first"]
    assert (first["before"], first["after"]) == ("(50, 3)", "(40, 3)")
    assert "x['b']" in places(made_of(before), made_of({**before, "b": list(range(50))}))
    assert places(made_of(before), made_of({"a": before["a"], "z": before["b"]}))[:2] == ["x", "x.columns"]


def test_tables_are_compared_where_numpy_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = pl.DataFrame({"a": [1, 2]}), pl.DataFrame({"a": [1, 3]})
    monkeypatch.setitem(sys.modules, "numpy", None)
    first = compared(before, after, "x")["first"]
    assert (first["place"], first["rows"][0]["row"]) == ("x['a'][1]", "1")


def test_what_only_the_schema_of_a_table_tells_is_never_within() -> None:
    def of(value: float, nullable: bool, *names: str) -> Any:
        columns = [pa.array([value]), pa.array([2.0 * value])]
        return pa.table(columns, schema=pa.schema([pa.field(name, pa.float64(), nullable=nullable) for name in names]))

    assert compared(of(1.0, True, "a", "b"), of(1.0 + 1e-9, True, "a", "b"), "x", rtol=1e-3)["within"]
    assert not compared(of(1.0, True, "a", "b"), of(1.0 + 1e-9, False, "a", "b"), "x", rtol=1e-3)["within"]
    assert compared(of(1.0, True, "a", "a"), of(1.0 + 1e-9, True, "a", "a"), "x", rtol=1e-3)["count"] == 2


def test_a_model_tells_the_attribute() -> None:
    data = np.arange(20.0).reshape(10, 2) % 7
    one = sklearn.linear_model.Ridge().fit(data, data[:, 0])
    other = sklearn.linear_model.Ridge(alpha=1.5).fit(data, data[:, 0])
    assert {"x.alpha", "x.intercept_"} <= {place.split("[")[0] for place in places(one, other)}


def test_text_and_functions_show_lines() -> None:
    found = compared("a\nb\nc", "a\nB\nc", "x")["first"]
    assert "-b" in found["diff"] and "+B" in found["diff"]
    assert (found["place"], found["before"], found["after"]) == ("x.splitlines()[1]", "'b'", "'B'")
    assert compared("a\nb\n", "a\nb", "x")["first"]["place"] == "x"


def test_text_that_became_shorter_or_longer_shows_lines() -> None:
    found = compared("a\nb", "a\nb\nc", "x")["first"]
    assert (found["place"], found["before"], found["after"]) == ("x.splitlines()[2]", "not there", "'c'")


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        ("def f(x): return x + 1", "def f(x): return x + 2", "x.__code__.co_consts[1]"),
        ("def f(x): return x + 1", "def f(x): return x - 1", "x.__code__.co_code.splitlines()"),
        ("def f(x): return len(x)", "def f(x): return sum(x)", "x.__code__.co_names[0]"),
        ("def f(x, y=1): return x", "def f(x, y=2): return x", "x.__defaults__[0]"),
        ("L = [1, 2]\ndef f(x): return x in L", "L = [1, 3]\ndef f(x): return x in L", "x.__globals__['L'][1]"),
        (
            "def f(x):\n    return [y + 1 for y in x]",
            "def f(x):\n    return [y + 2 for y in x]",
            "x.__code__.co_consts",
        ),
    ],
)
def test_of_functions_without_source_their_parts_are_told(before: str, after: str, place: str) -> None:
    one, other = made(before), made(after)
    assert places(one, other)[0].startswith(place)
    assert places(cloudpickle.dumps(one), cloudpickle.dumps(other))[0].startswith(
        place.replace("x.", "pickle.loads(x).")
    )


def test_of_functions_with_source_its_lines_are_told(tmp_path: Path) -> None:
    found = []
    for number in (1, 2):
        file = tmp_path / f"of{number}.py"
        file.write_text(f"def f(x):\n    y = {number}\n    return x + y\n")
        names: dict[str, Any] = {}
        exec(compile(file.read_text(), str(file), "exec"), names)
        found.append(names["f"])
    first = compared(*found, "x")["first"]
    assert first["place"] == "inspect.getsource(x).splitlines()[1]"
    assert {"-    y = 1", "+    y = 2"} <= set(first["diff"])


def test_pickled_classes_and_values_are_told_by_their_parts() -> None:
    def made_of(number: int) -> Any:
        class Local:
            size = number

            def area(self) -> int:
                return number

        return Local

    one, other = made_of(1), made_of(2)
    assert set(places(cloudpickle.dumps(one()), cloudpickle.dumps(other()))) == {
        "pickle.loads(x).__class__.size",
        "pickle.loads(x).__class__.area.__closure__[0].cell_contents",
    }
    assert places(cloudpickle.dumps(one), cloudpickle.dumps(one)) == []
    assert places(pickle.dumps(Model(a=[1, 2])), pickle.dumps(Model(a=[1, 3]))) == ["pickle.loads(x).a[1]"]


class Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


def test_nothing_that_a_pickle_in_bytes_says_is_done(tmp_path: Path) -> None:
    one, other = (pickle.dumps([Bomb(str(tmp_path / name))]) for name in ("one", "two"))
    assert places(one, other) == ["pickle.loads(x)[0].<argument 0>"]
    assert list(tmp_path.iterdir()) == []


def test_a_pickle_in_bytes_cannot_ask_for_all_memory() -> None:
    one, other = (b"\x80\x04" + item + b"r\xff\xff\xff\xff." for item in (b"K\x01", b"K\x02"))
    assert places(one, other) == ["x"]


def test_numbers_in_code_and_in_bytes_are_never_within() -> None:
    one, other = made("def f(x): return x + 1.0"), made("def f(x): return x + 1.000000001")
    assert not compared(one, other, "x", rtol=1e-3)["within"]
    assert not compared(pickle.dumps(1.0), pickle.dumps(1.000000001), "x", rtol=1e-3)["within"]


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_bytes_that_only_look_like_a_pickle_are_bytes(one: bytes, other: bytes) -> None:
    one, other = b"\x80\x04" + one + b".", b"\x80\x04" + other + b"."
    assert bool(compared(one, other, "x")["count"]) == (one != other)


def test_pictures_tell_where_they_changed() -> None:
    after = Image.new("RGB", (8, 8))
    after.putpixel((3, 5), (255, 0, 0))
    found = compared(Image.new("RGB", (8, 8)), after, "x")["first"]
    assert (found["differing"], found["after"]) == (1, "changed within (3, 5, 4, 6)")
    figures = compared(drawn(1, 2), drawn(2, 1), "x")["found"]
    assert [one["kind"] for one in figures] == ["pixels", "number"]
    assert figures[1]["place"].startswith("x.axes[0].lines[0].get_xydata()")


def test_of_plots_the_data_are_told() -> None:
    def of(height: float, title: str) -> Figure:
        figure = Figure()
        axes = figure.add_subplot()
        axes.bar(["a", "b"], [1.0, height])
        axes.scatter([0, 1], [height, 1])
        axes.set_title(title)
        return figure

    told = [place for place in places(of(2.0, "one"), of(3.0, "two")) if place.startswith("x.axes[0]")]
    assert [place.split("[0].", 1)[1].rpartition("()")[0] for place in told] == [
        "get_title",
        "collections[0].get_offsets",
        "patches[1].get_path",
    ]
    assert compared(Figure(), Figure(), "x")["count"] == 0


# -- tolerance -----------------------------------------------------------------------------------

NEAR: dict[str, tuple[Any, Any]] = {
    "float": (1.0, 1.0 + 1e-10),
    "array": (np.ones(5), np.ones(5) + 1e-10),
    "frame": (pd.DataFrame({"a": [1.0, 2.0], "b": ["u", "v"]}), pd.DataFrame({"a": [1.0, 2.0 + 1e-10], "b": ["u", "v"]})),
    "deep": ({"a": [Plain(b=np.ones(2))]}, {"a": [Plain(b=np.ones(2) + 1e-10)]}),
}  # fmt: skip


@pytest.mark.parametrize("what", NEAR)
def test_numbers_within_what_is_granted_are_within(what: str) -> None:
    assert compared(*NEAR[what], "x", rtol=1e-9)["within"]
    assert compared(*NEAR[what], "x", atol=1e-9)["within"]
    assert not compared(*NEAR[what], "x", rtol=1e-11)["within"]
    assert not compared(*NEAR[what], "x")["within"]


FAR: list[tuple[Callable[[Any], Any], str]] = [
    (lambda value: {**value, "k": 1}, "a new key"),
    (lambda value: {**value, "s": "B"}, "a text"),
    (lambda value: {**value, "t": True}, "a type"),
    (lambda value: {**value, "n": [1.0, math.nan]}, "a NaN"),
    (lambda value: {**value, "n": [1.0, math.inf]}, "an infinity"),
    (lambda value: {**value, "n": [1.0]}, "a length"),
    (lambda value: {**value, "f": value["f"].rename(columns={"a": "z"})}, "a column"),
    (lambda value: {**value, "f": value["f"].set_axis(["z"], axis=0)}, "a label"),
    (lambda value: {**value, "f": value["f"].astype("f4")}, "a dtype"),
    (lambda value: {**value, "m": {1: 0.0}}, "the type of a key"),
    (lambda value: {**value, "o": Plain(a=1.0, b=2)}, "an attribute"),
]


@pytest.mark.parametrize(("change", "what"), FAR, ids=[what for _, what in FAR])
def test_nothing_but_numbers_is_tolerated(change: Callable[[Any], Any], what: str) -> None:
    value = {"s": "b", "t": 1, "n": [1.0, 2.0], "f": pd.DataFrame({"a": [1.0]}), "m": {True: 0.0}, "o": Plain(a=1.0)}
    near = {**value, "n": [1.0, 2.0 + 1e-12]}
    assert compared(value, near, "x", rtol=0.5)["within"]
    changed = change({**value, "n": near["n"]}) if what not in ("a NaN", "an infinity", "a length") else change(value)
    assert not compared(value, changed, "x", rtol=0.5, atol=1e6)["within"]


@given(OBJECTS, OBJECTS)
@settings(max_examples=200, deadline=None)
def test_what_has_another_digest_is_never_within(one: Any, other: Any) -> None:
    """Law: with no tolerance, nothing is within; and nothing is found exactly where the digests agree."""
    found = compared(one, other, "x")
    assert not found["within"]
    assert bool(found["count"]) == (canonical_digest(one) != canonical_digest(other))


@given(OBJECTS)
@settings(max_examples=60, deadline=None)
def test_a_copy_does_not_differ(value: Any) -> None:
    assert compared(value, copy.deepcopy(value), "x")["count"] == 0


def test_what_cannot_be_looked_into_is_said() -> None:
    found = compared([1.0, threading.Lock()], [1.0 + 1e-12, threading.Lock()], "x", rtol=1e-3)
    assert found["opaque"] is not None and found["opaque"].startswith("x[1], a _thread.lock")
    assert not found["within"]


# -- causes --------------------------------------------------------------------------------------


def test_parts_of_a_partial_are_named() -> None:
    one, other = functools.partial(max, 1, key=len), functools.partial(max, 2, key=len)
    assert compared(one, other, "x")["first"]["place"] == "x.args[0]"
    assert compared(one, functools.partial(max, 1, key=abs), "x")["first"]["place"] == "x.keywords['key']"
    assert compared(one, functools.partial(max, 1, key=len), "x")["count"] == 0


class Model:
    def __init__(self, **held: Any) -> None:
        self.__dict__.update(held)


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        (["a", "b", "c"], ["c", "a", "b"], "another order"),
        (datetime.datetime(2020, 1, 1), datetime.datetime(2020, 1, 2), "moment in time"),
        (1_700_000_000.5, 1_700_000_009.5, "moment in time"),
        (uuid.UUID(int=5), uuid.UUID(int=6), "identifier"),
        ("/tmp/abc12345/file", "/tmp/xyz98765/file", "temporary folder"),
        ("<object at 0x7f0011223344>", "<object at 0x7f0011229999>", "address"),
        (np.linspace(0, 1, 99), np.linspace(0, 1, 99) * (1 + 1e-15), "rounding"),
        (np.linspace(1, 2, 99), np.linspace(2, 1, 99) * 1.7 ** np.arange(99), "random numbers"),
        ({"a": 1}, {"b": 1}, None),
        (10**50, 10**50 + 1, None),
        (np.linspace(1, 2, 99), np.linspace(1, 2, 99) * 1.5, "multiplied by 1.5: another"),
        (np.arange(9), np.arange(9) - 4, "more by -4"),
        ("5ca1eeaec4daf472", "2be7e40e64f51882", "token or a digest"),
        ("defaced", "facaded", None),
        (bytes(range(64)), bytes(range(64, 128)), "every byte"),
        ({"pid": 1812}, {"pid": 1907}, "id of a process"),
        ([4012, 4013, 4014, 4015], [9104, 9105, 9106, 9107], "processes, ports"),
        (140_208_309_423_136, 139_920_478_587_904, "address"),
        ({"fit_time": 0.25, "score": 1}, {"fit_time": 0.5, "score": 1}, "how long"),
        ({"runtime_s": 0.25, "score": 1}, {"runtime_s": 0.5, "score": 2}, None),
        (Model(c=1.0, coef_=np.ones(9)), Model(c=2.0, coef_=np.ones(9) * 3), "made with another c"),
        (Model(random_state=1, coef_=np.ones(9)), Model(random_state=2, coef_=np.ones(9) * 3), "random_state"),
        (Model(c=1.0, coef_=np.ones(9)), Model(c=1.0, coef_=np.arange(9) + 3.5), "random numbers"),
    ],
)
def test_the_likeliest_cause_is_told(one: Any, other: Any, says: str | None) -> None:
    hint = compared(one, other, "x")["hint"]
    assert hint is None if says is None else says in hint


def test_none_of_our_tests_reads_the_package_elsewhere() -> None:
    import stillrun.compare

    assert Path(stillrun.compare.__file__).parents[1].name == "api"
