"""What differs between two values: where, by how much, and why most likely.

Runs where both can be unpickled (compare_jobs.py). What is found is told as docs/spec/verdict.md says, "Differences".
"""

from __future__ import annotations

import copyreg
import difflib
import enum
import math
import struct
import sys

from stillrun.canonical_states import state_that_counts
from stillrun.compare_hints import hint_of
from stillrun.preview import type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["Comparison", "compared"]

KEPT_MAX = 20  # differences that are described one by one
LOOKED_MAX = 2_000_000  # pairs of values; then it is said that the rest was not looked at
TEXT_MAX = 160
LINES_MAX = 30
SHARE_OF = 1 << 16  # bytes whose share of changed ones is told
FRAMES = 12_000
_PLAIN_MODULES = frozenset({"datetime", "uuid", "decimal", "fractions", "pathlib", "zoneinfo", "re", "ipaddress"})


class Comparison:
    """Walks two values side by side and collects what differs. rtol, atol: |b - a| <= atol + rtol * |a| is tolerated."""

    def __init__(self, rtol: float = 0.0, atol: float = 0.0) -> None:
        self.rtol, self.atol = rtol, atol
        self.found: list[dict[str, Any]] = []
        self.count = 0
        self.only_numbers = True
        self.beyond = False  # a number differs by more than is tolerated
        self.worst: dict[str, Any] = {}
        self.opaque: str | None = None  # what could not be looked into
        self._seen: set[tuple[int, int]] = set()
        self._alive: list[Any] = []
        self._looked = 0

    def walk(self, a: Any, b: Any, place: str) -> None:
        """Compare what stands at ``place``, written as Python would."""
        if a is b:
            return
        self._looked += 1
        if self._looked > LOOKED_MAX:
            self.opaque = self.opaque or f"{place} and what follows, since there is so much of it"
            return
        kind = type(a)
        if kind is not type(b) and not _is_same_kind(a, b):
            self.differs("type", place, type_name(a), type_name(b))
            return
        if kind is float:
            self.numbers(place, a, b)
        elif kind is int or kind is bool:
            if a != b:
                self._whole_numbers(place, a, b) if kind is int else self.differs("value", place, repr(a), repr(b))
        elif kind is complex:
            self.numbers(f"{place}.real", a.real, b.real)
            self.numbers(f"{place}.imag", a.imag, b.imag)
        elif kind is str or kind is bytes or kind is bytearray:
            if a != b:
                self.text(place, a, b) if kind is str else self._bytes(a, b, place)
        elif a is not None:
            self._larger(a, b, place)

    def differs(self, kind: str, place: str, before: str, after: str, **more: Any) -> None:
        """Take note of a difference that no tolerance covers."""
        self.only_numbers = False
        self._note({"kind": kind, "place": place, "before": short(before), "after": short(after), **more})

    def numbers(self, place: str, a: float, b: float) -> None:
        """Compare two floats; NaN is NaN, and 0.0 is not -0.0."""
        if a == b and math.copysign(1, a) == math.copysign(1, b):
            return
        if math.isnan(a) and math.isnan(b):
            return
        self.numeric(place, repr(a), repr(b), abs(b - a), relative(a, b), ulps(a, b), 1)

    def numeric(
        self, place: str, before: str, after: str, absolute: float, rel: float, ulp: float, count: int, **more: Any
    ) -> None:
        """Take note of numbers that differ; ``absolute``, ``rel`` and ``ulp`` are the largest of ``count`` differences."""
        size = _value(before)
        if not more.pop("tolerated", absolute <= self.atol + self.rtol * abs(size)):
            self.beyond = True
        told = {"abs": _plain(absolute), "rel": _plain(rel), "ulp": _plain(ulp)}
        self._note({"kind": "number", "place": place, "before": before, "after": after, **told, **more}, count)
        if not self.worst or not told["rel"] <= self.worst["rel"]:
            self.worst = {"place": place, "before": before, "after": after, **told}

    def keep(self, value: Any) -> Any:
        """Keep a temporary object until the end: objects are remembered by id."""
        self._alive.append(value)
        return value

    def answer(self) -> dict[str, Any]:
        """The DIFFERENCE of docs/spec/verdict.md."""
        first = self.found[0] if self.found else None
        return {
            "first": first,
            "count": self.count,
            "found": self.found,
            "worst": self.worst or None,
            "within": bool(self.count) and self.only_numbers and not self.beyond and self.opaque is None,
            "opaque": self.opaque,
            "hint": hint_of(self.found, self.worst, self.only_numbers, self.count),
        }

    def _note(self, one: dict[str, Any], count: int = 1) -> None:
        self.count += count
        if len(self.found) < KEPT_MAX:
            self.found.append(one)

    def _whole_numbers(self, place: str, a: int, b: int) -> None:
        distance = abs(b - a)
        size = float(distance) if distance < 1 << 1000 else math.inf
        rel = distance / max(abs(a), abs(b)) if a or b else 0.0  # exact, however large they are
        self.numeric(place, repr(a), repr(b), size, rel, size, 1)

    def text(self, place: str, a: Any, b: Any, **more: Any) -> None:
        """Take note of text, or bytes, that differ: by lines where there are several."""
        at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
        more.update(at=at, lengths=[len(a), len(b)])
        start = max(0, at - 20)
        before, after = (repr(each[start : start + 80]) for each in (a, b))
        if isinstance(a, str) and ("\n" in a or "\n" in b):
            one, other = a.splitlines(), b.splitlines()
            lines = difflib.unified_diff(one, other, "before", "after", lineterm="", n=1)
            more["diff"] = [short(line) for _, line in zip(range(LINES_MAX), lines)]
            if more["diff"]:
                line = next((i for i, (x, y) in enumerate(zip(one, other)) if x != y), min(len(one), len(other)))
                place = f"{place}.splitlines()[{line}]"
                before, after = (repr(each[line]) if line < len(each) else "not there" for each in (one, other))
        self.differs("text", place, before, after, **more)

    def _bytes(self, a: Any, b: Any, place: str) -> None:
        """Bytes by what they say where they are a pickle, as of functions; none of it is done."""
        from stillrun.compare_pickles import said_by

        before = self.count
        said = said_by(bytes(a)), said_by(bytes(b))
        if said[0] and said[1]:
            self.walk(self.keep(said[0])[0], self.keep(said[1])[0], f"pickle.loads({place})")
            self.only_numbers = False  # they are bytes, whatever they say
        if self.count == before:
            self.text(place, a, b, **(_share(a, b) if len(a) == len(b) else {}))

    def _larger(self, a: Any, b: Any, place: str) -> None:
        pair = (id(a), id(b))
        if pair in self._seen:
            return
        self._seen.add(pair)
        kind = type(a)
        if kind is list or kind is tuple:
            self._items(a, b, place)
        elif kind is dict:
            self._pairs(a, b, place)
        elif isinstance(a, (set, frozenset)):
            self._members(a, b, place)
        elif kind.__module__.split(".")[0] in _PLAIN_MODULES:
            if repr(a) != repr(b):
                self._plain_values(a, b, place)
        elif isinstance(a, enum.Enum):
            self.differs("value", place, str(a), str(b))  # members are one object each, and these are two
        else:
            from stillrun.compare_science import compare_science

            if not compare_science(self, a, b, place):
                self._objects(a, b, place)

    def _plain_values(self, a: Any, b: Any, place: str) -> None:
        zones = getattr(a, "tzinfo", None), getattr(b, "tzinfo", None)
        if None not in zones and a == b:  # one moment, told by two clocks
            self.differs("value", f"{place}.tzinfo", repr(zones[0]), repr(zones[1]))
        else:
            self.differs("value", place, repr(a), repr(b))

    def _items(self, a: Any, b: Any, place: str) -> None:
        if len(a) != len(b):
            self.differs("length", place, f"{len(a):,} items", f"{len(b):,} items", **_shared(a, b))
        elif self._is_reordered(a, b):
            at = next(i for i, (x, y) in enumerate(zip(a, b)) if x is not y and x != y)
            self.differs("order", f"{place}[{at}]", repr(a[at]), repr(b[at]), length=len(a))
            return
        for at, (x, y) in enumerate(zip(a, b)):
            self.walk(x, y, f"{place}[{at}]")

    def _is_reordered(self, a: Any, b: Any) -> bool:
        """Whether the same items stand in another order."""
        try:
            return len(a) > 1 and a != b and sorted(map(repr, a)) == sorted(map(repr, b)) and set(a) == set(b)
        except (TypeError, ValueError):
            return False

    def _pairs(self, a: Mapping[Any, Any], b: Mapping[Any, Any], place: str) -> None:
        for key in a:
            if key not in b:
                self.differs("missing", f"{place}[{key!r}]", repr(a[key]), "not there")
        for key in b:
            if key not in a:
                self.differs("extra", f"{place}[{key!r}]", "not there", repr(b[key]))
        own = {key: key for key in b}  # 1 finds True
        for key in a:
            if key in b:
                self.walk(key, own[key], f"key {key!r} of {place}")
                self.walk(a[key], b[key], f"{place}[{key!r}]")

    def _members(self, a: Any, b: Any, place: str) -> None:
        gone, new = sorted(map(repr, a - b)), sorted(map(repr, b - a))
        if gone or new:
            self.differs("members", place, ", ".join(gone) or "none", ", ".join(new) or "none", sizes=[len(a), len(b)])
        own = {member: member for member in b}
        for member in a & b:
            self.walk(member, own[member], f"a member of {place}")
        if type(a) not in (set, frozenset):
            self.state(getattr(a, "__dict__", None), getattr(b, "__dict__", None), place)

    def _objects(self, a: Any, b: Any, place: str) -> None:
        """Objects of any class, by what they are pickled as."""
        from stillrun.compare_functions import compare_callables

        if compare_callables(self, a, b, place):
            return
        try:
            one, other = self.keep(_reduced(a)), self.keep(_reduced(b))
        except Exception as err:  # its own code may raise anything
            self.opaque = self.opaque or f"{place}, a {type_name(a)} ({err})"
            return
        if isinstance(one, str) or isinstance(other, str):
            if one != other:
                self.differs("value", place, str(one), str(other))
            return
        names = ("function", "arguments", "state", "items", "pairs")
        before, after = dict(zip(names, one)), dict(zip(names, other))
        if before["function"] is not after["function"]:
            self.differs("value", place, repr(before["function"]), repr(after["function"]))
        self._arguments(before["arguments"], after["arguments"], place, type(a))
        self.state(before.get("state"), after.get("state"), place)
        for name, kind in (("items", list), ("pairs", dict)):
            self.walk(self.keep(kind(before.get(name) or ())), self.keep(kind(after.get(name) or ())), place)

    def _arguments(self, a: Any, b: Any, place: str, kind: type) -> None:
        if len(a) != len(b):
            self.differs("value", place, repr(a), repr(b))
            return
        if issubclass(kind, BaseException):
            self.walk(a, b, f"{place}.args")
            return
        simple = all(isinstance(item, (type, int, str, float, bytes, type(None))) for item in (*a, *b))
        for at, (x, y) in enumerate(zip(a, b)):
            self.walk(x, y, place if simple or len(a) < 3 else f"{place}<{kind.__name__} argument {at}>")

    def state(self, a: Any, b: Any, place: str) -> None:
        """Compare two states, as attributes where they are dicts."""
        if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b) == 2:
            for x, y in zip(a, b):
                self.state(x, y, place)
        elif isinstance(a, dict) and isinstance(b, dict) and all(isinstance(key, str) for key in (*a, *b)):
            for name in sorted(a.keys() - b.keys()):
                self.differs("missing", f"{place}.{name}", repr(a[name]), "not there")
            for name in sorted(b.keys() - a.keys()):
                self.differs("extra", f"{place}.{name}", "not there", repr(b[name]))
            for name in a:
                if name in b:
                    self.walk(a[name], b[name], f"{place}.{name}")
        else:
            self.walk(a, b, f"{place}.<state>")


def compared(a: Any, b: Any, name: str, rtol: float = 0.0, atol: float = 0.0) -> dict[str, Any]:
    """The DIFFERENCE between two values of the artifact ``name``."""
    walk = Comparison(rtol, atol)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, FRAMES))
    try:
        walk.walk(a, b, name)
    except RecursionError:
        walk.opaque = walk.opaque or f"{name}, which is nested too deeply"
    finally:
        sys.setrecursionlimit(limit)
    return walk.answer()


def _is_same_kind(a: Any, b: Any) -> bool:
    """Whether two classes say only where their values came from: an image of a file, an array that is mapped, a pickle."""
    if type(a).__module__ == type(b).__module__ == "stillrun.compare_pickles":
        return True
    names = {f"{type(one).__module__.split('.')[0]}.{type(one).__name__}" for one in (a, b)}
    return names == {"numpy.ndarray", "numpy.memmap"} or all(name.startswith("PIL.") for name in names)


def short(text: str) -> str:
    """Text for a report."""
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"


def relative(a: float, b: float) -> float:
    """|b - a| as a part of the larger of the two."""
    size = max(abs(a), abs(b))
    return abs(b - a) / size if size and math.isfinite(size) else math.inf if a != b else 0.0


def ulps(a: float, b: float) -> float:
    """How many doubles lie between two."""
    if not (math.isfinite(a) and math.isfinite(b)):
        return math.inf
    return float(abs(_rank(b) - _rank(a)))


def _rank(value: float) -> int:
    bits: int = struct.unpack("<q", struct.pack("<d", value))[0]
    return bits if bits >= 0 else -(bits & 0x7FFFFFFFFFFFFFFF)


def _plain(value: float) -> float | None:
    """A number that JSON can hold."""
    return float(value) if math.isfinite(value) else sys.float_info.max


def _value(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _reduced(value: Any) -> Any:
    reducer = copyreg.dispatch_table.get(type(value))
    reduced: Any = reducer(value) if reducer is not None else value.__reduce_ex__(4)
    if isinstance(reduced, str) or len(reduced) < 3:
        return reduced
    make, made_of, state, *rest = reduced
    return (make, made_of, state_that_counts(value, state), *rest)


def _share(a: bytes, b: bytes) -> dict[str, Any]:
    unlike = sum(x != y for x, y in zip(a[:SHARE_OF], b[:SHARE_OF]))
    return {"differing": unlike, "of": min(len(a), SHARE_OF), "share": unlike / max(1, min(len(a), SHARE_OF))}


def _shared(a: Any, b: Any) -> dict[str, Any]:
    same = next((i for i, (x, y) in enumerate(zip(a, b)) if x is not y and repr(x) != repr(y)), min(len(a), len(b)))
    return {"same_up_to": same}
