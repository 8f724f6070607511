"""What a check of evidence found, and where two documents that should be the same part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from typing import Any

from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.errors import StillrunError

__all__ = ["Checked", "Finding", "differences"]

_SHOWN = 120
_MALFORMED = (StillrunError, LookupError, TypeError, ValueError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Finding:
    """Something that is not as it must be."""

    file: str  # its path in the folder that was checked
    what: str


@dataclass
class Checked:
    """What was looked at, what was found, and what could not be looked at."""

    run: str = ""  # FLOW/RUN; empty while nothing told
    record: str = ""  # the digest of its record
    counts: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)

    def find(self, file: str, what: str) -> None:
        """Note a finding."""
        self.findings.append(Finding(file, what))

    def count(self, what: str, number: int = 1) -> None:
        """Note that something was checked."""
        self.counts[what] = self.counts.get(what, 0) + number

    @contextmanager
    def reading(self, file: str) -> Iterator[None]:
        """What is read within is of strangers: whatever is built otherwise than it must be is a finding in ``file``."""
        try:
            yield
        except _MALFORMED as err:
            self.find(file, f"what it is checked by cannot be read: {type(err).__name__}: {str(err)[:300]}")

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def differences(expected: Any, found: Any, place: str = "") -> Iterator[str]:
    """Each place where two JSON values part, in a sentence; ``expected`` is what the records say."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        for name in dict.fromkeys([*expected, *found]):
            where = f"{place}.{name}" if place else str(name)
            if name not in found:
                yield f"{where} is missing; the records say {_told(expected[name])}"
            elif name not in expected:
                yield f"{where} is {_told(found[name])}, of which the records say nothing"
            else:
                yield from differences(expected[name], found[name], where)
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for number, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from differences(one, other, f"{place}[{number}]")
    elif isinstance(expected, list) and isinstance(found, list):
        told = [one for one in found if one not in expected] or [one for one in expected if one not in found]
        yield f"{place} has {len(found)} entries; the records give {len(expected)}; the first that differs: {_told(told[:1])}"
    elif expected != found or type(expected) is not type(found):
        yield f"{place or 'it'} is {_told(found)}; the records say {_told(expected)}"


def _told(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
