"""The graph of a flow as ``current.graph_info`` gives it, and ``output-raw``: plain data, in Metaflow's words."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["graph_info"]

_TYPES = {"split": "split-static", "foreach": "split-foreach", "switch": "split-switch"}


def graph_info(description: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The graph of a description. source: the user's path of the flow file."""
    steps = {step["name"]: step for step in description["steps"]}
    joins = _matching_joins(steps)
    start, end = description["start"], description["end"]
    return {
        "file": description["file"],
        "start_step": start,
        "end_step": end,
        "parameters": [{"name": each.get("attribute", each["name"]), "type": "Parameter"} for each in description["parameters"]],
        "constants": [{"name": name} for name in description["constants"]],
        "steps": {name: _step(step, joins, source, start, end) for name, step in steps.items()},
        "graph_structure": _structure(steps, joins, start, None),
        "doc": description["doc"] or "",
        "decorators": [_decorator(each) for each in description["decorators"]],
        "extensions": {"installed": {}},
    }  # fmt: skip


def _step(step: Mapping[str, Any], joins: Mapping[str, str], source: str, start: str, end: str) -> dict[str, Any]:
    kind = "split-parallel" if step["parallel"] else _type(step, start, end)
    found = {
        "name": step["name"],
        "type": kind,
        "line": step["line"],
        "source_file": source,
        "doc": step["doc"] or "",
        "decorators": [_decorator(each) for each in step["decorators"]],
        "next": step["next"],
        "node_info": {},
    }
    if kind == "split-foreach":
        found["foreach_artifact"] = step["foreach"]
    if kind == "split-switch":
        found.update(condition=step["condition"], switch_cases=step["switch"])
    if step["name"] in joins:
        found["matching_join"] = joins[step["name"]]
    return found


def _type(step: Mapping[str, Any], start: str, end: str) -> str:
    """What a step does with what follows; a join that splits again is a split."""
    if step["switch"]:
        return "split-switch"
    if step["foreach"]:
        return "split-foreach"
    if len(step["next"]) > 1:
        return "split-static"
    if step["kind"] == "linear" and step["name"] in (start, end):
        return "start" if step["name"] == start else "end"
    return _TYPES.get(step["kind"], str(step["kind"]))


def _decorator(each: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": each["name"], "attributes": each["attributes"], "statically_defined": True, "inserted_by": None}


def _splits(step: Mapping[str, Any]) -> bool:
    return bool(step["foreach"] or step["parallel"] or (not step["switch"] and len(step["next"]) > 1))


def _matching_joins(steps: Mapping[str, Any]) -> dict[str, str]:
    """For each step that splits, the step that joins it."""
    found: dict[str, str] = {}
    for name, step in steps.items():
        depth, seen = 1, {name}
        at: Any = step["next"][0] if _splits(step) and step["next"] else None
        while at in steps and at not in seen:
            seen.add(at)
            inner = steps[at]
            depth -= inner["kind"] == "join"
            if depth == 0:
                found[name] = at
                break
            depth += _splits(inner)
            at = next((each for each in inner["next"] if each not in seen), None)
    return found


def _structure(steps: Mapping[str, Any], joins: Mapping[str, str], name: str | None, until: str | None) -> list[Any]:
    """Steps in order; the branches of a split are a list of such lists."""
    found: list[Any] = []
    seen = set()
    while name is not None and name != until and name in steps and name not in seen:
        seen.add(name)
        step = steps[name]
        found.append(name)
        if name in joins:
            found.append([_structure(steps, joins, each, joins[name]) for each in step["next"]])
            name = joins[name]
        elif step["switch"] and len({*step["next"]} - {name}) > 1:
            found.append([_structure(steps, joins, each, until) for each in step["next"] if each != name])
            name = None
        else:
            name = next((each for each in step["next"] if each != name), None)
    return found
