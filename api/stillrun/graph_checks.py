"""What is wrong with a graph as a whole: ends, unknown steps, cycles, and splits and joins that do not match."""

from __future__ import annotations

import ast
from collections import Counter

from stillrun.flow import FlowSpec
from stillrun.graph import END, Graph, Node, Problem, nearest_step, problem_at
from stillrun.nearest import listed
from stillrun.source import assigned_names, class_source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["problems_of"]

START = "start"


def problems_of(graph: Graph) -> list[Problem]:
    """Everything that is wrong with a graph, in the order of the source."""
    problems = [*graph.problems, *_names(graph), *_ends(graph), *_unknown(graph)]
    edges = {name: [each for each in node.next if each in graph.nodes] for name, node in graph.nodes.items()}
    reached = _reachable(edges)
    problems += _unreachable(graph, reached)
    cycle = _cycle(edges)
    if cycle:
        way = " -> ".join(cycle)
        problems.append(problem_at(graph, "cycle", cycle, f"the steps form a cycle: {way}", _CYCLE_CURE))
    elif START in graph.nodes:
        problems += _Balance(graph, edges, reached).problems
    return sorted(problems, key=lambda each: (each.line, each.code))


_CYCLE_CURE = "Take one of these self.next() out; repeat inside a step, or with foreach=."


def _names(graph: Graph) -> list[Problem]:
    problems = []
    for name, node in graph.nodes.items():
        if hasattr(FlowSpec, name):
            what = f"step {name!r} hides a name of FlowSpec itself"
            problems.append(problem_at(graph, "step_hides", [name], what, "Give the step another name."))
        if node.source.node is None:
            continue
        receiver = node.source.node.args.args[0].arg if node.source.node.args.args else "self"
        for artifact, line in assigned_names(node.source.node, receiver).items():
            if artifact in graph.nodes:
                what = f"step {name!r} sets self.{artifact}, which is a step."
                problems.append(Problem("artifact_hides_step", line, name, what, "Give the artifact another name."))
    for each in graph.flow.__mro__:
        if each is not FlowSpec and issubclass(each, FlowSpec):
            problems += _defined_twice(graph, each)
    return problems


def _defined_twice(graph: Graph, cls: type) -> list[Problem]:
    _, node = class_source(cls)
    names: Counter[str] = Counter()
    lines: dict[str, int] = {}
    for statement in node.body if node is not None else []:
        for name in _bound(statement):
            names[name] += 1
            lines[name] = statement.lineno
    return [
        Problem(
            "name_twice",
            lines[name],
            name if name in graph.nodes else None,
            f"{cls.__name__} defines {name!r} {count} times, and only the last one counts.",
            "Give them different names.",
        )
        for name, count in names.items()
        if count > 1 and (name in graph.nodes or _was_step(node, name))
    ]


def _bound(statement: ast.stmt) -> list[str]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement.name]
    targets: list[Any] = statement.targets if isinstance(statement, ast.Assign) else []
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets = [statement.target]
    return [each.id for each in targets if isinstance(each, ast.Name)]


def _was_step(node: Any, name: str) -> bool:
    return any(
        isinstance(decorator, ast.Name) and decorator.id == "step"
        for each in node.body
        if isinstance(each, ast.FunctionDef) and each.name == name
        for decorator in each.decorator_list
    )


def _ends(graph: Graph) -> list[Problem]:
    problems = []
    for name, where in ((START, "first"), (END, "last")):
        if name not in graph.nodes:
            what = f"{graph.flow.__name__} has no step {name!r}."
            cure = f"Call its {where} step '{name}' and mark it with @step."
            problems.append(Problem(f"no_{name}", graph.line, None, what, cure))
    end = graph.nodes.get(END)
    if end is not None and end.takes_inputs:
        what = "step 'end' takes inputs"
        problems.append(problem_at(graph, "end_joins", [END], what, "Join in a step before it."))
    return problems


def _unknown(graph: Graph) -> list[Problem]:
    return [
        problem_at(
            graph,
            "unknown_step",
            [name],
            f"step {name!r} goes on to {target!r}, which is not a step",
            nearest_step(graph, target),
        )
        for name, node in graph.nodes.items()
        for target in node.next
        if target not in graph.nodes
    ]


def _reachable(edges: dict[str, list[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [START] if START in edges else []
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += edges[name]
    return seen


def _unreachable(graph: Graph, reached: set[str]) -> list[Problem]:
    if START not in graph.nodes:
        return []
    cure = "Name it in a self.next(), or take it out."
    return [
        problem_at(graph, "unreachable", [name], f"no way leads from 'start' to step {name!r}", cure)
        for name in graph.nodes
        if name not in reached
    ]


def _cycle(edges: dict[str, list[str]]) -> list[str]:
    """The steps of one cycle, the first one again at the end; empty when there is none."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for target in edges[name]:
            found = visit(target, [*path, name])
            if found:
                return found
        done.add(name)
        return []

    return next((found for found in (visit(name, []) for name in edges) if found), [])


class _Balance:
    """Walks the graph with the splits that are open around each step."""

    def __init__(self, graph: Graph, edges: dict[str, list[str]], reached: set[str]) -> None:
        self.graph = graph
        self.edges = edges
        self.problems: list[Problem] = []
        self.parents: dict[str, list[str]] = {name: [] for name in reached}
        for name in graph.nodes:
            for target in edges[name] if name in reached else ():
                self.parents[target].append(name)
        self.stacks: dict[str, Any] = {}
        for name in self._in_order():
            self.stacks[name] = self._stack(graph.nodes[name])
        for split, _ in self.stacks.get(END, ()):
            self._tell("never_joined", split, f"what step {split!r} splits is never joined", _JOIN_CURE)

    def _in_order(self) -> list[str]:
        """Reached steps, each after all that lead to it."""
        open_parents = {name: len(parents) for name, parents in self.parents.items()}
        ready, order = [START], []
        while ready:
            name = ready.pop(0)
            order.append(name)
            for target in self.edges[name]:
                open_parents[target] -= 1
                if open_parents[target] == 0:
                    ready.append(target)
        return order

    def _leaving(self, parent: str, child: str) -> Any:
        node = self.graph.nodes[parent]
        splits = len(node.next) > 1 or node.foreach is not None
        return (*self.stacks[parent], (parent, child)) if splits else self.stacks[parent]

    def _stack(self, node: Node) -> Any:
        parents = self.parents[node.name]
        arriving = [self._leaving(parent, node.name) for parent in parents]
        self._check_own(node)
        if not node.takes_inputs:
            if len(parents) > 1:
                self._tell_meeting(node, parents)
                return arriving[0][:-1]
            return arriving[0] if arriving else ()
        if any(not stack for stack in arriving) or not arriving:
            what = f"step {node.name!r} takes inputs, but nothing is split before it"
            self._tell("joins_nothing", node.name, what, f"Write 'def {node.name}(self)'.")
            return ()
        self._check_join(node, parents, arriving)
        return arriving[0][:-1]

    def _tell_meeting(self, node: Node, parents: list[str]) -> None:
        what = f"step {node.name!r} is reached from {listed(parents)} but takes no inputs"
        if node.name == END:
            self._tell("never_joined", END, what, _JOIN_CURE)
        else:
            self._tell("join_without_inputs", node.name, what, f"Write 'def {node.name}(self, inputs)'.")

    def _check_own(self, node: Node) -> None:
        if node.takes_inputs and (len(node.next) > 1 or node.foreach is not None):
            what = f"step {node.name!r} joins and splits at once"
            self._tell("join_splits", node.name, what, "Put a step between the join and the split.")

    def _check_join(self, node: Node, parents: list[str], arriving: list[Any]) -> None:
        around = {(stack[:-1], stack[-1][0]) for stack in arriving}
        if len(around) > 1:
            splits = listed(sorted({repr(split) for _, split in around}))
            what = f"step {node.name!r} joins branches of different splits: {splits}"
            self._tell(
                "mixed_join", node.name, what, "Join the branches of the inner split first, in a step of its own."
            )
            return
        split = arriving[0][-1][0]
        if split in parents:
            what = f"no step stands between the split in {split!r} and its join {node.name!r}"
            self._tell("empty_branch", split, what, "Put the work of the branch in a step between them.")
            return
        missing = [each for each in self.edges[split] if each not in {stack[-1][1] for stack in arriving}]
        if missing:
            what = f"step {node.name!r} joins {split!r}, but not its branch {listed(missing)}"
            self._tell("partial_join", node.name, what, f"Lead every branch of {split!r} to {node.name!r}.")

    def _tell(self, code: str, step: str, what: str, cure: str) -> None:
        self.problems.append(problem_at(self.graph, code, [step], what, cure))


_JOIN_CURE = "Lead its branches to a step that takes inputs: def join(self, inputs)."
