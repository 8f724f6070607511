"""Secrets looked for where nothing is refused any more: in the files of a flow, and in what a run has kept."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from stillrun_engine.archive import KeptRun
from stillrun_engine.closure import needed_objects
from stillrun_snapshot.capture import capture_code
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import ObjectMissing
from stillrun_snapshot.secret_scan import Finding, SecretFound, is_program, scan, worth_scanning
from stillrun_snapshot.store import Store

__all__ = ["Leak", "scan_code", "scan_run"]

_KINDS = ("record", "code", "parameter", "artifact", "log", "input")


@dataclass(frozen=True)
class Leak:
    """A finding, and the object that holds it when it is kept."""

    finding: Finding
    digest: Digest | None = None


def scan_code(flow_file: Path) -> tuple[list[Leak], int]:
    """What looks like a secret in the files that a run of the flow would keep, and how many those are; all is left as it is."""
    with tempfile.TemporaryDirectory(prefix="stillrun-scan-") as folder, Store.open(Path(folder) / "store") as store:
        try:
            captured = capture_code(store, flow_file)
        except SecretFound as error:
            return [Leak(finding) for finding in error.findings], error.looked_through
        return [], captured.files


def scan_run(run: KeptRun) -> tuple[list[Leak], int]:
    """What looks like a secret in what a run has kept, by place, and how many texts were looked through."""
    found, count = [], 0
    for digest, where, size in _texts(run):
        if not worth_scanning(where, size):
            continue
        try:
            data = run.store.get(digest)
        except ObjectMissing:  # redacted, or told by 'verify'
            continue
        count += 1
        found += [Leak(finding, digest) for finding in scan(data, where, program=is_program(where))]
    return found, count


def _texts(run: KeptRun) -> Iterator[tuple[Digest, str, int]]:
    """Objects of a run that may hold text of people's, and what they are there for. The ones of before are there too."""
    seen: set[Digest] = set()
    for event in run.store.refs.events():
        if event.name == f"runs/{run.pathspec}" and event.new not in (None, run.digest) and run.store.has(event.new):
            assert event.new is not None
            seen.add(event.new)
            yield event.new, "the run's record as it began", run.store.size(event.new)
    for needed in needed_objects(run):
        if needed.kind in _KINDS and needed.digest not in seen and run.store.has(needed.digest):
            if needed.purpose.startswith("face"):
                continue
            yield needed.digest, needed.purpose.removeprefix("code "), run.store.size(needed.digest)
