"""Runs that come from elsewhere: how they are checked against their refs, and how their refs are set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from stillrun_engine.archive import KeptRun
from stillrun_engine.bundle import BundleRefused, LeftOut, is_vouched_for
from stillrun_engine.closure import Needed
from stillrun_engine.errors import EngineError, NotFound, RunDamaged
from stillrun_engine.evidence import check_evidence, evidence_ref
from stillrun_engine.pathspec import LATEST, Pathspec
from stillrun_engine.record_shapes import check_shapes
from stillrun_snapshot.bucket import BucketError
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import (
    ObjectCorrupt,
    ObjectMissing,
    RecordError,
    RefConflict,
    StillrunError,
    StoreFull,
    StoreReadOnly,
)
from stillrun_snapshot.record import RECORD_MAX, parse_record
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store
from stillrun_snapshot.tree import tree_files

__all__ = ["Carried", "Landed", "Told", "check_records", "check_runs", "refuse_clashes", "set_refs", "sound_records"]

Told = Callable[[str, int], None]
"""Is told each object that has come, by what it is there for, and its bytes."""
_OWN = ("runs", "tasks")  # what these name never changes


@dataclass(frozen=True)
class Carried:
    """What came: runs, objects, how many of them are new here and their bytes, what was left out, whether any ref is new.

    mended: how many were here and damaged, and are sound now. doubts: what was not taken over, and why: a sentence each.
    """

    runs: tuple[str, ...]
    objects: int
    new: int
    size: int
    left_out: tuple[LeftOut, ...] = ()
    added: bool = True
    mended: int = 0
    doubts: tuple[str, ...] = ()

    def find(self, store: Store, spec: Pathspec) -> Pathspec:
        """``spec`` with its run found among those that came: 'latest', a beginning, or the id itself; NotFound."""
        known = [run.split("/")[1] for run in self.runs if run.startswith(f"{spec.flow}/")]
        if spec.run == LATEST:
            found = [run for run in known if _kind(store, f"runs/{spec.flow}/{run}") == "run"][-1:]
        else:
            found = [run for run in known if run == spec.run] or [run for run in known if run.startswith(str(spec.run))]
        if len(found) != 1:
            there = ", ".join(self.runs[:5])
            raise NotFound(
                f"there {'are ' + str(len(found)) if found else 'is no'} '{spec.flow}/{spec.run}' in it; it has {there}."
            )
        return Pathspec(spec.flow, found[0], spec.step, spec.task)


@dataclass(frozen=True)
class Landed:
    """What became of refs that came: whether any was new here, and what was not taken over."""

    added: bool
    doubts: tuple[str, ...] = ()


@contextmanager
def sound_records(runs: str) -> Iterator[None]:
    """Turn what goes wrong where records are not of the shape that their schemas say into one refusal."""
    try:
        yield
    except (BucketError, BundleRefused, RunDamaged, ObjectCorrupt, StoreFull, StoreReadOnly):
        raise
    except ObjectMissing as err:
        raise BundleRefused(f"{err.digest} is needed by {runs} and not in it.") from err
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, StillrunError) as err:
        raise BundleRefused(
            f"the records of {runs} are not what they should be ({type(err).__name__}: {err})."
        ) from err


def check_runs(store: Store, runs: Iterable[str], refs: Mapping[str, Digest]) -> None:
    """BundleRefused unless each ref is one that the runs may have, and leads to a record that says the same."""
    rest = set(refs)
    names = list(runs)
    for run in names:
        with sound_records(run):
            rest -= _check_run(store, run, refs)
    if is_vouched_for(refs):
        from stillrun_engine.custody import check_custody  # most runs are not signed

        with sound_records(", ".join(names)):
            rest -= check_custody(store, {run: refs[f"runs/{run}"] for run in names}, refs)
    for name in [name for name in rest if name.startswith("locks/")]:
        hints = parse_record(store.get(refs[name], RECORD_MAX), "stillrun/lock-hints/2")
        if hints.get("lock") == f"sha256:{name.removeprefix('locks/')}":
            rest.discard(name)
    if rest:
        raise BundleRefused(f"the ref {min(rest)!r} is none of its runs'.")


def check_records(store: Store, runs: Iterable[KeptRun], needed: Iterable[Needed]) -> None:
    """RecordError unless the records among ``needed``, all of them here, are as their schemas say, and flows have their file.

    Whoever reads a run later relies on it; runs that were made here are not looked at.
    """
    check_shapes(store, [one.digest for one in needed if one.kind in ("record", "lock")])
    for run in runs:
        code = store.get_record(Digest(run.record["code"]), "code")
        if code["flow_file"] not in dict(tree_files(store, Digest(code["tree"]))):
            raise RecordError(f"its flow should be in {code['flow_file']!r:.60}, and its code has no such file")


def _check_run(store: Store, run: str, refs: Mapping[str, Digest]) -> set[str]:
    """The refs of one run, each checked."""
    names = (f"runs/{run}", evidence_ref(run))
    if missing := [name for name in names if name not in refs]:
        raise BundleRefused(f"it has no ref {missing[0]!r}.")
    record = store.get_record(refs[f"runs/{run}"], "run")
    _require(f"{record['flow']}/{record['run']}" == run, f"runs/{run}")
    tasks = {name: digest for name, digest in refs.items() if name.startswith(f"tasks/{run}/")}
    for name, digest in tasks.items():
        task = store.get_record(digest, "task")
        _require("/".join(("tasks", *(task[part] for part in ("flow", "run", "step", "task")))) == name, name)
    if "tasks" in record:
        listed = {f"tasks/{run}/{entry['step']}/{entry['task']}": entry["record"] for entry in record["tasks"]}
        _require(listed == tasks, f"tasks/{run}")
    check_evidence(store.get_record(refs[evidence_ref(run)], "log-excerpt"), run, refs)
    tags = f"tags/{run}"
    if tags in refs:
        _require(store.get_record(refs[tags], "tags")["run"] == run, tags)
    return {*names, *tasks, *({tags} & refs.keys())}


def _require(same: bool, name: str) -> None:
    if not same:
        raise BundleRefused(f"the ref {name!r} leads to a record that says something else.")


def refuse_clashes(store: Store, refs: Mapping[str, Digest]) -> None:
    """EngineError when the store has another run or task under one of the names."""
    for name, digest in refs.items():
        held = store.refs.get(name) if name.startswith(_OWN) else None
        if held not in (None, digest):
            raise EngineError(
                f"the store {store.root} has another {name.split('/', 1)[1]}: its record is {held}, not {digest}. "
                "Nothing was taken in; choose another store with --store."
            )


def set_refs(store: Store, refs: Mapping[str, Digest]) -> Landed:
    """Set all that are not there, at once. Tags, hints, keys and evidence that are there stay, and so do runs' own refs."""
    while True:
        refuse_clashes(store, refs)
        doubts = _doubted(store, refs)
        here = {name for name in refs if store.refs.get(name) is not None}
        new = [name for name in refs if name not in here and name not in doubts and not _is_known(name, here)]
        try:
            store.refs.set([RefChange(name, refs[name], None) for name in sorted(new)])
        except RefConflict:  # somebody else took in the same meanwhile
            continue
        return Landed(bool(new), tuple(doubts.values()))


def _doubted(store: Store, refs: Mapping[str, Digest]) -> dict[str, str]:
    if not is_vouched_for(refs):
        return {}
    from stillrun_engine.custody import doubted

    return doubted(store, refs)


def _is_known(name: str, here: set[str]) -> bool:
    """Whether a ref says of a run that was here already what this store knows better."""
    kind, _, run = name.partition("/")
    return kind in ("evidence", "tags") and f"runs/{run}" in here


def _kind(store: Store, ref: str) -> object:
    digest = store.refs.get(ref)
    return None if digest is None else store.get_record(digest, "run")["kind"]
