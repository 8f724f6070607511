"""The graph of a flow, read from the source of its steps: what each goes on to, and what is wrong with it."""

from __future__ import annotations

import ast
import os

from stillrun.decorators import ASKED, STEP
from stillrun.nearest import did_you_mean
from stillrun.source import StepSource, class_source, step_source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass, field
    from typing import Any, Callable, Sequence

    Teller = Callable[[str, int, str, str], None]
else:
    from stillrun.light import dataclass, field

__all__ = ["Graph", "Node", "Problem", "graph_of", "steps_of"]

END = "end"


@dataclass(frozen=True)
class Problem:
    """One thing that keeps a flow from running."""

    code: str
    line: int
    step: str | None
    what: str
    cure: str


@dataclass
class Node:
    """One step."""

    name: str
    source: StepSource
    doc: str | None
    decorators: list[dict[str, Any]]
    takes_inputs: bool
    next: list[str] = field(default_factory=list)
    foreach: str | None = None

    @property
    def line(self) -> int:
        """Line of its def."""
        return self.source.line

    @property
    def kind(self) -> str:
        """linear, split, foreach, join or end."""
        if self.takes_inputs:
            return "join"
        if self.name == END:
            return "end"
        if self.foreach is not None:
            return "foreach"
        return "split" if len(self.next) > 1 else "linear"


@dataclass
class Graph:
    """The steps of a flow in the order in which they are defined, and what is wrong with single ones."""

    flow: type
    nodes: dict[str, Node]
    problems: list[Problem]

    @property
    def line(self) -> int:
        """The first line of a step: where to look for what concerns the whole flow."""
        return min((node.line for node in self.nodes.values()), default=1)


def steps_of(flow: type) -> dict[str, Any]:
    """Name of each step of a flow and its function, base classes first, in the order of definition."""
    names = [name for each in reversed(flow.__mro__) for name in vars(each)]
    found = {name: getattr(flow, name, None) for name in dict.fromkeys(names)}
    return {name: function for name, function in found.items() if getattr(function, STEP, False)}


def graph_of(flow: type) -> Graph:
    """The graph of a flow."""
    graph = Graph(flow, {}, [])
    for name, function in steps_of(flow).items():
        source = step_source(flow, name, function)
        graph.nodes[name] = _node(graph, name, function, source)
    return graph


def _node(graph: Graph, name: str, function: Any, source: StepSource) -> Node:
    decorators = list(getattr(function, ASKED, ()))
    node = Node(name, source, getattr(function, "__doc__", None), decorators, takes_inputs=False)
    tell = _teller(graph, node)
    if source.node is None:
        tell(
            "no_source", source.line, f"the source of step {name!r} cannot be read", "Write it as a method of a class."
        )
        return node
    arguments = source.node.args
    taken = [each.arg for each in [*getattr(arguments, "posonlyargs", []), *arguments.args]]
    node.takes_inputs = len(taken) == 2
    if not 1 <= len(taken) <= 2:
        cure = "Take 'self' alone, or 'self' and 'inputs' in a step that joins."
        tell("step_arguments", node.line, f"step {name!r} takes {len(taken)} arguments", cure)
    if isinstance(source.node, ast.AsyncFunctionDef):
        tell("step_async", node.line, f"step {name!r} is async", "Write 'def', and asyncio.run(...) in it.")
    _read_next(node, source.node, taken[0] if taken else "self", tell)
    return node


def _teller(graph: Graph, node: Node) -> Teller:
    place, _ = class_source(graph.flow)

    def tell(code: str, line: int, what: str, cure: str) -> None:
        file = node.source.file
        where = "" if file == place else f" (in {os.path.basename(file)})"
        graph.problems.append(Problem(code, line, node.name, what + where + ".", cure))

    return tell


def _read_next(node: Node, function: ast.FunctionDef | ast.AsyncFunctionDef, receiver: str, tell: Teller) -> None:
    calls: list[Any] = [each for each in ast.walk(function) if _is_next(each, receiver)]
    calls.sort(key=lambda call: call.lineno)
    if node.name == END:
        if calls:
            tell("end_next", calls[0].lineno, "step 'end' calls self.next()", "Nothing comes after 'end': take it out.")
        return
    if not calls:
        cure = "End it with self.next(self.STEP)."
        tell("no_next", node.line, f"step {node.name!r} does not say what comes next", cure)
        return
    if len(calls) > 1:
        lines = ", ".join(str(call.lineno) for call in calls)
        cure = "Call it once, as the last statement; decide inside the steps what they do."
        tell("several_next", calls[1].lineno, f"step {node.name!r} calls self.next() on lines {lines}", cure)
    else:
        _check_place(node, function, calls[0], tell)
    _read_call(node, calls[-1], receiver, tell)


def _is_next(node: ast.AST, receiver: str) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr != "next":
        return False
    return isinstance(node.func.value, ast.Name) and node.func.value.id == receiver


def _check_place(node: Node, function: Any, call: Any, tell: Teller) -> None:
    places = [at for at, each in enumerate(function.body) if isinstance(each, ast.Expr) and each.value is call]
    if not places:
        what = f"step {node.name!r} calls self.next() inside another statement"
        tell("conditional_next", call.lineno, what, "Call it as the last statement of the step, at its first level.")
    elif places[0] != len(function.body) - 1:
        what = f"step {node.name!r} goes on after self.next()"
        tell("next_not_last", call.lineno, what, "Make self.next() its last statement.")


def _read_call(node: Node, call: Any, receiver: str, tell: Teller) -> None:
    for argument in call.args:
        if not (
            isinstance(argument, ast.Attribute)
            and isinstance(argument.value, ast.Name)
            and argument.value.id == receiver
        ):
            what = f"step {node.name!r} gives self.next() something that is not a step"
            tell("next_argument", argument.lineno, what, "Give steps as self.NAME.")
        elif argument.attr in node.next:
            what = f"step {node.name!r} names {argument.attr!r} twice in self.next()"
            tell("next_twice", argument.lineno, what, "Name each step once; use foreach= to run one many times.")
        else:
            node.next.append(argument.attr)
    for keyword in call.keywords:
        _read_keyword(node, call, keyword, tell)
    if not call.args:
        tell("next_empty", call.lineno, f"step {node.name!r} names no step in self.next()", "Give it as self.NAME.")
    if node.foreach is not None and len(call.args) > 1:
        what = f"step {node.name!r} gives a foreach more than one step"
        tell("foreach_several", call.lineno, what, "Name one step; it can split further.")


def _read_keyword(node: Node, call: Any, keyword: ast.keyword, tell: Teller) -> None:
    if keyword.arg != "foreach":
        what = f"step {node.name!r}: self.next() does not know {keyword.arg or '**'!r}"
        tell("next_keyword", call.lineno, what, "It takes steps and foreach=.")
    elif isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str):
        node.foreach = keyword.value.value
    else:
        what = f"step {node.name!r}: foreach does not name an artifact"
        tell("foreach_not_text", call.lineno, what, 'Give its name as text: foreach="items".')


def nearest_step(graph: Graph, name: str) -> str:
    """The cure for a name that is no step."""
    if callable(getattr(graph.flow, name, None)):
        return f"Put @step above 'def {name}'."
    return did_you_mean(name, graph.nodes, "self.") or f"Define a step {name!r}, or take it out."


def problem_at(graph: Graph, code: str, names: Sequence[str], what: str, cure: str) -> Problem:
    """A problem of a step in the graph, with the place of the first of the steps."""
    node = graph.nodes[names[0]]
    return Problem(code, node.line, node.name, what + ".", cure)
