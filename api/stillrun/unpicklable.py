"""Why a value cannot be pickled, where in it the reason sits, and what to do."""

from __future__ import annotations

import pickle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["explain"]

TRIES = 300  # values that are pickled at most to find the one that cannot be
DEPTH = 6


def explain(name: str, value: Any, err: Exception) -> tuple[str, str]:
    """One sentence on what cannot be kept, and the cure."""
    if isinstance(err, RecursionError):
        return (
            f"artifact {name!r} is nested too deeply to be kept (RecursionError).",
            "Keep a flat form of it, such as a list of its parts.",
        )
    path, culprit = _culprit(f"self.{name}", value)
    what = f"artifact {name!r} cannot be kept"
    if path != f"self.{name}":
        what += f": {path}, a {_kind(culprit)}, cannot be pickled"
    else:
        what += f": a {_kind(culprit)} cannot be pickled"
    return f"{what} ({type(err).__name__}: {_short(err)}).", _cure(name, culprit)


def _short(err: Exception) -> str:
    text = str(err)
    return text if len(text) <= 300 else text[:299] + "…"


def _culprit(path: str, value: Any) -> tuple[str, Any]:
    """The innermost value, reached from ``value``, that cannot be pickled, and the way to it."""
    tries = [TRIES]
    for _ in range(DEPTH):
        for step, child in _children(value):
            tries[0] -= 1
            if tries[0] < 0:
                return path, value
            if not _picklable(child):
                path, value = path + step, child
                break
        else:
            return path, value
    return path, value


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if type(value).__name__ == "module":
        return
    if isinstance(value, dict):
        yield from ((f"[{key!r:.40}]", child) for key, child in list(value.items())[:TRIES])
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{position}]", child) for position, child in enumerate(value[:TRIES]))
    elif isinstance(getattr(value, "__dict__", None), dict) and not isinstance(value, type) and not callable(value):
        yield from ((f".{key}", child) for key, child in list(vars(value).items())[:TRIES])


def _picklable(value: Any) -> bool:
    class Nowhere:
        def write(self, data: bytes) -> int:
            return len(data)

    try:
        pickle.Pickler(Nowhere(), protocol=5, buffer_callback=lambda _: False).dump(value)
    except Exception:  # any reason will do: the question is whether
        return False
    return True


def _kind(value: Any) -> str:
    kind = type(value)
    if getattr(value, "__name__", None) == "<lambda>":
        return "lambda"
    if isinstance(value, type):
        return f"class ({value.__qualname__})"
    if kind.__name__ == "function":
        return f"function ({value.__qualname__})"
    if "<locals>" in kind.__qualname__:
        return f"{kind.__name__}, whose class is made inside a function"
    return kind.__name__


def _cure(name: str, value: Any) -> str:
    kind = type(value).__name__
    module = type(value).__module__
    elsewhere = f"or keep it out of the artifacts: a local variable, or self._{name}."
    if kind == "function" or isinstance(value, type) or "<locals>" in type(value).__qualname__:
        return f"Define it at the top level of a module, {elsewhere}"
    if kind in ("generator", "map", "filter", "zip", "dict_keys", "dict_values", "dict_items"):
        return f"Make it a list, {elsewhere}"
    if module == "_io":
        return f"Keep its content or its path instead, {elsewhere}"
    if module in ("_thread", "threading", "multiprocessing.synchronize", "socket", "sqlite3"):
        return f"Make it anew in each step that needs it, {elsewhere}"
    if kind == "module":
        return "Import the module in each step that needs it."
    return f"Keep plain data instead, {elsewhere}"
