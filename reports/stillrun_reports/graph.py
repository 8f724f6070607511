"""The graph of a flow with what came of each step, and which steps stand on which level."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from stillrun_engine.judge import LEVELS
from stillrun_reports.reading import Record

__all__ = ["WORST_FIRST", "graph_of", "levels_of"]

WORST_FIRST = ("failed", "interrupted", *reversed(LEVELS), "ok", "reused", "not_run")
"""What can be said of a step, the worst first."""


def graph_of(steps: Sequence[Record], tasks: Sequence[Record]) -> list[dict[str, Any]]:
    """Every step in the order of the flow file: where it goes on to, its tasks counted, and the worst that is known of them."""
    of_step: dict[str, list[Record]] = {}
    for task in tasks:
        of_step.setdefault(task["step"], []).append(task)
    level = levels_of({step["name"]: step["next"] for step in steps})
    return [_node(step, of_step.get(step["name"], []), level[step["name"]]) for step in steps]


def _node(step: Record, tasks: Sequence[Record], level: int) -> dict[str, Any]:
    states = Counter(_state(task) for task in tasks)
    worst = min(states, key=WORST_FIRST.index, default="not_run")
    return {
        "step": step["name"],
        "kind": step["kind"],
        "next": step["next"],
        "foreach": step["foreach"],
        "level": level,
        "tasks": len(tasks),
        "state": worst,
        "states": dict(sorted(states.items())),
        "reused": sum(bool(task["reused"]) for task in tasks),
        "wall_us": sum(task["wall_us"] for task in tasks),
    }


def _state(task: Record) -> str:
    """What is known of a task: what the replay found, else how it ended."""
    if task["verdict"]:
        return str(task["verdict"])
    if task["status"] != "ok":
        return str(task["status"])
    return "reused" if task["reused"] else "ok"


def levels_of(following: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """How far each step is from the first, by the longest way; ways back, of loops, do not count."""
    level = dict.fromkeys(following, 0)
    order = _order(following)
    place = {name: number for number, name in enumerate(order)}
    for name in order:
        for after in following[name]:
            if after in level and place[after] > place[name]:
                level[after] = max(level[after], level[name] + 1)
    return level


def _order(following: Mapping[str, Sequence[str]]) -> list[str]:
    """The steps so that each stands before those it leads to, ways back apart."""
    done: dict[str, None] = {}
    seen: set[str] = set()
    for first in following:
        waiting: list[tuple[str, bool]] = [(first, False)]
        while waiting:
            name, left = waiting.pop()
            if left:
                done[name] = None
            elif name in following and name not in seen:
                seen.add(name)
                waiting.append((name, True))
                waiting.extend((after, False) for after in following[name])
    return list(reversed(done))
