"""What is to be taken out of a store when a person names it, and what stays readable of the records around it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from stillrun_engine.archive import KeptRun, open_run, runs
from stillrun_engine.closure import needed_objects
from stillrun_engine.errors import EngineError
from stillrun_engine.pathspec import parse_pathspec
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import StillrunError, StoreError
from stillrun_snapshot.record import parse_record
from stillrun_snapshot.redaction import Redaction, tombstone_of
from stillrun_snapshot.secret_scan import masked
from stillrun_snapshot.store import Store

__all__ = ["RedactionRefused", "redactions_of", "refuse_while_running"]

_DIGITS = re.compile(r"(?:sha256:)?([0-9a-f]{8,64})")
_GONE = "(redacted)"


class RedactionRefused(EngineError):
    """What was named cannot be taken out."""


def redactions_of(store: Store, what: str) -> list[Redaction]:
    """What to take out for an object's digest, or its beginning, or FLOW/RUN/STEP/TASK/ARTIFACT.

    Of an artifact its parts go and the preview in its record; of a parameter also the text in the records of its run. Of a record
    goes what looks like a secret in it: the rest stays readable. Raises RedactionRefused, NotFound.
    """
    match = _DIGITS.fullmatch(what)
    if match is not None:
        return [_of_object(store, _object(store, match[1]))]
    spec, _, name = what.rpartition("/")
    if spec.count("/") != 3:
        raise RedactionRefused(
            f"{what[:100]!r} names nothing to redact: give an object or FLOW/RUN/STEP/TASK/ARTIFACT."
        )
    return _of_artifact(open_run(store, parse_pathspec(spec, least=4, most=4)), name)


def refuse_while_running(store: Store) -> None:
    """RedactionRefused while a run is in progress: it may be about to need what goes."""
    for run in runs(store):
        if run.status == "running":
            raise RedactionRefused(f"{run.pathspec} is going on. Redact when it has ended, or stop it first.")


def _object(store: Store, digits: str) -> Digest:
    if len(digits) == 64:
        return Digest(f"sha256:{digits}")
    found = [digest for digest in store.digests() if digest.hex.startswith(digits)]
    if len(found) != 1:
        told = "no object begins" if not found else f"{len(found)} objects begin"
        raise RedactionRefused(f"{told} with {digits} in {store.root}. Give all of its digest.")
    return found[0]


def _of_object(store: Store, digest: Digest) -> Redaction:
    if tombstone_of(store, digest) is not None:
        return Redaction(digest, [])
    purposes, is_record = _purposes(store, digest)
    data = store.get(digest)
    try:
        record = parse_record(data, None) if is_record else None
    except StoreError:
        record = None
    if record is None:
        return Redaction(digest, purposes)
    if record["schema"] in ("stillrun/tombstone/1", "stillrun/signature/1", "stillrun/key/1", "stillrun/revocation/1"):
        raise RedactionRefused(f"object {digest} is a {record['schema']}: what was signed cannot be taken out.")
    clean = _without_preview(record) if record["schema"] == "stillrun/artifact/1" else _masked(record)
    if clean == record:
        raise RedactionRefused(
            f"object {digest} is a record ({record['schema']}) and nothing in it looks like a secret; "
            "records hold runs together, so redact the objects that it names instead: stillrun scan FLOW/RUN."
        )
    return Redaction(digest, purposes, clean)


def _of_artifact(run: KeptRun, name: str) -> list[Redaction]:
    task = run.task(str(run.spec.step), str(run.spec.task))
    digest, record = run.artifact(task, name)
    purpose = f"artifact {run.pathspec}/{task['step']}/{task['task']}/{name}"
    found = [Redaction(Digest(part["digest"]), [purpose]) for part in record["parts"]]
    found.append(Redaction(digest, [f"the record of {purpose}"], _without_preview(record)))
    for kind in ("parameters", "constants"):
        if run.record.get(kind, {}).get(name, {}).get("artifact") == digest:
            found += [_without_text(run, each, kind, name) for each in _records_of(run)]
    unique = {each.digest: each for each in found}
    return list(unique.values())


def _records_of(run: KeptRun) -> Iterable[Digest]:
    """Every record that the run has had: as it began, and as it ended."""
    ref = f"runs/{run.pathspec}"
    return dict.fromkeys(event.new for event in run.store.refs.events() if event.name == ref and event.new is not None)


def _without_text(run: KeptRun, digest: Digest, kind: str, name: str) -> Redaction:
    record = run.store.get_record(digest, "run")
    entries = {**record[kind], name: {**record[kind][name], "text": _GONE}}
    return Redaction(digest, [f"a record of {run.pathspec}"], {**record, kind: entries})


def _without_preview(record: Mapping[str, Any]) -> dict[str, Any]:
    return {**record, "preview": _GONE, "canonical": None}


def _masked(value: Any) -> Any:
    """A record with what looks like a secret in its texts replaced."""
    if isinstance(value, Mapping):
        return {name: _masked_entry(name, each) for name, each in value.items()}
    if isinstance(value, list):
        return [_masked(each) for each in value]
    return _GONE if isinstance(value, str) and masked(value.encode("utf-8", "replace"))[1] else value


def _masked_entry(name: str, value: Any) -> Any:
    if isinstance(value, str) and masked(f"{name} = '{value}'".encode("utf-8", "replace"))[1]:
        return _GONE
    return _masked(value)


def _purposes(store: Store, digest: Digest) -> tuple[list[str], bool]:
    """What runs need an object for, and whether it is a record for any of them."""
    found, is_record = [], False
    for run in runs(store):
        try:
            for needed in needed_objects(run):
                if needed.digest == digest:
                    found.append(f"{run.pathspec}: {needed.purpose}")
                    is_record = is_record or needed.kind == "record"
        except StillrunError:  # a damaged run: 'verify' tells of it
            continue
        is_record = is_record or digest in set(_records_of(run))
    return found, is_record
