"""A run as PROV: which activities used and generated which entities, for whom. PROV-JSON (docs/spec/evidence.md §6)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stillrun_reports.evidence.dossier import Dossier, Task
from stillrun_reports.evidence.spelling import document, plain
from stillrun_snapshot.digest import Digest, digest_of

__all__ = ["prov_document", "prov_text"]

_PREFIX = {"sr": "urn:stillrun:", "schema": "http://schema.org/"}
Record = dict[str, Any]


def prov_text(dossier: Dossier) -> str:
    """The document as it is written."""
    return document(prov_document(dossier))


def prov_document(dossier: Dossier) -> Record:
    """The run, its tasks and replays as activities; code, environments, artifacts and files as entities named by digest."""
    found: Record = {"prefix": dict(_PREFIX), "entity": {}, "activity": {}, "agent": {}}
    for kind, name, facts in _statements(dossier):
        group = found.setdefault(kind, {})
        group[name or f"_:{kind}{len(group) + 1}"] = facts
    return found


def _statements(dossier: Dossier) -> Iterator[tuple[str, str | None, Record]]:
    """Kind of statement, its identifier (None: it needs none), and its facts."""
    yield from _agents(dossier)
    yield from _entities(dossier)
    run, record = f"sr:run-{dossier.run.digest.hex}", dossier.record
    said = {"prov:label": plain(f"run {dossier.run.pathspec}"), "sr:status": dossier.status}
    yield "activity", run, {**_times(record["started"], dossier.finished), **said}
    plan = f"sr:code-{Digest(dossier.code['tree']).hex}"
    yield "wasAssociatedWith", None, {"prov:activity": run, "prov:agent": "sr:stillrun", "prov:plan": plan}
    if record["user"]:
        yield "wasAssociatedWith", None, {"prov:activity": run, "prov:agent": _user(record["user"])}
    for name, entry in dossier.given.items():
        used = {"prov:activity": run, "prov:entity": _artifact(Digest(entry["artifact"]))}
        yield "used", None, {**used, "prov:role": plain(name)}
    for task in dossier.tasks:
        yield from _task(dossier, run, task)
    for one in dossier.judgements:
        replay, verdict = f"sr:run-{one.replay_digest.hex}", f"sr:verdict-{one.digest.hex}"
        if replay != run:
            label = {"prov:label": plain(f"replay {one.verdict['replay']}")}
            end = one.replay.get("finished") or one.replay["started"]
            yield "activity", replay, {**_times(one.replay["started"], end), **label}
            yield "wasInformedBy", None, {"prov:informed": replay, "prov:informant": run}
        yield "entity", verdict, {"prov:label": f"verdict: {one.verdict['verdict']}", "schema:sha256": one.digest.hex}
        yield "wasGeneratedBy", None, {"prov:entity": verdict, "prov:activity": replay}


def _agents(dossier: Dossier) -> Iterator[tuple[str, str, Record]]:
    engine = {"$": "prov:SoftwareAgent", "type": "prov:QUALIFIED_NAME"}
    yield "agent", "sr:stillrun", {"prov:type": engine, "prov:label": f"Stillrun {dossier.record['stillrun']}"}
    if dossier.record["user"]:
        person = {"$": "prov:Person", "type": "prov:QUALIFIED_NAME"}
        yield "agent", _user(dossier.record["user"]), {"prov:type": person, "prov:label": plain(dossier.record["user"])}


def _entities(dossier: Dossier) -> Iterator[tuple[str, str, Record]]:
    tree = Digest(dossier.code["tree"])
    plan = {"$": "prov:Plan", "type": "prov:QUALIFIED_NAME"}
    yield "entity", f"sr:code-{tree.hex}", {"prov:type": plan, **_named(f"code {dossier.code['flow_file']}", tree)}
    for environment in dossier.environments:
        steps = ", ".join(environment.steps)
        yield "entity", _environment(environment.name), _named(f"environment of {steps}", environment.name)
    for digest, artifact in dossier.artifacts.items():
        yield "entity", _artifact(digest), _named(f"{artifact['type']}: {artifact['preview']}", digest)
    for task in dossier.tasks:
        for file in task.record["files"]:
            if file["digest"] and file["base"] != "system":
                yield "entity", _file(file["digest"]), _named(file["path"], Digest(file["digest"]))


def _task(dossier: Dossier, run: str, task: Task) -> Iterator[tuple[str, str | None, Record]]:
    activity = f"sr:task-{task.digest.hex}"
    said = {"prov:label": plain(task.name), "sr:status": task.record["status"]}
    yield "activity", activity, {**_times(task.record["started"], task.record["finished"]), **said}
    yield "wasStartedBy", None, {"prov:activity": activity, "prov:starter": run}
    yield "wasAssociatedWith", None, {"prov:activity": activity, "prov:agent": "sr:stillrun"}
    environment = _environment(dossier.environment_of(task.record["step"]).name)
    yield "used", None, {"prov:activity": activity, "prov:entity": environment}
    for name, digest in task.used.items():
        yield "used", None, {"prov:activity": activity, "prov:entity": _artifact(digest), "prov:role": plain(name)}
    for file in task.record["files"]:
        if file["digest"] and file["base"] != "system":
            yield "used", None, {"prov:activity": activity, "prov:entity": _file(file["digest"])}
    for number, (name, digest) in enumerate(sorted(task.made.items())):
        # an entity is generated once (PROV-CONSTRAINTS 24), and two tasks may make the same bytes
        made = f"sr:made-{task.digest.hex}-{number}"
        yield "entity", made, {"prov:label": plain(f"{task.name}/{name}")}
        yield "specializationOf", None, {"prov:specificEntity": made, "prov:generalEntity": _artifact(digest)}
        yield "wasGeneratedBy", None, {"prov:entity": made, "prov:activity": activity, "prov:role": plain(name)}


def _times(started: str, finished: str) -> Record:
    return {"prov:startTime": started, "prov:endTime": finished}


def _named(label: str, digest: Digest) -> Record:
    return {"prov:label": plain(label, 300), "schema:sha256": digest.hex}


def _user(name: str) -> str:
    return f"sr:user-{digest_of(name.encode()).hex[:16]}"


def _artifact(digest: Digest) -> str:
    return f"sr:artifact-{digest.hex}"


def _environment(digest: Digest) -> str:
    return f"sr:environment-{digest.hex}"


def _file(digest: str) -> str:
    return f"sr:file-{Digest(digest).hex}"
