"""What can go wrong before a run that was started from Python has its name."""

from __future__ import annotations

from stillrun_engine.errors import EngineError

__all__ = ["RunnerError"]


class RunnerError(EngineError, RuntimeError):
    """The command ended before there was a run: its flow or its arguments are at fault, as its output says."""
