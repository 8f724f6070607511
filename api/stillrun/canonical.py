"""The canonical digest: equal for equal values whatever their order, identity or layout; docs/spec/canonical.md.

Bytes of a pickle differ between processes for values that are the same (sets, shared objects, strides). This digest
does not, and it is type-strict: 1, True and 1.0 differ, as do 0.0 and -0.0. What it does not know has no digest.
"""

from __future__ import annotations

import hashlib
import math
import struct
import sys
from array import array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

__all__ = ["SCHEME", "Coder", "UnknownTypeError", "canonical_digest", "name_of", "register_canonical"]

SCHEME = "stillrun-canonical/2"
DEPTH_MAX = 1000  # containers within containers
FRAMES = 12_000  # of Python that so many need, as the interpreter counts them
NODES_MAX = 1_000_000  # values that are looked at one by one; some seconds at most
INLINE_MAX = 1024  # longer text and bytes stand in a code as their SHA-256
NAN = struct.pack("<Q", 0x7FF8000000000000)
_INT64 = 1 << 63


_SCIENCE = frozenset({"scipy", "pyarrow", "polars", "PIL", "matplotlib", "torch"})
_REGISTERED: dict[str, Callable[[Any], Any]] = {}


class UnknownTypeError(Exception):
    """A value of a type that the scheme does not know, or too large a one: there is no digest."""


def canonical_digest(value: Any, digests: Mapping[tuple[int, int], str] | None = None) -> str | None:
    """The canonical digest of a value, ``sha256:…``; None when it has none.

    digests: digests that are known already of memory by (address, length), such as those of the value's buffers.
    """
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, FRAMES))
    try:
        code = Coder(digests or {}).code(value)
    except Exception:  # a strange object may raise anything when it is looked at: then there is no digest
        return None
    finally:
        sys.setrecursionlimit(limit)
    return "sha256:" + hashlib.sha256(SCHEME.encode() + b"\n" + code).hexdigest()


def register_canonical(kind: type | str, function: Callable[[Any], Any]) -> None:
    """Have values of a class, and of classes derived from it, count as what ``function`` makes of them.

    kind: the class, or its module and qualified name joined by a dot, where importing it is dear. The function returns
    anything that has a digest itself; equal results must mean equal values. The class's name counts too. Both the
    run and its replay register it, since the flow file does.
    """
    _REGISTERED[kind if isinstance(kind, str) else name_of(kind)] = function


def name_of(thing: Any) -> str:
    """The module and qualified name by which a class or function is imported. Raises UnknownTypeError when it is not."""
    home, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not isinstance(home, str) or not isinstance(name, str) or "<" in name:
        raise UnknownTypeError(repr(type(thing)))
    return f"{home}.{name}"


class Coder:
    """Turns values into codes: self-delimiting bytes, short for scalars, tag and SHA-256 for all that is larger."""

    def __init__(self, digests: Mapping[tuple[int, int], str]) -> None:
        self.digests = digests
        self._path: dict[int, int] = {}  # id of each container that is being coded -> its depth
        self._known: dict[int, bytes] = {}  # id -> code, of containers that refer to none around them
        self._lowest = sys.maxsize  # least depth that a back-reference pointed to
        self._nodes = 0
        self._alive: list[Any] = []

    def keep(self, value: Any) -> Any:
        """Keep a temporary object until the digest is done: codes are remembered by id."""
        self._alive.append(value)
        return value

    def code(self, value: Any) -> bytes:
        """The code of a value. Raises UnknownTypeError."""
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise UnknownTypeError
        scalar = _SCALARS.get(type(value))
        if scalar is not None:
            return scalar(value)
        return self._container(value)

    def tagged(self, name: str, *codes: bytes) -> bytes:
        """The code of a composed value: a name and the codes of its parts."""
        content = [_text(name), struct.pack("<Q", len(codes)), *codes]
        return b"@" + hashlib.sha256(b"".join(content)).digest()

    def record(self, name: str, *parts: Any) -> bytes:
        """The code of a composed value: a name and its parts."""
        return self.tagged(name, *[self.code(part) for part in parts])

    def sequence(self, tag: bytes, items: Any) -> bytes:
        """The code of a list or tuple of items."""
        digest = hashlib.sha256(struct.pack("<Q", len(items)))
        for piece in self._pieces(items):
            digest.update(piece)
        return tag + digest.digest()

    # -- containers --------------------------------------------------------------------------

    def _container(self, value: Any) -> bytes:
        known = self._known.get(id(value))
        if known is not None:
            return known
        depth = len(self._path)
        above = self._path.get(id(value))
        if above is not None:
            self._lowest = min(self._lowest, above)
            return b"^" + struct.pack("<Q", depth - above)
        if depth >= DEPTH_MAX:
            raise UnknownTypeError
        outer, self._lowest = self._lowest, sys.maxsize
        self._path[id(value)] = depth
        try:
            code = self._coded(value)
        finally:
            del self._path[id(value)]
        if self._lowest >= depth:
            self._known[id(value)] = code  # it does not depend on where it stands
            self._lowest = outer
        else:
            self._lowest = min(self._lowest, outer)
        return code

    def _coded(self, value: Any) -> bytes:
        kind = type(value)
        coder = _CONTAINERS.get(kind)
        if coder is not None:
            return coder(self, value)
        if _REGISTERED:
            for name in map(name_of, kind.__mro__[:-1]):
                if name in _REGISTERED:
                    return self.record("registered", name, self.keep(_REGISTERED[name](value)))
        root = kind.__module__.split(".")[0]
        found = None
        if root == "numpy":
            from stillrun.canonical_arrays import code_of_numpy

            found = code_of_numpy(self, value)
        elif root == "pandas":
            from stillrun.canonical_tables import code_of_pandas

            found = code_of_pandas(self, value)
        elif root in _SCIENCE:
            from stillrun.canonical_science import LIBRARIES

            found = LIBRARIES[root](self, value)
        if found is not None:
            return found
        from stillrun.canonical_classes import code_of_object

        return code_of_object(self, value)

    def _pieces(self, items: Any) -> Iterable[bytes]:
        kinds = set(map(type, items))
        if len(kinds) == 1:
            whole = _UNIFORM.get(kinds.pop())
            pieces: list[Any] | None = None if whole is None else whole(items)
            if pieces is not None:
                return pieces
        return [b"*", *[self.code(item) for item in items]]

    def _list(self, value: list[Any]) -> bytes:
        return self.sequence(b"l", value)

    def _tuple(self, value: tuple[Any, ...]) -> bytes:
        return self.sequence(b"t", value)

    def _dict(self, value: dict[Any, Any]) -> bytes:
        return self.mapping(b"d", value)

    def mapping(self, tag: bytes, value: Mapping[Any, Any]) -> bytes:
        """The code of a mapping whose order does not count."""
        count = struct.pack("<Q", len(value))
        if value and set(map(type, value)) == {str}:
            keys = sorted(value)
            pairs = self.sequence(b"l", keys) + self.sequence(b"l", [value[key] for key in keys])
            return tag + hashlib.sha256(count + b"s" + pairs).digest()
        codes = sorted(self.code(key) + self.code(item) for key, item in value.items())
        return tag + hashlib.sha256(count + b"*" + b"".join(codes)).digest()

    def _set(self, value: set[Any]) -> bytes:
        return self.unordered(b"S", value)

    def _frozenset(self, value: frozenset[Any]) -> bytes:
        return self.unordered(b"Z", value)

    def unordered(self, tag: bytes, value: Any) -> bytes:
        """The code of a collection whose order does not count."""
        if value and set(map(type, value)) in ({str}, {int}):
            return self.sequence(tag, sorted(value))
        codes = sorted(self.code(item) for item in value)
        return tag + hashlib.sha256(struct.pack("<Q", len(codes)) + b"*" + b"".join(codes)).digest()


# -- scalars -----------------------------------------------------------------------------------


def _int(value: int) -> bytes:
    data = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"i" + _sized(data)


def _float(value: float) -> bytes:
    return b"f" + (NAN if value != value else struct.pack("<d", value))


def _complex(value: complex) -> bytes:
    return b"c" + _float(value.real)[1:] + _float(value.imag)[1:]


def _text(value: str) -> bytes:
    return b"s" + _sized(value.encode("utf-8", "surrogatepass"))


def _sized(data: bytes | bytearray) -> bytes:
    return struct.pack("<Q", len(data)) + (data if len(data) <= INLINE_MAX else hashlib.sha256(data).digest())


_SCALARS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"N",
    bool: lambda value: b"T" if value else b"F",
    int: _int,
    float: _float,
    complex: _complex,
    str: _text,
    bytes: lambda value: b"b" + _sized(value),
    bytearray: lambda value: b"y" + _sized(value),
    type(Ellipsis): lambda _: b".",
}


# -- sequences of one type: coded as a whole, at the speed of C ----------------------------------


def _little(numbers: array[Any]) -> array[Any]:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _floats(items: Any) -> list[Any]:
    numbers = array("d", items)
    if any(map(math.isnan, numbers)):
        nan = struct.unpack("<d", NAN)[0]
        numbers = array("d", [nan if number != number else number for number in numbers])
    return [b"f", _little(numbers)]


def _ints(items: Any) -> list[Any] | None:
    if min(items) < -_INT64 or max(items) >= _INT64:
        return None
    return [b"i", _little(array("q", items))]


def _texts(items: Any) -> list[Any]:
    return [b"s", _little(array("Q", map(len, items))), "".join(items).encode("utf-8", "surrogatepass")]


def _bools(items: Any) -> list[Any]:
    return [b"?", bytes(items)]


_UNIFORM: dict[type, Callable[[Any], Any]] = {float: _floats, int: _ints, str: _texts, bool: _bools}
_CONTAINERS: dict[type, Callable[[Coder, Any], bytes]] = {
    list: Coder._list,
    tuple: Coder._tuple,
    dict: Coder._dict,
    set: Coder._set,
    frozenset: Coder._frozenset,
}
