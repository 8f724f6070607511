"""A task that nobody asked for, run in the host itself a few times before many are forked from it.

The interpreter writes into functions while they are new to it: it counts their calls and then puts quicker instructions in.
Done once in the host, this is inherited; done in each task, it copies some hundred kilobytes for each of them. No code of a
flow is run, nothing is recorded or kept, and nothing of it is seen by tasks.
"""

from __future__ import annotations

import os
import pickle

from stillrun.context import current
from stillrun.decorators import step
from stillrun.flow import FlowSpec
from stillrun.flowfile import LoadedFlow
from stillrun.frames import pack
from stillrun.sha import sha256
from stillrun.task import run_task
from stillrun.traces import TraceRecorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["rehearse"]

TIMES = 12  # calls after which no Python from 3.11 on changes a function any more


class _Rehearsal(FlowSpec):
    @step
    def work(self) -> None:
        self.found: Any = self.input
        self.text = f"{self.before}, and then"
        self.next(self.end)

    @step
    def end(self) -> None: ...


class _Unheard(TraceRecorder):
    """Records nothing: an audit hook stays for good."""

    def start(self) -> None:
        """Nothing."""


def rehearse(loaded: LoadedFlow) -> None:
    """Run the task; never raises."""
    steps = {"work": _Rehearsal.work, "end": _Rehearsal.end}
    stage = LoadedFlow(_Rehearsal, loaded.places, steps, (), loaded.modules, loaded.not_recorded)
    spec, body = _spec()
    for _ in range(TIMES):
        outcome = run_task(stage, spec, body, _Unheard(loaded.not_recorded))
        pack(outcome.result, outcome.body)
    current._clear()


def _spec() -> tuple[dict[str, Any], bytes]:
    item, before = pickle.dumps(1, protocol=5), pickle.dumps("before", protocol=5)
    part = {"digest": "sha256:" + sha256(before).hexdigest(), "size": len(before), "body": [len(item), len(before)]}
    frame = {"step": "start", "variable": "items", "index": 0, "count": 1, "item": {"body": [0, len(item)]}}
    given = {"step": "start", "task": "0", "index": None, "artifacts": {"before": {"artifact": "", "parts": [part]}}}
    spec = {
        "flow": "Rehearsal",
        "run": "none",
        "step": "work",
        "task": "0",
        "attempt": 0,
        "foreach": [frame],
        "join": False,
        "inputs": [given],
        "parameters": {},
        "cwd": os.getcwd(),
        "spill": os.getcwd(),
        "inline_max": 65536,
        "tags": [],
        "user": "nobody",
    }
    return spec, item + before
