"""The description of a flow: what the engine knows of it without importing it. Format: docs/spec/description.md."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from types import ModuleType

from stillrun.decorators import ASKED
from stillrun.errors import NotPicklable
from stillrun.flow import FlowSpec
from stillrun.graph import Graph, Problem, graph_of
from stillrun.graph_checks import problems_of
from stillrun.parameters import Parameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RESERVED = frozenset({"help", "max-num-splits", "max-workers", "namespace", "run-id-file", "tag", "with"})
"""Options of a run that a parameter cannot be named like; it goes before all others."""
_MAY_REPEAT = frozenset({"card", "exit_hook", "secrets", "trigger", "trigger_on_finish"})

__all__ = ["RESERVED", "constants_of", "describe", "held_parameters", "kept_constants", "parameters_of"]


def describe(flow: type, source: str) -> dict[str, Any]:
    """The description of a flow. source: the user's path of its file."""
    graph = graph_of(flow)
    problems = [*problems_of(graph), *_parameter_problems(flow, graph), *_decorator_problems(flow, graph)]
    configs = sys.modules.get("stillrun.configs")
    return {
        "configs": dict(configs.kept) if configs is not None else {},
        "decorated": list(getattr(flow, "__stillrun_decorated__", ())),
        "name": flow.__name__,
        "file": os.path.basename(source),
        "doc": _doc(flow.__doc__),
        "class": flow.__qualname__,
        "start": graph.start,
        "end": graph.end,
        "steps": [
            {
                "name": node.name,
                "line": node.line,
                "doc": _doc(node.doc),
                "kind": node.kind,
                "next": node.next,
                "foreach": node.foreach,
                "switch": node.switch,
                "condition": node.condition,
                "parallel": node.parallel,
                "decorators": node.decorators,
            }
            for node in graph.nodes.values()
        ],
        "decorators": _flow_decorators(flow),
        "parameters": [_parameter(each) for each in parameters_of(flow).values()],
        "constants": constants_of(flow),
        "problems": [vars(each) for each in problems],
    }


def parameters_of(flow: type) -> dict[str, Parameter]:
    """The parameters of a flow by name, in the order of definition, base classes first."""
    return {each.name: each for _, each in held_parameters(flow)}


def kept_constants(flow: type, writer: Any) -> dict[str, Any]:
    """The constants of a flow as OUTs of the host protocol; what cannot be pickled is code and no more."""
    found = {}
    for name in constants_of(flow):
        value = getattr(flow, name)
        if isinstance(value, ModuleType):
            continue
        with suppress(NotPicklable):
            found[name] = writer.encode(name, value)
    return found


def constants_of(flow: type) -> list[str]:
    """Names of the class attributes that are plain data."""
    found = []
    for name in _names(flow):
        value = _held_as(flow, name)
        is_data = not callable(value) and not hasattr(type(value), "__get__")
        if not name.startswith("_") and is_data and not isinstance(value, (classmethod, staticmethod)):
            found.append(name)
    return found


def _names(flow: type) -> list[str]:
    own = [each for each in reversed(flow.__mro__) if each not in (FlowSpec, object)]
    return list(dict.fromkeys(name for each in own for name in vars(each)))


def _held_as(flow: type, name: str) -> Any:
    """What a class or its bases hold under a name, without asking a descriptor."""
    return next(vars(each)[name] for each in flow.__mro__ if name in vars(each))


def held_parameters(flow: type) -> list[tuple[str, Parameter]]:
    """The parameters of a flow by the name that they have in the class, in the order of definition, base classes first."""
    held = ((name, _held_as(flow, name)) for name in _names(flow))
    found = [(name, each) for name, each in held if isinstance(each, Parameter)]
    for name, each in found:
        each.attribute = name
    return found


def _doc(text: str | None) -> str | None:
    """A docstring without its indentation (PEP 257)."""
    if not text:
        return None
    first, *rest = text.expandtabs().splitlines() or [""]
    margin = min((len(line) - len(line.lstrip()) for line in rest if line.strip()), default=0)
    return "\n".join([first.strip(), *(line[margin:].rstrip() for line in rest)]).strip() or None


def _parameter(each: Parameter) -> dict[str, Any]:
    computed = callable(each.default) and not isinstance(each.default, type)
    return {
        "name": each.name,
        **({"attribute": each.attribute} if each.attribute != each.name else {}),
        "type": each.type_name,
        **({} if each.separator is None else {"separator": each.separator}),
        "default": repr(each.default) if each.has_default and not computed else None,
        "has_default": each.has_default,
        "required": each.required,
        "help": each.help,
        "line": each.line,
    }


def _flow_decorators(flow: type) -> list[dict[str, Any]]:
    """What stands on the flow and its bases; what stands nearer to the flow wins over the same further away."""
    asked: dict[str, dict[str, Any]] = {}
    for each in flow.__mro__:
        for decorator in vars(each).get(ASKED, ()):
            asked.setdefault(decorator["name"], decorator)
    return list(asked.values())


def _parameter_problems(flow: type, graph: Graph) -> list[Problem]:
    problems: list[Problem] = []
    seen: set[str] = set()
    for attribute, each in held_parameters(flow):
        checks = (
            ("parameter_name", not _is_name(each.name), "is not a name of letters, digits, '_' and '-'"),
            ("parameter_hides", _hides(each.name) or _hides(attribute), "hides a name of FlowSpec itself"),
            ("parameter_hides", each.name in graph.nodes, "has the name of a step"),
            ("parameter_reserved", each.name in RESERVED, "has the name of an option of 'run'"),
            ("parameter_twice", each.name in seen, "is declared twice"),
        )
        seen.add(each.name)
        for code, wrong, what in checks:
            if wrong:
                text = f"parameter {each.name!r} (self.{attribute}) {what}."
                problems.append(Problem(code, each.line, None, text, "Give it another name."))
    return problems


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name.replace("-", "_").isidentifier() and name[0] not in "_-"


def _hides(name: object) -> bool:
    return isinstance(name, str) and hasattr(FlowSpec, name)


def _decorator_problems(flow: type, graph: Graph) -> list[Problem]:
    problems = []
    places: list[tuple[str | None, list[dict[str, Any]]]] = [
        (node.name, node.decorators) for node in graph.nodes.values()
    ]
    places += [(None, vars(each).get(ASKED, [])) for each in flow.__mro__]
    for step, decorators in places:
        names = [each["name"] for each in decorators]
        for at, each in enumerate(decorators):
            if each["name"] in names[:at] and each["name"] not in _MAY_REPEAT:
                what = f"@{each['name']} stands twice on {step or flow.__name__}."
                problems.append(Problem("decorator_twice", each["line"], step, what, "Merge them into one."))
    return problems
