"""What a replay is asked to do, and what its own run record says from the beginning."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from stillrun_engine import __version__
from stillrun_engine.archive import KeptRun
from stillrun_engine.caller import Caller
from stillrun_engine.desk import Identity
from stillrun_engine.errors import ReplayRefused, error_of
from stillrun_engine.history import new_run_id
from stillrun_engine.local import LocalExecutor
from stillrun_engine.machine import machine_facts, user_of
from stillrun_engine.parts import keep_output
from stillrun_engine.pathspec import nearest
from stillrun_engine.policy import Policy
from stillrun_snapshot.clock import Clock
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest

__all__ = ["Changed", "ReplayRequest", "granted_afterwards", "head_of", "identity_of", "other_parameters"]

Record = Mapping[str, Any]


@dataclass(frozen=True)
class ReplayRequest:
    """How to replay. offline: a task that opens a network connection fails."""

    caller: Caller
    max_workers: int = 2
    offline: bool = False
    fresh_process: bool = False
    compare_limit_s: float = 60.0  # most time to find out what differs in one artifact
    only: tuple[str, ...] = ()  # steps; all of the pathspec's when empty
    environment: Digest | None = None  # a lock to replay in instead of the recorded ones
    ambient: bool = False  # replay in the caller's environment
    parameters: Mapping[str, str] = field(default_factory=dict)  # other values, as typed
    flow_file: Path | None = None  # code to replay instead of the recorded one
    code: Digest | None = None  # the same, as it is kept already
    no_network: bool = False  # tasks and the programs that they start have no network at all
    explain: bool = True  # find out what differs, where the digests do
    unexplained: frozenset[tuple[str, str, str | None]] = frozenset()  # step, task and artifact: but for these
    trial: bool = False  # one of several that answer one question: lists of runs leave it out
    keep_going: bool = False  # leave out the tasks whose environment or files are not to be had, instead of refusing
    forced: Mapping[str, str] = field(default_factory=dict)  # variables that tasks get, whatever was recorded
    place: Path | None = None  # the folder to replay in, which is made and removed; a fresh one each time when None
    same_path: bool = True  # tasks see it where the original ran, if this machine lets them


@dataclass(frozen=True)
class Changed:
    """What is another than in the original; None or empty where nothing is."""

    environment: Digest | None
    code: Digest | None
    parameters: Mapping[str, Mapping[str, str]]  # name -> artifact and text
    granted: Policy | None = None  # what other code grants, where that is something else; it counts for nothing

    def to_record(self) -> dict[str, Any]:
        """As it stands in a verdict."""
        return {
            "environment": self.environment,
            "code": self.code,
            "parameters": {name: entry["text"] for name, entry in self.parameters.items()},
            "granted": self.granted.to_record() if self.granted else None,
        }


def other_parameters(
    run: KeptRun, request: ReplayRequest, executor: LocalExecutor, tasks: list[Record], other: Digest | None
) -> dict[str, dict[str, str]]:
    """The parameters that are given another value, converted by the flow's own types."""
    if not request.parameters:
        return {}
    attributes = {each["name"]: each.get("attribute", each["name"]) for each in run.description["parameters"]}
    given = {attributes.get(name, name): value for name, value in request.parameters.items()}
    unknown = sorted(set(given) - set(run.record["parameters"]))
    if unknown:
        raise ReplayRefused(
            f"{run.pathspec} has no parameter '{unknown[0]}'.{nearest(unknown[0], list(run.record['parameters']))}"
        )
    host = executor.host(other or tasks[0]["environment"])
    values = {name: _typed(entry["text"]) for name, entry in run.record["parameters"].items()}
    answer = host.ask({"op": "parameters", "values": {**values, **given}})
    if answer.header["op"] == "refused":
        raise error_of(answer.header["error"])
    found = {}
    for name in given:
        output = answer.header["artifacts"][name]
        found[name] = {
            "artifact": keep_output(run.store, output, answer.body, run.store.root),
            "text": output["preview"],
        }
    return found


def granted_afterwards(
    run: KeptRun, request: ReplayRequest, executor: LocalExecutor, tasks: list[Record], other: Digest | None
) -> Policy | None:
    """What another flow file grants, where it is something else than the run did. FlowRefused when it is no flow at all."""
    if request.flow_file is None:
        return None
    granted = Policy.of(executor.load(other or tasks[0]["environment"]).header["description"])
    return None if granted == Policy.of(run.description) else granted


def _typed(text: str) -> str:
    """A recorded value as it would be typed; text stands in quotes there."""
    try:
        return str(ast.literal_eval(text))
    except (ValueError, SyntaxError):
        return text


def identity_of(run: KeptRun, parameters: Mapping[str, str], cwd: Path, *, offline: bool) -> Identity:
    """What `current` shows: what it showed to the original, also where what is replayed is a replay itself."""
    name, record = run.pathspec, run.record
    while record["kind"] == "replay" and run.store.has(Digest(record["origin"]["record"])):
        name, record = record["origin"]["run"], run.store.get_record(Digest(record["origin"]["record"]), "run")
    origin = record["origin"]["run"].split("/")[1] if record["origin"] and record["kind"] == "run" else None
    tags = tuple(record.get("tags", ()))
    return Identity(run.spec.flow, name.split("/")[1], parameters, cwd, offline, record["user"], origin, tags)


def head_of(run: KeptRun, request: ReplayRequest, changed: Changed, clock: Clock) -> dict[str, Any]:
    """What the replay's own run record says from the beginning: what the original's does, and that it is a replay."""
    kept = (
        "code",
        "face",
        "class",
        "description",
        "parameters",
        "constants",
        "steps",
        "cwd",
        "source",
        "variables",
        "umask",
        "tags",
    )
    return {
        **{name: run.record[name] for name in kept if name in run.record},
        **_other_head(run, request, changed),
        "flow": run.spec.flow,
        "run": new_run_id(clock()),
        "kind": "replay",
        "origin": {"run": run.pathspec, "record": run.digest},
        "environments": run.record.get("environments", {}) if changed.environment is None else {},
        "settings": {
            "max_workers": request.max_workers,
            "fresh_process": request.fresh_process,
            "offline": request.offline,
            "no_network": request.no_network,
            **({"trial": True} if request.trial else {}),
            "keep_packages": run.record["settings"].get("keep_packages", "all"),
        },
        "machine": machine_facts(),
        "user": user_of(request.caller.variables),
        "captured": run.record.get("captured", False),
        "not_kept": run.record.get("not_kept", []),
        "failure": None,
        "stillrun": __version__,
    }


def _other_head(run: KeptRun, request: ReplayRequest, changed: Changed) -> dict[str, Any]:
    """What of the record is another than the original's."""
    found: dict[str, Any] = {"parameters": {**run.record["parameters"], **changed.parameters}}
    if changed.code is not None:
        found["code"] = changed.code
    if changed.environment is not None:
        kind = "ambient" if request.ambient else "lock"
        found["steps"] = {step: {"environment": changed.environment, "kind": kind} for step in run.record["steps"]}
    return found
