"""The report of a run: one JSON object that holds all that its pages and exports say. Format: docs/spec/report.md, version 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from stillrun_engine.archive import KeptRun
from stillrun_engine.closure import Needed
from stillrun_engine.tags import system_tags_of, tags_of
from stillrun_reports.comparison import comparison_of
from stillrun_reports.controls import controls_of
from stillrun_reports.custody import custody_of, integrity_of
from stillrun_reports.findings import findings_of, not_checked_of, verdict_of
from stillrun_reports.graph import graph_of
from stillrun_reports.packages import environments_of
from stillrun_reports.questions import questions_of
from stillrun_reports.reading import Reading, Record, microseconds_between
from stillrun_reports.replays import chosen_verdict, replay_of, replays_of
from stillrun_reports.source import code_of, step_sources
from stillrun_reports.tasks import LOG_BYTES, LOGS_TOLD, artifact_entry, artifacts_of, tasks_of
from stillrun_snapshot.clock import Clock, timestamp, utc_now
from stillrun_snapshot.ed25519 import PublicKey
from stillrun_snapshot.record import canonical_bytes
from stillrun_snapshot.store import Store

__all__ = ["SCHEMA", "is_sound", "report_of", "write_report"]

SCHEMA = "stillrun/report/1"


def report_of(
    store: Store,
    run: KeptRun,
    *,
    replay: str | None = None,
    compare: KeptRun | None = None,
    check: bool = True,
    trusted: Sequence[PublicKey] = (),
    licence: str | None = None,
    told: Callable[[Needed, int], None] | None = None,
    clock: Clock = utc_now,
) -> dict[str, Any]:
    """The report of ``run``, a run of ``store``. Nothing is unpickled.

    replay: FLOW/RUN of a replay or the digest of a verdict; the newest replay of the whole run when None.
    compare: a run to lay beside it. check: whether every object is hashed; told: hears of each that was.
    trusted: public keys that somebody was handed; a signature by one of them is then demanded.
    licence: an address or SPDX identifier of the licence that the run's owner gives its code and data.
    """
    replays = replays_of(run)
    chosen = chosen_verdict(run, replays, replay)
    reading = Reading(run, chosen[1] if chosen else None)
    integrity = integrity_of(reading, told, check=check)
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "made": timestamp(clock()),
        "run": _run(store, reading),
        "integrity": integrity,
        "parameters": _parameters(reading),
        "files": _files(reading),
        "code": code_of(reading),
        "environments": environments_of(reading),
        "tasks": tasks_of(reading),
        "artifacts": list(artifacts_of(reading)),
        "replay": replay_of(run, *chosen) if chosen else None,
        "replays": replays,
        "comparison": comparison_of(run, compare) if compare else None,
        "custody": custody_of(reading, trusted),
        "licence": licence,
        "limits": {"logs_told": LOGS_TOLD, "log_bytes": LOG_BYTES},
    }
    report["steps"] = _steps(reading, report["tasks"])
    report["findings"] = findings_of(report)
    report["verdict"] = verdict_of(report)
    report["not_checked"] = not_checked_of(report)
    report["questions"] = questions_of(report)
    report["controls"] = controls_of(report)
    return report


def is_sound(report: Mapping[str, Any]) -> bool:
    """Whether the report has no finding that speaks against the run; notes do not."""
    return not any(one["weight"] == "finding" for one in report["findings"])


def write_report(report: Mapping[str, Any], store: Store, run: KeptRun, folder: Path) -> list[Path]:  # noqa: ARG001 - a Writer
    """Write ``report.json``: canonical bytes, so that equal reports have one digest."""
    path = folder / "report.json"
    path.write_bytes(canonical_bytes(report))
    return [path]


def _run(store: Store, reading: Reading) -> dict[str, Any]:
    run, record, flow = reading.run, reading.run.record, reading.run.description
    finished = record.get("finished")
    return {
        "name": run.pathspec,
        "flow": run.spec.flow,
        "record": run.digest,
        "kind": record["kind"],
        "origin": record["origin"],
        "status": run.status,
        "started": record["started"],
        "finished": finished,
        "wall_us": microseconds_between(record["started"], finished) if finished else None,
        "user": record["user"],
        "tags": sorted(tags_of(store, run.spec.flow, str(run.spec.run), record)),
        "system_tags": sorted(system_tags_of(record)),
        "stillrun": record["stillrun"],
        "source": record["source"],
        "cwd": record["cwd"],
        "doc": flow["doc"],
        "description": record["description"],
        "settings": record["settings"],
        "machine": record["machine"],
        "variables": record["variables"],
        "surroundings": len(record.get("surroundings", {})),
        "captured": record.get("captured", False),
        "not_kept": record.get("not_kept", []),
        "failure": record.get("failure"),
    }


def _parameters(reading: Reading) -> list[dict[str, Any]]:
    """Parameters, and the class attributes that are plain data, with what each is named by."""
    record, flow = reading.run.record, reading.run.description
    declared = {one.get("attribute", one["name"]): one for one in flow["parameters"]}
    found = []
    for kind, given in (("parameter", record["parameters"]), ("constant", record.get("constants", {}))):
        for name, entry in sorted(given.items()):
            told = declared.get(name, {}) if kind == "parameter" else {}
            artifact = artifact_entry(reading, "", "", name, entry["artifact"])
            kept = {field: artifact[field] for field in ("record", "type", "size", "digest", "canonical")}
            default = told.get("default")
            found.append({"kind": kind, "name": name, "text": entry["text"], "default": default, **kept})
            found[-1]["help"] = told.get("help")
    return found


def _files(reading: Reading) -> list[dict[str, Any]]:
    """Every file that tasks read, once for each content, with the steps that read it."""
    read = [
        ({field: file[field] for field in ("base", "path", "size", "digest", "kept", "reason")}, task["step"])
        for task in reading.tasks
        for file in task["files"]
    ]
    read.sort(key=lambda one: (one[0]["path"], one[0]["digest"] or "", one[1]))
    grouped = groupby(read, key=lambda one: one[0])
    return [{**file, "steps": sorted({step for _, step in of})} for file, of in grouped]


def _steps(reading: Reading, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The steps of the flow, its graph, and the source of each."""
    described = reading.run.description["steps"]
    sources, places = step_sources(reading), reading.run.record["steps"]
    nodes, takes = graph_of(described, tasks), _takes(reading)
    return [
        {
            **node,
            "doc": step["doc"],
            "decorators": _decorators(step),
            "takes": takes.get(step["name"], []),
            "environment": places[step["name"]]["environment"] if step["name"] in places else None,
            "source": sources.get(step["name"]),
        }
        for step, node in zip(described, nodes, strict=True)
    ]


def _takes(reading: Reading) -> dict[str, list[dict[str, str | None]]]:
    """By step: the artifacts that its first task was handed, each with the step that made it."""
    found: dict[str, list[dict[str, str | None]]] = {}
    for task in reading.tasks:
        if task["step"] not in found:
            makers: dict[str, str | None] = {}
            for parent in task["inputs"]:
                above = reading.task_of(parent["record"])
                makers |= {name: reading.maker(above, name) for name in above["artifacts"].keys() - makers.keys()}
            found[task["step"]] = [{"name": name, "step": makers[name]} for name in sorted(makers)]
    return found


def _decorators(step: Record) -> list[dict[str, Any]]:
    return [{"name": one["name"], "attributes": one["attributes"]} for one in step["decorators"]]
