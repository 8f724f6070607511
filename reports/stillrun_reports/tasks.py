"""The tasks of a run and what came of each, as the report tells them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stillrun_engine.parts import content_digest
from stillrun_reports.reading import Reading, Record, microseconds_between
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import StillrunError

__all__ = ["LOGS_TOLD", "LOG_BYTES", "artifacts_of", "tasks_of"]

LOGS_TOLD = 200
"""Of so many tasks, and of all that failed, the end of what they wrote is told; of all others its digest."""
LOG_BYTES = 4000
_TOGETHER = 200  # tasks whose artifacts' records are read together


def tasks_of(reading: Reading) -> list[dict[str, Any]]:
    """Every task that was kept, in the order of the graph."""
    return [_task(reading, task, place) for place, task in enumerate(reading.tasks)]


def _task(reading: Reading, task: Record, place: int) -> dict[str, Any]:
    key = (task["step"], task["task"])
    judged = reading.task_verdicts.get(key)
    usage, reused = task["usage"], task.get("reused")
    with_logs = place < LOGS_TOLD or task["status"] != "ok"
    return {
        "step": task["step"],
        "task": task["task"],
        "record": reading.digests[key],
        "status": task["status"],
        "verdict": judged["verdict"] if judged else None,
        "reason": judged["reason"] if judged else None,
        "attempt": task["attempt"],
        "attempts": [_attempt(reading, digest) for digest in task.get("attempts", ())],
        "started": task["started"],
        "finished": task["finished"],
        "queue_us": None if reused else microseconds_between(reading.ready(task), task["started"]),
        "wall_us": usage.get("wall_us", 0),
        "cpu_us": usage.get("user_us", 0) + usage.get("system_us", 0),
        "max_rss_kib": usage.get("max_rss_kib", 0),
        "exit": task["exit"],
        "reused": reused,
        "environment": task["environment"],
        "inputs": [f"{parent['step']}/{parent['task']}" for parent in task["inputs"]],
        "reads": sorted({file["path"] for file in task["files"]}),
        "written": list(task["written"]),
        "reached": dict(task.get("reached") or {}),
        "logs": {stream: _log(reading, digest, told=with_logs) for stream, digest in sorted(task["logs"].items())},
        "error": _error(task["error"]),
        "caught": _error(task.get("caught")),
    }


def _attempt(reading: Reading, digest: str) -> dict[str, Any]:
    record = reading.store.get_record(Digest(digest), "task")
    told = {name: record[name] for name in ("attempt", "status", "started", "finished")}
    return {**told, "record": digest, "error": _error(record["error"])}


def _error(error: Record | None) -> dict[str, Any] | None:
    if error is None:
        return None
    return {"type": error["type"], "message": error["message"], "traceback": error.get("traceback")}


def _log(reading: Reading, digest: str, *, told: bool) -> dict[str, Any]:
    """A stream: its digest and length and, when told, its last lines. An object that is not to be had has no end."""
    try:
        size = reading.store.size(Digest(digest))
        data = reading.store.get(Digest(digest)) if told else b""
    except StillrunError:
        return {"digest": digest, "size": None, "end": None, "cut": False}
    end = data[-LOG_BYTES:]
    return {
        "digest": digest,
        "size": size,
        "end": end.decode("utf-8", "replace") if told else None,
        "cut": len(data) > len(end),
    }


def artifacts_of(reading: Reading) -> Iterator[dict[str, Any]]:
    """Every artifact that a task made or changed, in the order of the graph."""
    for start in range(0, len(reading.tasks), _TOGETHER):
        part = [(task, sorted(reading.made(task).items())) for task in reading.tasks[start : start + _TOGETHER]]
        digests = list(dict.fromkeys(Digest(digest) for _, made in part for _, digest in made))
        records = dict(zip(digests, reading.store.get_records(digests, "artifact"), strict=True))
        for task, made in part:
            for name, digest in made:
                yield _artifact(reading, task["step"], task["task"], name, digest, records[Digest(digest)])


def artifact_entry(reading: Reading, step: str, task: str, name: str, digest: str) -> dict[str, Any]:
    """An artifact: what it is, by which names, and what the replay found of it."""
    return _artifact(reading, step, task, name, digest, reading.store.get_record(Digest(digest), "artifact"))


def _artifact(reading: Reading, step: str, task: str, name: str, digest: str, record: Record) -> dict[str, Any]:
    judged = reading.artifact_verdicts.get((step, task, name))
    return {
        "step": step,
        "task": task,
        "name": name,
        "record": digest,
        "type": record["type"],
        "size": record["size"],
        "digest": content_digest(record),
        "canonical": record["canonical"]["digest"] if record["canonical"] else None,
        "preview": record["preview"],
        "verdict": judged["verdict"] if judged else None,
    }
