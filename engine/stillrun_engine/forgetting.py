"""Forgetting runs: their refs are deleted, and the log says why. Objects go later, with `stillrun store gc`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from stillrun_engine.archive import KeptRun, Record
from stillrun_engine.closure import needed_objects
from stillrun_engine.errors import EngineError, NotFound
from stillrun_engine.evidence import evidence_ref
from stillrun_engine.named_locks import pinned
from stillrun_engine.pathspec import Pathspec, nearest
from stillrun_engine.pins import is_pinned
from stillrun_engine.retention import RunFacts
from stillrun_engine.run_refs import whole_locks
from stillrun_engine.tags import tags_of
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import StoreError
from stillrun_snapshot.refs import RefChange, RefEvent
from stillrun_snapshot.store import Store

__all__ = ["bring_back", "facts_of_runs", "find_run", "forget", "refuse_held"]

_HEADS = ("runs", "spins")


def facts_of_runs(store: Store) -> list[RunFacts]:
    """What is known of every run, replay and spin of the store; also of those whose records are damaged."""
    return [_facts(store, name, digest) for head in _HEADS for name, digest in store.refs.names(f"{head}/")]


def find_run(known: Sequence[RunFacts], spec: Pathspec) -> RunFacts:
    """The one run that ``spec`` names in full or by its beginning; NotFound. 'latest' is too vague to forget by."""
    runs = [one for one in known if one.flow == spec.flow]
    found = [one for one in runs if one.run == spec.run] or [one for one in runs if one.run.startswith(str(spec.run))]
    if len(found) != 1:
        many = (
            f"{len(found)} runs begin with '{spec}'; give more of its name." if found else f"there is no run '{spec}'."
        )
        raise NotFound(many + ("" if found else nearest(str(spec.run), [one.run for one in runs], f"{spec.flow}/")))
    return found[0]


def refuse_held(known: Iterable[RunFacts], chosen: Sequence[RunFacts], *, anyway: bool = False) -> None:
    """Raise EngineError when one of ``chosen`` must not go.

    anyway: tags do not count, nor do runs that came from it and have ended.
    """
    going = {one.pathspec for one in chosen}
    for one in chosen:
        if one.status == "running":
            raise EngineError(f"{one.pathspec} is still going on; forget it when it has ended.")
        if one.pinned:
            raise EngineError(f"{one.pathspec} is pinned; take the pin off first: stillrun unpin {one.pathspec}")
        if one.tags and not anyway:
            tags = ", ".join(sorted(one.tags))
            raise EngineError(f"{one.pathspec} is tagged {tags}; take the tags off first, or forget it --anyway.")
    for other in known:
        if other.origin in going and other.pathspec not in going and (not anyway or other.status == "running"):
            how = "replays it" if other.kind == "replay" else "was made from it"
            cure = "wait for its end." if other.status == "running" else "forget that too, or this one --anyway."
            raise EngineError(f"{other.origin} stays: {other.pathspec} {how}; {cure}")


def forget(store: Store, runs: Sequence[RunFacts], why: str) -> int:
    """Delete all refs of the runs, and hints of locks that no other run or name has; how many refs went."""
    changes: list[RefChange] = []
    for one in runs:
        changes += [RefChange(name, None, digest, note=why) for name, digest in _refs_of(store, one.pathspec)]
    for lock in _unused_locks(store, {one.pathspec for one in runs}):
        hints = store.refs.get(f"locks/{lock.hex}")
        if hints is not None:
            changes.append(RefChange(f"locks/{lock.hex}", None, hints, note=why))
    store.refs.set(changes)
    return len(changes)


def bring_back(store: Store, spec: Pathspec) -> int:
    """Set the refs again that a run had when it was forgotten; how many. EngineError when what it needs has gone."""
    name = f"{spec.flow}/{spec.run}"
    if any(store.refs.get(f"{head}/{name}") for head in _HEADS):
        raise EngineError(f"{name} is not forgotten; 'stillrun show {name}' shows it.")
    lost = _deleted_last(store, name)
    changes = [RefChange(event.name, event.old, None) for event in lost if store.refs.get(event.name) is None]
    absent = {change.name: change.to for change in changes if change.to is not None and not store.has(change.to)}
    changes = [change for change in changes if not (change.name in absent and change.name.startswith("locks/"))]
    missing = {digest for name, digest in absent.items() if not name.startswith("locks/")}
    head = next(event for event in lost if event.name.split("/")[0] in _HEADS)
    if not missing and head.old is not None:
        run = KeptRun(store, spec, head.old, store.get_record(head.old, "run"))
        tasks: list[Record] = [store.get_record(c.to, "task") for c in changes if c.to and c.name.startswith("tasks/")]
        missing = store.absent(one.digest for one in needed_objects(run, tasks, packages=False))
    if missing:
        raise EngineError(f"{name} cannot be brought back: {len(missing)} of the objects that it needs have gone.")
    store.refs.set([RefChange(c.name, c.to, c.expect, note="brought back") for c in changes])
    return len(changes)


def _facts(store: Store, ref: str, digest: Digest) -> RunFacts:
    _, flow, run = ref.split("/")
    pinned_now = is_pinned(store, f"{flow}/{run}")
    try:
        kept = KeptRun(store, Pathspec(flow, run), digest, store.get_record(digest, "run"))
        record, status, tags = kept.record, kept.status, tags_of(store, flow, run, kept.record)
    except StoreError:
        return RunFacts(flow, run, "run", "damaged", "", pinned=pinned_now)
    origin = record["origin"]["run"] if record["origin"] else None
    return RunFacts(flow, run, record["kind"], status, record["started"], tags, origin, pinned_now)


def _refs_of(store: Store, run: str) -> Iterator[tuple[str, Digest]]:
    yield from store.refs.names(f"tasks/{run}/")
    for name in (*(f"{head}/{run}" for head in _HEADS), f"tags/{run}", evidence_ref(run)):
        digest = store.refs.get(name)
        if digest is not None:
            yield name, digest


def _unused_locks(store: Store, going: set[str]) -> set[Digest]:
    """Locks that these runs have and no other one; none where a record cannot be read, so that nothing is lost by mistake."""
    gone: set[Digest] = set()
    used = {lock for _, lock in pinned(store)}
    try:
        for head in _HEADS:
            for name, digest in store.refs.names(f"{head}/"):
                _, flow, run = name.split("/")
                kept = KeptRun(store, Pathspec(flow, run), digest, store.get_record(digest, "run"))
                (gone if kept.pathspec in going else used).update(whole_locks(kept))
    except StoreError:
        return set()
    return gone - used


def _deleted_last(store: Store, run: str) -> list[RefEvent]:
    """The lines of the change in which a run was forgotten last."""
    together: list[RefEvent] = []
    found: list[RefEvent] = []
    for event in store.refs.events():
        if event.new is not None or (together and (event.time, event.note) != (together[0].time, together[0].note)):
            together = []
        if event.new is None:
            together.append(event)
            if event.name in {f"{head}/{run}" for head in _HEADS}:
                found = together
    if not found:
        raise NotFound(f"no run '{run}' was forgotten in {store.root}.")
    parts = run.split("/")
    return [one for one in found if one.name.split("/")[1:3] == parts or one.name.startswith("locks/")]
