"""What tasks did that artifacts do not show: files written elsewhere, connections, programs. Told beside a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from stillrun_snapshot.deferred import dataclass

__all__ = ["SideEffects"]

_TOLD_MAX = 100


@dataclass
class _OfStep:
    tasks: int = 0
    written: set[str] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)
    programs: set[str] = field(default_factory=set)


class SideEffects:
    """Gathers them step by step from task records. own: folders in which a task may write what it likes."""

    def __init__(self, own: Sequence[Path]) -> None:
        self._own = own
        self._steps: dict[str, _OfStep] = {}

    def add(self, task: Mapping[str, Any]) -> None:
        """Take in one task's record."""
        written = [path for path in task["written"] if not any(Path(path).is_relative_to(own) for own in self._own)]
        reached = task.get("reached", {"addresses": [], "programs": []})
        if not (written or any(reached.values())):
            return
        found = self._steps.setdefault(task["step"], _OfStep())
        found.tasks += 1
        _more(found.written, written)
        _more(found.addresses, reached["addresses"])
        _more(found.programs, reached["programs"])

    def to_records(self) -> list[dict[str, Any]]:
        """As a verdict tells them (docs/spec/verdict.md)."""
        return [
            {
                "step": step,
                "tasks": found.tasks,
                "written": sorted(found.written),
                "addresses": sorted(found.addresses),
                "programs": sorted(found.programs),
            }
            for step, found in sorted(self._steps.items())
        ]


def _more(found: set[str], names: Iterable[str]) -> None:
    for name in names:
        if len(found) < _TOLD_MAX:
            found.add(name)
