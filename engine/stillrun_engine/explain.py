"""From verdicts by digests alone to verdicts that say what differs, and where a run came apart first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from contextlib import ExitStack
from typing import Any

from stillrun_engine.differences import Differ
from stillrun_engine.face import keep_face
from stillrun_engine.host_process import Launch
from stillrun_engine.judge import LEVELS, ArtifactVerdict, TaskVerdict
from stillrun_engine.policy import Policy
from stillrun_snapshot.checkout import checkout
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["explained", "first_divergence"]

_LOOKED_MAX = 100  # artifacts without a tolerance whose differences are looked for; the first ones tell the most
_UNEQUAL = frozenset({"different", "missing", "extra", "not_comparable"})


def explained(
    store: Store,
    verdicts: Sequence[TaskVerdict],
    environments: Mapping[tuple[str, str], str],
    launches: Mapping[str, Launch],
    load: Mapping[str, Any],
    policy: Policy,
    limit_s: float,
    unexplained: Set[tuple[str, str, str | None]] = frozenset(),
) -> list[TaskVerdict]:
    """The verdicts with what differs, found in the environments that the tasks were replayed in.

    environments: of each (step, task). launches: how a process in each environment is started. load: the flow's 'load'
    request of docs/spec/host-protocol.md. limit_s: most time for one artifact. unexplained: step, task and name of artifacts
    that nobody wants to know more of.
    """
    if not any(
        _is_open(one) and (task.step, task.task, one.name) not in unexplained
        for task in verdicts
        for one in task.artifacts
    ):
        return list(verdicts)
    face, left = checkout(store, keep_face(store)), _LOOKED_MAX
    differs: dict[str, Differ] = {}
    found = []
    with ExitStack() as stack:
        for task in verdicts:
            environment = environments[task.step, task.task]
            artifacts = []
            for one in task.artifacts:
                tolerance = policy.tolerance(task.step, one.name)
                is_wanted = _is_open(one) and (task.step, task.task, one.name) not in unexplained
                if one.records is None or not is_wanted or (tolerance is None and left == 0):
                    artifacts.append(one)
                    continue
                left -= tolerance is None
                if environment not in differs:
                    differs[environment] = stack.enter_context(
                        Differ(store, launches[environment], face, load, limit_s)
                    )
                before, after = map(Digest, one.records)
                answer = differs[environment].between(one.name, before, after, tolerance)
                artifacts.append(one.explained(answer, tolerated=tolerance is not None))
            found.append(task.with_artifacts(artifacts))
    return found


def first_divergence(verdicts: Sequence[TaskVerdict]) -> dict[str, Any] | None:
    """The first task, in the order of the graph, that came out otherwise; each was given the recorded inputs."""
    for task in verdicts:
        if LEVELS.index(task.verdict) >= LEVELS.index("not_comparable"):
            names = [one.name for one in task.artifacts if one.verdict in _UNEQUAL]
            return {"step": task.step, "task": task.task, "artifact": names[0] if names else None}
    return None


def _is_open(one: ArtifactVerdict) -> bool:
    """Whether the digests alone do not tell all."""
    return one.verdict in ("different", "not_comparable") and one.records is not None
