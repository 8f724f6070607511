"""How values of a type are coded: by what was registered, by a rule for the type, else by the state that pickle sees."""

from __future__ import annotations

import sys

from stillrun.canonical import REGISTERED, UnknownTypeError, qualified_name
from stillrun.canonical_classes import KNOWN, code_of_dataclass, code_of_enum, code_of_named_tuple
from stillrun.canonical_functions import CALLABLES, code_of_class
from stillrun.canonical_objects import code_by_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from stillrun.canonical import Coder, Way

__all__ = ["way_of"]

_LIBRARIES = {
    "PIL": ("canonical_images", "code_of_image"),
    "matplotlib": ("canonical_images", "code_of_matplotlib"),
    "numpy": ("canonical_arrays", "code_of_numpy"),
    "pandas": ("canonical_tables", "code_of_pandas"),
    "polars": ("canonical_polars", "code_of_polars"),
    "pyarrow": ("canonical_arrow", "code_of_arrow"),
    "scipy": ("canonical_sparse", "code_of_scipy"),
    "torch": ("canonical_torch", "code_of_torch"),
}


def way_of(kind: type) -> Way:
    """What codes the values of a type that is neither scalar nor builtin container."""
    name = qualified_name(kind)
    stands_for = REGISTERED.get(name)
    if stands_for is not None:
        return _registered(name, stands_for)
    if issubclass(kind, type):
        return code_of_class
    if name in CALLABLES:
        return CALLABLES[name]
    known = KNOWN.get(name)
    if known is not None:
        return lambda coder, value: known(coder, name, value)
    if (
        kind.__module__ in ("builtins", "_thread")
        and kind is not type(NotImplemented)
        and not issubclass(kind, BaseException)
    ):
        return _refused  # iterators, generators, locks: a position in something, or of this process only
    return _rule_of(kind, name) or _library_of(kind) or code_by_state


def _rule_of(kind: type, name: str) -> Way | None:
    enum: Any = sys.modules.get("enum")
    if enum is not None and issubclass(kind, enum.Enum):
        return lambda coder, value: code_of_enum(coder, name, value)
    if kind.__bases__ == (tuple,) and hasattr(kind, "_fields") and "__dict__" not in vars(kind):
        return lambda coder, value: code_of_named_tuple(coder, name, value)
    if "__dataclass_fields__" in vars(kind):
        return code_of_dataclass
    return None


def _library_of(kind: type) -> Way | None:
    for base in kind.__mro__:
        found = _LIBRARIES.get(str(base.__module__).partition(".")[0])
        if found is not None:
            module = __import__("stillrun." + found[0], fromlist=("_",))
            way: Way = getattr(module, found[1])
            return way
    return None


def _registered(name: str, stands_for: Callable[[Any], Any]) -> Way:
    def way(coder: Coder, value: Any) -> bytes:
        return coder.record("registered", name, coder.keep(stands_for(value)))

    return way


def _refused(_: Coder, value: Any) -> bytes:
    raise UnknownTypeError(type(value).__qualname__)
