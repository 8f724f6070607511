"""The records of a crate, read back without trusting any of them: a store of their own, and the run as they tell it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from stillrun_engine.archive import KeptRun
from stillrun_engine.pathspec import Pathspec
from stillrun_reports.evidence.crate_files import RECORDS
from stillrun_reports.evidence.dossier import Dossier, dossier_of
from stillrun_reports.evidence.findings import Checked
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import StillrunError
from stillrun_snapshot.record import parse_record
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store

__all__ = ["implausible", "read_records", "retold"]

_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}")
_LINE = 512 << 20  # bytes: no record is as long
_AHEAD = timedelta(days=1)
"""Clocks of machines differ; more than that into the future is no clock's fault."""


@dataclass(frozen=True)
class Records:
    """The lines of a crate's records by their digests, in order."""

    lines: Mapping[Digest, bytes]
    run: Digest  # the first

    def parsed(self, schema: str) -> Iterator[tuple[Digest, dict[str, Any]]]:
        """The records of one schema; lines that are no record are passed over."""
        wanted = f'"schema":"{schema}"'.encode()
        for digest, line in self.lines.items():
            if wanted in line:
                yield digest, parse_record(line, schema)


def read_records(path: Path, checked: Checked) -> Records | None:
    """The records in ``path``; None, with a finding, when the first is no run's."""
    lines: dict[Digest, bytes] = {}
    with open(path, "rb") as stream:
        while line := stream.readline(_LINE):
            if not line.endswith(b"\n"):
                checked.find(RECORDS, f"line {len(lines) + 1} has no end")
            digest = digest_of(line.removesuffix(b"\n"))
            if digest in lines:
                checked.find(RECORDS, f"line {len(lines) + 1} stands there twice")
            lines[digest] = line.removesuffix(b"\n")
    checked.count("records", len(lines))
    try:
        first = next(iter(lines))
        parse_record(lines[first], "stillrun/run/1")
    except (StopIteration, StillrunError) as err:
        checked.find(RECORDS, f"its first line is no run's record: {err or 'there is none'}")
        return None
    return Records(lines, first)


def retold(records: Records, store: Store, checked: Checked) -> Dossier | None:
    """The run as ``records`` tell it, kept in ``store``, which is empty; None, with findings, when they do not tell it whole."""
    for line in records.lines.values():
        store.put(line)
    record = parse_record(records.lines[records.run], "stillrun/run/1")
    checked.run, checked.record = f"{record.get('flow')}/{record.get('run')}", str(records.run)
    with checked.reading(RECORDS):
        if "tasks" not in record:
            store.refs.set(list(_task_refs(records, record)))
        run = KeptRun(store, Pathspec(record["flow"], record["run"]), records.run, record)
        dossier = dossier_of(run, list(_replays(records, run)))
        dossier.artifacts, dossier.code_files  # noqa: B018 - whatever is not there is missed now
        for digest in _unnamed(records, dossier):
            checked.find(RECORDS, f"the record {digest} is one that nothing in the run leads to")
        return dossier
    return None


def _task_refs(records: Records, run: Mapping[str, Any]) -> Iterator[RefChange]:
    """Of a run that was cut off: the last attempt that is there of each of its tasks."""
    last: dict[str, tuple[int, Digest]] = {}
    for digest, task in records.parsed("stillrun/task/1"):
        if (task["flow"], task["run"]) == (run["flow"], run["run"]):
            name = f"tasks/{task['flow']}/{task['run']}/{task['step']}/{task['task']}"
            last[name] = max(last.get(name, (-1, digest)), (task["attempt"], digest))
    yield from (RefChange(name, digest) for name, (_, digest) in last.items())


def _replays(records: Records, run: KeptRun) -> Iterator[KeptRun]:
    for digest, record in records.parsed("stillrun/run/1"):
        if digest != run.digest and record.get("verdict") and record["origin"]["run"] == run.pathspec:
            yield KeptRun(run.store, Pathspec(record["flow"], record["run"]), digest, record)


def _unnamed(records: Records, dossier: Dossier) -> list[Digest]:
    waiting = [records.run, *(one.replay_digest for one in dossier.judgements), *(one.digest for one in dossier.tasks)]
    reached: set[Digest] = set()
    while waiting:
        digest = waiting.pop()
        if digest not in reached:
            reached.add(digest)
            named = {Digest(one.decode()) for one in _DIGEST.findall(records.lines.get(digest, b""))}
            waiting.extend(named & records.lines.keys())
    return [digest for digest in records.lines if digest not in reached]


def implausible(dossier: Dossier, now: datetime) -> Iterator[str]:
    """What no run can have been: times that run backwards, tasks outside of their run, an end before the start."""
    started, finished = _moment(dossier.record["started"]), _moment(dossier.finished)
    if finished < started:
        yield f"the run ended at {dossier.finished}, before it started at {dossier.record['started']}"
    if finished > now + _AHEAD:
        yield f"the run ended at {dossier.finished}, which is yet to come"
    for task in dossier.tasks:
        record = task.record
        begun, ended = _moment(record["started"]), _moment(record["finished"])
        if ended < begun:
            yield f"{task.name} ended at {record['finished']}, before it started at {record['started']}"
        if "reused" not in record and not (started <= begun and ended <= finished):
            yield f"{task.name} went from {record['started']} to {record['finished']}, outside of its run"
        if (record["status"] == "ok") == bool(record["error"]):
            yield f"{task.name} is told as {record['status']}, {'with' if record['error'] else 'without'} an error"
    for one in dossier.judgements:
        if _moment(one.replay["started"]) < started:
            yield f"the replay {one.verdict['replay']} began at {one.replay['started']}, before the run that it replays"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
