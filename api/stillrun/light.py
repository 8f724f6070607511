"""What this package needs of `dataclasses`, without its price: importing that costs every step host some 15 ms.

Type checkers are shown the real thing; at run time a class gets an ``__init__`` and nothing else.
"""

from __future__ import annotations

__all__ = ["dataclass", "field"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable


class _Made:
    """A default that is made anew for each instance."""

    def __init__(self, factory: Callable[[], Any]) -> None:
        self.factory = factory


def field(*, default_factory: Callable[[], Any]) -> Any:
    """A field whose default is what ``default_factory`` returns, anew for each instance."""
    return _Made(default_factory)


def dataclass(cls: Any = None, *, frozen: bool = False) -> Any:  # noqa: ARG001 - checked by the type checker alone
    """The class with an ``__init__`` that takes its annotated names, in order or by name."""
    if cls is None:
        return dataclass
    names = tuple(cls.__annotations__)

    def __init__(self: Any, *values: Any, **named: Any) -> None:  # noqa: N807 - it becomes the class's own
        given = {**dict(zip(names, values)), **named}
        for name in names:
            if name not in given:
                default = getattr(cls, name)  # an AttributeError names what is missing
                given[name] = default.factory() if isinstance(default, _Made) else default
        self.__dict__.update(given)

    cls.__init__ = __init__
    return cls
