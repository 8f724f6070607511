"""What is wrong with a graph as a whole: ends, unknown steps, cycles, and splits and joins that do not match."""

from __future__ import annotations

import ast
from collections import Counter

from stillrun.flow import FlowSpec
from stillrun.graph import END, START, Graph, Node, Problem, nearest_step, problem_at
from stillrun.nearest import listed
from stillrun.source import assigned_names, class_source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["problems_of"]


def problems_of(graph: Graph) -> list[Problem]:
    """Everything that is wrong with a graph, in the order of the source."""
    problems = [*graph.problems, *_names(graph), *_ends(graph), *_unknown(graph)]
    edges = {
        name: [each for each in node.next if each in graph.nodes and not (node.switch is not None and each == name)]
        for name, node in graph.nodes.items()
    }
    reached = _reachable(edges, graph.start)
    problems += _catches(graph)
    problems += _alone(graph)
    problems += _groups(graph)
    problems += _unreachable(graph, reached)
    cycle = _cycle(edges)
    if cycle:
        way = " -> ".join(cycle)
        problems.append(problem_at(graph, "cycle", cycle, f"the steps form a cycle: {way}", _CYCLE_CURE))
    elif graph.start in graph.nodes:
        problems += _Balance(graph, edges, reached).problems
    return sorted(problems, key=lambda each: (each.line, each.code))


_CYCLE_CURE = (
    "Take one of these self.next() out; repeat inside a step, with foreach=, or by a switch to the step itself."
)


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
        _name_of(decorator) == "step"
        for each in node.body
        if isinstance(each, ast.FunctionDef) and each.name == name
        for decorator in each.decorator_list
    )


def _name_of(decorator: Any) -> str | None:
    """What a decorator without a module in front is called."""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return called.id if isinstance(called, ast.Name) else None


def _ends(graph: Graph) -> list[Problem]:
    problems = []
    for found, name, where in ((graph.start, START, "first"), (graph.end, END, "last")):
        if found not in graph.nodes:
            what = f"{graph.flow.__name__} has no step {name!r}, and it cannot be told which step is its {where}."
            cure = f"Call its {where} step '{name}' and mark it with @step."
            problems.append(Problem(f"no_{name}", graph.line, None, what, cure))
    end = graph.nodes.get(graph.end)
    if end is not None and end.takes_inputs:
        what = f"step {graph.end!r} takes inputs"
        problems.append(problem_at(graph, "end_joins", [graph.end], what, "Join in a step before it."))
    return problems


def _catches(graph: Graph) -> list[Problem]:
    """A failure can only be let pass where it is clear how to go on."""
    cure = "Take @catch off, or let another step split."
    return [
        problem_at(
            graph, "catch_splits", [name], f"@catch stands on {name!r}, whose next tasks its failure leaves open", cure
        )
        for name, node in graph.nodes.items()
        if (node.foreach is not None or node.switch is not None or node.parallel)
        and any(each["name"] == "catch" for each in node.decorators)
    ]


def _alone(graph: Graph) -> list[Problem]:
    """A group of tasks comes of num_parallel alone."""
    grouped = {target for node in graph.nodes.values() if node.parallel for target in node.next}
    return [
        problem_at(
            graph,
            "parallel_alone",
            [name],
            f"@parallel stands on {name!r}, to which no step goes on with num_parallel=",
            f"Write self.next(self.{name}, num_parallel=N) in the step before it, or take @parallel off.",
        )
        for name, node in graph.nodes.items()
        if name not in grouped and any(each["name"] == "parallel" for each in node.decorators)
    ]


def _groups(graph: Graph) -> list[Problem]:
    """What num_parallel leads to says that its tasks are a group."""
    return [
        problem_at(
            graph,
            "parallel_missing",
            [target],
            f"step {name!r} goes on to {target!r} with num_parallel=, and there is no @parallel on it",
            f"Put @parallel on {target!r}, or write foreach= where tasks need not know of each other.",
        )
        for name, node in graph.nodes.items()
        if node.parallel
        for target in node.next
        if target in graph.nodes and all(each["name"] != "parallel" for each in graph.nodes[target].decorators)
    ]


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


def _reachable(edges: dict[str, list[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [start] if start in edges else []
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += edges[name]
    return seen


def _unreachable(graph: Graph, reached: set[str]) -> list[Problem]:
    if graph.start not in graph.nodes:
        return []
    cure = "Name it in a self.next(), or take it out."
    return [
        problem_at(graph, "unreachable", [name], f"no way leads from {graph.start!r} to step {name!r}", cure)
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
        for split, _ in self.stacks.get(graph.end, ()):
            self._tell("never_joined", split, f"what step {split!r} splits is never joined", _JOIN_CURE)

    def _in_order(self) -> list[str]:
        """Reached steps, each after all that lead to it."""
        open_parents = {name: len(parents) for name, parents in self.parents.items()}
        ready, order = [self.graph.start], []
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
        return (*self.stacks[parent], (parent, child)) if node.splits else self.stacks[parent]

    def _stack(self, node: Node) -> Any:
        parents = self.parents[node.name]
        arriving = [self._leaving(parent, node.name) for parent in parents]
        if not node.takes_inputs:
            if any(stack != arriving[0] for stack in arriving):
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
        if node.last:
            self._tell("never_joined", node.name, what, _JOIN_CURE)
        else:
            self._tell("join_without_inputs", node.name, what, f"Write 'def {node.name}(self, inputs)'.")

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
