"""States of objects without what their libraries keep beside the value: caches, scratch memory, addresses, durations.

Asked for the classes of libraries that are known to do so (docs/spec/canonical.md, "Objects by their state"); all other
states are left as they are.
"""

from __future__ import annotations

import sys

from stillrun.canonical import UnknownTypeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["state_that_counts"]

_DURATIONS = frozenset(f"{which}_{what}_time" for which in ("mean", "std") for what in ("fit", "score"))
_TREES = ("sklearn.neighbors._kd_tree", "sklearn.neighbors._ball_tree")
_TREE_COUNTERS = slice(7, 11)  # in the state of a tree: how often it was searched
_NEW_EACH_TIME = ("model_guid", "train_finish_time")  # in what CatBoost tells of a model


def state_that_counts(value: Any, state: Any) -> Any:
    """What of an object's pickled state is part of its value. Neither of the two is changed."""
    if state is value:  # a dict that is its own attributes: unpickled, it has them twice
        return dict(value)
    change = _CHANGES.get(_library_of(type(value)))
    if change is None or state is None:
        return state
    if type(state) is tuple and len(state) == 2 and type(state[1]) is dict:  # attributes, and those in slots
        own = change(value, state[0]) if type(state[0]) is dict else state[0]
        return own, change(value, state[1])
    return change(value, state) if type(state) in (dict, tuple) else state


def _library_of(kind: type) -> str:
    """The first library that is known here among those of a class and its bases."""
    for base in kind.__mro__:
        library = str(base.__module__).partition(".")[0]
        if library in _CHANGES:
            return library
    return ""


def _without(state: dict[str, Any], names: Any) -> dict[str, Any]:
    return {name: item for name, item in state.items() if name not in names}


def _sklearn(value: Any, state: Any) -> Any:
    if type(state) is tuple:
        is_tree = type(value).__module__ in _TREES
        return (
            tuple(0 if at in range(13)[_TREE_COUNTERS] else item for at, item in enumerate(state)) if is_tree else state
        )
    names = {"_stop_words_id"}  # the address of a list
    if "random_state" in state and state["random_state"] is None:  # then it may hold NumPy's own generator
        names |= {name for name, item in state.items() if type(item).__name__ == "RandomState"}
    if "cv_results_" in state and any(base.__name__ == "BaseSearchCV" for base in type(value).__mro__):
        state = {**state, "cv_results_": _without(state["cv_results_"], _DURATIONS)}
        names.add("refit_time_")
    return _without(state, names)


def _scipy(_: Any, state: Any) -> Any:
    """Distributions that were made without a seed draw from NumPy's own generator, whose state is not theirs."""
    if type(state) is dict and "_ctor_param" in state and state["_ctor_param"].get("seed") is None:
        return _without(state, ("_random_state",))
    return state


def _networkx(value: Any, state: Any) -> Any:
    """Graphs keep the views that were asked for."""
    functools: Any = sys.modules["functools"]
    views = {
        name
        for base in type(value).__mro__
        for name, item in vars(base).items()
        if base.__module__.startswith("networkx.") and isinstance(item, functools.cached_property)
    }
    return _without(state, views | {"__networkx_cache__"}) if type(state) is dict else state


def _xarray(_: Any, state: Any) -> Any:
    """No attributes are None until somebody looks."""
    if type(state) is not dict:
        return state
    return _without(state, {"_cache", *[name for name in ("_attrs", "_encoding") if not state.get(name)]})


def _statsmodels(_: Any, state: Any) -> Any:
    return _without(state, ("_cache", "_tmp_like_exog")) if type(state) is dict else state


def _bs4(_: Any, state: Any) -> Any:
    """A builder knows what it built last."""
    return _without(state, ("soup",)) if type(state) is dict and "soup" in state else state


def _catboost(value: Any, state: Any) -> Any:
    """A model by what it is written down as, without the names and times that are new for each."""
    if type(state) is not dict or "__model" not in state:
        return state
    import json
    import os
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "model.json")
        try:
            value.save_model(file, format="json")
        except Exception as err:  # it has no class that we could name: not every model can be written so
            raise UnknownTypeError(str(err)) from err
        with open(file, encoding="utf-8") as opened:
            model = json.load(opened)
    return {**state, "__model": {**model, "model_info": _without(model["model_info"], _NEW_EACH_TIME)}}


_CHANGES: dict[str, Callable[[Any, Any], Any]] = {
    "bs4": _bs4,
    "catboost": _catboost,
    "networkx": _networkx,
    "scipy": _scipy,
    "sklearn": _sklearn,
    "statsmodels": _statsmodels,
    "xarray": _xarray,
}
