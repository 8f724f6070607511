"""Which task comes next, for every shape of graph."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillrun_engine.plan import Graph, Plan, TaskKey, WaitingTask


def described(**steps: tuple[Any, ...]) -> Graph:
    """A graph from name=(next...) entries; 'each:' marks a foreach, 'join' a step that joins."""
    entries = []
    for name, words in steps.items():
        foreach = next((word[5:] for word in words if word.startswith("each:")), None)
        kind = "join" if "join!" in words else "linear"
        onward = [word for word in words if not word.startswith("each:") and word != "join!"]
        entries.append({"name": name, "next": onward, "foreach": foreach, "kind": kind})
    return Graph({"steps": entries})


def walk(graph: Graph, counts: dict[str, int], *, reverse: bool = False) -> list[WaitingTask]:
    """Run the plan to its end; every foreach has the count given for its step."""
    plan = Plan(graph)
    waiting, done = deque([plan.start()]), []
    while waiting:
        task = waiting.pop() if reverse else waiting.popleft()
        done.append(task)
        step = graph[task.key.step]
        waiting.extend(plan.finished(task.key, step.next, counts.get(step.name)))
    return done


def named(tasks: list[WaitingTask]) -> list[str]:
    return [f"{task.key.step}/{task.key.task}" for task in tasks]


def test_a_line_runs_in_order() -> None:
    tasks = walk(described(start=("a",), a=("end",), end=()), {})
    assert named(tasks) == ["start/0", "a/0", "end/0"]
    assert tasks[1].parents == (TaskKey("start", ()),)


def test_a_join_gets_its_branches_in_the_order_of_the_split_whatever_ends_first() -> None:
    graph = described(start=("right", "left"), left=("j",), right=("mid",), mid=("j",), j=("join!", "end"), end=())
    for reverse in (False, True):
        join = next(t for t in walk(graph, {}, reverse=reverse) if t.key.step == "j")
        assert [p.step for p in join.parents] == ["mid", "left"]
        assert join.join


def test_a_foreach_runs_once_for_each_item_and_joins_in_item_order() -> None:
    graph = described(start=("a", "each:items"), a=("j",), j=("join!", "end"), end=())
    tasks = walk(graph, {"start": 12}, reverse=True)
    join = next(t for t in tasks if t.key.step == "j")
    assert [p.position for p in join.parents] == [(i,) for i in range(12)]
    assert join.foreach == ()
    inner = next(t for t in tasks if t.key == TaskKey("a", (3,)))
    assert (inner.foreach[0].variable, inner.foreach[0].index, inner.foreach[0].count) == ("items", 3, 12)


def test_a_branch_within_a_foreach_joins_twice() -> None:
    graph = described(
        start=("a", "each:items"),
        a=("l", "r"),
        l=("inner",),
        r=("inner",),
        inner=("join!", "outer"),
        outer=("join!", "end"),
        end=(),
    )
    tasks = walk(graph, {"start": 2})
    assert sorted(named(tasks)) == sorted(
        ["start/0", "a/0", "a/1", "l/0", "l/1", "r/0", "r/1", "inner/0", "inner/1", "outer/0", "end/0"]
    )


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_nested_foreach_runs_the_product_of_its_widths(widths: list[int]) -> None:
    """Law: depth d of the nest runs width_1 x ... x width_d tasks, and each join closes exactly its own split."""
    depth = len(widths)
    steps: dict[str, tuple[Any, ...]] = {"start": ("s1", "each:v0")}
    for level in range(1, depth):
        steps[f"s{level}"] = (f"s{level + 1}", f"each:v{level}")
    steps[f"s{depth}"] = (f"j{depth}",)
    for level in range(depth, 0, -1):
        steps[f"j{level}"] = ("join!", f"j{level - 1}" if level > 1 else "end")
    steps["end"] = ()
    counts = {"start": widths[0], **{f"s{i}": widths[i] for i in range(1, depth)}}
    tasks = walk(described(**steps), counts)
    product = 1
    for level, width in enumerate(widths, start=1):
        product *= width
        assert sum(t.key.step == f"s{level}" for t in tasks) == product
        assert sum(t.key.step == f"j{level}" for t in tasks) == product // width
    assert tasks[-1].key == TaskKey("end", ())


@pytest.mark.parametrize(("position", "task"), [((), "0"), ((4,), "4"), ((2, 0), "2.0")])
def test_a_task_is_named_by_its_position(position: tuple[int, ...], task: str) -> None:
    assert TaskKey("s", position).task == task
