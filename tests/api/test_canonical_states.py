"""What libraries keep beside a value does not count: caches, addresses, scratch memory, generators, durations."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import pytest

from stillrun.canonical import canonical_digest as digest
from stillrun.compare import compared

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what libraries say of each other when they are imported is not ours
    np = pytest.importorskip("numpy")
    stats = pytest.importorskip("scipy.stats")
    from sklearn import gaussian_process, linear_model, model_selection, neighbors
    from sklearn.feature_extraction.text import TfidfVectorizer

POINTS = np.random.default_rng(0).normal(size=(40, 3))
LABELS = (POINTS[:, 0] > 0).astype(int)


def same(one: Any, other: Any) -> None:
    assert digest(one) == digest(other) == digest(pickle.loads(pickle.dumps(one, 5))) is not None
    assert compared(one, other, "x")["count"] == 0


def differ(one: Any, other: Any) -> None:
    assert None not in (digest(one), digest(other))
    assert digest(one) != digest(other)
    assert compared(one, other, "x")["count"] > 0


def searched(strength: float) -> Any:
    model = linear_model.LogisticRegression()
    return model_selection.GridSearchCV(model, {"C": [1.0, strength]}, cv=2).fit(POINTS, LABELS)


def test_how_long_a_search_took_does_not_count() -> None:
    one, other = searched(2.0), searched(2.0)
    one.refit_time_, one.cv_results_["mean_fit_time"][0] = 1.5, 2.5
    same(one, other)
    assert one.refit_time_ == 1.5 and one.cv_results_["mean_fit_time"][0] == 2.5
    differ(one, searched(3.0))
    one.cv_results_["mean_test_score"][0] += 1
    differ(one, other)


def test_the_address_of_stop_words_does_not_count() -> None:
    words = ["red green", "blue red"]
    one, other = TfidfVectorizer().fit(words), TfidfVectorizer().fit(words)
    one._stop_words_id = 5
    same(one, other)
    differ(one, TfidfVectorizer(stop_words=["red"]).fit(words))


def test_the_generator_of_numpy_counts_only_where_one_was_asked_for() -> None:
    def fitted(**more: Any) -> Any:
        return gaussian_process.GaussianProcessClassifier(**more).fit(POINTS, LABELS)

    one = fitted()
    first = stats.norm(1, 2)
    state = np.random.get_state()
    try:
        np.random.random()
        same(one, fitted())
        same(first, stats.norm(1, 2))
    finally:
        np.random.set_state(state)
    differ(first, stats.norm(1, 3))
    differ(fitted(random_state=np.random.RandomState(1)), fitted(random_state=np.random.RandomState(2)))


def test_a_tree_that_was_searched_is_the_same_tree() -> None:
    def fitted(leaf: int = 5) -> Any:
        return neighbors.KNeighborsClassifier(algorithm="kd_tree", leaf_size=leaf).fit(POINTS, LABELS)

    searched = fitted()
    searched.predict(POINTS)
    assert digest(searched) == digest(fitted()) != digest(fitted(6))


def test_views_of_a_graph_do_not_count() -> None:
    nx = pytest.importorskip("networkx")
    graph = nx.path_graph(4)
    assert graph.nodes and graph.edges and graph.adj
    nx.pagerank(graph)
    same(nx.path_graph(4), graph)
    differ(graph, nx.path_graph(5))
    graph.edges[0, 1]["weight"] = 2
    differ(graph, nx.path_graph(4))


def test_a_dataset_that_was_looked_at_is_the_same() -> None:
    xr = pytest.importorskip("xarray")
    data = xr.Dataset({"a": ("x", [1, 2])})
    assert data.attrs == {} and data.a.encoding == {}
    same(xr.Dataset({"a": ("x", [1, 2])}), data)
    differ(data, xr.Dataset({"a": ("x", [1, 2])}, attrs={"unit": "m"}))


def test_a_catboost_model_counts_without_its_name_and_time() -> None:
    catboost = pytest.importorskip("catboost")

    def fitted(depth: int = 3) -> Any:
        made = catboost.CatBoostClassifier(
            iterations=2, depth=depth, verbose=0, thread_count=1, allow_writing_files=False, random_seed=0
        )
        return made.fit(POINTS, LABELS)

    model, other = fitted(), fitted()
    same(model, other)
    differ(model, fitted(2))
    leaves = other.get_leaf_values().copy()
    leaves[0] = np.nextafter(leaves[0], 9)
    other.set_leaf_values(leaves)
    differ(model, other)


def test_the_reference_system_of_coordinates_counts() -> None:
    geopandas = pytest.importorskip("geopandas")
    shapely = pytest.importorskip("shapely")

    def frame(crs: str | None, x: float = 1.0) -> Any:
        return geopandas.GeoDataFrame({"a": [1]}, geometry=[shapely.Point(x, 2)], crs=crs)

    same(frame("EPSG:4326"), frame("EPSG:4326"))
    assert len({digest(frame("EPSG:4326")), digest(frame("EPSG:3857")), digest(frame(None))}) == 3
    assert digest(frame(None, 2.0)) != digest(frame(None)) is not None


def test_scratch_memory_of_statsmodels_does_not_count() -> None:
    api = pytest.importorskip("statsmodels.api")

    def fitted(power: float = 1.0) -> Any:
        return api.GLM(np.arange(1.0, 9.0) ** power, api.add_constant(np.arange(8.0) ** 2)).fit()

    assert digest(fitted()) == digest(fitted()) != digest(fitted(1.1))
