"""What can go wrong in a run or a replay, by who must act. Exit codes: docs/spec/exit-codes.md."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from typing import Any

from stillrun import client as names
from stillrun_snapshot.errors import StillrunError

__all__ = [
    "EngineError",
    "FlowRefused",
    "HostLost",
    "Interrupted",
    "NotFound",
    "ReplayRefused",
    "RunDamaged",
    "error_of",
    "sentence",
]


class EngineError(StillrunError):
    """The engine cannot do what was asked."""


class NotFound(EngineError, names.NotFound):
    """A pathspec names nothing in this store. Flows know it by the name that the face has for it."""


class HostLost(EngineError):
    """A step host ended without being asked to."""


class RunDamaged(EngineError):
    """An object that a run stands on is missing or no longer matches its digest."""


class ReplayRefused(EngineError):
    """What was recorded cannot be run again as it was."""


class FlowRefused(EngineError):
    """The flow's author must change the flow, or its caller the arguments, before anything runs.

    facts: the ERROR object of docs/spec/host-protocol.md, or one entry for each problem of the graph.
    """

    def __init__(self, message: str, facts: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.facts = [dict(fact) for fact in facts]


class Interrupted(EngineError):
    """The person or the system asked us to stop; exit code 128 + signal number."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}; what had finished is kept.")
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number


def error_of(fact: Mapping[str, Any]) -> FlowRefused:
    """The refusal that a step host reported, as one sentence with its place and cure."""
    place = f"{fact['file']}:{fact['line']}: " if fact.get("file") and fact.get("line") else ""
    cure = f" {fact['cure']}" if fact.get("cure") else ""
    return FlowRefused(f"{place}{sentence(fact['message'])}{cure}", [fact])


def sentence(text: str) -> str:
    """``text`` with the full stop that another sentence needs before it."""
    return text if text.endswith((".", "!", "?")) else f"{text}."
