"""Another run beside this one: what differs in code, parameters, environments, inputs and results."""

from __future__ import annotations

from collections import Counter
from typing import Any

from stillrun_engine.archive import KeptRun
from stillrun_engine.diff import RunDiff, reason_of
from stillrun_engine.errors import EngineError

__all__ = ["comparison_of"]

_LINES_TOLD = 400  # of one file's diff
_RESULTS_TOLD = 1000


def comparison_of(run: KeptRun, other: KeptRun) -> dict[str, Any]:
    """How ``run`` differs from ``other``, which counts as the one before. Nothing is unpickled."""
    if run.pathspec == other.pathspec:
        raise EngineError(f"{run.pathspec} cannot be compared with itself; name another run.")
    diff = RunDiff(other, run)
    differing = diff.differing
    counts = Counter({"identical": diff.identical})
    counts += Counter(one.verdict for task in diff.tasks for one in task.artifacts if one.verdict != "identical")
    return {
        "run": other.pathspec,
        "record": other.digest,
        "status": other.status,
        "started": other.record["started"],
        "why": reason_of(diff),
        "same": diff.is_empty,
        "code": [
            {
                "path": one.path,
                "kind": one.kind,
                "lines": list(one.lines[:_LINES_TOLD]),
                "cut": len(one.lines) > _LINES_TOLD,
            }
            for one in diff.code
        ],
        "parameters": [vars(one) for one in diff.parameters],
        "environments": [_environment(one) for one in diff.environments],
        "inputs": [vars(one) for one in diff.inputs],
        "machine": [vars(one) for one in diff.machine],
        "tasks_of_one": [vars(one) for one in diff.tasks_of_one],
        "counts": dict(sorted(counts.items())),
        "artifacts": [one.entry(task.step, task.task) for task, one in differing[:_RESULTS_TOLD]],
        "artifact_count": len(differing),
        "origins": [f"{one.step}/{one.task}" for one in diff.origins],
        "times": [
            {"step": step, "before_us": round(before * 1e6), "after_us": round(after * 1e6)}
            for step, before, after in diff.seconds()
        ],
    }


def _environment(one: Any) -> dict[str, Any]:
    changes = None
    if one.changes is not None:
        changes = [{**vars(change), "why": list(change.why)} for change in one.changes]
    return {"steps": list(one.steps), "before": one.before, "after": one.after, "changes": changes}
