"""What a task can ask ``current`` about itself."""

from __future__ import annotations

import os

from stillrun.decorators import ASKED
from stillrun.flowfile import LoadedFlow
from stillrun.projects import project_facts, project_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Mapping

__all__ = ["facts_of"]


def facts_of(loaded: LoadedFlow, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of one task, from its SPEC and from the decorators of its flow and step."""
    user = spec.get("user") or os.environ.get("USER") or os.environ.get("LOGNAME")
    facts = {
        "flow_name": loaded.flow.__name__,
        "run_id": spec["run"],
        "step_name": spec["step"],
        "task_id": spec["task"],
        "retry_count": spec.get("attempt", 0),
        "origin_run_id": spec.get("origin_run"),
        "pathspec": f"{spec['flow']}/{spec['run']}/{spec['step']}/{spec['task']}",
        "username": user,
        "namespace": f"user:{user}" if user else None,
        "tags": tuple(spec.get("tags", ())),
        "graph": lambda: _graph(loaded),
        "parallel": _Parallel(spec["parallel"]) if spec.get("parallel") else None,
    }
    asked = [each for owner in loaded.flow.__mro__ for each in vars(owner).get(ASKED, ())]
    project = project_in(asked)
    if project is not None:
        facts.update(project_facts(project, loaded.flow.__name__, user))
    cards = [each["attributes"] for each in getattr(loaded.steps[spec["step"]], ASKED, ()) if each["name"] == "card"]
    if cards:
        from stillrun.cards import Cards

        facts["card"] = Cards(cards)
    return facts


def _graph(loaded: LoadedFlow) -> dict[str, Any]:
    from stillrun.description import describe
    from stillrun.graph_info import graph_info

    return graph_info(describe(loaded.flow, loaded.places.source), loaded.places.source)


class _Parallel:
    """Where a task of a parallel step stands."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self.num_nodes: int = told["num_nodes"]
        self.node_index: int = told["node_index"]
        self.main_ip: str = told["main_ip"]
        self.control_task_id: str = told["control_task_id"]
