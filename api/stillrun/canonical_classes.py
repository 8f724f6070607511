"""Canonical codes of the standard library's value classes, and of dataclasses, named tuples and enums."""

from __future__ import annotations

import sys

from stillrun.canonical import Coder, UnknownTypeError
from stillrun.canonical_objects import code_by_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["KNOWN", "code_of_dataclass", "code_of_enum", "code_of_named_tuple"]


def code_of_enum(coder: Coder, name: str, value: Any) -> bytes:
    """The code of a member: by its name, or by its value if it is a flag, of which there may be several in one."""
    enum: Any = sys.modules["enum"]
    if isinstance(value, enum.Flag):
        return coder.record("flag", name, value.value)
    return coder.record("enum", name, value.name)


def code_of_named_tuple(coder: Coder, name: str, value: Any) -> bytes:
    """The code of an instance of a class that namedtuple made."""
    return coder.tagged("namedtuple", coder.code(name), coder.sequence(b"t", tuple(value)))


_PICKLES_ITSELF = ("__reduce_ex__", "__reduce__", "__getstate__", "__getnewargs_ex__", "__getnewargs__", "__slots__")


def code_of_dataclass(coder: Coder, value: Any) -> bytes:
    """The code of a dataclass's instance: by its fields when these are all that it has, else by its state."""
    kind = type(value)
    own_state = any(name in vars(each) for name in _PICKLES_ITSELF for each in kind.__mro__[:-1])
    made_in_python = all(each.__flags__ & (1 << 9) for each in kind.__mro__[:-1])  # Py_TPFLAGS_HEAPTYPE
    if own_state or not made_in_python or set(vars(value)) != set(getattr(kind, "__dataclass_fields__", ())):
        return code_by_state(coder, value)
    return coder.tagged("dataclass", coder.code(kind), coder.mapping(b"d", vars(value)))


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
    parts = [coder.sequence(b"l", list(value)), coder.sequence(b"l", list(value.values()))]
    return coder.tagged(name, *parts, *_attributes(coder, value))


def _counter(coder: Coder, name: str, value: Any) -> bytes:
    return coder.tagged(name, coder.mapping(b"d", value), *_attributes(coder, value))


def _attributes(coder: Coder, value: Any) -> list[bytes]:
    """What was set on a container, such as the ``_metadata`` of a PyTorch state dict."""
    return [coder.mapping(b"d", vars(value))] if getattr(value, "__dict__", None) else []


def _defaultdict(coder: Coder, name: str, value: Any) -> bytes:
    return coder.tagged(name, coder.code(value.default_factory), coder.mapping(b"d", value))


def _deque(coder: Coder, name: str, value: Any) -> bytes:
    return coder.tagged(name, coder.code(value.maxlen), coder.sequence(b"l", list(value)))


def _array(coder: Coder, name: str, value: Any) -> bytes:
    return coder.tagged(name, coder.code(value.typecode), coder.sequence(b"l", value.tolist()))


def _namespace(coder: Coder, name: str, value: Any) -> bytes:
    return coder.tagged(name, coder.mapping(b"d", vars(value)))


def _view(coder: Coder, name: str, value: Any) -> bytes:
    return coder.tagged(name, coder.mapping(b"d", dict(value)))


KNOWN: dict[str, Callable[[Coder, str, Any], bytes]] = {
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
    "builtins.mappingproxy": _view,
    "builtins.slice": _bounds,
    "collections.OrderedDict": _ordered,
    "collections.Counter": _counter,
    "collections.defaultdict": _defaultdict,
    "collections.deque": _deque,
    "array.array": _array,
    "types.SimpleNamespace": _namespace,
    "sklearn.utils._bunch.Bunch": _view,  # it pickles attributes that it does not read back
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
