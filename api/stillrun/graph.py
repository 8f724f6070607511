"""The graph of a flow, read from the source of its steps: what each goes on to, and what is wrong with it."""

from __future__ import annotations

import ast
import os

from stillrun.decorators import ASKED, END_HERE, START_HERE, STEP
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

START, END = "start", "end"


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
    switch: dict[str, str] | None = None  # case, as text, to step
    condition: str | None = None  # the artifact that chooses among the cases
    parallel: bool = False  # goes on to so many tasks at once
    last: bool = False

    @property
    def line(self) -> int:
        """Line of its def."""
        return self.source.line

    @property
    def kind(self) -> str:
        """linear, split, foreach, switch, join or end."""
        if self.takes_inputs:
            return "join"
        if self.last:
            return "end"
        if self.switch is not None:
            return "switch"
        if self.foreach is not None or self.parallel:
            return "foreach"
        return "split" if len(self.next) > 1 else "linear"

    @property
    def splits(self) -> bool:
        """Whether several tasks follow one of its own."""
        return self.foreach is not None or self.parallel or (self.switch is None and len(self.next) > 1)


@dataclass
class Graph:
    """The steps of a flow in the order in which they are defined, and what is wrong with single ones."""

    flow: type
    nodes: dict[str, Node]
    problems: list[Problem]
    start: str = START
    end: str = END

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
    if flow in _graphs:
        return _graphs[flow]
    graph = Graph(flow, {}, [])
    functions = steps_of(flow)
    sources = {name: step_source(flow, name, function) for name, function in functions.items()}
    graph.end = _said(functions, END_HERE) or _end_of(sources)
    for name, function in functions.items():
        graph.nodes[name] = _node(graph, name, function, sources[name])
    graph.start = _said(functions, START_HERE) or _start_of(graph)
    _graphs[flow] = graph
    return graph


_graphs: dict[type, Graph] = {}


def _said(functions: dict[str, Any], word: str) -> str | None:
    """The step that says of itself to be the first, or the last."""
    return next((name for name, function in functions.items() if getattr(function, word, False)), None)


def _end_of(sources: dict[str, StepSource]) -> str:
    """``end``, or the only step that does not say what comes next."""
    silent = [
        name
        for name, source in sources.items()
        if source.node is not None and not _calls(source.node, _receiver(source))
    ]
    return END if END in sources or len(silent) != 1 else silent[0]


def _start_of(graph: Graph) -> str:
    """``start``, or the only step that no other goes on to."""
    reached = {target for node in graph.nodes.values() for target in node.next if target != node.name}
    first = [name for name in graph.nodes if name not in reached]
    return START if START in graph.nodes or len(first) != 1 else first[0]


def _receiver(source: StepSource) -> str:
    """What a step calls its flow."""
    node: Any = source.node
    taken = [each.arg for each in [*getattr(node.args, "posonlyargs", []), *node.args.args]]
    return taken[0] if taken else "self"


def _calls(function: Any, receiver: str) -> list[Any]:
    """The calls of self.next() in a step, in the order of their lines."""
    return sorted((each for each in ast.walk(function) if _is_next(each, receiver)), key=lambda call: call.lineno)


def _node(graph: Graph, name: str, function: Any, source: StepSource) -> Node:
    decorators = list(getattr(function, ASKED, ()))
    node = Node(name, source, getattr(function, "__doc__", None), decorators, takes_inputs=False)
    node.last = name == graph.end
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
    calls = _calls(function, receiver)
    if node.last:
        if calls:
            what, cure = f"step {node.name!r} calls self.next()", f"Nothing comes after {node.name!r}: take it out."
            tell("end_next", calls[0].lineno, what, cure)
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
    if len(call.args) == 1 and isinstance(call.args[0], ast.Dict):
        _read_switch(node, call, receiver, tell)
        return
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
    if (node.foreach is not None or node.parallel) and len(call.args) > 1:
        what = f"step {node.name!r} gives a foreach more than one step"
        tell("foreach_several", call.lineno, what, "Name one step; it can split further.")


def _read_switch(node: Node, call: Any, receiver: str, tell: Teller) -> None:
    """self.next({"a": self.x, "b": self.y}, condition="artifact")."""
    node.switch = {}
    for key, value in zip(call.args[0].keys, call.args[0].values):  # Python 3.8
        is_step = isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name) and value.value.id == receiver
        if key is None or not is_step:
            what = f"step {node.name!r} gives self.next() a case that is not a step"
            tell("next_argument", value.lineno, what, 'Give cases as {"case": self.STEP}.')
            continue
        case = str(key.value) if isinstance(key, ast.Constant) else _source_of(key)
        node.switch[case] = value.attr
        if value.attr not in node.next:
            node.next.append(value.attr)
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    condition = named.pop("condition", None)
    if isinstance(condition, ast.Constant) and isinstance(condition.value, str):
        node.condition = condition.value
    else:
        what = f"step {node.name!r} chooses among steps, and does not name the artifact that decides"
        tell("switch_condition", call.lineno, what, 'Name it as text: condition="artifact".')
    for name in named:
        what = f"step {node.name!r}: self.next() with cases does not take {name or '**'!r}"
        tell("next_keyword", call.lineno, what, "It takes condition=.")
    if not node.next:
        tell("next_empty", call.lineno, f"step {node.name!r} names no step in self.next()", "Give at least one case.")


def _source_of(node: Any) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id if isinstance(node, ast.Name) else "?", *parts[::-1]])


def _read_keyword(node: Node, call: Any, keyword: ast.keyword, tell: Teller) -> None:
    if keyword.arg == "num_parallel":
        node.parallel = True
    elif keyword.arg == "condition":
        what = f"step {node.name!r} names a condition and no cases"
        tell("switch_condition", call.lineno, what, 'Give cases: self.next({"a": self.x}, condition="artifact").')
    elif keyword.arg != "foreach":
        what = f"step {node.name!r}: self.next() does not know {keyword.arg or '**'!r}"
        tell(
            "next_keyword", call.lineno, what, "It takes steps and foreach= or num_parallel=, or cases and condition=."
        )
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
