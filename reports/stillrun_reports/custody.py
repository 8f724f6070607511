"""Chain of custody: what the log of refs says of a run, and who has signed it; and whether every object still is what it was."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from stillrun_engine.closure import Needed, needed_objects
from stillrun_engine.evidence import evidence_ref
from stillrun_engine.hashing import Damage, check_objects
from stillrun_engine.run_refs import left_behind
from stillrun_engine.signing import CheckedSignature, Keys, keys_held, signatures_of
from stillrun_reports.reading import Reading
from stillrun_snapshot.checkpoint import checkpoint_of
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.ed25519 import PublicKey
from stillrun_snapshot.errors import StillrunError
from stillrun_snapshot.logtree import LogTree
from stillrun_snapshot.redaction import check_tombstone, tombstone_of
from stillrun_snapshot.refs import RefEvent
from stillrun_snapshot.store import Store

__all__ = ["custody_of", "integrity_of"]

_DAMAGE_TOLD = 200


def integrity_of(reading: Reading, told: Callable[[Needed, int], None] | None = None, *, check: bool) -> dict[str, Any]:
    """Hash every object that the run stands on. check: False only says that nothing was hashed."""
    found: dict[str, Any] = {"checked": check, "objects": 0, "bytes": 0, "damaged": [], "damaged_count": 0}
    found["absent"] = [{"digest": one.digest, "purpose": one.purpose} for one in left_behind(reading.run)]
    found["redacted"] = []
    if not check:
        return found
    absent = {one["digest"] for one in found["absent"]}
    needed = (one for one in needed_objects(reading.run, reading.tasks) if one.digest not in absent)
    taken_out: list[Needed] = []
    count, total, damaged = check_objects(reading.store, needed, told, taken_out.append)
    found["redacted"] = _redacted(reading.store, taken_out, damaged)
    found["damaged"] = [
        {"digest": one.needed.digest, "purpose": one.needed.purpose, "problem": one.problem}
        for one in damaged[:_DAMAGE_TOLD]
    ]
    return {**found, "objects": count - len(taken_out), "bytes": total, "damaged_count": len(damaged)}


def _redacted(store: Store, taken_out: Sequence[Needed], damaged: list[Damage]) -> list[dict[str, Any]]:
    """What the tombstones of objects say; those that no key of the store signed join ``damaged``."""
    found = []
    verifiers = {keyid: known.public for keyid, known in keys_held(store)[0].known.items()} if taken_out else {}
    for one in taken_out:
        try:
            tombstone = tombstone_of(store, one.digest)
            assert tombstone is not None, one.digest
            check_tombstone(store, tombstone, verifiers)
        except StillrunError as error:
            damaged.append(Damage(one, str(error)))
            continue
        told = {"digest": one.digest, "purpose": one.purpose, "size": tombstone.size}
        found.append({**told, "by": tombstone.by, "time": tombstone.time, "reason": tombstone.reason})
    return found


def custody_of(reading: Reading, trusted: Sequence[PublicKey] = ()) -> dict[str, Any]:
    """The lines of the log that are of this run, its tasks counted by step; the whole chain is checked on the way.

    trusted: public keys that somebody was handed; a signature by one of them is then demanded.
    """
    run, store = reading.run.pathspec, reading.store
    events: list[dict[str, Any]] = []
    tasks: Counter[str] = Counter()
    spans: dict[str, list[RefEvent]] = {}
    last: RefEvent | None = None
    for event in store.refs.events():
        last = event
        kind, _, rest = event.name.partition("/")
        if kind == "tasks" and rest.startswith(run + "/"):
            step = rest.split("/")[2]
            tasks[step] += 1
            spans.setdefault(step, [event, event])[1] = event
        elif rest == run or rest.startswith(run + "/"):
            events.append(_event(event, kind))
    events += [_tasks_event(count, *spans[step]) for step, count in tasks.items()]
    return {
        "log": {"lines": last.seq, "last": last.line, "time": last.time} if last else None,
        "events": sorted(events, key=lambda one: (one["seq"], one["ref"])),
        "checkpoint": _checkpoint(store) if last else None,
        **_signatures(reading, trusted),
        "carried": _carried(store, run),
    }


def _carried(store: Store, run: str) -> dict[str, Any] | None:
    """Of a run that came from another store: what the log there said of it, as it came with the run."""
    digest = store.refs.get(evidence_ref(run))
    if digest is None:
        return None
    events = store.get_record(digest, "log-excerpt")["events"]
    times = [one["time"] for one in events]
    return {"record": digest, "lines": len(events), "first": min(times, default=None), "last": max(times, default=None)}


def _event(event: RefEvent, kind: str) -> dict[str, Any]:
    what = "removed" if event.new is None else "made" if event.old is None else "moved"
    told = {"kind": kind, "what": what, "count": 1, "seq": event.seq, "last_seq": event.seq, "time": event.time}
    return {**told, "ref": event.name, "to": event.new, "line": event.line}


def _tasks_event(count: int, first: RefEvent, last: RefEvent) -> dict[str, Any]:
    told = {"kind": "tasks", "what": "made", "count": count, "seq": first.seq, "last_seq": last.seq, "time": last.time}
    ref = first.name if count == 1 else first.name.rsplit("/", 1)[0] + "/*"
    return {**told, "ref": ref, "to": first.new if count == 1 else None, "line": last.line}


def _signatures(reading: Reading, trusted: Sequence[PublicKey]) -> dict[str, Any]:
    """Every signature of the run, checked with the store's keys, or demanded of those that were handed over."""
    store = reading.store
    keys, problem = keys_held(store, trusted)
    names = dict(store.refs.names(f"signatures/{reading.run.pathspec}/"))
    checked = signatures_of(reading.run, keys, LogTree(store.root)) if names else []
    return {
        "signatures": [_signature(store, keys, names[one.ref], one) for one in checked],
        "trusted": None if keys.trusted is None else sorted(keys.trusted),
        "keys_problem": problem,
    }


def _signature(store: Store, keys: Keys, digest: Digest, checked: CheckedSignature) -> dict[str, Any]:
    """What a signature says, when it is by a key that is known, and how it stands."""
    return {
        "ref": checked.ref,
        "record": digest,
        "signer": checked.signer or None,
        "meaning": checked.meaning or None,
        "time": checked.time or None,
        "of": checked.record or None,
        "keys": [checked.keyid] if checked.keyid else [],
        "problem": None if checked.counts else checked.told,
        "standing": checked.standing,
        "told": checked.told,
        "line": checked.line,
        "envelope": _envelope(store, keys, digest, checked) if checked.keyid else None,
    }


def _envelope(store: Store, keys: Keys, digest: Digest, checked: CheckedSignature) -> dict[str, str]:
    """What a reader needs to check a signature without us."""
    record = store.get_record(digest, "signature")
    signature = next(one["sig"] for one in record["signatures"] if one["keyid"] == checked.keyid)
    told = {"type": record["payloadType"], "payload": record["payload"], "signature": signature}
    return {**told, "public": keys.known[checked.keyid].public.pem}


def _checkpoint(store: Store) -> dict[str, Any]:
    """The log as it is now, in three lines that can be kept elsewhere (docs/spec/checkpoint.md)."""
    head = checkpoint_of(LogTree(store.root))
    return {"origin": head.origin, "size": head.size, "root": base64.b64encode(head.root).decode()}
