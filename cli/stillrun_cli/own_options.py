"""A flow's own parameters go before options of ours with the same names: ``run flow.py --environment prod``."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import click

from stillrun.description import RESERVED

__all__ = ["FlowCommand", "declared_in"]

_FLOW_FILE = re.compile(r".\.py(:\w+)?\Z")
_DECLARING = frozenset({"IncludeFile", "Parameter"})


class FlowCommand(click.Command):
    """A command that runs a flow file: what follows the file is the flow's, where the flow has a parameter of the name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the flow's parameters out before our options are looked for."""
        ours, own = _divided(args, *_flow_file(ctx, args), self._option_names())
        rest = super().parse_args(ctx, ours)
        ctx.params["parameters"] = (*ctx.params["parameters"], *own)
        return rest

    def _option_names(self) -> frozenset[str]:
        """Names that our options share with what a flow may call a parameter."""
        found = {name[2:] for each in self.params for name in (*each.opts, *each.secondary_opts) if name[:2] == "--"}
        return frozenset(found - RESERVED)


def declared_in(text: str) -> frozenset[str]:
    """Names of the parameters that a flow file declares, as far as they stand in its text."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # it is said when the flow is loaded
        return frozenset()
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _called(node) in _DECLARING]
    names = [node.args[0] if node.args else _named(node) for node in calls]
    return frozenset(name.value for name in names if isinstance(name, ast.Constant) and isinstance(name.value, str))


def _called(call: ast.Call) -> str | None:
    function = call.func
    return (
        function.id
        if isinstance(function, ast.Name)
        else function.attr
        if isinstance(function, ast.Attribute)
        else None
    )


def _named(call: ast.Call) -> ast.expr | None:
    return next((each.value for each in call.keywords if each.arg == "name"), None)


def _flow_file(ctx: click.Context, args: list[str]) -> tuple[Path | None, int]:
    """The flow file, and from which argument on parameters may stand."""
    if isinstance(ctx.obj, tuple):  # python FLOW.py ...
        return Path(ctx.obj[0]), 0
    at = next((at for at, word in enumerate(args) if _FLOW_FILE.search(word)), None)
    return (None, 0) if at is None else (Path(args[at].partition(".py:")[0].removesuffix(".py") + ".py"), at + 1)


def _divided(args: list[str], file: Path | None, begin: int, names: frozenset[str]) -> tuple[list[str], list[str]]:
    """The arguments for us, and those that are the flow's though we have an option of the name."""
    asked = {word[2:].partition("=")[0] for word in args[begin:] if word.startswith("--")} & names
    if not asked or file is None or not file.is_file():
        return args, []
    shared = asked & declared_in(file.read_text("utf-8", "replace"))
    ours, own = args[:begin], []
    rest = iter(args[begin:])
    for word in rest:
        name, equals, _ = word[2:].partition("=")
        if not word.startswith("--") or name not in shared:
            ours.append(word)
            continue
        own.append(word)
        if not equals:
            own += [value] if (value := next(rest, None)) is not None else []
    return ours, own
