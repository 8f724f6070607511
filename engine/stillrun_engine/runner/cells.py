"""The text of a flow that was defined in cells: its class, and what it refers to in other cells."""

from __future__ import annotations

import ast
import inspect
import linecache
import sys
from collections.abc import Iterator
from typing import Any

from stillrun_engine.runner.errors import RunnerError
from stillrun_snapshot.deferred import dataclass

__all__ = ["flow_text"]

_NOT_TAKEN = frozenset({"NBRunner", "Runner", "get_ipython", "NBDeployer", "Deployer"})
"""What refers to these drives runs, and belongs to no flow."""


@dataclass(frozen=True)
class _Statement:
    """A statement of a cell, as it was written."""

    node: ast.stmt
    text: str


def flow_text(flow: type) -> str:
    """A module with ``flow`` and all that it refers to. Raises RunnerError when its source is not to be had."""
    source = _source_of(flow)
    statements = [statement for text in (*_history(), source) for statement in _kept(text)]
    defined = {name: statement for statement in statements for name in _binds(statement.node)}  # the last one counts
    if flow.__name__ not in defined:
        raise RunnerError(f"the class {flow.__name__} is not defined at the top of its cell; define it there.")
    wanted, waiting = set[int](), [flow.__name__, "*"]
    while waiting:
        statement = defined.get(waiting.pop())
        if statement is not None and id(statement) not in wanted:
            wanted.add(id(statement))
            waiting += [node.id for node in ast.walk(statement.node) if isinstance(node, ast.Name)]
    return "\n".join(statement.text for statement in statements if id(statement) in wanted) + "\n"


def _source_of(flow: type) -> str:
    """The text of the cell, or of the file, in which a class is defined."""
    for member in vars(flow).values():
        function: Any = inspect.unwrap(member) if callable(member) else None
        code = getattr(function, "__code__", None)
        if code is not None and (lines := linecache.getlines(code.co_filename)):
            return "".join(lines)
    raise RunnerError(
        f"the source of {flow.__name__} cannot be found; define it in a cell of the notebook, or use Runner with a file."
    )


def _history() -> Iterator[str]:
    """The cells that have run in this notebook, oldest first, as Python; none outside of one."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None:
        return
    for cell in shell.user_ns.get("In", ()):
        text = shell.transform_cell(cell)
        try:
            ast.parse(text)
        except SyntaxError:  # a cell of another language, or one that never ran
            continue
        yield text


def _kept(cell: str) -> Iterator[_Statement]:
    """The statements of a cell that define something a flow may refer to."""
    lines = cell.splitlines()
    for node in ast.parse(cell).body:
        imports = isinstance(node, (ast.Import, ast.ImportFrom))
        names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
        waits = any(isinstance(each, ast.Await) for each in ast.walk(node)) and not _is_function(node)
        defines = _is_function(node) or isinstance(node, (ast.Assign, ast.AnnAssign))
        if imports or (defines and not names & _NOT_TAKEN and not waits):
            first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
            yield _Statement(node, "\n".join(lines[first - 1 : node.end_lineno]))


def _is_function(statement: ast.stmt) -> bool:
    return isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))


def _binds(statement: ast.stmt) -> list[str]:
    """The names that a statement defines; ``*`` of an import of everything."""
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return [(alias.asname or alias.name).split(".")[0] for alias in statement.names]
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement.name]
    return [node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
