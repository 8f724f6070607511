"""Which tasks of a run a replay runs, and which it leaves out and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stillrun_engine.archive import KeptRun, key_of
from stillrun_engine.errors import ReplayRefused
from stillrun_engine.plan import TaskKey

__all__ = ["possible_tasks", "tasks_to_replay"]

Record = Mapping[str, Any]


def tasks_to_replay(run: KeptRun, only: tuple[str, ...]) -> tuple[list[Record], dict[TaskKey, str]]:
    """The selected tasks that ended by themselves, and those that were stopped, with the reason."""
    for step in only:
        run.check_step(step)
    selected = [task for task in run.selected() if not only or task["step"] in only]
    tasks = [task for task in selected if task["status"] != "interrupted"]
    if not tasks:
        raise ReplayRefused(
            f"{run.spec} has no finished task to replay; 'stillrun show {run.pathspec}' shows what it holds."
        )
    return tasks, {key_of(task): "interrupted" for task in selected if task["status"] == "interrupted"}


def possible_tasks(
    run: KeptRun,
    tasks: list[Record],
    left_out: dict[TaskKey, str],
    refused: Mapping[str, str],
    lost: Sequence[Mapping[TaskKey, list[str]]],
) -> list[Record]:
    """The tasks whose environment, inputs and files are to be had; the others are left out, each with its reason."""
    for task in tasks:
        of_task = [reason for each in lost for reason in each.get(key_of(task), [])]
        reasons = [refused[task["environment"]]] if task["environment"] in refused else of_task
        if reasons:
            left_out[key_of(task)] = "; ".join(reasons)
    possible = [task for task in tasks if key_of(task) not in left_out]
    if not possible:
        first = left_out[key_of(tasks[0])]
        raise ReplayRefused(f"none of the {len(tasks)} tasks of {run.spec} can be replayed: {first}")
    return possible
