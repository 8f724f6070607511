"""Entities of a crate that say what happened: the run, its tasks, what they were given, what they made, and replays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stillrun_reports.evidence.crate_files import Contents
from stillrun_reports.evidence.crate_parts import Entity, input_id, output_id, refer, workflow_id
from stillrun_reports.evidence.dossier import Dossier, Task
from stillrun_reports.evidence.spelling import identifier, plain
from stillrun_snapshot.digest import Digest

__all__ = ["RUN", "action_entities", "task_id"]

RUN = "#run"
_STATUS = "http://schema.org/{}ActionStatus"
_USAGE = {"max_rss_kib": "KiB", "user_us": "microseconds", "system_us": "microseconds"}


def task_id(task: Mapping[str, Any]) -> str:
    """The action of one attempt at a task."""
    again = f"/attempt/{task['attempt']}" if task["attempt"] else ""
    return f"#task/{identifier(task['step'], task['task'])}{again}"


def action_entities(dossier: Dossier, contents: Contents) -> Iterator[Entity]:
    """The run, one action for each attempt at each task, replays, and all data that they name."""
    yield _run(dossier)
    for name, value in dossier.record["variables"].items():
        yield {"@id": f"#variable/{identifier(name)}", "@type": "PropertyValue", "name": name, "value": plain(value)}
    if dossier.tasks:
        yield _organized(dossier)
    for task in dossier.tasks:
        yield from _task(dossier, contents, task)
    for judgement in dossier.judgements:
        yield {
            "@id": f"#replay/{judgement.digest.hex}",
            "@type": "AssessAction",
            "instrument": refer("#stillrun"),
            "name": plain(f"Replay {judgement.verdict['replay']}: {judgement.verdict['verdict']}"),
            "startTime": judgement.replay["started"],
            "endTime": judgement.replay.get("finished"),
            "object": refer(RUN),
            "result": refer(f"verdict-{judgement.digest.hex[:12]}.json"),
        }
    yield from _data(dossier, contents)


def _run(dossier: Dossier) -> Entity:
    record = dossier.record
    last = [task for task in dossier.tasks if task.record["next"] is None and task.record["status"] == "ok"]
    failure = record.get("failure")
    said = f"{failure['step']}/{failure['task']}: {_said(failure['error'])}" if failure else dossier.status
    return {
        "@id": RUN,
        "@type": "CreateAction",
        "name": plain(f"Run {dossier.run.pathspec}"),
        "description": plain(_machine(record["machine"])),
        "instrument": refer(workflow_id(dossier)),
        "agent": refer("#user") if record["user"] else None,
        "startTime": record["started"],
        "endTime": dossier.finished,
        "object": [refer(f"#value/{identifier(name)}") for name in dossier.given],
        "result": _distinct(_artifact_id(one) for task in last for one in task.made.values()),
        "environment": [refer(f"#variable/{identifier(name)}") for name in record["variables"]],
        **_ending("ok" if dossier.status == "ok" else "failed", said),
    }


def _organized(dossier: Dossier) -> Entity:
    return {
        "@id": "#organized",
        "@type": "OrganizeAction",
        "name": plain(f"Stillrun {dossier.record['stillrun']} runs {dossier.run.pathspec}"),
        "instrument": refer("#stillrun"),
        "agent": refer("#user") if dossier.record["user"] else None,
        "startTime": dossier.record["started"],
        "endTime": dossier.finished,
        "object": [refer(_control_id(task)) for task in dossier.tasks],
        "result": refer(RUN),
    }


def _control_id(task: Task) -> str:
    return f"#control/{identifier(task.record['step'], task.record['task'])}"


def _task(dossier: Dossier, contents: Contents, task: Task) -> Iterator[Entity]:
    earlier = [dossier.store.get_record(Digest(one), "task") for one in task.record.get("attempts", ())]
    attempts = [*earlier, task.record]
    step = task.record["step"]
    yield {
        "@id": _control_id(task),
        "@type": "ControlAction",
        "name": plain(f"Execution of {task.name}"),
        "instrument": refer(f"#step/{identifier(step)}"),
        "object": [refer(task_id(one)) for one in attempts],
    }
    for record in attempts:
        made = task.made if record is task.record else {n: Digest(d) for n, d in record["artifacts"].items()}
        yield _action(dossier, contents, task, record, made)
        for what, amount in record["usage"].items():
            if what in _USAGE:
                yield {
                    "@id": f"{task_id(record)}/{what}",
                    "@type": "PropertyValue",
                    "name": what,
                    "propertyID": f"urn:stillrun:usage:{what}",
                    "value": str(amount),
                    "unitText": _USAGE[what],
                }


def _action(
    dossier: Dossier, contents: Contents, task: Task, record: Mapping[str, Any], made: Mapping[str, Digest]
) -> Entity:
    given = [_artifact_id(one) for one in task.used.values()]
    given += [f"#value/{identifier(name)}" for name in dossier.given]
    given += [_data_id(contents, Digest(one["digest"])) for one in record["files"] if one["digest"] and _is_data(one)]
    reused = f", taken over from {record['reused']}" if "reused" in record else ""
    return {
        "@id": task_id(record),
        "@type": "CreateAction",
        "name": plain(f"{task.name}{reused}"),
        "instrument": refer(f"#tool/{identifier(record['step'])}"),
        "startTime": record["started"],
        "endTime": record["finished"],
        "object": _distinct(iter(given)),
        "result": _distinct(_artifact_id(one) for one in made.values() if one in dossier.artifacts),
        "resourceUsage": [refer(f"{task_id(record)}/{what}") for what in record["usage"] if what in _USAGE],
        **_ending(record["status"], _said(record["error"]) if record["error"] else record["status"]),
    }


def _ending(status: str, said: str) -> Entity:
    if status == "ok":
        return {"actionStatus": refer(_STATUS.format("Completed"))}
    return {"actionStatus": refer(_STATUS.format("Failed")), "error": plain(said)}


def _said(error: Mapping[str, Any]) -> str:
    return f"{error['type']}: {error['message']}"


def _machine(machine: Mapping[str, Any]) -> str:
    return (
        f"On {machine['system']} {machine['release']}, {machine['machine']}, {machine['processor']}, {machine['libc']}."
    )


def _is_data(file: Mapping[str, Any]) -> bool:
    return bool(file["base"] != "system")


def _data_id(contents: Contents, digest: Digest) -> str:
    return contents.path_of(digest) or f"#data/{digest.hex}"


def _artifact_id(digest: Digest) -> str:
    return f"#artifact/{digest.hex}"


def _distinct(names: Iterator[str]) -> list[dict[str, str]]:
    return [refer(name) for name in dict.fromkeys(names)]


def _data(dossier: Dossier, contents: Contents) -> Iterator[Entity]:
    works, about = _works(dossier), dict[Digest, list[str]]()
    names: dict[Digest, list[str]] = {}
    sizes: dict[Digest, int | None] = {}
    for digest, artifact in dossier.artifacts.items():
        parts = [Digest(part["digest"]) for part in artifact["parts"]]
        label = f"{artifact['type']} {artifact['preview']}"
        yield {
            "@id": f"#artifact/{digest.hex}",
            "@type": "Collection",
            "name": plain(artifact["type"]),
            "description": plain(artifact["preview"]),
            "sha256": digest.hex,
            "contentSize": str(artifact["size"]),
            "exampleOfWork": [refer(one) for one in works.get(digest, ())],
            "mainEntity": refer(_data_id(contents, parts[0])),
            "hasPart": _distinct(_data_id(contents, one) for one in parts),
        }
        for part, one in zip(parts, artifact["parts"], strict=True):
            names.setdefault(part, []).append(label)
            sizes[part] = one["size"]
    for task in dossier.tasks:
        for stream, one in task.record["logs"].items():
            names.setdefault(Digest(one), []).append(f"{stream} of {task.name}")
            about.setdefault(Digest(one), []).append(task_id(task.record))
        for file in task.record["files"]:
            if file["digest"] and _is_data(file):
                names.setdefault(Digest(file["digest"]), []).append(file["path"])
                sizes[Digest(file["digest"])] = file["size"]
    for digest, labels in names.items():
        yield _datum(contents, digest, labels[0], sizes.get(digest), about.get(digest, []))


def _datum(contents: Contents, digest: Digest, label: str, size: int | None, about: list[str]) -> Entity:
    path = contents.path_of(digest)
    size = contents.sizes.get(digest, size)
    why = contents.absent.get(digest, "it was not kept")
    return {
        "@id": path or f"#data/{digest.hex}",
        "@type": "File" if path else "CreativeWork",
        "name": plain(label, 200),
        "description": None if path else f"Not in this crate: {why}.",
        "encodingFormat": ("text/plain" if about else "application/octet-stream") if path else None,
        "sha256": digest.hex,
        "contentSize": None if size is None else str(size),
        "about": [refer(one) for one in about],
    }


def _works(dossier: Dossier) -> dict[Digest, list[str]]:
    """Under which names steps made or were handed each artifact."""
    found: dict[Digest, dict[str, None]] = {}
    for task in dossier.tasks:
        for key, names in ((output_id, task.made), (input_id, task.used)):
            for name, digest in names.items():
                found.setdefault(digest, {})[key(task.record["step"], name)] = None
    return {digest: list(names) for digest, names in found.items()}
