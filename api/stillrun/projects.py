"""What @project makes of a flow: names of its branch and of the flow in it, as Metaflow has them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Mapping, Sequence

__all__ = ["project_facts", "project_in"]


def project_in(decorators: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """What @project was told, among the decorators of a flow; None without it."""
    return next((each["attributes"] for each in decorators if each["name"] == "project"), None)


def project_facts(project: Mapping[str, Any], flow: str, user: str | None) -> dict[str, Any]:
    """The facts of ``current`` that are the project's, and the tags that its runs have."""
    branch, production = project.get("branch"), bool(project.get("production"))
    name = "prod" if production else f"user.{user}"
    if branch:
        name = f"prod.{branch}" if production else f"test.{branch}"
    return {
        "project_name": project["name"],
        "branch_name": name,
        "project_flow_name": f"{project['name']}.{name}.{flow}",
        "is_production": production,
        "is_user_branch": not production and branch is None,
        "project_tags": (f"project:{project['name']}", f"project_branch:{name}"),
    }
