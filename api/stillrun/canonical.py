"""The canonical digest: equal for equal values whatever their order, identity or layout; docs/spec/canonical.md.

Bytes of a pickle differ between processes for values that are the same (sets, shared objects, strides). This digest
does not, and it is type-strict: 1, True and 1.0 differ, as do 0.0 and -0.0. What cannot be pickled has no digest,
unless ``register_canonical`` tells what stands for it.
"""

from __future__ import annotations

import hashlib
import math
import struct
import sys
from array import array

from stillrun.sha import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    Way = Callable[["Coder", Any], bytes]

__all__ = [
    "REGISTERED",
    "SCHEME",
    "Coder",
    "UnknownTypeError",
    "canonical_digest",
    "qualified_name",
    "register_canonical",
]

SCHEME = "stillrun-canonical/3"
DEPTH_MAX = 80  # containers within containers on the stack of whoever asks; deeper ones get a stack of their own
NODES_MAX = 1_000_000  # values that are looked at one by one; some seconds at most
INLINE_MAX = 1024  # longer text and bytes stand in a code as their SHA-256
MIXED_MIN = 32  # longer sequences of scalars of several types are coded by type
REGISTERED: dict[str, Callable[[Any], Any]] = {}  # qualified name of a type -> what stands for a value of it
NAN = struct.pack("<Q", 0x7FF8000000000000)
_INT64 = 1 << 63


class UnknownTypeError(Exception):
    """A value that the scheme cannot tell by its state, or too large a one: there is no digest."""


def register_canonical(kind: type | str, stands_for: Callable[[Any], Any]) -> None:
    """From now on a value of exactly this type is coded as the type's name and ``stands_for(value)``.

    kind: a type, or its module and qualified name, so that a library need not be imported for it.
    stands_for: returns something that has a digest, such as a tuple of what counts.
    """
    if not isinstance(kind, (type, str)) or not callable(stands_for):
        raise TypeError("register_canonical takes a type, or its qualified name, and a function")
    if isinstance(kind, type) and (kind in _SCALARS or kind in _CONTAINERS):
        raise TypeError(f"the code of '{kind.__name__}' is fixed: see docs/spec/canonical.md")
    REGISTERED[kind if isinstance(kind, str) else qualified_name(kind)] = stands_for


def qualified_name(kind: type) -> str:
    """A class's module and qualified name; the same in every Python."""
    module = kind.__module__
    # pathlib's classes moved to pathlib._local in 3.13 and back
    return f"{'pathlib' if module == 'pathlib._local' else module}.{kind.__qualname__}"


def canonical_digest(value: Any, digests: Mapping[tuple[int, int], str] | None = None) -> str | None:
    """The canonical digest of a value, ``sha256:…``; None when it has none.

    digests: digests that are known already of memory by (address, length), such as those of the value's buffers.
    """
    try:
        try:
            code = Coder(digests or {}).code(value)
        except RecursionError:
            from stillrun.canonical_deep import code_on_a_large_stack

            code = code_on_a_large_stack(value, digests or {})
    except Exception:  # a strange object may raise anything when it is looked at: then there is no digest
        return None
    return "sha256:" + sha256(SCHEME.encode() + b"\n" + code).hexdigest()


class Coder:
    """Turns values into codes: self-delimiting bytes, short for scalars, tag and SHA-256 for all that is larger."""

    def __init__(self, digests: Mapping[tuple[int, int], str], depth_max: int = DEPTH_MAX) -> None:
        self.digests = digests
        self._depth_max = depth_max
        self._ways: dict[type, Way] = {}  # how values of a type are coded
        self._path: dict[int, int] = {}  # id of each container that is being coded -> its depth
        self._known: dict[int, bytes] = {}  # id -> code, of containers that refer to none around them
        self._lowest = sys.maxsize  # least depth that a back-reference pointed to
        self._nodes = 0
        self._alive: list[Any] = []

    def keep(self, value: Any) -> Any:
        """Keep a temporary object until the digest is done: parts of it are remembered by id."""
        self._alive.append(value)
        return value

    def code(self, value: Any) -> bytes:
        """The code of a value. Raises UnknownTypeError, RecursionError."""
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
        return b"@" + sha256(b"".join(content)).digest()

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
        if depth >= self._depth_max:
            raise RecursionError
        outer, self._lowest = self._lowest, sys.maxsize
        self._path[id(value)] = depth
        try:
            code = self._coded(value)
        finally:
            del self._path[id(value)]
        if self._lowest >= depth:
            self._known[id(value)] = code  # it does not depend on where it stands
            self._alive.append(value)  # no other object may get its id
            self._lowest = outer
        else:
            self._lowest = min(self._lowest, outer)
        return code

    def _coded(self, value: Any) -> bytes:
        kind = type(value)
        coder = _CONTAINERS.get(kind)
        if coder is not None:
            return coder(self, value)
        way = self._ways.get(kind)
        if way is None:
            from stillrun.canonical_ways import way_of

            way = self._ways[kind] = way_of(kind)
        return way(self, value)

    def _pieces(self, items: Any) -> Iterable[bytes]:
        kinds = set(map(type, items))
        pieces: list[Any] | None = None
        if len(kinds) == 1:
            kind = kinds.pop()
            whole = _UNIFORM.get(kind)
            if whole is not None:
                pieces = whole(items)
            elif len(items) > MIXED_MIN:
                pieces = self._long(kind, items)
        elif len(items) > MIXED_MIN and kinds <= _LETTERS.keys():
            pieces = self._mixed(items, kinds)
        return [b"*", *[self.code(item) for item in items]] if pieces is None else pieces

    def _long(self, kind: type, items: Any) -> list[bytes] | None:
        """Many rows of scalars column by column, many NumPy numbers as their array; None for all else."""
        if kind is dict:
            names = items[0].keys()
            if set(map(type, names)) != {str} or any(names != item.keys() for item in items):
                return None
            keys = sorted(names)
            columns: list[Any] = [[item[key] for item in items] for key in keys]
            head = b"r" + self.sequence(b"l", keys)
        elif kind is tuple and len(items[0]) and len(set(map(len, items))) == 1:
            columns = [[item[at] for item in items] for at in range(len(items[0]))]
            head = b"c" + struct.pack("<Q", len(columns))
        elif kind.__module__ == "numpy":
            from stillrun.canonical_arrays import code_of_numbers

            return code_of_numbers(self, kind, items)
        else:
            return None
        if any(not set(map(type, column)) <= _SCALARS.keys() for column in columns):
            return None
        return [head, *[self.sequence(b"l", column) for column in columns]]

    def _mixed(self, items: Any, kinds: set[type]) -> list[bytes]:
        """Scalars of several types: which are of which, and those of each type."""
        letters = "".join(map(_LETTERS.__getitem__, map(type, items))).encode()
        present = [kind for kind in _LETTERS if kind in kinds]
        return [
            b"m",
            letters,
            *[self.sequence(b"l", [item for item in items if type(item) is kind]) for kind in present],
        ]

    def _list(self, value: list[Any]) -> bytes:
        return self.sequence(b"l", value)

    def _tuple(self, value: tuple[Any, ...]) -> bytes:
        return self.sequence(b"t", value)

    def _dict(self, value: dict[Any, Any]) -> bytes:
        return self.mapping(b"d", value)

    def mapping(self, tag: bytes, value: Mapping[Any, Any]) -> bytes:
        """The code of a mapping whose order does not count."""
        count = struct.pack("<Q", len(value))
        kinds = set(map(type, value))
        if kinds == {str} or kinds == {int}:
            keys = sorted(value)
            pairs = self.sequence(b"l", keys) + self.sequence(b"l", [value[key] for key in keys])
            return tag + hashlib.sha256(count + (b"s" if str in kinds else b"i") + pairs).digest()
        codes = sorted([self.code(key) + self.code(item) for key, item in value.items()])
        return tag + hashlib.sha256(count + b"*" + b"".join(codes)).digest()

    def _set(self, value: set[Any]) -> bytes:
        return self._unordered(b"S", value)

    def _frozenset(self, value: frozenset[Any]) -> bytes:
        return self._unordered(b"Z", value)

    def _unordered(self, tag: bytes, value: Any) -> bytes:
        if set(map(type, value)) in ({str}, {int}):
            return self.sequence(tag, sorted(value))
        codes = sorted([self.code(item) for item in value])
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


def _nones(_: Any) -> list[Any]:
    return [b"n"]


_UNIFORM: dict[type, Callable[[Any], Any]] = {
    float: _floats,
    int: _ints,
    str: _texts,
    bool: _bools,
    type(None): _nones,
}
_LETTERS: dict[type, str] = {type(None): "N", bool: "?", int: "i", float: "f", str: "s"}
_CONTAINERS: dict[type, Way] = {
    list: Coder._list,
    tuple: Coder._tuple,
    dict: Coder._dict,
    set: Coder._set,
    frozenset: Coder._frozenset,
}
