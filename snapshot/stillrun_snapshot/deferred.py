"""Dataclasses that are made when the first object of theirs is: the decorator of ``dataclasses``, without its price at import.

Making one compiles up to seven functions, about a millisecond for each class. A command imports a hundred of them and uses
a dozen. Type checkers are shown the real thing.
"""

from __future__ import annotations

import _thread
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

_lock = _thread.RLock()


def _dataclass(cls: Any = None, /, **options: Any) -> Any:
    """The class, which becomes a dataclass with these options when its first object is made."""
    if cls is None:
        return lambda each: _dataclass(each, **options)
    if options.get("slots") or "__init__" in vars(cls):  # which makes another class of it, or leaves it its own
        import dataclasses

        return dataclasses.dataclass(**options)(cls)

    def __init__(self: Any, *values: Any, **named: Any) -> None:  # noqa: N807 - the class's own, until it is made
        _make(type(self))
        type(self).__init__(self, *values, **named)

    cls._options_of_dataclass = options
    cls.__init__ = __init__
    return cls


def _make(kind: type) -> None:
    """Make dataclasses of a class and of those that it is derived from, where they are none yet."""
    import dataclasses

    with _lock:
        for each in reversed(kind.__mro__):
            options = vars(each).get("_options_of_dataclass")
            if options is not None:
                del each._options_of_dataclass  # type: ignore[attr-defined]
                del each.__init__  # type: ignore[misc]
                dataclasses.dataclass(**options)(each)


if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    dataclass = _dataclass
