"""Entities of a crate that say what could run: the flow, its steps, parameters, code and packages."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator, Mapping
from typing import Any

from stillrun_reports.evidence.crate_files import Contents
from stillrun_reports.evidence.dossier import Dossier, Task
from stillrun_reports.evidence.packages import package_url
from stillrun_reports.evidence.spelling import identifier, plain
from stillrun_snapshot.tree import FileEntry

__all__ = ["Entity", "flow_entities", "input_id", "output_id", "package_entities", "refer", "workflow_id"]

Entity = dict[str, Any]

_TYPES = {"int": "Integer", "float": "Float", "str": "Text", "bool": "Boolean", "JSON": "Text"}


def refer(name: str) -> dict[str, str]:
    """A reference to an entity."""
    return {"@id": name}


def workflow_id(dossier: Dossier) -> str:
    """The flow's file."""
    return f"code/{identifier(*dossier.code['flow_file'].split('/'))}"


def output_id(step: str, name: str) -> str:
    """What a step makes under a name."""
    return f"#output/{identifier(step, name)}"


def input_id(step: str, name: str) -> str:
    """What a step is handed under a name."""
    return f"#input/{identifier(step, name.rsplit('/', 1)[-1])}"


def flow_entities(dossier: Dossier, contents: Contents) -> Iterator[Entity]:
    """The workflow, its parameters with their values, steps with their tools, and every file of code."""
    ran = {task.record["step"] for task in dossier.tasks}
    yield _workflow(dossier, contents, ran)
    for parameter in dossier.description["parameters"]:
        yield _parameter(parameter)
    for name, entry in dossier.given.items():
        yield {
            "@id": f"#value/{identifier(name)}",
            "@type": "PropertyValue",
            "name": plain(name),
            "value": plain(entry["text"]),
            "exampleOfWork": refer(f"#parameter/{identifier(name)}"),
        }
    for name, entry in dossier.record.get("constants", {}).items():
        yield {
            "@id": f"#parameter/{identifier(name)}",
            "@type": "FormalParameter",
            "name": plain(name),
            "additionalType": "Text",
            "description": "A constant of the flow.",
            "defaultValue": plain(entry["text"]),
        }
    yield {
        "@id": "#stillrun",
        "@type": "SoftwareApplication",
        "name": "Stillrun",
        "version": dossier.record["stillrun"],
        "identifier": f"pkg:pypi/stillrun@{dossier.record['stillrun']}",
    }
    yield {
        "@id": "#python-flow",
        "@type": "ComputerLanguage",
        "name": "Stillrun flow in Python",
        "identifier": refer("https://www.python.org/"),
        "url": refer("https://www.python.org/"),
    }
    yield from _ports(dossier)
    for position, step in enumerate(dossier.description["steps"], 1):
        yield from _step(dossier, step, position)
    yield from _code(dossier)


def _workflow(dossier: Dossier, contents: Contents, ran: set[str]) -> Entity:
    flow, git = dossier.code["flow_file"], dossier.code["git"] or {}
    digest = contents.files[f"code/{flow}"]
    steps = [step["name"] for step in dossier.description["steps"]]
    outputs = {output_id(t.record["step"], n): None for t in dossier.tasks if t.record["next"] is None for n in t.made}
    return {
        "@id": workflow_id(dossier),
        "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
        "name": plain(dossier.record["flow"]),
        "description": plain(dossier.description.get("doc") or ""),
        "programmingLanguage": refer("#python-flow"),
        "encodingFormat": "text/x-python",
        "sha256": digest.hex,
        "contentSize": str(contents.sizes[digest]),
        "version": git.get("commit"),
        "codeRepository": [plain(one) for one in (git.get("remotes") or {}).values()],
        "input": [refer(f"#parameter/{identifier(name)}") for name in dossier.given],
        "output": [refer(one) for one in outputs],
        "step": [refer(f"#step/{identifier(step)}") for step in steps],
        "hasPart": [refer(f"#tool/{identifier(step)}") for step in steps if step in ran],
    }


def _parameter(parameter: Mapping[str, Any]) -> Entity:
    name = parameter.get("attribute") or parameter["name"]
    return {
        "@id": f"#parameter/{identifier(name)}",
        "@type": "FormalParameter",
        "name": plain(parameter["name"]),
        "additionalType": _TYPES.get(parameter["type"], "Text"),
        "description": plain(parameter["help"] or ""),
        "defaultValue": None if parameter["default"] is None else plain(parameter["default"]),
        "valueRequired": str(bool(parameter["required"])),
    }


def _ports(dossier: Dossier) -> Iterator[Entity]:
    """What each step was handed and what it made, by name."""
    found: dict[str, Entity] = {}
    for task in dossier.tasks:
        step = task.record["step"]
        for key, names in ((output_id, task.made), (input_id, task.used)):
            for name in names:
                found.setdefault(
                    key(step, name),
                    {
                        "@id": key(step, name),
                        "@type": "FormalParameter",
                        "name": plain(name.rsplit("/", 1)[-1]),
                        "additionalType": "Collection",
                    },
                )
    yield from found.values()


def _step(dossier: Dossier, step: Mapping[str, Any], position: int) -> Iterator[Entity]:
    name = identifier(step["name"])
    tasks = [task for task in dossier.tasks if task.record["step"] == step["name"]]
    links = _connections(dossier, step["name"], tasks)
    yield {
        "@id": f"#step/{name}",
        "@type": "HowToStep",
        "name": plain(step["name"]),
        "position": str(position),
        "description": plain(step["doc"] or ""),
        "workExample": refer(f"#tool/{name}"),
        "connection": [refer(one["@id"]) for one in links],
    }
    yield {
        "@id": f"#tool/{name}",
        "@type": "SoftwareApplication",
        "name": plain(f"step {step['name']}"),
        "description": plain(step["doc"] or ""),
        "input": _unique(input_id(step["name"], one) for task in tasks for one in task.used),
        "output": _unique(output_id(step["name"], one) for task in tasks for one in task.made),
        "softwareRequirements": [refer(one) for one in _packages_of(dossier, step["name"])],
    }
    yield from links


def _connections(dossier: Dossier, step: str, tasks: list[Task]) -> list[Entity]:
    makers = {digest: task.record["step"] for task in reversed(dossier.tasks) for digest in task.made.values()}
    pairs = {
        (makers[digest], name.rsplit("/", 1)[-1]): None
        for task in tasks
        for name, digest in task.used.items()
        if digest in makers
    }
    return [
        {
            "@id": f"#connection/{identifier(maker, step, name)}",
            "@type": "ParameterConnection",
            "sourceParameter": refer(output_id(maker, name)),
            "targetParameter": refer(input_id(step, name)),
        }
        for maker, name in pairs
        if any(name in task.made for task in dossier.tasks if task.record["step"] == maker)
    ]


def _unique(names: Iterator[str]) -> list[dict[str, str]]:
    return [refer(name) for name in dict.fromkeys(names)]


def _packages_of(dossier: Dossier, step: str) -> list[str]:
    lock = dossier.environment_of(step).lock
    return [] if lock is None else [f"#package/{one.digest.hex}" for one in lock.packages]


def package_entities(dossier: Dossier) -> Iterator[Entity]:
    """Every package of every lock, by the digest of its file."""
    seen = set()
    for environment in dossier.environments:
        for one in environment.lock.packages if environment.lock is not None else ():
            if one.digest not in seen:
                seen.add(one.digest)
                yield {
                    "@id": f"#package/{one.digest.hex}",
                    "@type": "SoftwareApplication",
                    "name": plain(one.name),
                    "version": plain(one.version),
                    "identifier": package_url(one),
                    "sha256": one.digest.hex,
                }


def _code(dossier: Dossier) -> Iterator[Entity]:
    for path, entry in dossier.code_files.items():
        if isinstance(entry, FileEntry) and path != dossier.code["flow_file"]:
            form = mimetypes.guess_type(path)[0] or "application/octet-stream"
            yield {
                "@id": f"code/{identifier(*path.split('/'))}",
                "@type": "File",
                "name": plain(path),
                "encodingFormat": form,
                "sha256": entry.digest.hex,
                "contentSize": str(entry.size),
            }
