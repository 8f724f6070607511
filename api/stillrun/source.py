"""Where the parts of a flow stand in its source: the syntax trees of its classes and steps."""

from __future__ import annotations

import ast
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass
    from typing import Any
else:
    from stillrun.light import dataclass

__all__ = ["StepSource", "assigned_names", "class_source", "step_source"]

_trees: dict[str, ast.Module | None] = {}


@dataclass(frozen=True)
class StepSource:
    """The source of one step."""

    file: str
    line: int  # of its def
    node: ast.FunctionDef | ast.AsyncFunctionDef | None  # None when the source cannot be found


def class_source(cls: type) -> tuple[str, ast.ClassDef | None]:
    """The file of a class, and its syntax tree there; None when it was not written there."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None) or "?"
    tree = _tree(file)
    nodes: list[ast.stmt] = [] if tree is None else tree.body
    found = None
    for name in cls.__qualname__.split("."):
        found = _definition(nodes, name, ast.ClassDef)
        nodes = [] if found is None else found.body
    return file, found


def step_source(flow: type, name: str, function: Any) -> StepSource:
    """The source of a step of a flow, wherever in its bases it was written."""
    owner = next(each for each in flow.__mro__ if name in vars(each))
    file, node = class_source(owner)
    definition = None
    if node is not None:
        definition = _definition(node.body, name, (ast.FunctionDef, ast.AsyncFunctionDef))
    if definition is not None:
        return StepSource(file, definition.lineno, definition)
    return _source_of_function(function)


def assigned_names(function: ast.AST, receiver: str) -> dict[str, int]:
    """The attributes that a method sets on itself, and the line of the last place where it does."""
    lines: dict[str, int] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_name(node.value, receiver):
            lines[node.attr] = max(node.lineno, lines.get(node.attr, 0))
    return lines


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _source_of_function(function: Any) -> StepSource:
    """By the line that the code object carries: for classes that were not written as a class statement."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    code = getattr(function, "__code__", None)
    if code is None:
        return StepSource("?", 0, None)
    tree = _tree(code.co_filename)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == code.co_name:
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            if first <= code.co_firstlineno <= node.lineno:
                return StepSource(code.co_filename, node.lineno, node)
    return StepSource(code.co_filename, code.co_firstlineno, None)


def _definition(nodes: list[ast.stmt], name: str, kind: Any) -> Any:
    """The last definition of a name: in a class body as in the running class, the last one counts."""
    found = None
    for node in nodes:
        if isinstance(node, kind) and node.name == name:
            found = node
        for inner in ("body", "orelse", "handlers", "finalbody") if not isinstance(node, _SCOPES) else ():
            found = _definition(getattr(node, inner, []), name, kind) or found
    return found


_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _tree(file: str) -> ast.Module | None:
    if file not in _trees:
        try:
            with open(file, "rb") as source:
                _trees[file] = ast.parse(source.read(), file)
        except (OSError, SyntaxError, ValueError):
            _trees[file] = None
    return _trees[file]
