"""Canonical codes of the standard library's value classes, and of dataclasses, named tuples and enums."""

from __future__ import annotations

import types

from stillrun.canonical import Coder, UnknownTypeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["code_of_object"]

_CALLABLES = (
    type,
    types.FunctionType,
    types.CodeType,
    types.MethodType,
    types.BuiltinFunctionType,
    types.CellType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
)


def code_of_object(coder: Coder, value: Any) -> bytes:
    """The code of a value that is no builtin. Raises UnknownTypeError."""
    kind = type(value)
    name = f"{_home(kind)}.{kind.__qualname__}"
    known = _KNOWN.get(name)
    if known is not None:
        return known(coder, name, value)
    if isinstance(value, _CALLABLES):
        from stillrun.canonical_functions import code_of_callable

        return code_of_callable(coder, value)
    if type(kind).__module__ == "enum":
        return _enum(coder, name, value)
    if _is_named_tuple(kind):
        return coder.tagged("namedtuple", coder.code(name), coder.sequence(b"t", tuple(value)))
    if "__dataclass_fields__" in vars(kind) and _is_plain(value):
        return coder.tagged("dataclass", coder.code(name), coder.mapping(b"d", vars(value)))
    return _reduced(coder, value)


def _reduced(coder: Coder, value: Any) -> bytes:
    from stillrun.canonical_objects import code_of_reduced

    return code_of_reduced(coder, value)


def _home(kind: type) -> str:
    # pathlib's classes moved to pathlib._local in 3.13 and back
    return "pathlib" if kind.__module__ == "pathlib._local" else kind.__module__


def _enum(coder: Coder, name: str, value: Any) -> bytes:
    if value.name is None or not isinstance(value.name, str):
        return coder.record("enum", name, value.value)
    return coder.record("enum", name, value.name)


def _is_named_tuple(kind: type) -> bool:
    return kind.__bases__ == (tuple,) and hasattr(kind, "_fields") and "__dict__" not in vars(kind)


_PICKLES_ITSELF = ("__reduce_ex__", "__reduce__", "__getstate__", "__getnewargs_ex__", "__getnewargs__", "__slots__")


def _is_plain(value: Any) -> bool:
    """Whether a dataclass is its fields and no more."""
    kind = type(value)
    own_state = any(name in vars(each) for name in _PICKLES_ITSELF for each in kind.__mro__[:-1])
    made_in_python = all(each.__flags__ & (1 << 9) for each in kind.__mro__[:-1])  # Py_TPFLAGS_HEAPTYPE
    return not own_state and made_in_python and set(vars(value)) == set(kind.__dataclass_fields__)


def _decimal(coder: Coder, name: str, value: Any) -> bytes:
    sign, digits, exponent = value.as_tuple()
    if value.is_nan():
        return coder.record(name, "nan", str(value))
    return coder.record(name, sign, "".join(map(str, digits)), exponent)


def _fraction(coder: Coder, name: str, value: Any) -> bytes:
    return coder.record(name, value.numerator, value.denominator)


def _date(coder: Coder, name: str, value: Any) -> bytes:
    return coder.record(name, value.year, value.month, value.day)


def _time(coder: Coder, name: str, value: Any) -> bytes:
    fields = (value.hour, value.minute, value.second, value.microsecond, value.fold, value.tzinfo)
    return coder.record(name, *fields)


def _datetime(coder: Coder, name: str, value: Any) -> bytes:
    fields = (value.hour, value.minute, value.second, value.microsecond, value.fold, value.tzinfo)
    return coder.record(name, value.year, value.month, value.day, *fields)


def _timedelta(coder: Coder, name: str, value: Any) -> bytes:
    return coder.record(name, value.days, value.seconds, value.microseconds)


def _timezone(coder: Coder, name: str, value: Any) -> bytes:
    return coder.record(name, coder.keep(value.utcoffset(None)), value.tzname(None))


def _zone(coder: Coder, name: str, value: Any) -> bytes:
    if value.key is None:
        raise UnknownTypeError(name)
    return coder.record(name, value.key)


def _path(coder: Coder, name: str, value: Any) -> bytes:
    return coder.record(name, str(value))


def _uuid(coder: Coder, name: str, value: Any) -> bytes:
    return coder.record(name, value.bytes)


def _bounds(coder: Coder, name: str, value: Any) -> bytes:
    return coder.record(name, value.start, value.stop, value.step)


def _ordered(coder: Coder, name: str, value: Any) -> bytes:
    if getattr(value, "__dict__", None):
        return _reduced(coder, value)
    return coder.tagged(name, coder.sequence(b"l", list(value)), coder.sequence(b"l", list(value.values())))


def _counter(coder: Coder, name: str, value: Any) -> bytes:
    if getattr(value, "__dict__", None):
        return _reduced(coder, value)
    return coder.tagged(name, coder.mapping(b"d", value))


def _defaultdict(coder: Coder, name: str, value: Any) -> bytes:
    factory = value.default_factory
    if factory is not None and factory not in (list, dict, set, int, float, str, tuple, bool):
        return _reduced(coder, value)
    return coder.tagged(name, coder.code(None if factory is None else factory.__name__), coder.mapping(b"d", value))


def _deque(coder: Coder, name: str, value: Any) -> bytes:
    return coder.tagged(name, coder.code(value.maxlen), coder.sequence(b"l", list(value)))


def _array(coder: Coder, name: str, value: Any) -> bytes:
    return coder.tagged(name, coder.code(value.typecode), coder.sequence(b"l", value.tolist()))


def _namespace(coder: Coder, name: str, value: Any) -> bytes:
    return coder.tagged(name, coder.mapping(b"d", vars(value)))


_KNOWN: dict[str, Callable[[Coder, str, Any], bytes]] = {
    "decimal.Decimal": _decimal,
    "fractions.Fraction": _fraction,
    "datetime.date": _date,
    "datetime.time": _time,
    "datetime.datetime": _datetime,
    "datetime.timedelta": _timedelta,
    "datetime.timezone": _timezone,
    "zoneinfo.ZoneInfo": _zone,
    "uuid.UUID": _uuid,
    "builtins.range": lambda coder, name, value: _bounds(coder, name, _shortest(value)),
    "builtins.slice": _bounds,
    "collections.OrderedDict": _ordered,
    "collections.Counter": _counter,
    "collections.defaultdict": _defaultdict,
    "collections.deque": _deque,
    "array.array": _array,
    "types.SimpleNamespace": _namespace,
    **{
        f"pathlib.{kind}": _path
        for kind in ("PurePath", "PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath")
    },
}


def _shortest(value: range) -> range:
    """The one spelling of ranges that are equal."""
    if not value:
        return range(0)
    return range(value[0], value[-1] + (1 if value.step > 0 else -1), value.step if len(value) > 1 else 1)
