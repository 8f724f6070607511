"""Dataclasses that cost nothing until they are used: the decorator of ``dataclasses``, without its price at import.

Making one compiles up to seven functions, about a millisecond for each class. A command imports a hundred of them, uses some
forty, and most of these a few times. So a class gets methods that are no code of its own first, and is made a real dataclass
when it is used often, or when somebody asks for its fields (``replace``, ``asdict``). Type checkers are shown the real thing.
"""

from __future__ import annotations

import _thread
import sys
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

MISSING: Any = object()
OFTEN = 50
"""Objects of a class from which compiling its methods is worth it."""
_KNOWN = frozenset({"frozen", "repr", "eq", "order"})
_lock = _thread.RLock()


def _dataclass(cls: Any = None, /, **options: Any) -> Any:
    """The class, which behaves as a dataclass with these options, and becomes one in time."""
    if cls is None:
        return lambda each: _dataclass(each, **options)
    own = {"__init__", "__eq__", "__repr__", "__hash__", "__setattr__", "__delattr__"} & vars(cls).keys()
    plain = not own and not any(word in str(each) for each in _annotations(cls).values() for word in _SPECIAL)
    if not plain or options.get("order") or options.keys() - _KNOWN or options.get("eq", True) is not True:
        import dataclasses

        return dataclasses.dataclass(**options)(cls)
    _Light(cls, options)
    return cls


_SPECIAL = ("ClassVar", "InitVar", "KW_ONLY")


def _annotations(cls: Any) -> dict[str, Any]:
    return dict(vars(cls).get("__annotations__", {}))


class _Light:
    """The methods of one class before it is a real dataclass; a descriptor that makes it one when its fields are asked for."""

    def __init__(self, cls: Any, options: dict[str, Any]) -> None:
        self._cls: Any = cls
        self._options, self._made = options, 0
        self._fields: tuple[tuple[str, Any, Any], ...] | None = None
        frozen = options.get("frozen", False)
        light = self

        def __init__(self: Any, *values: Any, **named: Any) -> None:  # noqa: N807
            light.fill(self, values, named)

        def __repr__(self: Any) -> str:  # noqa: N807
            found = ", ".join(f"{name}={getattr(self, name)!r}" for name, _, shown in light.fields() if shown)
            return f"{type(self).__qualname__}({found})"

        def __eq__(self: Any, other: object) -> Any:  # noqa: N807
            return light.key(self) == light.key(other) if type(other) is type(self) else NotImplemented

        def __hash__(self: Any) -> int:  # noqa: N807
            return hash(light.key(self))

        def __setattr__(self: Any, name: str, value: object) -> None:  # noqa: N807, ARG001
            raise _frozen(f"cannot assign to field {name!r}")

        def __delattr__(self: Any, name: str) -> None:  # noqa: N807, ARG001
            raise _frozen(f"cannot delete field {name!r}")

        self._methods: dict[str, Any] = {"__init__": __init__, "__eq__": __eq__}
        if options.get("repr", True):
            self._methods["__repr__"] = __repr__
        if frozen:
            self._methods.update(__hash__=__hash__, __setattr__=__setattr__, __delattr__=__delattr__)
        names = tuple(dict.fromkeys((*getattr(cls, "__match_args__", ()), *self.own())))
        facts = {"__match_args__": names, "__dataclass_fields__": self, **({} if frozen else {"__hash__": None})}
        for name, value in {**self._methods, **facts}.items():
            setattr(cls, name, value)

    def __get__(self, instance: object, owner: Any) -> Any:
        """The fields, of what is a real dataclass from now on."""
        self.make()
        return owner.__dataclass_fields__

    def fields(self) -> tuple[tuple[str, Any, Any], ...]:
        """Name, default and whether it is shown, of each field, those of base classes first."""
        if self._fields is None:
            found: dict[str, tuple[str, Any, Any]] = {}
            for each in reversed(self._cls.__mro__):
                known = vars(each).get("__dataclass_fields__")
                if known is None:
                    continue
                for name in known.own() if isinstance(known, _Light) else known:
                    default = known.default(name) if isinstance(known, _Light) else known[name]
                    found[name] = (name, default, not _is_field(default) or default.repr)
            self._fields = tuple(found.values())
        return self._fields

    def own(self) -> list[str]:
        """Names of the fields that the class itself has."""
        return list(_annotations(self._cls))

    def default(self, name: str) -> Any:
        """The default of a field of the class itself: a value, what ``field`` returned, or MISSING."""
        return vars(self._cls).get(name, MISSING)

    def fill(self, instance: Any, values: tuple[Any, ...], named: dict[str, Any]) -> None:
        """What __init__ does."""
        fields = self.fields()
        self._made += 1
        if self._made > OFTEN or len(values) > len(fields):
            self.make()
            type(instance).__init__(instance, *values, **named)
            return
        held = vars(instance)
        for place, (name, default, _) in enumerate(fields):
            if place < len(values):
                held[name] = values[place]
            elif name in named:
                held[name] = named.pop(name)
            else:
                value = _default(default)
                if value is MISSING:
                    break
                held[name] = value
        else:
            if not named:
                if hasattr(instance, "__post_init__"):
                    instance.__post_init__()
                return
        self.make()  # it says what is wrong
        type(instance).__init__(instance, *values, **named)

    def key(self, instance: Any) -> tuple[Any, ...]:
        """What is compared."""
        return tuple(
            getattr(instance, name) for name, default, _ in self.fields() if not _is_field(default) or default.compare
        )

    def make(self) -> None:
        """Make it a real dataclass."""
        import dataclasses

        with _lock:
            cls = self._cls
            if vars(cls).get("__dataclass_fields__") is not self:
                return
            del cls.__dataclass_fields__
            for name in self._methods:
                delattr(cls, name)
            if "__hash__" in vars(cls):
                del cls.__hash__
            dataclasses.dataclass(**self._options)(cls)


def _default(default: Any) -> Any:
    """The value of a field that none was given for; MISSING when it has none."""
    if not _is_field(default):
        return default
    from dataclasses import MISSING as NONE

    value = default.default if default.default_factory is NONE else default.default_factory()
    return MISSING if value is NONE else value


def _is_field(default: Any) -> bool:
    """Whether a default is what ``dataclasses.field`` returns: nobody has called it where that was not imported."""
    module = sys.modules.get("dataclasses")
    return module is not None and isinstance(default, module.Field)


def _frozen(message: str) -> Exception:
    from dataclasses import FrozenInstanceError

    return FrozenInstanceError(message)


if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    dataclass = _dataclass
