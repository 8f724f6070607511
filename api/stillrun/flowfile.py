"""A flow file, imported once under its own name, and the flow in it."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
import traceback

from stillrun.decorators import ASKED
from stillrun.description import parameters_of
from stillrun.errors import FlowError, StillrunError
from stillrun.failure import error, error_of
from stillrun.flow import FlowSpec, run_as_library
from stillrun.graph import graph_of, steps_of
from stillrun.metaflow_names import is_installed, is_ours, serve_metaflow
from stillrun.modules import ModuleList
from stillrun.nearest import did_you_mean, listed
from stillrun.places import Places, places_of, python_prefixes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass
    from typing import Any, Mapping, Sequence
else:
    from stillrun.light import dataclass

__all__ = ["LoadedFlow", "Refused", "load", "load_as_asked"]


class Refused(Exception):
    """The flow cannot be loaded; ``error`` is the ERROR that says why."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.error = error


@dataclass(frozen=True)
class LoadedFlow:
    """A flow class, where it came from, and what is worked out once for all of its tasks."""

    flow: type
    places: Places
    steps: dict[str, Any]  # name -> function
    parameters: tuple[str, ...]
    modules: ModuleList
    not_recorded: tuple[str, ...]  # folders whose files are not the step's inputs
    end: str = "end"  # its last step


def load(
    file: str,
    source: str,
    class_name: str | None,
    tree: str | None = None,
    *,
    configs: Mapping[str, str] | None = None,
    decorated: Sequence[str] = (),
) -> LoadedFlow:
    """Import a flow file and find its flow. Raises Refused.

    configs: texts of its configurations, by name. decorated: decorators for every step that lacks them, as typed.

    The file's folder goes first on sys.path, and the module is registered under the file's name, so that classes
    defined in it can be pickled.
    """
    places = places_of(file, source, tree)
    if configs:
        from stillrun.configs import given

        given.update(configs)
    module = _imported(places)
    flow = _flow_in(module, class_name, places)
    _change(flow, decorated)
    not_recorded = (*python_prefixes(), places.tree + os.sep)
    names = tuple(each.attribute for each in parameters_of(flow).values())
    return LoadedFlow(flow, places, steps_of(flow), names, ModuleList(places.tree), not_recorded, graph_of(flow).end)


def load_as_asked(header: Mapping[str, Any]) -> LoadedFlow:
    """The flow of a 'load' message of docs/spec/host-protocol.md. Raises Refused."""
    return load(
        header["file"],
        header["source"],
        header.get("class"),
        header.get("tree"),
        configs=header.get("configs"),
        decorated=header.get("decorated") or (),
    )


def _change(flow: Any, decorated: Sequence[str]) -> None:
    """Let the flow's own mutators change it, and put decorators on every step that has none of the name."""
    own = sys.modules.get("stillrun.user_decorators")  # nobody has any who has not loaded it
    if own is not None:
        from stillrun.mutable import mutate, pre_mutate

        _refused_as_flow(pre_mutate, flow)
    if decorated:
        flow.__stillrun_decorated__ = list(decorated)
    for text in decorated:
        _refused_as_flow(_decorate, flow, text)
    if own is not None:
        _refused_as_flow(mutate, flow)


def _refused_as_flow(change: Any, flow: type, *more: str) -> None:
    """Make a change; what it raises keeps the flow from being loaded."""
    try:
        change(flow, *more)
    except StillrunError as err:
        told = f"--with {more[0]}: " if more else ""
        raise Refused(error("flow", told + err.what, cure=err.cure)) from err


def _decorate(flow: Any, text: str) -> None:
    from stillrun.typed import typed_arguments, typed_decorator

    name = text.partition(":")[0]
    if name == "project":
        _choose_branch(flow, typed_arguments(text)[1])
        return
    module = sys.modules.get("stillrun.user_decorators")
    own = module.own_decorator_named(name) if module is not None else None
    for function in steps_of(flow).values():
        if own is not None:
            if _has(function, own):
                continue
            decorator = own(**typed_arguments(text)[1])
            decorator.make_ready()
            decorator(function)
        elif all(each["name"] != name for each in vars(function).get(ASKED, ())):
            typed_decorator(text)[1](function)
    if own is None:
        typed_decorator(text)  # refused even where nobody is left to take it


def _has(function: Any, own: type) -> bool:
    """Whether one of the flow's own decorators stands on a step already."""
    from stillrun.user_decorators import OWN

    return any(isinstance(each, own) for each in vars(function).get(OWN, ()))


def _choose_branch(flow: type, chosen: Mapping[str, Any]) -> None:
    """``--branch`` and ``--production`` of a flow with @project."""
    asked = [each for owner in flow.__mro__ for each in vars(owner).get(ASKED, ()) if each["name"] == "project"]
    if not asked:
        raise FlowError(
            "a branch was chosen, and the flow has no @project.", cure="Put @project(name=...) on the flow."
        )
    asked[0]["attributes"] = {**asked[0]["attributes"], **chosen}


def _imported(places: Places) -> Any:
    # a dot would make pickle look for a package; all else that a file can be called is a module's name as well
    name = os.path.splitext(os.path.basename(places.file))[0].replace(".", "_")
    if name in sys.modules:
        raise Refused(
            error(
                "import",
                f"the flow file {os.path.basename(places.source)} has the name of the module {name!r}, "
                "which Python itself needs.",
                file=places.source,
                cure="Give the file another name.",
            )
        )
    run_as_library()
    serve_metaflow()
    sys.argv = [places.source]
    sys.path.insert(0, os.path.dirname(places.file))
    loader = importlib.machinery.SourceFileLoader(name, places.file)
    spec = importlib.util.spec_from_file_location(name, places.file, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException as err:  # also SystemExit: the file is asked to be imported, not to end this process
        del sys.modules[name]
        raise Refused(_error_of_import(err, places)) from err
    return module


def _error_of_import(err: BaseException, places: Places) -> dict[str, Any]:
    if isinstance(err, SyntaxError):
        return _error_of_syntax(err, places)
    found = error_of(err, places)
    if isinstance(err, ImportError):
        return {**found, "kind": "import", "cure": _import_cure(err), "message": _import_message(err)}
    if isinstance(err, FileNotFoundError) and err.filename == places.file:
        return {**found, "kind": "no_flow", "cure": "Check the path.", "traceback": None}
    if isinstance(err, SystemExit):
        found["message"] = f"the flow file ended Python while it was imported (SystemExit: {err})"
        found["cure"] = "Put what runs the flow under: if __name__ == '__main__':"
    return found


def _error_of_syntax(err: SyntaxError, places: Places) -> dict[str, Any]:
    text = "".join(traceback.format_exception_only(type(err), err))
    return error(
        "syntax",
        f"{err.msg} (line {err.lineno})",
        type=type(err).__name__,
        file=places.shown(err.filename) if err.filename else places.source,
        line=err.lineno,
        traceback=places.shown_in(text),
        cure="Mend the line that is shown.",
    )


def _import_message(err: ImportError) -> str:
    return f"the flow file cannot be imported: {err}"


def _import_cure(err: ImportError) -> str:
    root = (err.name or "").split(".")[0]
    if is_ours(err.name):
        return (
            "docs/from-metaflow.md lists what Stillrun serves of Metaflow; take the import out, or put it where it is "
            "used, under 'try: ... except ImportError:'."
        )
    if not isinstance(err, ModuleNotFoundError) or not root:
        return "Mend the import, or move it into the steps that need it."
    return (
        f"Install {root!r} for {sys.executable}, or import it inside the steps that need it and ask for it there "
        f"with @pypi(packages={{{root!r}: ...}}), or for all steps with @pypi_base."
    )


def _flow_in(module: Any, class_name: str | None, places: Places) -> type:
    name = os.path.basename(places.source)
    flows: dict[str, type] = {key: each for key, each in vars(module).items() if _is_flow(each)}
    if class_name is not None:
        if class_name in flows:
            return flows[class_name]
        cure = did_you_mean(class_name, flows) or f"It has: {listed(flows, 'no flow')}."
        raise Refused(error("no_flow", f"{name} has no flow {class_name!r}.", file=places.source, cure=cure))
    own = [each for each in flows.values() if each.__module__ == module.__name__] or list(flows.values())
    own = list(dict.fromkeys(own))
    leaves = [each for each in own if not any(other is not each and issubclass(other, each) for other in own)]
    if not leaves:
        cure = "Derive a class from FlowSpec: class MyFlow(FlowSpec)."
        if is_installed():
            cure = (
                "It imports Metaflow itself, which is installed here; set STILLRUN_METAFLOW=names to have Stillrun serve "
                "these names, or write 'from stillrun import ...'."
            )
        raise Refused(error("no_flow", f"{name} has no flow.", file=places.source, cure=cure))
    if len(leaves) > 1:
        names = [each.__name__ for each in leaves]
        cure = f"Say which: {name}:{names[0]}."
        raise Refused(
            error("no_flow", f"{name} has {len(names)} flows: {listed(names)}.", file=places.source, cure=cure)
        )
    return leaves[0]


def _is_flow(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, FlowSpec) and value is not FlowSpec
