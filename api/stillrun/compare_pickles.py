"""Bytes that are a pickle, as cloudpickle makes of functions: what they say is compared without doing any of it.

Whatever a pickle would import or call becomes a ``Call`` that remembers with what.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from stillrun.compare import Comparison

__all__ = ["Call", "compare_calls", "said_by"]

_SIZE_MAX = 4 << 20  # bytes; it takes a second or two
_NAMES = {  # of the arguments that cloudpickle gives; None: an identifier that is made anew each time
    "_make_function": ("__code__", "__globals__", "__name__", "__defaults__", "__closure__"),
    "_make_cell": ("cell_contents",),
    "_make_skeleton_class": ("__class__", "__name__", "__bases__", "<keywords>", None, "<extra>"),
}


class Call:
    """Stands for what a pickle would have made: the name of what is called, its arguments, state and items."""

    made_by: Any = ""  # a name, or the call that would have given what is called

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        call = object.__new__(cls)
        call.arguments, call.named = arguments, named
        call.state, call.items, call.pairs = None, [], []
        what = str(cls.made_by).rpartition(".")[2]
        if what.endswith("_setstate") and len(arguments) > 1:
            target = getattr(arguments[0], "made_by", None) if isinstance(arguments[0], type) else arguments[0]
            if isinstance(target, Call):
                target.state = arguments[1]
        return _class_of(call) if what == "_make_skeleton_class" else call

    def __init__(self, *_: Any, **__: Any) -> None:
        self.arguments: tuple[Any, ...]
        self.named: dict[str, Any]
        self.state: Any
        self.items: list[Any]
        self.pairs: list[tuple[Any, Any]]

    def __call__(self, *arguments: Any) -> Any:
        call = object.__new__(Call)
        call.made_by, call.arguments, call.named = self, arguments, {}
        call.state, call.items, call.pairs = None, [], []
        code = _code_of(call)
        return call if code is None else code

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, item: Any) -> None:
        """An item that pickle would have put in."""
        self.items.append(item)

    def extend(self, items: Any) -> None:
        """Items that pickle would have put in."""
        self.items.extend(items)

    add = append

    def __setitem__(self, key: Any, value: Any) -> None:
        self.pairs.append((key, value))

    def __repr__(self) -> str:
        return f"{self.made_by}({', '.join(map(repr, self.arguments))})"


_CLASSES: dict[str, type] = {}


class _Inert(pickle.Unpickler):
    """Imports nothing."""

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full not in _CLASSES:
            _CLASSES[full] = type(name.rpartition(".")[2], (Call,), {"made_by": full, "__module__": __name__})
        return _CLASSES[full]


def said_by(data: bytes) -> tuple[Any] | None:
    """What a pickle says, in a tuple; None for bytes that are none."""
    if not (data[:1] == b"\x80" and data[-1:] == b"." and 2 < len(data) <= _SIZE_MAX):
        return None
    stream = io.BytesIO(data)
    try:
        if any(
            isinstance(said, int) and "PUT" in op.name and said > len(data) for op, said, _ in pickletools.genops(data)
        ):
            return None  # it asks for more memory than it can fill
        said = _Inert(stream).load()
    except Exception:  # bytes that only look like one raise anything
        return None
    return (said,) if stream.tell() == len(data) else None


def compare_calls(walk: Comparison, a: Any, b: Any, place: str) -> None:
    """Compare two calls that were not made, or two classes that would come of some."""
    if isinstance(a, type) and isinstance(b, type):
        one, other = (getattr(each, "made_by", None) for each in (a, b))
        if isinstance(one, Call) and isinstance(other, Call):
            walk.walk(one, other, place)
        elif a is not b:
            walk.differs("value", place, str(one), str(other))
        return
    if isinstance(a.made_by, Call) and isinstance(b.made_by, Call):
        walk.walk(a.made_by, b.made_by, f"{place}.__class__")
    elif a.made_by != b.made_by:
        walk.differs("value", place, str(a.made_by), str(b.made_by))
        return
    names = _NAMES.get(str(a.made_by).rpartition(".")[2], ())
    if len(a.arguments) != len(b.arguments):
        walk.differs("length", place, f"{len(a.arguments)} arguments", f"{len(b.arguments)} arguments")
    for at, (x, y) in enumerate(zip(a.arguments, b.arguments)):
        name = names[at] if at < len(names) else f"<argument {at}>"
        if name is not None:
            walk.walk(x, y, f"{place}.{name}")
    walk.walk(a.named, b.named, f"{place}.<named arguments>")
    walk.state(a.state, b.state, place)
    walk.walk(a.items, b.items, f"{place}.<items>")
    walk.walk(a.pairs, b.pairs, f"{place}.<pairs>")


def _class_of(call: Call) -> type:
    """A class that a pickle makes: its objects are calls of it."""
    return type(str(call.arguments[1]), (Call,), {"made_by": call, "__module__": __name__})


def _code_of(call: Call) -> types.CodeType | None:
    """The code object that cloudpickle asks for: making one runs nothing."""
    maker = call.made_by
    if not (isinstance(maker, Call) and maker.arguments == ("CodeType",)):
        return None
    if not str(maker.made_by).endswith("._builtin_type"):
        return None
    try:
        return types.CodeType(*call.arguments)
    except (TypeError, ValueError):  # of another Python
        return None
