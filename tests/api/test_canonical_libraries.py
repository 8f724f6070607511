"""The canonical digest of SciPy, scikit-learn, pyarrow, Polars, PIL, matplotlib and PyTorch: values count, memory does not."""

from __future__ import annotations

import copy
import datetime
import decimal
import io
import os
import pickle
import subprocess
import sys
import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillrun.canonical import canonical_digest as digest

from .driver import FACE

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what libraries say of each other when they are imported is not ours
    np = pytest.importorskip("numpy")
    pl = pytest.importorskip("polars")
    pa = pytest.importorskip("pyarrow")
    sparse = pytest.importorskip("scipy.sparse")
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    import matplotlib.pyplot
    from PIL import Image
    from sklearn import ensemble, linear_model, neighbors, pipeline, preprocessing, svm, tree
    from sklearn.datasets import load_iris

UTC = datetime.timezone.utc
COLUMNS: dict[str, list[Any]] = {
    "int": [1, None, 3],
    "float": [1.0, None, float("nan")],
    "text": ["a", None, "éb"],
    "bool": [True, None, False],
    "list": [[1], None, []],
    "struct": [{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}],
    "date": [datetime.date(2020, 1, 1), None, datetime.date(2021, 1, 1)],
    "zoned": [datetime.datetime(2020, 1, 1, tzinfo=UTC), None, datetime.datetime(2021, 1, 1, tzinfo=UTC)],
    "decimal": [decimal.Decimal("1.1"), None, decimal.Decimal("2.2")],
    "bytes": [b"a", None, b"bc"],
    "delta": [datetime.timedelta(1), None, datetime.timedelta(2)],
    "time": [datetime.time(1), None, datetime.time(2)],
    "lists": [[["a"], None], None, [[], ["b", "c"]]],
    "structs": [[{"a": [1]}], None, [{"a": []}, {"a": None}]],
}


def check(one: Any, other: Any, same: bool, at: Any) -> None:
    assert digest(one) is not None and digest(other) is not None, at
    assert (digest(one) == digest(other)) == same, at


# -- SciPy -----------------------------------------------------------------------------------------

FORMATS = ("csr", "csc", "coo", "bsr", "dia", "dok", "lil")
CELLS = st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 5)), st.integers(1, 9), max_size=10)


@given(CELLS, st.randoms(use_true_random=False), st.sampled_from(FORMATS), st.sampled_from(["f8", "i4", "c16"]))
@settings(max_examples=150, deadline=None)
def test_sparse_matrices(cells: dict[Any, int], random: Any, layout: str, dtype: str) -> None:
    """Law: digest is that of the cells, whatever the order in which they are stored, and another if one changes."""

    def build(cells: list[Any], dtype: str = dtype) -> Any:
        rows, columns, data = ([each[0][at] for each in cells] for at in (0, 1)), None, [each[1] for each in cells]
        rows, columns = list(rows)
        made = sparse.coo_array((np.array(data, dtype), (rows, columns)), shape=(4, 6))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return made.asformat(layout)

    items = list(cells.items())
    value = build(items)
    before = pickle.dumps(value)
    assert digest(value) is not None
    assert pickle.dumps(value) == before
    assert digest(build(random.sample(items, len(items)))) == digest(value)
    assert digest(pickle.loads(before)) == digest(value)
    assert digest(build([*items, ((3, 5), 1)])) != digest(value)
    assert digest(build(items, "f4")) != digest(value)


def test_sparse_matrices_as_they_may_be_stored() -> None:
    tidy = sparse.csr_array(np.array([[0, 3.0, 1.0], [2.0, 0, 0]]))
    untidy = sparse.csr_array((np.array([1.0, 1.0, 2.0, 2.0]), [2, 1, 1, 0], [0, 3, 4]), shape=(2, 3))
    marks = dict(vars(untidy))
    assert digest(untidy) == digest(tidy)
    assert vars(untidy).keys() == marks.keys() and untidy.indices.tolist() == [2, 1, 1, 0]
    doubled = sparse.coo_array((np.array([1.0, 2.0, 1.0, 2.0]), ([0, 0, 0, 1], [1, 1, 2, 0])), shape=(2, 3))
    assert digest(doubled) == digest(tidy.tocoo())
    wide = tidy.copy()
    wide.indices, wide.indptr = wide.indices.astype("i8"), wide.indptr.astype("i8")
    assert digest(wide) == digest(tidy)
    found = {digest(tidy.asformat(each)) for each in FORMATS} | {digest(sparse.csr_matrix(tidy))}
    assert len(found) == len(FORMATS) + 1 and None not in found


# -- scikit-learn ----------------------------------------------------------------------------------

X, Y = load_iris(return_X_y=True)
MODELS = [
    lambda: linear_model.LogisticRegression(max_iter=1000),
    lambda: pipeline.make_pipeline(preprocessing.StandardScaler(), svm.SVC()),
    lambda: tree.DecisionTreeClassifier(random_state=0),
    lambda: ensemble.RandomForestClassifier(5, random_state=0, n_jobs=2),
    lambda: ensemble.HistGradientBoostingClassifier(max_iter=3, random_state=0),
    lambda: neighbors.KNeighborsClassifier(algorithm="kd_tree"),
]


@pytest.mark.parametrize("make", MODELS, ids=lambda make: type(make()).__name__)
def test_estimators(make: Any) -> None:
    model = make().fit(X, Y)
    assert digest(model) is not None
    for same in (make().fit(X, Y), copy.deepcopy(model), pickle.loads(pickle.dumps(model, 5))):
        assert digest(same) == digest(model)
    for other in (make(), make().fit(X[:-3], Y[:-3])):
        assert digest(other) != digest(model)
    assert digest(load_iris()) == digest(pickle.loads(pickle.dumps(load_iris())))


# -- pyarrow and Polars ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", COLUMNS)
def test_columns(name: str) -> None:
    for library, make in (("pyarrow", pa.array), ("polars", lambda items: pl.Series("x", items, strict=False))):
        items = COLUMNS[name]
        whole = make(items)
        kind = whole.type if library == "pyarrow" else whole.dtype

        def typed(items: list[Any], kind: Any = kind, library: str = library) -> Any:
            return pa.array(items, kind) if library == "pyarrow" else pl.Series("x", items, dtype=kind, strict=False)

        check(whole, typed(items), True, library)
        check(whole, pickle.loads(pickle.dumps(whole, 5)), True, library)
        check(whole[1:], typed(items[1:]), True, library)
        for other in (items[1:], [items[0], None, None], [items[0], items[0], items[2]], [None, items[0], items[2]]):
            check(whole, typed(other), False, library)


def test_chunks_do_not_count() -> None:
    table = pa.table(COLUMNS)
    check(table, pa.concat_tables([table.slice(0, 1), table.slice(1)]), True, "pyarrow")
    frame = pl.DataFrame(COLUMNS, strict=False)
    check(frame, pl.concat([frame[:1], frame[1:]], rechunk=False), True, "polars")
    check(frame, frame[:2], False, "polars")
    check(frame, frame.rename({"int": "i"}), False, "polars")
    check(frame, frame.select(reversed(frame.columns)), False, "polars")


def test_arrow_types_and_schemas() -> None:
    table = pa.table(COLUMNS)
    text = table["text"]
    different = [
        (table, table.replace_schema_metadata({"a": "b"})),
        (table, table.rename_columns([each.upper() for each in COLUMNS])),
        (table, table.to_batches()[0]),
        (text, text.chunk(0)),
        (text, text.cast(pa.large_string())),
        (text, text.cast(pa.string_view())),
        (text, text.dictionary_encode()),
        (text[0], text[2]),
        (table.schema, table.schema.remove(0)),
        (pa.field("a", pa.int8()), pa.field("a", pa.int8(), nullable=False)),
        (pa.list_(pa.field("item", pa.int8(), metadata={"a": "b"})), pa.list_(pa.int8())),
        (
            pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int8())),
            pa.array([[("a", 2)], None], pa.map_(pa.string(), pa.int8())),
        ),
        (pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), pa.array([[1, 3], None], pa.list_(pa.int8(), 2))),
        (pa.array([b"ab", None], pa.binary(2)), pa.array([b"ac", None], pa.binary(2))),
        (pa.array([[1], None], pa.list_view(pa.int8())), pa.array([[2], None], pa.list_view(pa.int8()))),
    ]
    for at, (one, other) in enumerate(different):
        check(one, other, False, at)
        check(one, pickle.loads(pickle.dumps(one, 5)), True, at)
    one = pa.DictionaryArray.from_arrays(pa.array([0, 1]), ["a", "b"])
    check(one, pa.DictionaryArray.from_arrays(pa.array([1, 0]), ["b", "a"]), True, "dictionary")
    one = pa.DictionaryArray.from_arrays(pa.array([0, 1]), ["a", "b"], ordered=True)
    check(one, pa.DictionaryArray.from_arrays(pa.array([1, 0]), ["b", "a"], ordered=True), False, "ordered")
    runs = pa.RunEndEncodedArray.from_arrays([2, 3], ["a", "b"])
    check(runs, pa.RunEndEncodedArray.from_arrays([1, 2, 3], ["a", "a", "b"]), True, "runs")


def test_which_kind_of_a_union_a_value_is_counts() -> None:
    children = [pa.array([1, 1]), pa.array([1, 1])]
    one, other = (pa.UnionArray.from_sparse(pa.array(kinds, pa.int8()), children) for kinds in ([0, 1], [0, 0]))
    check(one, other, False, "unions")
    check(one, pickle.loads(pickle.dumps(one, 5)), True, "unions")


def test_views_of_lists_survive_pickling() -> None:
    views = pa.array([[0], [1]], pa.list_view(pa.int64()))
    check(views, pickle.loads(pickle.dumps(views, 5)), True, "views")
    check(views, pa.array([[0], [2]], pa.list_view(pa.int64())), False, "views")


def test_polars_types() -> None:
    frame = pl.DataFrame(COLUMNS, strict=False)
    assert digest(frame.lazy()) is None and digest(pl.col("a")) is None
    one = pl.Series(["a", None], dtype=pl.Enum(["a", "b"]))
    different = [
        (one, pl.Series(["a", None], dtype=pl.Enum(["b", "a"]))),
        (one, pl.Series(["a", None], dtype=pl.Categorical)),
        (pl.Series([[1, 2], None], dtype=pl.Array(pl.Int8, 2)), pl.Series([[1, 3], None], dtype=pl.Array(pl.Int8, 2))),
        (pl.Series([1]), pl.Series([1], dtype=pl.Int32)),
        (pl.Series([2**100], dtype=pl.Int128), pl.Series([2**99], dtype=pl.Int128)),
        (pl.Series([1]), pl.Series([1]).to_frame()),
        (pl.Schema({"a": pl.Int8}), pl.Schema({"a": pl.Int16})),
        (pl.Datetime("us"), pl.Datetime("ms")),
    ]
    for at, (one, other) in enumerate(different):
        check(one, other, False, at)
        check(one, pickle.loads(pickle.dumps(one, 5)), True, at)


NUMBERS = st.lists(st.none() | st.floats(width=32), min_size=1, max_size=30)


@given(NUMBERS, st.data())
@settings(max_examples=80, deadline=None)
def test_where_numbers_are_cut_does_not_count(numbers: list[Any], data: Any) -> None:
    """Law: a column has one digest however it is cut into chunks, and another when one number of it changes."""
    cut = data.draw(st.integers(0, len(numbers)))
    at = data.draw(st.integers(0, len(numbers) - 1))
    changed = [*numbers[:at], 12345.0 if numbers[at] != 12345.0 else 1.0, *numbers[at + 1 :]]
    for kind in (pa.float32(), pa.float64()):
        whole = pa.chunked_array([numbers], kind)
        assert digest(pa.chunked_array([numbers[:cut], numbers[cut:]], kind)) == digest(whole) is not None
        assert digest(pa.chunked_array([changed], kind)) != digest(whole)
    for name in (pl.Float32, pl.Float64):
        series = pl.Series("x", numbers, dtype=name)
        parts = pl.Series("x", numbers[:cut], dtype=name).append(pl.Series("x", numbers[cut:], dtype=name))
        assert digest(parts) == digest(series) is not None
        assert digest(pl.Series("x", changed, dtype=name)) != digest(series)


WITHOUT = """
import sys
sys.path.insert(0, sys.argv[1])
if sys.argv[2] == "without": sys.modules["numpy"] = None
import warnings; warnings.simplefilter("ignore")
import polars as pl
from stillrun.canonical import canonical_digest
nan = float("nan")
numbers = {"a": [1.0, nan, None, -0.0], "b": [1, None, 3, 2**40]}
frame = pl.DataFrame({**numbers, "c": ["x", "yé", None, ""], "d": [True, None, False, True]})
print(canonical_digest(frame.with_columns(e=-pl.col("a").cast(pl.Float32), f=-pl.col("a"))))
"""


def test_polars_has_the_same_with_and_without_numpy() -> None:
    found = set()
    for how in ("with", "without"):
        shown = subprocess.run([sys.executable, "-c", WITHOUT, str(FACE), how], capture_output=True, text=True)
        assert shown.returncode == 0, shown.stderr
        found.add(shown.stdout)
    assert len(found) == 1 and found.pop().startswith("sha256:")


# -- pictures --------------------------------------------------------------------------------------


def test_images() -> None:
    grey = Image.fromarray(np.arange(12, dtype="u1").reshape(3, 4))
    colours = grey.convert("P")
    other = colours.copy()
    other.putpalette([1, 2, 3] * 256)
    clear = colours.copy()
    clear.info["transparency"] = 0
    dot = grey.copy()
    dot.putpixel((0, 0), 9)
    for at, each in enumerate((grey.convert("RGB"), dot, grey.resize((6, 2)), colours, grey.rotate(90, expand=True))):
        check(grey, each, False, at)
    check(colours, other, False, "palette")
    check(colours, clear, False, "transparency")
    file = io.BytesIO()
    grey.save(file, "PNG")
    check(grey, Image.open(file), True, "file")
    for each in (grey, colours, Image.new("P", (2, 2)), grey.convert("1"), grey.convert("F"), grey.convert("RGBA")):
        check(each, pickle.loads(pickle.dumps(each)), True, each.mode)


def drawn(height: float, layout: str | None = None, label: str = "x", colour: str = "red") -> Any:
    """A figure with axes of all sorts, one of which keeps its aspect."""
    figure, axes = matplotlib.pyplot.subplots(1, 2, layout=layout)
    axes[0].plot([1, 2, height], label=label, color=colour)
    axes[0].legend()
    axes[0].set_ylim(0, 2)
    figure.colorbar(axes[1].imshow(np.eye(3)), ax=axes)
    figure.suptitle("title")
    axes[0].scatter([1], [1]).set_label("of $x^2$")
    matplotlib.pyplot.close(figure)
    return figure


@pytest.mark.parametrize("layout", [None, "tight", "constrained"])
def test_figures(layout: str | None) -> None:
    figure = drawn(3, layout)
    again = pickle.loads(pickle.dumps(figure))
    first = digest(figure)
    assert first is not None
    assert [digest(each) for each in (figure, again, drawn(3, layout))] == [first] * 3
    with matplotlib.rc_context({"savefig.bbox": "tight", "savefig.facecolor": "red", "savefig.dpi": 50}):
        assert digest(figure) == first
    assert not matplotlib.pyplot.get_fignums()


def test_figures_that_differ() -> None:
    figure = drawn(3)
    first = digest(figure)
    for other in (drawn(4), drawn(3, label="y"), drawn(3, colour="blue")):
        assert digest(other) != first
    assert digest(figure.axes[0]) not in (None, first, digest(figure.axes[1]))
    assert digest(figure.axes[0].lines[0]) is None


ELSEWHERE = """
import pickle, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[1])
from stillrun.canonical import canonical_digest
print(*[canonical_digest(each) for each in pickle.load(sys.stdin.buffer)])
"""


def test_equal_in_other_processes() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = [make().fit(X, Y) for make in MODELS]
        values += [
            pa.table(COLUMNS),
            pl.DataFrame(COLUMNS, strict=False),
            sparse.eye_array(3, format="csr"),
            drawn(3, "tight"),
        ]
        values += [
            pl.DataFrame(COLUMNS, strict=False)["int"].to_pandas(),
            np.random.default_rng(1),
            Image.new("P", (2, 2)),
        ]
    expected = [digest(value) for value in values]
    assert None not in expected
    shown = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(FACE)],
        input=pickle.dumps(values, 5),
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": "1", "MPLBACKEND": "agg"},
    )
    assert shown.stdout.decode().split() == expected, shown.stderr.decode()


# -- PyTorch ---------------------------------------------------------------------------------------


def test_tensors_and_modules() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: it takes gigabytes")
    plain = torch.arange(6.0).reshape(2, 3)
    changed = plain.clone()
    changed[0, 0] = 9
    kinds = [
        plain.to(each)
        for each in (torch.float64, torch.bfloat16, torch.float16, torch.int32, torch.complex64, torch.bool)
    ]
    nan = torch.tensor([0x7FC1, 0], dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    other = copy.deepcopy(module)
    same = [
        (plain, plain.clone()),
        (plain.T, plain.T.contiguous()),
        (plain[:, ::2], plain[:, ::2].clone()),
        (nan, torch.tensor([float("nan"), 0], dtype=torch.bfloat16)),
        (module, copy.deepcopy(module)),
        (module.state_dict(), copy.deepcopy(module).state_dict()),
        (plain.to_sparse(), plain.to_sparse().coalesce()),
    ]
    with torch.no_grad():
        other[0].weight[0, 0] += 1
    different = [
        (plain, each) for each in (*kinds, changed, plain.clone().requires_grad_(), plain.reshape(3, 2), plain.numpy())
    ]
    different += [(plain, torch.nn.Parameter(plain)), (module, other), (module.state_dict(), other.state_dict())]
    different += [(module, copy.deepcopy(module).eval()), (plain.to_sparse(), changed.to_sparse())]
    for at, (one, two) in enumerate(same + different):
        check(one, two, at < len(same), at)
        check(one, pickle.loads(pickle.dumps(one, 5)), True, at)
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(2, 2)).sum().backward()
    optimizer.step()
    check(optimizer.state_dict(), pickle.loads(pickle.dumps(optimizer.state_dict())), True, "optimizer")
