"""All refs that a run has, and all objects behind them: what is carried when the run is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stillrun_engine.archive import KeptRun
from stillrun_engine.closure import Needed, needed_objects
from stillrun_engine.errors import EngineError
from stillrun_engine.evidence import evidence_of, evidence_ref
from stillrun_envs.lock import read_lock
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.store import Store

__all__ = ["RunRefs", "beside", "left_behind", "refs_of_runs", "whole_closure", "whole_locks"]


@dataclass(frozen=True)
class RunRefs:
    """Refs by name. made: objects that some of them lead to and that the store does not hold."""

    refs: Mapping[str, Digest]
    made: Mapping[Digest, bytes]


def refs_of_runs(store: Store, runs: Iterable[str], locks: Iterable[Digest]) -> RunRefs:
    """The refs of each FLOW/RUN, and the hints of ``locks``. Evidence that was carried here with a run stays what it is."""
    refs: dict[str, Digest] = {}
    made: dict[Digest, bytes] = {}
    own = []
    for run in runs:
        refs.update(store.refs.names(f"tasks/{run}/"))
        for name in (f"runs/{run}", f"tags/{run}", evidence_ref(run)):
            if (digest := store.refs.get(name)) is not None:
                refs[name] = digest
        refs.update(_custody(store, run, refs.get(f"runs/{run}")))
        if evidence_ref(run) not in refs:
            own.append(run)
    for run, data in evidence_of(store, own).items() if own else ():
        refs[evidence_ref(run)] = digest_of(data)
        made[digest_of(data)] = data
    for lock in locks:
        if (digest := store.refs.get(f"locks/{lock.hex}")) is not None:
            refs[f"locks/{lock.hex}"] = digest
    return RunRefs(refs, made)


def _custody(store: Store, run: str, record: Digest | None) -> Mapping[str, Digest]:
    if record is None or next(iter(store.refs.names(f"signatures/{run}/")), None) is None:
        return {}
    from stillrun_engine.custody import custody_of  # most runs are not signed

    return custody_of(store, run, record)


def whole_closure(runs: Iterable[KeptRun]) -> dict[Digest, Needed]:
    """Every object that the runs need. EngineError for a run that is still going on."""
    found: dict[Digest, Needed] = {}
    for run in runs:
        if run.status == "running":
            raise EngineError(f"{run.pathspec} is still going on; carry it when it has ended.")
        for needed in needed_objects(run):
            found.setdefault(needed.digest, needed)
    return found


def left_behind(run: KeptRun) -> list[Needed]:
    """What a run needs and did not bring here, when it was carried here without it; nothing for a run that was made here."""
    if run.store.refs.get(evidence_ref(run.pathspec)) is None:
        return []
    needed = {one.digest: one for one in needed_objects(run) if one.kind in ("package", "artifact", "input")}
    absent = run.store.absent(needed)
    return [one for digest, one in needed.items() if digest in absent]


def beside(refs: Mapping[str, Digest]) -> dict[Digest, Needed]:
    """The records that refs lead to and that no run names: evidence, tags, hints, signatures with their keys."""
    names = {
        "evidence": "what the log said",
        "tags": "the tags",
        "locks": "what is known of a lock",
        "signatures": "a signature",
        "keys": "a key that has signed",
        "revocations": "that a key was revoked",
    }
    return {
        digest: Needed(digest, names[name.split("/")[0]])
        for name, digest in refs.items()
        if name.split("/")[0] in names
    }


def whole_locks(run: KeptRun) -> set[Digest]:
    """The locks of a run's steps, and those of the environments that their packages were built in."""
    found: set[Digest] = set()
    waiting = [lock for step in run.record["steps"] if (lock := run.lock_of(step)) is not None]
    while waiting:
        lock = waiting.pop()
        if lock not in found:
            found.add(lock)
            waiting.extend(read_lock(run.store, lock).build_locks())
    return found
