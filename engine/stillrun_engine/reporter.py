"""What a run or a replay tells while it goes on; the command line prints it, a library user may ignore it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Reporter"]


class Reporter:
    """Hears everything and says nothing. Subclass what you want to hear."""

    def note(self, text: str) -> None:
        """One line on what is being prepared or kept."""

    def run_begins(self, pathspec: str, facts: Mapping[str, Any]) -> None:
        """The run has its name; facts: 'code', 'environments', 'workers'."""

    def task_begins(self, step: str, task: str, pid: int | None = None) -> None:
        """A process has begun on a task."""

    def task_writes(self, step: str, task: str, stream: str, data: bytes) -> None:
        """Bytes that a task wrote to 'stdout' or 'stderr', as they came."""

    def task_ends(self, step: str, task: str, status: str, wall_us: int, error: Mapping[str, Any] | None) -> None:
        """A task has ended with 'ok', 'failed' or 'interrupted'."""
