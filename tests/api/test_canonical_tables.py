"""The canonical digest of NumPy's arrays and pandas' tables: values and labels count, memory does not."""

from __future__ import annotations

import pickle
from typing import Any, ClassVar

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillrun.canonical import canonical_digest as digest


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
        (pair, padded),
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


def rarer_arrays() -> tuple[list[Any], list[Any]]:
    np = pytest.importorskip("numpy")
    pair = np.dtype([("a", "<i4"), ("b", "<f8")])
    padded = np.dtype({"names": ["a", "b"], "formats": ["<i4", "<f8"], "offsets": [0, 8]})
    parts = [("a", "f4", (2, 3)), ("b", "O")]
    long = np.array([1.5, 0.1, 1e-30, np.inf, 0.0], "g")
    same = [
        (long, long[::-1][::-1]),
        (long, long.astype(long.dtype.newbyteorder(">"))),
        (np.ma.array([1.0, 2.0], mask=[0, 1]), np.ma.array([1.0, 9.0], mask=[0, 1])),
        (np.ma.array([1.0, 2.0]), np.ma.array([1.0, 2.0], mask=[0, 0])),
        (np.rec.array([(1, 2.0)], dtype=pair), np.rec.array([(1, 2.0)], dtype=padded)),
        (np.zeros(2, parts), np.zeros(4, parts)[::2]),
        (np.array([b"a", b"b"], "V1"), np.array([b"a", b"x", b"b"], "V1")[::2]),
        (np.random.default_rng(1), np.random.default_rng(1)),
        (np.random.RandomState(1), np.random.RandomState(1)),
        (np.float64, np.double),
    ]
    different = [
        (long, long + long[2]),
        (long, long.astype("f8")),
        (long[2], np.float64(3)),
        (long.astype("G"), long.astype("G").conj()),
        (long[:1], -long[:1]),
        (np.ma.array([1.0, 2.0], mask=[0, 1]), np.ma.array([1.0, 2.0], mask=[0, 0])),
        (np.ma.array([1.0], fill_value=1), np.ma.array([1.0], fill_value=2)),
        (np.ma.array([1.0]), np.array([1.0])),
        (np.rec.array([(1, 2.0)], dtype=pair), np.array([(1, 2.0)], pair)),
        (np.array([[1]]).view(np.memmap), np.array([[1]])),
        (np.zeros(2, parts), np.zeros(2, [("a", "f4", (3, 2)), ("b", "O")])),
        (np.array([b"a"], "V1"), np.array([b"b"], "V1")),
        (np.array(["NaT"], "M8[s]"), np.array([0], "M8[s]")),
        (np.random.default_rng(1), np.random.default_rng(2)),
        (np.random.default_rng(1), np.random.Generator(np.random.MT19937(1))),
        (np.random.RandomState(1), np.random.RandomState(2)),
        (np.add, np.subtract),
        (np.float64, np.float32),
    ]
    return same, different


def test_arrays_that_are_the_same() -> None:
    for at, (one, other) in enumerate(arrays()[0] + rarer_arrays()[0]):
        assert digest(one) is not None, at
        assert digest(one) == digest(other), at
        assert digest(pickle.loads(pickle.dumps(one, 5))) == digest(one), at


def test_arrays_that_differ() -> None:
    for at, (one, other) in enumerate(arrays()[1] + rarer_arrays()[1]):
        assert None not in (digest(one), digest(other)), at
        assert digest(one) != digest(other), at


def test_arrays_without_a_digest() -> None:
    np = pytest.importorskip("numpy")
    unknown = np.array([None, object()], object)  # a bare object is itself and nothing else
    for value in (unknown, np.nditer([1]), np.array([iter([])], object)):
        assert digest(value) is None


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


class Marked(pandas.DataFrame):
    """A subclass with metadata of its own."""

    _metadata: ClassVar[list[str]] = ["unit"]
    unit: Any = None

    @property
    def _constructor(self) -> Any:
        return Marked


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
        (frame, frame.assign(a=[1, 9])),
        (frame, marked),
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


def rarer_tables() -> tuple[list[Any], list[Any]]:
    pd = pytest.importorskip("pandas")
    categories = pd.Categorical(["u", "v"], ["u", "v"])
    holes = pd.arrays.SparseArray([0, 0, 5], fill_value=0)
    unit = Marked({"a": [1]})
    unit.unit = "m"
    same = [
        (pd.Series(holes), pd.Series(pd.arrays.SparseArray([0, 0, 5], fill_value=0, kind="block"))),
        (pd.Series(["a", None], dtype="string[python]"), pd.Series(["a", None], dtype="string[pyarrow]")),
        (
            pd.Series([1, None], dtype="int64[pyarrow]"),
            pd.concat([pd.Series([each], dtype="int64[pyarrow]") for each in (1, None)], ignore_index=True),
        ),
        (pd.Categorical(["u"], ["u", "v"]), pd.Series(categories).iloc[:1].array),
        (Marked({"a": [1]}), Marked({"a": [1]})),
        (pd.offsets.BDay(2), pd.offsets.BDay(2)),
    ]
    different = [
        (pd.Series(holes), pd.Series(holes.to_dense())),
        (pd.Series(holes), pd.Series(pd.arrays.SparseArray([0, 0, 6], fill_value=0))),
        (pd.Series(holes), pd.Series(pd.arrays.SparseArray([0, 0, 5], fill_value=5))),
        (pd.Series([1], dtype="int64[pyarrow]"), pd.Series([1], dtype="Int64")),
        (pd.Series([1], dtype="int64[pyarrow]"), pd.Series([1], dtype="int32[pyarrow]")),
        (Marked({"a": [1]}), pd.DataFrame({"a": [1]})),
        (Marked({"a": [1]}), unit),
        (pd.Period("2020-01"), pd.Period("2020-02")),
        (pd.Interval(1, 2), pd.Interval(1, 2, closed="both")),
        (pd.CategoricalDtype(["a"]), pd.CategoricalDtype(["a"], ordered=True)),
        (pd.offsets.BDay(2), pd.offsets.BDay(3)),
    ]
    return same, different


def test_tables_that_are_the_same() -> None:
    for at, (one, other) in enumerate(tables()[0] + rarer_tables()[0]):
        assert digest(one) is not None, at
        assert digest(one) == digest(other), at
        assert digest(pickle.loads(pickle.dumps(one, 5))) == digest(one), at


def test_tables_that_differ() -> None:
    for at, (one, other) in enumerate(tables()[1] + rarer_tables()[1]):
        assert None not in (digest(one), digest(other)), at
        assert digest(one) != digest(other), at


def test_endless_long_doubles_are_no_zeros() -> None:
    np = pytest.importorskip("numpy")
    values = [np.array([each], "g") for each in (0.0, -0.0, np.inf, -np.inf, np.nan, 1.0)]
    assert len({digest(value) for value in values}) == len(values)
