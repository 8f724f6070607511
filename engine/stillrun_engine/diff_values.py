"""What differs in the results of two runs, looked at in the rebuilt environments of the second."""

from __future__ import annotations

from stillrun_engine.caller import Caller
from stillrun_engine.diff import RunDiff
from stillrun_engine.explain import explained
from stillrun_engine.local import LocalExecutor
from stillrun_engine.policy import Policy
from stillrun_engine.replay_places import recorded_caller, recorded_load, replay_places
from stillrun_engine.reporter import Reporter
from stillrun_engine.workspace import make_workspace
from stillrun_snapshot.digest import Digest

__all__ = ["open_values"]


def open_values(diff: RunDiff, caller: Caller, limit_s: float = 60.0, reporter: Reporter | None = None) -> None:
    """Let ``diff`` tell what differs in each result, not only that it does. limit_s: most time for one artifact.

    A tolerance counts as the first run granted it. Raises EngineError and EnvError where an environment cannot be rebuilt.
    """
    run = diff.after
    open_ = {(task.step, task.task) for task in diff.tasks if any(one.records is not None for one in task.artifacts)}
    tasks = [task for task in run.selected() if (task["step"], task["task"]) in open_]
    if not tasks:
        return
    store, code = run.store, run.store.get_record(Digest(run.record["code"]), "code")
    workspace = make_workspace(store, run.record, same_path=False)
    try:
        called = recorded_caller(run, caller, workspace, {})
        load = recorded_load(run, code, workspace.folder)
        executor = LocalExecutor(1, load)
        try:
            places = replay_places(run, tasks, called, executor, reporter or Reporter(), offline=False, other=None)
        finally:
            executor.close()  # only the way to start a process there is wanted
        environments = {(task["step"], task["task"]): task["environment"] for task in tasks}
        launches = {environment: place.launch for environment, place in places.items()}
        policy = Policy.of(diff.before.description)
        known = [task for task in diff.tasks if (task.step, task.task) in open_]
        found = explained(store, known, environments, launches, load, policy, limit_s)
        diff.retell({(task.step, task.task): task for task in found})
    finally:
        workspace.close()
