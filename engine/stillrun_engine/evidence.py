"""What the log of refs said of a run, carried with it: `stillrun/log-excerpt/1` (docs/spec/bundle.md §4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stillrun_engine.errors import EngineError
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.record import canonical_bytes
from stillrun_snapshot.store import Store

__all__ = ["EvidenceUnsound", "check_evidence", "evidence_of", "evidence_ref"]

_EVENT = "stillrun/ref-event/1"
_EVENT_KEYS = {"schema", "seq", "prev", "time", "ref", "from", "to"}
_FIRST = "sha256:" + "0" * 64  # what the first line of a log names as the one before it


class EvidenceUnsound(EngineError):
    """An excerpt of a log contradicts itself, or what it is evidence of."""


def evidence_ref(pathspec: str) -> str:
    """The ref of what was carried here with FLOW/RUN."""
    return f"evidence/{pathspec}"


def evidence_of(store: Store, runs: Iterable[str]) -> dict[str, bytes]:
    """For each FLOW/RUN the bytes of its excerpt, read from the log in one go; the whole chain is checked on the way."""
    found: dict[str, list[dict[str, Any]]] = {run: [] for run in runs}
    before = _FIRST
    for event in store.refs.events():
        parts = event.name.split("/")
        if parts[0] in ("runs", "tasks") and (name := "/".join(parts[1:3])) in found:
            line = {"schema": _EVENT, "seq": event.seq, "prev": before, "time": event.time, "ref": event.name}
            noted = {} if event.note is None else {"note": event.note}
            found[name].append({**line, "from": event.old, "to": event.new, **noted})
        before = event.line
    return {
        run: canonical_bytes({"schema": "stillrun/log-excerpt/1", "run": run, "events": events})
        for run, events in found.items()
    }


def check_evidence(excerpt: Mapping[str, Any], run: str, refs: Mapping[str, Digest]) -> None:
    """EvidenceUnsound unless the excerpt is of ``run``, continues itself, and leads to where its refs are."""
    if set(excerpt) != {"schema", "run", "events"} or excerpt["run"] != run or not isinstance(excerpt["events"], list):
        raise EvidenceUnsound(f"what should tell of the log of {run} is no excerpt of it.")
    state: dict[str, object] = {}
    last_seq, last_line = 0, Digest(_FIRST)
    for event in excerpt["events"]:
        _check_event(event, run, state, last_seq, last_line)
        state[event["ref"]] = event["to"]
        last_seq, last_line = event["seq"], digest_of(canonical_bytes(event))
    led = {name: to for name, to in state.items() if to is not None}
    if led != {name: to for name, to in refs.items() if _is_of(name, run)}:
        raise EvidenceUnsound(f"the log of {run} leads to other records than those that are here.")


def _check_event(event: Any, run: str, state: Mapping[str, object], last_seq: int, last_line: Digest) -> None:
    sound = isinstance(event, dict) and event.keys() - {"note"} == _EVENT_KEYS and event["schema"] == _EVENT
    if not (sound and type(event["seq"]) is int and isinstance(event["ref"], str) and _is_of(event["ref"], run)):
        raise EvidenceUnsound(f"a line of the log of {run} is none.")
    follows = event["seq"] > last_seq and (event["seq"] != last_seq + 1 or event["prev"] == last_line)
    if not follows or event["from"] != state.get(event["ref"]):
        raise EvidenceUnsound(f"line {event['seq']} of the log of {run} does not continue those before it.")


def _is_of(ref: str, run: str) -> bool:
    return ref == f"runs/{run}" or ref.startswith(f"tasks/{run}/")
