"""How a task ended, in the words of its record (docs/spec/run.md)."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

from stillrun_engine.executor import Finished

__all__ = ["error_of_task"]


def error_of_task(event: Finished) -> dict[str, Any] | None:
    """The ERROR of a finished task, or None when it went well."""
    if event.result is not None:
        if event.result["ok"]:
            return None
        return dict(event.result["error"])
    limit = event.work.spec.get("timeout_ms")
    wall_us = event.usage.get("wall_us", 0)
    if limit is not None and event.exit["signal"] == signal.SIGKILL and wall_us >= limit * 1000:
        message = (
            f"the task ran for longer than its @timeout of {limit / 1000:g} seconds, did not heed it and was killed"
        )
        return {"kind": "died", "type": "StepTimeout", "message": message, "traceback": None}
    return {"kind": "died", "type": "ProcessDied", "message": _how(event.exit), "traceback": None}


def _how(exit_: Mapping[str, Any]) -> str:
    if exit_["signal"] is not None:
        name = signal.Signals(exit_["signal"]).name
        hint = "; the system may have run out of memory" if name == "SIGKILL" else ""
        return f"the task's process was killed by {name}{hint}"
    return f"the task's process exited with code {exit_['code']} before the step had returned"
