"""All that comes before the first task: capture the code, describe the flow, resolve environments, convert parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillrun_engine.archive import KeptRun
from stillrun_engine.caller import Caller
from stillrun_engine.errors import FlowRefused, error_of
from stillrun_engine.guard import check_texts
from stillrun_engine.inputs import InputLimits
from stillrun_engine.local import LocalExecutor, load_request
from stillrun_engine.parts import keep_output
from stillrun_engine.places import Places, ambient_of, find_places
from stillrun_engine.reporter import Reporter
from stillrun_engine.stopping import StopSignals
from stillrun_engine.warm import WarmHost
from stillrun_engine.workspace import root_of
from stillrun_snapshot.capture import Captured, capture_code
from stillrun_snapshot.checkout import checkout
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

if TYPE_CHECKING:
    from stillrun_envs.keeping import KeepPackages

__all__ = ["Described", "Prepared", "Resumed", "RunRequest", "describe", "prepare"]


@dataclass(frozen=True)
class Resumed:
    """An earlier run to go on from. again: steps that run again in any case, with all that follow them.

    parameters: whether its parameters are taken where none are given. strict: every file of the captured tree is code.
    code, environments: whether those of the earlier run are taken, whatever today's are.
    """

    run: KeptRun
    again: tuple[str, ...] = ()
    parameters: bool = True
    strict: bool = False
    code: bool = False
    environments: bool = False


@dataclass(frozen=True)
class RunRequest:
    """What to run and how. parameters: name -> text, as typed."""

    flow_file: Path
    caller: Caller
    class_name: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    max_workers: int = 2
    fresh_process: bool = False
    offline: bool = False
    environment: str = "ambient"  # of steps that ask for none: 'ambient', 'pypi' or 'conda'
    keep_packages: KeepPackages = "all"
    tags: tuple[str, ...] = ()
    namespace: str | None = None  # what its steps look through; every run when empty, the user's own when None
    configs: Mapping[str, str] = field(default_factory=dict)  # texts of the flow's configurations, by name
    decorated: tuple[str, ...] = ()  # decorators for every step, as typed: 'retry:times=2'
    splits_max: int | None = None  # most tasks of one foreach
    allowed_secrets: Mapping[str, str] = field(default_factory=dict)  # rules that may be kept all the same, and why
    resumed: Resumed | None = None  # the run whose tasks are reused where they can be
    limits: InputLimits = field(default_factory=InputLimits)


@dataclass(frozen=True)
class Described:
    """A captured flow and what the caller's interpreter says of it. ``executor`` holds the warm host: close it."""

    captured: Captured
    warm: WarmHost
    ambient: Digest
    executor: LocalExecutor
    modules: frozenset[str]
    description: Mapping[str, Any]
    takes: frozenset[str] = frozenset()  # what its host knows of a SPEC beyond what every host does


@dataclass(frozen=True)
class Prepared:
    """A flow that may run now. parameters: artifact records by name; shown: their texts for the run's record.

    constants: as shown, of the class attributes that are plain data.
    """

    described: Described
    places: Places
    parameters: Mapping[str, Digest]
    shown: Mapping[str, Any]
    constants: Mapping[str, Any]


def describe(store: Store, request: RunRequest, stop: StopSignals, warm: WarmHost) -> Described:
    """Capture the code and let a host in the caller's environment import and describe the flow.

    warm: a host that nobody has used yet; this function takes it over.
    Raises FlowRefused when the flow cannot be imported. Problems of its graph are in the description.
    """
    caller = request.caller
    try:
        check_texts(request.configs, "configuration", request.allowed_secrets)
        captured = _code(store, request)
        flow_file = store.get_record(captured.code, "code")["flow_file"]
        load = load_request(
            checkout(store, captured.tree),
            flow_file,
            request.flow_file,
            request.class_name,
            caller.cwd,
            configs={**_recorded_configs(request), **request.configs},
            decorated=request.decorated,
        )
        warm.process.begin(load)  # it imports the flow while we look at its environment
        ambient = ambient_of(store, caller)
    except BaseException:
        warm.process.close()
        raise
    executor = LocalExecutor(request.max_workers, load, fresh=request.fresh_process, wake=stop.wake)
    try:
        executor.offer(ambient, warm.launch, warm.process)
        loaded = executor.load(ambient).header
    except BaseException:
        executor.close()
        raise
    modules, takes = frozenset(loaded["modules"]), frozenset(loaded.get("takes", ()))
    return Described(captured, warm, ambient, executor, modules, loaded["description"], takes)


def _recorded_configs(request: RunRequest) -> Mapping[str, str]:
    """The configurations of the run that is gone on from, as its parameters."""
    resumed = request.resumed
    found: Mapping[str, str] = resumed.run.description.get("configs", {}) if resumed and resumed.parameters else {}
    return found


def _code(store: Store, request: RunRequest) -> Captured:
    """The code to run: as it is now, or as the earlier run had it."""
    if request.resumed is None or not request.resumed.code:
        return capture_code(store, request.flow_file, allowed=request.allowed_secrets.keys())
    record = request.resumed.run.record
    code = store.get_record(Digest(record["code"]), "code")
    root = root_of(Path(record["source"]), code["flow_file"])
    return Captured(Digest(record["code"]), Digest(code["tree"]), root, (), 0, 0)


def prepare(store: Store, request: RunRequest, described: Described, reporter: Reporter) -> Prepared:
    """Refuse a faulty graph, have every environment ready, and apply the flow's own parameter types."""
    description = described.description
    if description["problems"]:
        raise _refused(description)
    parameters, shown, constants = _convert_parameters(store, request, described)
    resumed = request.resumed
    recorded = resumed.run if resumed is not None and resumed.environments else None
    places = find_places(
        store,
        description,
        request.caller,
        described.warm.folder,
        described.ambient,
        folder=_folder(store, request, described),
        recorded=recorded,
        offline=request.offline,
        default=request.environment,
        keep=request.keep_packages,
        offer=described.executor.offer,
        note=reporter.note,
    )
    return Prepared(described, places, parameters, shown, constants)


def _folder(store: Store, request: RunRequest, described: Described) -> Path:
    """Where the files that decorators name are looked for."""
    if request.resumed is None or not request.resumed.code:
        return request.flow_file.parent
    flow_file = str(store.get_record(described.captured.code, "code")["flow_file"])
    return (checkout(store, described.captured.tree) / flow_file).parent


def _convert_parameters(
    store: Store, request: RunRequest, described: Described
) -> tuple[dict[str, Digest], dict[str, Any], dict[str, Any]]:
    texts: dict[str, str] = {**_from_variables(described.description, request.caller.variables), **request.parameters}
    check_texts(texts, "parameter", request.allowed_secrets)
    answer = described.executor.host(described.ambient).ask({"op": "parameters", "values": texts})
    if answer.header["op"] == "refused":
        raise error_of(answer.header["error"])
    outputs = answer.header["artifacts"]
    check_texts({name: output["preview"] for name, output in outputs.items()}, "parameter", request.allowed_secrets)
    kept = {name: keep_output(store, output, answer.body, store.root) for name, output in outputs.items()}
    shown = {name: {"artifact": digest, "text": outputs[name]["preview"]} for name, digest in kept.items()}
    recorded = request.resumed.run.record["parameters"] if request.resumed and request.resumed.parameters else {}
    given = {
        each.get("attribute", each["name"]) for each in described.description["parameters"] if each["name"] in texts
    }
    for name in (recorded.keys() & kept.keys()) - texts.keys() - given:
        kept[name], shown[name] = Digest(recorded[name]["artifact"]), dict(recorded[name])
    constants = {
        name: {"artifact": keep_output(store, output, answer.body, store.root), "text": output["preview"]}
        for name, output in answer.header.get("constants", {}).items()
    }
    return kept, shown, constants


def _from_variables(description: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, str]:
    """Parameters set by STILLRUN_RUN_NAME, or by METAFLOW_RUN_NAME as Metaflow's users know it."""
    found = {}
    for parameter in description["parameters"]:
        name = parameter["name"]
        plain = name.upper().replace("-", "_")
        for variable in (f"STILLRUN_RUN_{plain}", f"METAFLOW_RUN_{plain}"):
            if variable in variables:
                found[name] = variables[variable]
                break
    return found


def _refused(description: Mapping[str, Any]) -> FlowRefused:
    problems = description["problems"]
    lines = [f"{description['file']}:{p['line']}: {p['what']} {p['cure']}" for p in problems]
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    return FlowRefused(f"{description['name']} cannot run: {count} in its graph.\n  " + "\n  ".join(lines), problems)
